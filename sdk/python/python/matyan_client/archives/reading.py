"""Reading of archives, as a source of imports."""

from __future__ import annotations

import contextlib
import json
import tempfile
from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from matyan_client._console import counted
from matyan_client.importing.model import (
    CHUNK_POINTS,
    NO_EPOCH,
    Artifact,
    ImportedRun,
    Item,
    LoggingRecord,
    Points,
    RunFacts,
    SourceError,
    TerminalLine,
    TrackedObject,
    attempted,
    digest,
)
from matyan_client.importing.source_files import SourceFiles
from matyan_client.objects._media import Encoded

from . import layout
from .packed import unpack


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Path]:
    """Yields the directory of an archive, which is unpacked if necessary, after checking it."""
    if not path.exists():
        raise ValueError(f"there is no archive {str(path)!r}")
    if path.is_dir():
        _check(path)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="matyan-restore-") as directory:
        unpack(path, Path(directory))
        roots = [found.parent for found in Path(directory).glob(f"*/{layout.MANIFEST}")]
        if len(roots) != 1:
            raise ValueError(f"{str(path)!r} is not an archive: it has no {layout.MANIFEST}")
        _check(roots[0])
        yield roots[0]


def archived_runs(root: Path, *, blobs: bool = True) -> list[ImportedRun]:
    """Returns the runs of an archive. Without blobs, artifacts and media are left out.

    Runs that were in the bin of their server are left out, because a replay would show them.
    """
    folders = sorted(
        folder
        for folder in (root / layout.RUNS).iterdir()
        if folder.is_dir() and not _is_binned(folder)
    )
    experiments = {
        entity["data"].get("id"): entity["data"].get("name")
        for entity in entities(root)
        if entity["entity_type"] == "experiment"
    }
    return [attempted(folder.name, partial(_run, folder, experiments, blobs)) for folder in folders]


def entities(root: Path) -> Iterator[dict[str, Any]]:
    """Yields experiments, tags, and others that belong to no run."""
    file = root / layout.ENTITIES
    if file.is_file():
        yield from _lines(file)


def _check(root: Path) -> None:
    SourceFiles(root.resolve()).require_inside(root)
    if not (root / layout.MANIFEST).is_file():
        raise ValueError(f"{str(root)!r} is not an archive: it has no {layout.MANIFEST}")
    manifest = _object(root / layout.MANIFEST)
    version = manifest.get("format_version")
    if version != layout.FORMAT_VERSION:
        raise ValueError(
            f"{layout.MANIFEST}: format {version} is not supported, only {layout.FORMAT_VERSION} is"
        )
    runs = root / layout.RUNS
    found = {folder.name for folder in runs.iterdir()} if runs.is_dir() else set()
    # Archives of `matyan backup` list folders, others list hashes.
    expected = {
        listed if listed in found else layout.run_folder(listed)
        for listed in manifest.get("run_hashes", [])
    }
    if expected != found:
        differing = ", ".join(sorted(expected ^ found))
        raise ValueError(f"{layout.MANIFEST} and the directory `runs` differ in {differing}")
    for folder in found:
        for name in layout.RUN_FILES:
            if not (runs / folder / name).is_file():
                raise ValueError(f"runs/{folder} has no {name}")


def _run(folder: Path, experiments: dict[Any, Any], blobs: bool) -> ImportedRun:
    described = _object(folder / "run.json")
    run_hash = described.get("hash") or folder.name
    if layout.run_folder(run_hash) != folder.name:
        raise SourceError(f"run.json describes the run {run_hash!r}, not that of its folder")
    params = _object(folder / "attrs.json")
    artifacts = params.pop("__blobs__", None) or {}
    experiment = described.get("experiment_name") or experiments.get(described.get("experiment_id"))
    tags = [tag.get("name") for tag in described.get("tags", []) if isinstance(tag, dict)]
    facts = RunFacts(
        name=described.get("name") or None,
        description=described.get("description") or None,
        experiment=experiment,
        tags=[tag for tag in tags if tag],
        params=params,
        created=described.get("created_at"),
        ended=described.get("finalized_at"),
        state=described.get("outcome"),
        error=described.get("outcome_message"),
        is_archived=bool(described.get("is_archived")),
        is_active=bool(described.get("active")) and described.get("finalized_at") is None,
    )
    size = (folder / layout.SEQUENCES).stat().st_size if _has_sequences(folder) else 0
    return ImportedRun(
        run_hash=run_hash,
        label=facts.name or folder.name,
        fingerprint=digest(facts, artifacts, size, blobs),
        items=partial(_items, folder, artifacts, facts, blobs),
        facts=facts,
    )


def _is_binned(folder: Path) -> bool:
    try:
        return _object(folder / "run.json").get("binned_at") is not None
    except (OSError, SourceError, ValueError):
        # Reported when the run is read.
        return False


def _has_sequences(folder: Path) -> bool:
    return (folder / layout.SEQUENCES).is_file()


class _Trace(NamedTuple):
    """The name of a series, and the number of its context."""

    name: str
    context: int


def _items(folder: Path, artifacts: dict[str, Any], facts: RunFacts, blobs: bool) -> Iterator[Item]:
    if _has_sequences(folder):
        yield from _sequences(folder, facts, blobs)
    files = _blob_files(folder)
    missing = 0
    for path in artifacts if blobs else ():
        file = files.get(path, folder / layout.BLOBS / path)
        if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            yield Artifact(file, path)
        else:
            missing += 1
    if missing:
        facts.notes.append(f"not in the archive: {counted(missing, 'artifact')}")


def _sequences(folder: Path, facts: RunFacts, blobs: bool) -> Iterator[Item]:
    contexts = {int(number): context for number, context in _contexts(folder).items()}
    types = {
        _Trace(trace["name"], trace.get("context_id", 0)): layout.singular(trace.get("dtype", ""))
        for trace in json.loads((folder / "traces.json").read_text("utf-8"))
    }
    reader = _ObjectReader(folder, facts, blobs)
    points: Points | None = None
    open_trace: _Trace | None = None
    for line in _lines(folder / layout.SEQUENCES):
        trace = _Trace(line["name"], line.get("ctx_id", 0))
        dtype, value = types.get(trace, ""), line["value"]
        if points is not None and (trace != open_trace or len(points.values) >= CHUNK_POINTS):
            yield points
            points = None
        if (trace.name, dtype) == layout.LINES:
            yield TerminalLine(str(value), line["step"])
        elif (trace.name, dtype) == layout.RECORDS and isinstance(value, dict):
            yield _record(value)
        elif isinstance(value, (dict, list)):
            yield from reader.objects(line, contexts.get(trace.context, {}), value)
        else:
            if points is None:
                points = Points(trace.name, contexts.get(trace.context, {}))
            _add_point(points, line, facts)
            open_trace = trace
    if points is not None:
        yield points
    reader.report()


def _contexts(folder: Path) -> dict[str, Any]:
    return _object(folder / "contexts.json")


def _add_point(points: Points, line: dict[str, Any], facts: RunFacts) -> None:
    value, time = line["value"], line.get("time")
    # Other tools write `null` for what JSON has no number for.
    points.add(
        float("nan") if value is None else float(value),
        line["step"],
        time if time is not None else facts.created or 0.0,
    )
    epoch = line.get("epoch")
    if epoch is not None and points.epochs is None:
        points.epochs = array("q", [NO_EPOCH]) * (len(points.values) - 1)
    if points.epochs is not None:
        points.epochs.append(NO_EPOCH if epoch is None else int(epoch))


def _record(value: dict[str, Any]) -> LoggingRecord:
    location = value.get("logger_info")
    return LoggingRecord(
        level=layout.log_level(value.get("log_level")),
        message=str(value.get("message", "")),
        time=float(value.get("timestamp") or 0.0),
        arguments=value.get("args") or {},
        location=(str(location[0]), int(location[1])) if isinstance(location, list) else None,
    )


class _ObjectReader:
    """Reads the objects of a run with their payloads."""

    def __init__(self, folder: Path, facts: RunFacts, blobs: bool) -> None:
        self._folder = folder
        self._facts = facts
        self._has_blobs = blobs
        self._files = _blob_files(folder)
        self._missing = 0

    def objects(
        self, line: dict[str, Any], context: dict[str, Any], value: Any
    ) -> Iterator[TrackedObject]:
        """Yields the objects of a step."""
        members = value if isinstance(value, list) else [value]
        stored = [self._stored(dict(member)) for member in members if isinstance(member, dict)]
        known = [member for member in stored if member is not None]
        if known:
            yield TrackedObject(
                known, line["name"], line["step"], context, line.get("time"), line.get("epoch")
            )

    def report(self) -> None:
        """Notes how many objects had no payload."""
        if self._missing:
            self._facts.notes.append(f"left out: {counted(self._missing, 'object')} without files")

    def _stored(self, value: dict[str, Any]) -> layout.StoredObject | None:
        key = value.pop("s3_key", None)
        if not isinstance(key, str):
            return layout.StoredObject(value)
        # Keys begin with the hash of the run.
        path = key.partition("/")[2]
        file = self._files.get(path, self._folder / layout.BLOBS / path)
        is_inside = file.resolve().is_relative_to(self._folder.resolve())
        if not self._has_blobs or not is_inside or not file.is_file():
            self._missing += 1
            return None
        return layout.StoredObject(value, Encoded(file.read_bytes(), value.get("format") or ""))


def _blob_files(folder: Path) -> dict[str, Path]:
    """Returns the files of blobs that do not have their paths as names."""
    listed = folder / layout.BLOB_LIST
    if not listed.is_file():
        return {}
    return {
        blob["path"]: folder / layout.BLOBS / blob["file"]
        for blob in _lines(listed)
        if "file" in blob
    }


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"{file.name}, line {number}: {error}") from None


def _object(file: Path) -> dict[str, Any]:
    value = json.loads(file.read_text("utf-8"))
    if not isinstance(value, dict):
        raise SourceError(f"{file.name}: expected an object")
    return value
