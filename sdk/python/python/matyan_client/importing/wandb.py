"""Runs of W&B from the directory `wandb`: `offline-run-*/run-*.wandb` and the files of each run.

The result is the run of a script that imports `matyan_client.wandb`: the project is the experiment,
the config is in the params `hparams`, and the summary in `summary`. Directories of the same run,
which was resumed, become one run.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from matyan_client._console import counted
from matyan_client._core import ProtobufError, ProtobufMessage, leveldb_records
from matyan_client.objects import Audio, Figure, Html, Image, PointCloud, Text
from matyan_client.terminal import LineCutter

from .histograms import NOT_FINITE, Bin, distribution
from .model import (
    Artifact,
    ImportedRun,
    Item,
    PointBuffer,
    RunFacts,
    SourceError,
    TerminalLine,
    TrackedObject,
    attempted,
    derived_hash,
    files_fingerprint,
)
from .source_files import SourceFiles

# Fields of `Record` in wandb_internal.proto.
_HISTORY = 2
_SUMMARY = 3
_CONFIG = 5
_STATS = 7
_ARTIFACT = 8
_OUTPUT = 13
_RUN = 17
_EXIT = 18

# Types of values whose file is an object.
_FILE_TYPES = ("image-file", "audio-file", "plotly-file", "html-file")

# Series of the load of the machine, as the SDK names its own.
_SYSTEM_PREFIX = "__system__"


def runs(source: Path, files: SourceFiles) -> list[ImportedRun]:
    """Returns a run for each id that has files of W&B below a directory."""
    found = [source] if source.is_file() else source.rglob("run-*.wandb")
    # `latest-run` is a link to another directory.
    logs = sorted({file.resolve() for file in found})
    by_identity: dict[tuple[str, ...], list[Path]] = {}
    for log in logs:
        by_identity.setdefault(_identity_or_name(log, files), []).append(log)
    return [
        attempted("/".join(identity), partial(_run, identity, logs, files))
        for identity, logs in by_identity.items()
    ]


def _identity_or_name(log: Path, files: SourceFiles) -> tuple[str, ...]:
    """Returns the identity of the run of a file, or its name if the file cannot be read."""
    try:
        return _identity(log, files)
    except (ProtobufError, OSError, ValueError, SourceError):
        return "", "", log.stem.removeprefix("run-")


def _identity(file: Path, files: SourceFiles) -> tuple[str, ...]:
    """Returns entity, project, and id of the run of a file."""
    with files.open(file) as opened:
        for record in leveldb_records(file, lambda _: None, opened.fileno()):
            message = ProtobufMessage(record)
            if _RUN in message:
                run = message.message(_RUN)
                return run.text(2), run.text(3), run.text(1)
    # The script ended before the run was described.
    return "", "", file.stem.removeprefix("run-")


def _run(identity: tuple[str, ...], logs: list[Path], files: SourceFiles) -> ImportedRun:
    facts = RunFacts(name=identity[-1])
    reader = _RunReader([files.inside(log) for log in logs], facts, files)
    attached = [file for directory in reader.directories for file in files.below(directory)]
    return ImportedRun(
        run_hash=derived_hash("wandb", *identity),
        label="/".join(part for part in identity if part),
        fingerprint=files_fingerprint([*logs, *attached]),
        items=reader.items,
        facts=facts,
    )


class _RunReader:
    """Reads the files of one run."""

    def __init__(self, logs: list[Path], facts: RunFacts, files: SourceFiles) -> None:
        self.directories = [log.parent / "files" for log in logs]
        self._logs = logs
        self._files = files
        self._facts = facts
        self._points = PointBuffer()
        self._system_steps: Counter[str] = Counter()
        self._lines: list[TerminalLine] = []
        self._cutter = LineCutter(lambda line, at: self._lines.append(TerminalLine(line, at)))
        self._config: dict[str, Any] = {}
        self._summary: dict[str, Any] = {}
        self._shown: set[Path] = set()
        self._missing: Counter[str] = Counter()
        # Values that are not stored, by the reason.
        self._left_out: Counter[str] = Counter()
        # Media that are not made objects, by their types.
        self._kept: Counter[str] = Counter()

    def items(self) -> Iterator[Item]:
        """Yields points and objects in the order of the files, and then the files of the run."""
        for log, directory in zip(self._logs, self.directories, strict=True):
            with self._files.open(log) as opened:
                records = leveldb_records(log, self._facts.notes.append, opened.fileno())
            for record in records:
                try:
                    yield from self._record(ProtobufMessage(record), directory)
                except (ProtobufError, json.JSONDecodeError) as error:
                    self._facts.notes.append(f"{log.name}: left out a record: {error}")
        yield from self._points.rest()
        self._cutter.flush()
        yield from self._printed()
        for directory in self.directories:
            for file in self._files.below(directory):
                if file not in self._shown:
                    yield Artifact(file, file.relative_to(directory).as_posix())
        self._complete_facts()

    def _record(self, record: ProtobufMessage, directory: Path) -> Iterator[Item]:
        if _HISTORY in record:
            yield from self._row(record.message(_HISTORY), directory)
        elif _STATS in record:
            yield from self._stats(record.message(_STATS))
        elif _ARTIFACT in record:
            yield from self._artifact(record.message(_ARTIFACT))
        elif _OUTPUT in record:
            self._cutter.write(record.message(_OUTPUT).text(3))
            yield from self._printed()
        elif _SUMMARY in record:
            _update(self._summary, record.message(_SUMMARY))
        elif _CONFIG in record:
            _update(self._config, record.message(_CONFIG))
        elif _RUN in record:
            self._description(record.message(_RUN))
        elif _EXIT in record:
            exit_code = record.message(_EXIT).integer(1)
            self._facts.state = "failed" if exit_code else "finished"

    def _description(self, run: ProtobufMessage) -> None:
        facts = self._facts
        facts.name = run.text(8) or facts.name
        facts.description = run.text(9) or facts.description
        facts.experiment = run.text(3) or facts.experiment
        facts.tags = [tag.decode("utf-8", "replace") for tag in run.contents(10)]
        if facts.created is None and 17 in run:
            facts.created = _timestamp(run.message(17))
        _update(self._config, run.message(4))
        _update(self._summary, run.message(5))
        names = {"entity": 2, "group": 6, "job_type": 7, "id": 1}
        described = {name: run.text(number) for name, number in names.items()}
        facts.params["wandb"] = {name: text for name, text in described.items() if text}

    def _row(self, row: ProtobufMessage, directory: Path) -> Iterator[Item]:
        values: dict[str, Any] = {}
        for item in row.messages(1):
            _set(values, _path(item), _json(item))
        step = values.pop("_step", None)
        if not isinstance(step, int):
            step = row.message(2).integer(1)
        time = values.pop("_timestamp", None)
        if not isinstance(time, (int, float)):
            time = (self._facts.created or 0.0) + float(values.get("_runtime", 0.0))
        self._facts.ended = max(time, self._facts.ended or time)
        for name, value in _leaves(values, ""):
            # The names of W&B's own columns start with an underscore.
            if not name.startswith("_"):
                yield from self._value(name, value, step, time, directory)

    def _value(
        self, name: str, value: Any, step: int, time: float, directory: Path
    ) -> Iterator[Item]:
        if isinstance(value, (bool, int, float)):
            piece = self._points.add(name, float(value), step, time)
            if piece is not None:
                yield piece
        elif isinstance(value, str):
            yield TrackedObject(Text(value), name, step, time=time)
        elif isinstance(value, dict) and "_type" in value:
            yield from self._media(name, value, (step, time), directory)
        elif isinstance(value, list) and value and all(_is_media(member) for member in value):
            yield from self._media_list(name, value, (step, time), directory)
        elif value is not None:
            # Lists and empty dicts: no type of series shows them, but their text is kept.
            yield TrackedObject(Text(json.dumps(value)), name, step, time=time)

    def _media_list(
        self,
        name: str,
        members: list[dict[str, Any]],
        moment: tuple[int, float],
        directory: Path,
    ) -> Iterator[Item]:
        """Yields one item for all images and one for all recordings: `track` stores lists."""
        together: dict[type, list[Any]] = {}
        for index, member in enumerate(members):
            for item in self._media(name, member, moment, directory):
                if not isinstance(item, TrackedObject):
                    yield item
                elif isinstance(item.value, (Image, Audio, Html, PointCloud)):
                    together.setdefault(type(item.value), []).append(item.value)
                else:
                    yield replace(item, context={**item.context, "index": index})
        for shown in together.values():
            yield TrackedObject(shown, name, moment[0], time=moment[1])

    def _media(
        self, name: str, value: dict[str, Any], moment: tuple[int, float], directory: Path
    ) -> Iterator[Item]:
        kind = value["_type"]
        step, time = moment
        if kind == "histogram":
            bins = _histogram_bins(value)
            whole = distribution(bins)
            if whole is not None:
                yield TrackedObject(whole, name, step, time=time)
            elif bins:
                self._left_out[NOT_FINITE] += 1
        elif kind == "images/separated":
            captions = itertools.chain(value.get("captions") or [], itertools.repeat(""))
            paths = value.get("filenames", [])
            images = [
                Image(self._files.read_bytes(file), caption=str(caption or ""))
                for path, caption in zip(paths, captions, strict=False)
                if (file := self._media_file(directory, path)) is not None
            ]
            if images:
                yield TrackedObject(images, name, step, time=time)
        elif kind in _FILE_TYPES or (kind == "object3D-file" and _is_points(value)):
            file = self._media_file(directory, value.get("path", ""))
            if file is not None:
                content = self._files.read_bytes(file)
                shown = _media_object(kind, file.name, content, value)
                yield TrackedObject(shown, name, step, time=time)
        else:
            self._kept[kind] += 1

    def _media_file(self, directory: Path, path: str) -> Path | None:
        """Returns a file of the run that an object is made of."""
        file = directory / path
        if not self._files.contains(file) or not file.is_file():
            self._missing["media"] += 1
            return None
        self._shown.add(file)
        return file

    def _stats(self, stats: ProtobufMessage) -> Iterator[Item]:
        time = _timestamp(stats.message(2))
        for item in stats.messages(3):
            value = _json(item)
            if isinstance(value, (int, float)):
                name = _SYSTEM_PREFIX + item.text(1)
                piece = self._points.add(name, float(value), self._system_steps[name], time)
                self._system_steps[name] += 1
                if piece is not None:
                    yield piece

    def _artifact(self, artifact: ProtobufMessage) -> Iterator[Item]:
        # The tables of the history, which are among the files of the run as well.
        if artifact.text(4) == "run_table":
            return
        for entry in artifact.message(12).messages(4):
            local = entry.text(6)
            file = Path(local)
            if local and file.is_file():
                yield Artifact(file, f"{artifact.text(5)}/{entry.text(1)}")
            else:
                self._missing["artifacts"] += 1

    def _printed(self) -> Iterator[TerminalLine]:
        lines = self._lines
        self._lines = []
        yield from lines

    def _complete_facts(self) -> None:
        facts = self._facts
        for kind, count in sorted(self._missing.items()):
            facts.notes.append(f"not on this machine: {counted(count, 'file')} of {kind}")
        for kind, count in sorted(self._kept.items()):
            facts.notes.append(f"stored as files only: {counted(count, 'value')} of {kind}")
        for kind, count in sorted(self._left_out.items()):
            facts.notes.append(f"left out: {counted(count, 'value')} of {kind}")
        config = _without_internals(self._config)
        if config:
            facts.params["hparams"] = config
        summary = _without_internals(self._summary)
        if summary:
            facts.params["summary"] = summary


def _media_object(kind: str, name: str, content: bytes, value: dict[str, Any]) -> Any:
    caption = str(value.get("caption") or "")
    if kind == "image-file":
        return Image(content, caption=caption)
    if kind == "audio-file":
        return Audio(content, Path(name).suffix.lstrip("."), caption=caption)
    if kind == "html-file":
        return Html(content, caption=caption)
    if kind == "object3D-file":
        # Only files with points are made objects.
        return PointCloud(content, caption, format="pts.json")
    return Figure(json.loads(content))


def _is_points(value: dict[str, Any]) -> bool:
    """Reports whether the file of a scene has nothing but points."""
    return str(value.get("path", "")).endswith(".pts.json")


def _histogram_bins(value: dict[str, Any]) -> list[Bin]:
    weights = value.get("values") or []
    bounds = value.get("bins")
    packed = value.get("packedBins")
    if bounds is None and packed:
        # Bins without weights are left out below, however many the source claims.
        count = min(packed["count"], len(weights))
        bounds = [packed["min"] + packed["size"] * index for index in range(count + 1)]
    return [
        (float(low), float(high), float(weight))
        for low, high, weight in zip(bounds or [], (bounds or [])[1:], weights, strict=False)
    ]


def _is_media(value: Any) -> bool:
    return isinstance(value, dict) and "_type" in value


def _update(tree: dict[str, Any], record: ProtobufMessage) -> None:
    """Applies the changes of a config or summary."""
    for item in record.messages(1):
        _set(tree, _path(item), _json(item))
    for item in record.messages(2):
        path = _path(item)
        node: Any = tree
        for segment in path[:-1]:
            node = node.get(segment) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(path[-1], None)


def _path(item: ProtobufMessage) -> list[str]:
    """Returns the key of an item, which has segments if it is nested."""
    return [key.decode("utf-8", "replace") for key in item.contents(2)] or [item.text(1)]


def _json(item: ProtobufMessage) -> Any:
    return json.loads(item.content(16) or b"null")


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for segment in path[:-1]:
        below = tree.get(segment)
        if not isinstance(below, dict):
            below = {}
            tree[segment] = below
        tree = below
    tree[path[-1]] = value


def _leaves(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yields values with their names. Media are dicts that are values."""
    for key, value in tree.items():
        if isinstance(value, dict) and value and "_type" not in value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _without_internals(tree: dict[str, Any]) -> dict[str, Any]:
    """Returns a config or summary without the entries that W&B adds, and without media."""
    return {
        key: value
        for key, value in tree.items()
        if not key.startswith("_") and not _is_media(value)
    }


def _timestamp(message: ProtobufMessage) -> float:
    return message.integer(1) + message.integer(2) / 1e9
