"""Archives of runs, in the format of `matyan backup` without the parts that only servers know.

Runs are read and written as `importing.model.Item`. `docs/operating/backup.md` describes the
files.
"""

from .reading import archived_runs, open_archive
from .server import stored_runs
from .writing import ArchiveWriter

__all__ = ["ArchiveWriter", "archived_runs", "open_archive", "stored_runs"]
