"""Importers of runs that other trackers have recorded.

A source reads one format and yields runs; the frame writes them to a server. The hash of a run is
derived from its source, and a run is recorded as imported once the server has stored all of it.
An import can therefore be repeated and interrupted: finished runs are skipped, and unfinished ones
are written again with the same steps, which replaces what is stored.
"""

from .frame import ImportReport, RunOutcome, Target, import_runs
from .model import Artifact, ImportedRun, Points, RunFacts, SourceError, TrackedObject
from .sources import SOURCES, open_source, root_of

__all__ = [
    "SOURCES",
    "Artifact",
    "ImportReport",
    "ImportedRun",
    "Points",
    "RunFacts",
    "RunOutcome",
    "SourceError",
    "Target",
    "TrackedObject",
    "import_runs",
    "open_source",
    "root_of",
]
