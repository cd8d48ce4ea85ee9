"""Runs of Neptune, from the Parquet files that its exporter writes.

The source is the directory of the export, with `data` and `files`, or the directory of the data
alone. Paths of attributes become nested params. Neptune counts steps in millionths; if a run has
steps that are not whole, all of its steps are multiplied by the same power of ten.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from matyan_client._console import counted
from matyan_client.objects import Image, Text

from .histograms import NOT_FINITE, Bin, distribution
from .model import (
    Artifact,
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

_PART = re.compile(r"(.*)_part_(\d+)\.parquet")
_PARAMS = {
    "float": "float_value",
    "int": "int_value",
    "string": "string_value",
    "bool": "bool_value",
    "datetime": "datetime_value",
    "string_set": "string_set_value",
}
_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp"})
_MOST_DIGITS = 6


def runs(source: Path, files: SourceFiles) -> list[ImportedRun]:
    """Returns the runs of an export."""
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415 - optional
    except ImportError:
        raise SourceError(
            "the package `pyarrow` is needed to read exports of Neptune: pip install pyarrow"
        ) from None
    parts: dict[Path, list[tuple[int, Path]]] = {}
    for file in sorted(source.rglob("*.parquet")):
        match = _PART.fullmatch(file.name)
        if match:
            part = (int(match[2]), file)
            parts.setdefault(file.with_name(match[1]), []).append(part)
    roots = [source / "files", source.parent / "files", source]
    return [
        attempted(str(run), partial(_run, [file for _, file in sorted(numbered)], roots, files))
        for run, numbered in sorted(parts.items())
    ]


def _run(parts: list[Path], roots: list[Path], files: SourceFiles) -> ImportedRun:
    for part in parts:
        files.inside(part)
    first = next(_rows(parts[:1], files, ["project_id", "run_id"]), None)
    if first is None:
        raise SourceError(f"{str(parts[0])!r} has no rows")
    project = str(first["project_id"])
    run_id = str(first["run_id"])
    # Paths of files are relative to one of these directories.
    below = [root / parts[0].parent.name for root in roots]
    facts = RunFacts(name=run_id, experiment=project)
    return ImportedRun(
        run_hash=derived_hash("neptune", project, run_id),
        label=f"{project}/{run_id}",
        fingerprint=files_fingerprint(parts),
        items=partial(_items, parts, files, _AttachedFiles([*roots, *below], files), facts),
        facts=facts,
    )


def _items(
    parts: list[Path], files: SourceFiles, attached: _AttachedFiles, facts: RunFacts
) -> Iterator[Item]:
    scale = 10 ** _most_digits(parts, files)
    facts.created = _creation_time(parts, files)
    if scale > 1:
        facts.notes.append(f"steps are not whole, and were multiplied by {scale}")
    points = PointBuffer()
    skipped: Counter[tuple[str, str]] = Counter()
    for row in _rows(parts, files, None):
        kind = row["attribute_type"]
        path = row["attribute_path"]
        if kind in _PARAMS:
            set_nested(facts.params, path.split("/"), _plain(row[_PARAMS[kind]]))
            continue
        step = int((row["step"] or 0) * scale)
        time = row["timestamp"]
        seconds = time.timestamp() if time else facts.created or 0.0
        if kind == "float_series":
            value = row["float_value"]
            piece = points.add(path, float("nan") if value is None else value, step, seconds)
            if piece is not None:
                yield piece
        elif kind == "string_series":
            yield TrackedObject(Text(row["string_value"]), path, step, time=seconds)
        elif kind == "histogram_series" and row["histogram_value"]:
            bins = _bins(row["histogram_value"])
            whole = distribution(bins)
            if whole is not None:
                yield TrackedObject(whole, path, step, time=seconds)
            elif bins:
                skipped["value", f"of {NOT_FINITE}"] += 1
        elif kind in ("file", "file_series") and row["file_value"]:
            place = attached.located(row["file_value"]["path"])
            if place is None:
                skipped["file", "not in the export"] += 1
            else:
                yield from attached.items(path, place, None if kind == "file" else (step, seconds))
        else:
            skipped["value", f"of the type {kind}"] += 1
    yield from points.rest()
    for (what, which), count in sorted(skipped.items()):
        facts.notes.append(f"left out: {counted(count, what)} {which}")
    _apply_system_attributes(facts)


def _rows(
    parts: list[Path], files: SourceFiles, columns: list[str] | None
) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet  # noqa: PLC0415 - optional

    for part in parts:
        with files.open(part) as opened:
            for batch in pyarrow.parquet.ParquetFile(opened).iter_batches(columns=columns):
                yield from batch.to_pylist()


def _most_digits(parts: list[Path], files: SourceFiles) -> int:
    """Returns how many digits after the point steps of a run need."""
    most = 0
    for row in _rows(parts, files, ["step"]):
        step = row["step"]
        if isinstance(step, Decimal) and step != step.to_integral_value():
            exponent = step.normalize().as_tuple().exponent
            most = max(most, -exponent if isinstance(exponent, int) else 0)
    return min(most, _MOST_DIGITS)


def _creation_time(parts: list[Path], files: SourceFiles) -> float | None:
    """Returns when a run was created, in seconds since the Unix epoch."""
    for row in _rows(parts, files, ["attribute_path", "datetime_value"]):
        if row["attribute_path"] == "sys/creation_time" and row["datetime_value"]:
            return float(row["datetime_value"].timestamp())
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    return sorted(value) if isinstance(value, (list, tuple)) else value


def _bins(histogram: dict[str, Any]) -> list[Bin]:
    edges = histogram["edges"]
    return [
        (float(low), float(high), float(weight))
        for low, high, weight in zip(edges, edges[1:], histogram["values"], strict=False)
    ]


class _AttachedFiles:
    """The files that the values of runs refer to."""

    def __init__(self, roots: list[Path], files: SourceFiles) -> None:
        self._roots = roots
        self._files = files

    def located(self, path: str) -> Path | None:
        """Returns a file or directory of the export, at a path that is relative to a root."""
        for root in self._roots:
            place = root / path
            if self._files.contains(place) and place.exists():
                return place
        return None

    def items(
        self, path: str, place: Path, moment: tuple[int, float | None] | None
    ) -> Iterator[Item]:
        """Yields what an attribute refers to. Without a moment, it is not part of a series."""
        if place.is_dir():
            for file in self._files.below(place):
                yield Artifact(file, f"{path}/{file.relative_to(place).as_posix()}")
        elif moment is None:
            yield Artifact(place, path)
        elif place.suffix.lower() in _IMAGES:
            image = Image(self._files.read_bytes(place))
            yield TrackedObject(image, path, moment[0], time=moment[1])
        else:
            yield Artifact(place, f"{path}/{moment[0]}{place.suffix}")


def _apply_system_attributes(facts: RunFacts) -> None:
    """Sets the attributes that Neptune keeps below `sys`."""
    system = facts.params.get("sys", {})
    facts.name = system.get("name") or facts.name
    facts.description = system.get("description") or None
    facts.tags = list(system.get("tags", []))
    facts.created = system.get("creation_time", facts.created)
    facts.ended = system.get("modification_time", facts.ended)
    facts.is_archived = bool(system.get("archived") or system.get("trashed"))
    state = system.get("state")
    facts.state = "failed" if system.get("failed") else str(state).lower() if state else None
