"""Writing of archives."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from matyan_client import _tracked_objects
from matyan_client._core import context_number, run_folder
from matyan_client.importing.model import (
    NO_EPOCH,
    Artifact,
    ImportedRun,
    Item,
    LoggingRecord,
    Points,
    TerminalLine,
    TrackedObject,
)

from . import layout

if TYPE_CHECKING:
    from typing_extensions import Self


class ArchiveWriter:
    """Writes runs below a directory, which gets its manifest when the archive is complete.

    Leaving a `with` block completes the archive, or deletes it after an exception.
    """

    def __init__(self, output: Path, prefix: str, *, filters: dict[str, Any], blobs: bool) -> None:
        self._created = datetime.datetime.now(datetime.timezone.utc)
        self.path = _new_directory(output, f"{prefix}-{self._created:%Y%m%d-%H%M%S}")
        (self.path / layout.RUNS).mkdir()
        self._filters = filters
        self._has_blobs = blobs
        self._hashes: list[str] = []
        self._entities: dict[str, list[dict[str, Any]]] = {}
        self.blob_count = 0
        self.blob_bytes = 0

    @property
    def run_count(self) -> int:
        """Number of the runs that are written."""
        return len(self._hashes)

    def add_entity(self, kind: str, data: dict[str, Any]) -> None:
        """Adds an experiment or a tag."""
        self._entities.setdefault(kind, []).append(data)

    def add_run(self, run: ImportedRun) -> None:
        """Writes a run with all of its data."""
        folder = self.path / layout.RUNS / run_folder(run.run_hash)
        folder.mkdir()
        self._hashes.append(run.run_hash)
        with (folder / layout.SEQUENCES).open("w", encoding="utf-8") as sequences:
            writer = _RunWriter(run.run_hash, folder, sequences, self if self._has_blobs else None)
            for item in run.items():
                writer.add(item)
        writer.finish(run)

    def compress(self) -> Path:
        """Replaces the directory with a `.tar.gz` file."""
        packed = self.path.with_name(f"{self.path.name}.tar.gz")
        with tarfile.open(packed, "x:gz") as archive:
            archive.add(self.path, self.path.name)
        shutil.rmtree(self.path)
        return packed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        lines = [
            json.dumps({"entity_type": kind, "data": data})
            for kind, entities in self._entities.items()
            for data in entities
        ]
        (self.path / layout.ENTITIES).write_text("".join(f"{line}\n" for line in lines))
        manifest = {
            "format_version": layout.FORMAT_VERSION,
            "created_at": self._created.isoformat(),
            "run_count": len(self._hashes),
            "run_hashes": self._hashes,
            "entity_counts": {kind: len(found) for kind, found in self._entities.items()},
            "blob_count": self.blob_count,
            "blob_bytes": self.blob_bytes,
            "filters": self._filters,
            "include_blobs": self._has_blobs,
        }
        _write_json(self.path / layout.MANIFEST, manifest)


def _new_directory(output: Path, name: str) -> Path:
    """Creates a directory. A name that an archive of the same second has gets a number."""
    output.mkdir(parents=True, exist_ok=True)
    path, number = output / name, 1
    while True:
        if not path.with_name(f"{path.name}.tar.gz").exists():
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
        number += 1
        path = output / f"{name}-{number}"


class _RunWriter:
    """Writes the files of one run."""

    def __init__(
        self, run_hash: str, folder: Path, sequences: IO[str], counts: ArchiveWriter | None
    ) -> None:
        self._run_hash = run_hash
        self._folder = folder
        self._sequences = sequences
        # None: without blobs.
        self._counts = counts
        self._contexts: dict[int, dict[str, Any]] = {}
        self._traces: dict[tuple[str, int, str], dict[str, Any]] = {}
        self._artifacts: dict[str, dict[str, Any]] = {}
        self._blobs = _BlobFolder(folder)
        self._records = 0
        self._payloads = 0

    def add(self, item: Item) -> None:
        """Writes an item."""
        if isinstance(item, Points):
            self._points(item)
        elif isinstance(item, TrackedObject):
            self._object(item)
        elif isinstance(item, TerminalLine):
            self._line(layout.LINES, {}, item.number, item.text)
        elif isinstance(item, LoggingRecord):
            value = {
                "message": item.message,
                "log_level": item.level,
                "timestamp": item.time,
                "args": item.arguments or None,
                "logger_info": None if item.location is None else list(item.location),
            }
            self._line(layout.RECORDS, {}, self._records, value)
            self._records += 1
        else:
            self._artifact(item)

    def finish(self, run: ImportedRun) -> None:
        """Writes what is known only at the end."""
        facts = run.facts
        described = {
            "hash": run.run_hash,
            "name": facts.name or "",
            "description": facts.description or "",
            "created_at": facts.created,
            "finalized_at": facts.ended,
            "first_start_ts": facts.created,
            "is_archived": facts.is_archived,
            "active": facts.ended is None,
            "experiment_name": facts.experiment,
            "tags": [{"name": tag} for tag in facts.tags],
            "outcome": facts.state if facts.state in _OUTCOMES else None,
            "outcome_message": facts.error,
        }
        described = {key: value for key, value in described.items() if value is not None}
        _write_json(self._folder / "run.json", described)
        _write_json(self._folder / "attrs.json", {**facts.params, "__blobs__": self._artifacts})
        _write_json(self._folder / "traces.json", list(self._traces.values()))
        _write_json(self._folder / "contexts.json", self._contexts)
        self._blobs.finish()

    def _points(self, points: Points) -> None:
        for at, (step, value) in enumerate(zip(points.steps, points.values, strict=True)):
            epoch = None if points.epochs is None else points.epochs[at]
            if epoch == NO_EPOCH:
                epoch = None
            time = points.times_us[at] / 1e6
            self._line((points.name, "float"), points.context, step, value, epoch, time)

    def _object(self, item: TrackedObject) -> None:
        objects = item.value if isinstance(item.value, list) else [item.value]
        dtype, members = _tracked_objects.described(objects)
        stored = []
        for value, payload in members:
            if payload is None:
                stored.append(value)
                continue
            encoded = payload if hasattr(payload, "format") else payload.encode()
            name = f"{self._payloads}.{encoded.format.lower() or 'bin'}"
            self._payloads += 1
            path = f"seq/{dtype}/{name}"
            self._blob(path, io.BytesIO(encoded.data))
            key = f"{self._run_hash}/{path}"
            stored.append({**value, "format": encoded.format, "s3_key": key})
        whole: Any = stored if len(stored) > 1 else stored[0]
        self._line((item.name, dtype), item.context, item.step, whole, item.epoch, item.time)

    def _artifact(self, item: Artifact) -> None:
        key = f"{self._run_hash}/{item.path}"
        self._artifacts[item.path] = {"s3_key": key, "content_type": "application/octet-stream"}
        if self._counts is not None:
            with item.file.open("rb") as content:
                self._blob(item.path, content)

    def _blob(self, path: str, content: IO[bytes]) -> None:
        if self._counts is not None:
            self._counts.blob_count += 1
            self._counts.blob_bytes += self._blobs.add(path, content)

    def _line(
        self,
        trace: tuple[str, str],
        context: dict[str, Any],
        step: int,
        value: Any,
        epoch: int | None = None,
        time: float | None = None,
    ) -> None:
        number = context_number(context)
        while self._contexts.setdefault(number, context) != context:
            number += 1
        name, dtype = trace
        line = {"ctx_id": number, "name": name, "step": step, "value": value}
        if epoch is not None:
            line["epoch"] = epoch
        if time is not None:
            line["time"] = time
        self._sequences.write(json.dumps(line) + "\n")
        described = self._traces.setdefault(
            (name, number, dtype), {"name": name, "context_id": number, "dtype": dtype}
        )
        described["last"] = value if isinstance(value, (int, float)) else 0.0
        described["last_step"] = step


class _BlobFolder:
    """Writes blobs below their paths, or by a digest if a path cannot be used as a name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Paths in use, without case as on many file systems: those of files, and all above them.
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._listed: list[dict[str, Any]] = []

    def add(self, path: str, content: IO[bytes]) -> int:
        """Copies a blob, and returns its size."""
        name = self._name(path)
        file = self._folder / layout.BLOBS / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as target:
            shutil.copyfileobj(content, target)
            size = target.tell()
        if name != path:
            self._listed.append({"path": path, "content_type": "", "size": size, "file": name})
        return size

    def finish(self) -> None:
        """Writes the list of the blobs whose names are not their paths."""
        if self._listed:
            lines = "".join(f"{json.dumps(blob)}\n" for blob in self._listed)
            (self._folder / layout.BLOB_LIST).write_text(lines, encoding="utf-8")

    def _name(self, path: str) -> str:
        folded = path.casefold()
        parts = folded.split("/")
        above = {"/".join(parts[:end]) for end in range(1, len(parts))}
        is_free = folded not in self._files | self._folders and not above & self._files
        if is_free and all(map(_is_file_name, parts)):
            self._files.add(folded)
            self._folders |= above
            return path
        return "~" + hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()


def _is_file_name(part: str) -> bool:
    return (
        part not in ("", ".", "..")
        and len(part.encode("utf-8", "surrogatepass")) <= _MOST_NAME
        and not part.startswith("~")
        and part.isprintable()
        and not set(part) & _RESERVED
    )


# The states in which a run of a server ends. Other trackers have more, such as `running`.
_OUTCOMES = ("finished", "failed", "interrupted")
# On any of the usual file systems.
_RESERVED = frozenset('<>:"|?*\\')
_MOST_NAME = 200


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")
