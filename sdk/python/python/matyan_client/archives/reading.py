"""Reading of archives as a source of imports."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matyan_client._console import counted
from matyan_client._core import ABSENT, Archive, UnpackedArchive
from matyan_client.importing.model import (
    Artifact,
    ImportedRun,
    Item,
    LoggingRecord,
    Points,
    RunFacts,
    StoredObject,
    TerminalLine,
    TrackedObject,
    attempted,
    digest,
)
from matyan_client.importing.source_files import SourceFiles
from matyan_client.objects._media import Encoded

# Names of the files and folders that are also read here.
_RUNS = "runs"
_SEQUENCES = "sequences.jsonl"


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Path]:
    """Yields the directory of an archive, which is unpacked if necessary."""
    if not path.exists():
        raise ValueError(f"there is no archive {str(path)!r}")
    if path.is_dir():
        # An unpacked archive contains no links.
        SourceFiles(path.resolve()).require_inside(path)
        yield path
        return
    with UnpackedArchive(path) as root:
        yield root


def archived_runs(root: Path, *, blobs: bool = True) -> list[ImportedRun]:
    """Returns the runs of an archive. Without blobs, artifacts and media are left out.

    Runs that were in the bin of their server are left out, because a replay would show them.
    """
    archive = Archive(root)
    files = SourceFiles(root.resolve())
    experiments = dict(archive.experiments())
    return [
        attempted(folder, partial(_run, archive, root / _RUNS / folder, files, experiments, blobs))
        for folder in archive.runs
        if not _is_binned(archive, folder)
    ]


def _is_binned(archive: Archive, folder: str) -> bool:
    try:
        return archive.is_binned(folder)
    except (OSError, ValueError):
        # Reported when the run is read.
        return False


def _run(
    archive: Archive, folder: Path, files: SourceFiles, experiments: dict[str, str], blobs: bool
) -> ImportedRun:
    described = archive.run(folder.name)
    experiment_id, experiment = described.experiment or ("", "")
    facts = RunFacts(
        name=described.name or None,
        description=described.description or None,
        experiment=experiment or experiments.get(experiment_id),
        tags=described.tags,
        params=json.loads(described.params),
        created=_seconds(described.created_us or None),
        ended=_seconds(described.finalized_us),
        state=described.outcome,
        error=described.outcome_message or None,
        is_archived=described.is_archived,
        is_active=described.is_active and described.finalized_us is None,
    )
    sequences = folder / _SEQUENCES
    size = sequences.stat().st_size if sequences.is_file() else 0
    artifacts = json.loads(described.artifacts)
    return ImportedRun(
        run_hash=described.run_hash,
        label=facts.name or folder.name,
        fingerprint=digest(facts, artifacts, size, blobs),
        items=partial(_items, archive, folder.name, files, list(artifacts), facts, blobs),
        facts=facts,
    )


def _seconds(time_us: int | None) -> float | None:
    return None if time_us is None else time_us / 1e6


def _items(
    archive: Archive,
    folder: str,
    files: SourceFiles,
    artifacts: list[str],
    facts: RunFacts,
    blobs: bool,
) -> Iterator[Item]:
    objects = _ObjectReader(facts, files)
    items = archive.items(folder, blobs)
    for item in items:
        match item:
            # Files come first.
            case ("blob", path, file):
                objects.files[path] = file
            case ("points", name, context, *columns):
                yield _points(name, _context(context), columns, facts)
            case ("object", name, context, step, epoch, time_us, value):
                members = objects.members(json.loads(value))
                if members:
                    time = time_us / 1e6
                    yield TrackedObject(members, name, step, _context(context), time, epoch)
            case ("line", number, text):
                yield TerminalLine(text, number)
            case ("record", level, message, time, arguments, location):
                yield LoggingRecord(
                    level=level,
                    message=message,
                    time=time,
                    arguments=json.loads(arguments or "{}"),
                    location=_location(json.loads(location or "null")),
                )
    objects.report(items.objects_lost)
    missing = 0
    for path in artifacts if blobs else ():
        if path in objects.files:
            yield Artifact(objects.files[path], path)
        else:
            missing += 1
    if missing:
        facts.notes.append(f"not in the archive: {counted(missing, 'artifact')}")


def _context(text: str) -> dict[str, Any]:
    context: dict[str, Any] = json.loads(text or "{}")
    return context


def _points(
    name: str, context: dict[str, Any], columns: Sequence[bytes], facts: RunFacts
) -> Points:
    values, steps, epochs, times_us = (
        _column(code, content) for code, content in zip("dqqq", columns, strict=True)
    )
    if ABSENT in times_us:
        created_us = round((facts.created or 0.0) * 1e6)
        times_us = array("q", (created_us if time == ABSENT else time for time in times_us))
    has_epochs = epochs.count(ABSENT) < len(epochs)
    return Points(name, context, values, steps, times_us, epochs if has_epochs else None)


def _column(code: str, content: bytes) -> array[Any]:
    column: array[Any] = array(code)
    column.frombytes(content)
    return column


def _location(location: Any) -> tuple[str, int] | None:
    return (str(location[0]), int(location[1])) if isinstance(location, list) else None


class _ObjectReader:
    """Finds the payloads of objects among the files of their run."""

    def __init__(self, facts: RunFacts, source: SourceFiles) -> None:
        self._facts = facts
        self._source = source
        # By their paths in the run.
        self.files: dict[str, Path] = {}
        self._missing = 0

    def members(self, value: Any) -> list[StoredObject]:
        """Returns the objects of a step."""
        members = value if isinstance(value, list) else [value]
        stored = [self._stored(member) for member in members if isinstance(member, dict)]
        return [member for member in stored if member is not None]

    def report(self, lost: int) -> None:
        """Notes how many objects had no payload, or were not in the archive themselves."""
        missing = self._missing + lost
        if missing:
            self._facts.notes.append(f"left out: {counted(missing, 'object')} without files")

    def _stored(self, value: dict[str, Any]) -> StoredObject | None:
        key = value.pop("s3_key", None)
        if not isinstance(key, str):
            return StoredObject(value)
        # Keys begin with the hash of the run.
        file = self.files.get(key.partition("/")[2])
        if file is None:
            self._missing += 1
            return None
        content = self._source.read_bytes(file)
        return StoredObject(value, Encoded(content, value.get("format") or ""))
