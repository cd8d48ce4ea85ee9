"""Unpacking of the ZIP archive in which a server sends the artifacts of a run."""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from . import errors
from ._console import counted
from .transport._answers import unexpected

# Limits of growth, as for the archives of `matyan backup` in `libs/archive/src/pack.rs`.
_MAX_GROWTH = 200
_MAX_GROWTH_FREE = 1 << 30
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpack(archive: Path, target: Path) -> list[Path]:
    """Unpacks an archive into a directory, and returns the paths of the files.

    Nothing in the archive is trusted: members outside of the directory are refused, and so is an
    archive that grows far beyond its size.
    """
    with contextlib.ExitStack() as stack:
        with _readable():
            content = stack.enter_context(zipfile.ZipFile(archive))
            members = content.infolist()
        root = target.resolve()
        _check(members, root, target, archive.stat().st_size)
        failed: list[tuple[str, OSError]] = []
        for member in members:
            try:
                with _readable():
                    content.extract(member, root)
            except OSError as error:
                failed.append((member.filename, error))
    if failed:
        # A file may have the name of the folder of another file.
        name, reason = failed[0]
        saved = counted(len(members) - len(failed), "artifact")
        raise OSError(
            f"cannot save the artifact {name!r} in {target}: {reason}; `download_artifact` saves "
            f"it under another name; saved: {saved}"
        ) from reason
    return [target / member.filename for member in members]


def _check(members: list[zipfile.ZipInfo], root: Path, target: Path, packed: int) -> None:
    # No more is unpacked of a member than the size that it claims.
    left = packed * _MAX_GROWTH + _MAX_GROWTH_FREE
    for member in members:
        name = member.filename
        if not (root / name).resolve().is_relative_to(root):
            raise ValueError(f"the archive contains {name!r}, which is outside of {target}")
        if member.compress_type not in _METHODS:
            raise _damaged(f"{name!r} is compressed by an unknown method")
        left -= member.file_size
        if left < 0:
            raise ValueError(
                f"refused to unpack: {name!r} makes the archive far larger than its file; if you "
                "trust it, save the artifacts one by one with `download_artifact`"
            )


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Raises a `ServerError` for the errors of a damaged archive."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as e:
        raise _damaged(str(e)) from e


def _damaged(reason: str) -> errors.ServerError:
    return unexpected(f"expected a ZIP archive of the artifacts ({reason})")
