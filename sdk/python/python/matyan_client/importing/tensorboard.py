"""Event files of TensorBoard, read without TensorFlow.

Each directory with event files is a run, as in TensorBoard. Its hash is derived from its path below
the source and from the name of its first event file, which contains time and host, so it does not
change when the logs are moved.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from matyan_client._console import counted
from matyan_client._core import (
    ProtobufError,
    ProtobufMessage,
    Tensor,
    TensorError,
    histogram_bins,
    tensorflow_records,
)
from matyan_client.objects import Audio, Image, Text

from .histograms import NOT_FINITE, Bin, distribution
from .literals import evaluated
from .model import (
    ImportedRun,
    Item,
    PointBuffer,
    RunFacts,
    SourceError,
    TrackedObject,
    attempted,
    derived_hash,
    files_fingerprint,
)
from .source_files import SourceFiles
from .trees import set_nested

_PATTERN = "*tfevents*"
_STATES = {1: "finished", 2: "failed", 3: "running"}
# Plugins whose data describes the display, or a graph of operations, rather than a series.
_WITHOUT_SERIES = frozenset({"graphs", "graph_run_metadata", "graph_keras_model", "custom_scalars"})


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
    facts = RunFacts(name=label, description="Imported from TensorBoard")
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
        self._points = PointBuffer()
        # Plugins by tag: only the first value of a tag has this metadata.
        self._plugins: dict[str, str] = {}
        self._skipped: Counter[str] = Counter()

    def items(self) -> Iterator[Item]:
        """Yields points and objects in the order of the files."""
        count = 0
        for file in self._event_files:
            with self._files.open(file) as opened:
                records = tensorflow_records(file, self._facts.notes.append, opened.fileno())
            for record in records:
                count += 1
                try:
                    yield from self._event(ProtobufMessage(record))
                except ProtobufError as error:
                    self._facts.notes.append(f"{file.name}: left out an event: {error}")
        if not count and any(file.stat().st_size for file in self._event_files):
            names = ", ".join(file.name for file in self._event_files)
            raise SourceError(f"no event can be read: not an event file of TensorBoard: {names}")
        yield from self._points.rest()
        for plugin, count in sorted(self._skipped.items()):
            self._facts.notes.append(f"left out: {counted(count, 'value')} of {plugin}")

    def _event(self, event: ProtobufMessage) -> Iterator[Item]:
        wall_time = event.double(1)
        step = event.integer(2)
        if wall_time > 0:
            created = self._facts.created
            ended = self._facts.ended
            self._facts.created = wall_time if created is None else min(created, wall_time)
            self._facts.ended = wall_time if ended is None else max(ended, wall_time)
        for value in event.message(5).messages(1):
            yield from self._value(value, step, wall_time)

    def _value(self, value: ProtobufMessage, step: int, wall_time: float) -> Iterator[Item]:
        tag = value.text(1) or value.text(7)
        if 2 in value:
            yield from self._number(tag, value.single(2), step, wall_time)
            return
        plugin_data = value.message(9).message(1)
        plugin = self._plugins.setdefault(tag, plugin_data.text(1))
        if 4 in value:
            image = Image(value.message(4).content(4))
            yield TrackedObject(image, tag, step, time=wall_time)
        elif 5 in value:
            yield from self._histogram(tag, histogram_bins(value.content(5)), step, wall_time)
        elif 6 in value:
            yield TrackedObject(_audio(value.message(6)), tag, step, time=wall_time)
        elif 8 in value:
            yield from self._tensor(tag, plugin, value.content(8), step, wall_time)
        elif plugin_data.text(1) == "hparams":
            self._hparams(plugin_data.message(2))
        elif plugin not in _WITHOUT_SERIES:
            self._skipped[plugin or "an unknown kind"] += 1

    def _tensor(
        self, tag: str, plugin: str, content: bytes, step: int, wall_time: float
    ) -> Iterator[Item]:
        if plugin in _WITHOUT_SERIES:
            return
        try:
            tensor = Tensor(content)
        except TensorError as error:
            self._skipped[str(error)] += 1
            return
        texts = tensor.texts
        numbers = tensor.numbers
        if texts is not None:
            yield from self._texts(tag, plugin, texts, step, wall_time)
        elif len(numbers) == 1:
            yield from self._number(tag, numbers[0], step, wall_time)
        elif plugin == "histograms" and (bins := tensor.bins()) is not None:
            yield from self._histogram(tag, bins, step, wall_time)
        else:
            self._skipped[plugin or "tensors with several elements"] += 1

    def _texts(
        self, tag: str, plugin: str, texts: list[bytes], step: int, wall_time: float
    ) -> Iterator[Item]:
        if plugin == "images":
            # Width and height come first.
            images = [Image(content) for content in texts[2:]]
            if images:
                yield TrackedObject(images, tag, step, time=wall_time)
        elif plugin == "audio":
            # Rows of a recording and its label.
            labels = itertools.chain(texts[1::2], itertools.repeat(b""))
            recordings = [
                Audio(content, caption=label.decode("utf-8", "replace"))
                for content, label in zip(texts[::2], labels, strict=False)
            ]
            if recordings:
                yield TrackedObject(recordings, tag, step, time=wall_time)
        elif plugin in ("text", ""):
            text = "\n".join(text.decode("utf-8", "replace") for text in texts)
            yield TrackedObject(Text(text), tag, step, time=wall_time)
        else:
            self._skipped[plugin] += 1

    def _histogram(self, tag: str, bins: list[Bin], step: int, wall_time: float) -> Iterator[Item]:
        whole = distribution(bins)
        if whole is not None:
            yield TrackedObject(whole, tag, step, time=wall_time)
        elif bins:
            self._skipped[NOT_FINITE] += 1

    def _number(self, tag: str, value: float, step: int, wall_time: float) -> Iterator[Item]:
        piece = self._points.add(tag, value, step, wall_time)
        if piece is not None:
            yield piece

    def _hparams(self, data: ProtobufMessage) -> None:
        start = data.message(3)
        end = data.message(4)
        hparams: dict[str, Any] = self._facts.params.setdefault("hparams", {})
        for entry in start.messages(1):
            set_nested(hparams, entry.text(1).split("/"), _parsed(_struct_value(entry.message(2))))
        if not hparams:
            del self._facts.params["hparams"]
        if 3 in data:
            self._facts.created = start.double(5) or self._facts.created
        if 4 in data:
            self._facts.state = _STATES.get(end.integer(1))


def _audio(audio: ProtobufMessage) -> Audio:
    return Audio(audio.content(4), rate=round(audio.single(1)) or None)


def _struct_value(value: ProtobufMessage) -> Any:
    """Returns a `google.protobuf.Value` as plain data."""
    if 2 in value:
        number = value.double(2)
        return int(number) if number.is_integer() else number
    if 3 in value:
        return value.text(3)
    if 4 in value:
        return bool(value.integer(4))
    if 5 in value:
        fields = value.message(5).messages(1)
        return {field.text(1): _struct_value(field.message(2)) for field in fields}
    if 6 in value:
        return [_struct_value(element) for element in value.message(6).messages(1)]
    return None


def _parsed(value: Any) -> Any:
    """Returns the value of a text that is a literal of Python; frameworks write lists that way."""
    if not isinstance(value, str):
        return value
    try:
        literal = evaluated(value)
    except ValueError:
        return value
    return literal if isinstance(literal, (list, tuple, dict, bool, int, float)) else value
