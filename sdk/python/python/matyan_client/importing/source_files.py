"""Files of a source, which are all that an import may read.

A source from another person must not choose which files are read and uploaded. Every reader asks
here before it opens a file that the source names: a path that leads outside of the source, also
through a link, is refused unless the user trusts the source. Files are opened here, too, so that
somebody who may still write to the source cannot put a link in the place of a file in between.
SQLite and the package `aim` open their files themselves.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from .model import SourceError

_WITHOUT_LINKS = getattr(os, "O_NOFOLLOW", 0)
# A named pipe would otherwise be waited for.
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _WITHOUT_LINKS
# Directories on the way to a file need only be searchable, as for any path.
_SEARCH = getattr(os, "O_PATH", os.O_RDONLY)
_DIRECTORY = _SEARCH | getattr(os, "O_DIRECTORY", 0) | _WITHOUT_LINKS
# Errors of a link where neither a link nor its target is expected.
_LINK_ERRORS = (errno.ELOOP, errno.ENOTDIR)


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

    def open(self, file: Path) -> BinaryIO:
        """Opens a file of the source. A link that has just taken its place is not followed."""
        resolved = self.inside(file)
        if self._is_trusted or os.open not in os.supports_dir_fd:
            return resolved.open("rb")
        place = next(place for place in self._places if resolved.is_relative_to(place))
        try:
            return _open_below(place, resolved.relative_to(place))
        except OSError as error:
            if error.errno not in _LINK_ERRORS:
                raise
        raise SourceError(f"{str(file)!r} was replaced by a link while it was read{self._advice}")

    def read_bytes(self, file: Path) -> bytes:
        """Returns the content of a file of the source."""
        with self.open(file) as opened:
            return opened.read()

    def open_text(self, file: Path) -> io.TextIOWrapper:
        """Opens a file of the source that has text."""
        return io.TextIOWrapper(self.open(file), encoding="utf-8")

    def read_text(self, file: Path) -> str:
        """Returns the text of a file of the source."""
        with self.open_text(file) as opened:
            return opened.read()

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


def _open_below(place: Path, inside: Path) -> BinaryIO:
    """Opens a file below a place, or the place itself, by a path that has no links."""
    *parents, name = [os.fspath(place), *inside.parts]
    with contextlib.ExitStack() as opened:
        directory: int | None = None
        for parent in parents:
            directory = os.open(parent, _DIRECTORY, dir_fd=directory)
            opened.callback(os.close, directory)
        file = os.open(name, _FILE, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is not a file", os.fspath(place / inside))
    return os.fdopen(file, "rb")


def _resolved(path: Path) -> Path:
    # Unlike `Path.resolve`, this does not raise for links that lead in a circle.
    return Path(os.path.realpath(path))
