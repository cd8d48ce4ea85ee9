"""Event files of TensorBoard, read without TensorFlow.

Each directory with event files is a run, as in TensorBoard. Its hash is derived from its path below
the source and from the name of its first event file, which contains time and host, so it does not
change when the logs are moved. The compiled core decides what events mean, as for `matyan follow`.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

from matyan_client._core import EventReader
from matyan_client.objects._media import Encoded

from .model import (
    ImportedRun,
    Item,
    Points,
    RunFacts,
    SourceError,
    StoredObject,
    TrackedObject,
    attempted,
    derived_hash,
    files_fingerprint,
)
from .source_files import SourceFiles

_PATTERN = "*tfevents*"

# Name, values, steps, and times in microseconds of points of a series.
_PointColumns: TypeAlias = tuple[str, bytes, bytes, bytes]
# Name, type, step, time in microseconds, and for each object its value as JSON and its file.
_FoundObject: TypeAlias = tuple[str, str, int, int, list[tuple[str, tuple[bytes, str] | None]]]


def runs(source: Path, files: SourceFiles) -> list[ImportedRun]:
    """Returns a run for each directory with event files."""
    directories: dict[Path, list[Path]] = {}
    found = [source] if source.is_file() else sorted(source.rglob(_PATTERN))
    for file in found:
        if file.is_file():
            directories.setdefault(file.parent, []).append(file)
    root = source.parent if source.is_file() else source
    return [
        attempted(str(directory), partial(_run, root, directory, event_files, files))
        for directory, event_files in sorted(directories.items())
    ]


def _run(root: Path, directory: Path, event_files: list[Path], files: SourceFiles) -> ImportedRun:
    label = directory.relative_to(root).as_posix()
    if label == ".":
        label = root.resolve().name
        path = ""
    else:
        path = label
    params = {"tensorboard": {"path": label}}
    facts = RunFacts(name=label, description="Imported from TensorBoard", params=params)
    reader = _RunReader([files.inside(file) for file in event_files], facts, files)
    return ImportedRun(
        run_hash=derived_hash("tensorboard", path, event_files[0].name),
        label=label,
        fingerprint=files_fingerprint(event_files),
        items=reader.items,
        facts=facts,
    )


class _RunReader:
    """Reads the event files of one run."""

    def __init__(self, event_files: list[Path], facts: RunFacts, files: SourceFiles) -> None:
        self._event_files = event_files
        self._facts = facts
        self._files = files

    def items(self) -> Iterator[Item]:
        """Yields points and objects in the order of the files."""
        reader = EventReader(self._facts.notes.append)
        for file in self._event_files:
            with self._files.open(file) as opened:
                reader.open(file, opened.fileno())
            while (part := reader.read()) is not None:
                self._describe(reader)
                points, objects = part
                yield from map(_points, points)
                yield from map(_tracked, objects)
        if not reader.record_count and any(file.stat().st_size for file in self._event_files):
            names = ", ".join(file.name for file in self._event_files)
            raise SourceError(f"no event can be read: not an event file of TensorBoard: {names}")
        yield from map(_points, reader.rest())
        for reason, count in reader.left_out.items():
            self._facts.notes.append(f"left out: {reason} ({count})")
        if reader.hidden:
            self._facts.notes.append(f"left out: graphs and layouts ({reader.hidden})")

    def _describe(self, reader: EventReader) -> None:
        """Copies what is known of the run as a whole."""
        self._facts.created = _seconds(reader.created_us)
        self._facts.ended = _seconds(reader.ended_us)
        self._facts.state = reader.state
        hparams = json.loads(reader.hparams)
        if hparams:
            self._facts.params["hparams"] = hparams


def _points(columns: _PointColumns) -> Points:
    name, values, steps, times_us = columns
    return Points(
        name, values=array("d", values), steps=array("q", steps), times_us=array("q", times_us)
    )


def _tracked(found: _FoundObject) -> TrackedObject:
    name, dtype, step, time_us, parts = found
    members = [
        StoredObject({"type": dtype, **json.loads(value)}, None if file is None else Encoded(*file))
        for value, file in parts
    ]
    return TrackedObject(members, name, step, time=_seconds(time_us))


def _seconds(time_us: int | None) -> float | None:
    return None if time_us is None else time_us / 1e6
