"""Unpacking of archives in one file. Nothing in the file is trusted.

Only directories and plain files below the given directory are unpacked. What the file claims to
contain is limited, so that a small file fills neither the disk nor the memory. The limits are
those of `matyan restore`.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Protocol

# Largest growth factor accepted. Numbers as text compress to a tenth.
_MOST_GROWTH = 200
_FREE_GROWTH = 1 << 30
_MOST_FILES = 20_000_000
# Of the names and attributes before each file, which are held in memory.
_MOST_METADATA = 1 << 20


class _ByteReader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def unpack(path: Path, directory: Path) -> None:
    """Unpacks a `.tar.gz` file into a directory."""
    room = path.stat().st_size * _MOST_GROWTH + _FREE_GROWTH
    try:
        with gzip.open(path) as content:
            metered = _MeteredReader(content)
            # As a stream, because a seek would decompress any number of bytes.
            with tarfile.open(fileobj=metered, mode="r|") as archive:  # type: ignore[call-overload]
                _unpack(archive, metered, directory.resolve(), room)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{str(path)!r} is not an archive, or only a part of one: {error}"
        ) from None


def _unpack(archive: tarfile.TarFile, metered: _MeteredReader, root: Path, room: int) -> None:
    count = 0
    while (member := archive.next()) is not None:
        # They would be kept for random access.
        archive.members.clear()  # type: ignore[attr-defined]
        target = (root / member.name).resolve()
        is_plain = member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
        if not target.is_relative_to(root) or not is_plain or member.issparse():
            raise ValueError(
                f"the archive contains {member.name!r}, which is no plain file or leads out of it"
            )
        count += 1
        room -= member.size
        if room < 0 or count > _MOST_FILES:
            raise ValueError(
                f"{member.name!r} makes the archive far larger than its file: if you trust it, "
                "unpack it by hand and name the directory"
            )
        # Allows the content of this file, and the metadata up to the next one.
        metered.left = member.size + _MOST_METADATA
        _write(archive, member, target)
        metered.left = _MOST_METADATA


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = archive.extractfile(member)
    target.parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        with content, target.open("xb") as file:
            shutil.copyfileobj(content, file)


class _MeteredReader:
    """Reads up to a number of bytes and then fails, so that no reader holds more than that."""

    def __init__(self, content: _ByteReader) -> None:
        self._content = content
        self.left = _MOST_METADATA

    def read(self, size: int) -> bytes:
        """Returns up to `size` bytes."""
        piece = self._content.read(size)
        self.left -= len(piece)
        if self.left < 0:
            raise tarfile.ReadError("too much metadata between two files")
        return piece
