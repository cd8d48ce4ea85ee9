"""Files of a source, which are all that an import may read.

A source from another person must not choose which files are read and uploaded. Every reader asks
here before it opens a file that the source names: a path that leads outside of the source, also
through a link, is refused unless the user trusts the source.
"""

from __future__ import annotations

import os
from pathlib import Path

from .model import SourceError


class SourceFiles:
    """The directories and files of a source. A source that the user trusts has all files.

    They are given with their links resolved: a link in the place of one of them leads outside.
    """

    def __init__(self, *places: Path, is_trusted: bool = False, advice: str = "") -> None:
        self._places = places
        self._is_trusted = is_trusted
        # Ends the error about a path that leads outside.
        self._advice = advice

    def contains(self, file: Path) -> bool:
        """Reports whether a path leads to a file or directory of the source."""
        resolved = _resolved(file)
        return self._is_trusted or any(resolved.is_relative_to(place) for place in self._places)

    def inside(self, file: Path) -> Path:
        """Returns a path with its links resolved. A path that leads outside is an error."""
        if not self.contains(file):
            raise SourceError(f"{str(file)!r} leads outside of the source{self._advice}")
        return _resolved(file)

    def below(self, directory: Path) -> list[Path]:
        """Returns the files below a directory of the source, sorted; links to files as well."""
        self.inside(directory)
        return sorted(file for file in directory.rglob("*") if file.is_file())

    def require_inside(self, directory: Path) -> None:
        """Raises an error if a link anywhere below a directory leads outside."""
        self.inside(directory)
        for parent, directories, files in os.walk(directory):
            for name in (*directories, *files):
                entry = Path(parent, name)
                if entry.is_symlink():
                    self.inside(entry)


def _resolved(path: Path) -> Path:
    # Unlike `Path.resolve`, this does not raise for links that lead in a circle.
    return Path(os.path.realpath(path))
