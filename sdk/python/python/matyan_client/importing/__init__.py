"""Importers of runs that other trackers have recorded.

A source reads one format and yields runs; the frame writes them to a server. The hash of a run is
derived from its source, and a run is recorded as imported once the server has stored all of it. An
import can therefore be repeated and interrupted: finished runs are skipped, and unfinished runs are
rewritten with the same steps, which replaces the stored data.
"""

from .frame import ImportReport, RunOutcome, Target, import_runs
from .model import Artifact, ImportedRun, Points, RunFacts, SourceError, TrackedObject
from .source_files import SourceFiles
from .sources import SOURCES, Source, open_source

__all__ = [
    "SOURCES",
    "Artifact",
    "ImportReport",
    "ImportedRun",
    "Points",
    "RunFacts",
    "RunOutcome",
    "Source",
    "SourceError",
    "SourceFiles",
    "Target",
    "TrackedObject",
    "import_runs",
    "open_source",
]
