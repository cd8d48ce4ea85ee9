"""Writing of archives. The compiled core writes the files."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from matyan_client import _tracked_objects
from matyan_client._core import ArchiveFiles, RunFiles, pack_archive
from matyan_client.importing.model import (
    ImportedRun,
    Item,
    LoggingRecord,
    Points,
    TerminalLine,
    TrackedObject,
)
from matyan_client.objects._media import encoded

if TYPE_CHECKING:
    from typing_extensions import Self


class ArchiveWriter:
    """Writes runs below a directory, which gets its manifest when the archive is complete.

    Leaving a `with` block completes the archive, or deletes it after an exception.
    """

    def __init__(self, output: Path, prefix: str, *, filters: dict[str, Any], blobs: bool) -> None:
        self._files = ArchiveFiles(output, prefix, filters, blobs)
        self.path = self._files.path

    @property
    def run_count(self) -> int:
        """Number of the runs that are written."""
        return self._files.run_count

    @property
    def blob_count(self) -> int:
        """Number of the artifacts and of the files of objects."""
        return self._files.blob_count

    @property
    def blob_bytes(self) -> int:
        """Size of the artifacts and of the files of objects."""
        return self._files.blob_bytes

    def add_entity(self, kind: str, entity: dict[str, Any]) -> None:
        """Adds an experiment or a tag that the server returned."""
        self._files.add_entity(
            kind,
            entity.get("id"),
            entity.get("name"),
            entity.get("description"),
            entity.get("color"),
            bool(entity.get("archived")),
        )

    def add_run(self, run: ImportedRun) -> None:
        """Writes a run with all of its data."""
        files = self._files.begin_run(run.run_hash)
        for item in run.items():
            _write(files, item)
        self._files.finish_run(files, run.facts)

    def compress(self) -> Path:
        """Replaces the directory with a `.tar.gz` file."""
        return pack_archive(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._files.finish()
        else:
            shutil.rmtree(self.path, ignore_errors=True)


def _write(files: RunFiles, item: Item) -> None:
    if isinstance(item, Points):
        epochs = None if item.epochs is None else item.epochs.tobytes()
        columns = (item.values.tobytes(), item.steps.tobytes(), epochs, item.times_us.tobytes())
        files.points(item.name, item.context, columns)
    elif isinstance(item, TrackedObject):
        _write_objects(files, item)
    elif isinstance(item, TerminalLine):
        files.line(item.number, item.text)
    elif isinstance(item, LoggingRecord):
        files.record(item.level, item.message, item.time, item.arguments, item.location)
    else:
        files.artifact(item.path, item.file)


def _write_objects(files: RunFiles, item: TrackedObject) -> None:
    objects = item.value if isinstance(item.value, list) else [item.value]
    dtype, members = _tracked_objects.described(objects)
    # Searches return epochs as floats.
    epoch = None if item.epoch is None else int(item.epoch)
    files.objects(
        (item.name, item.context, dtype),
        (item.step, epoch, item.time),
        [(value, None if payload is None else encoded(payload)) for value, payload in members],
    )
