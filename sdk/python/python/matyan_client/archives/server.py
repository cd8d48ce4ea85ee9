"""Runs of a server as a source of archives."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from matyan_client._core import singular_dtype
from matyan_client._stored_objects import stored_steps
from matyan_client.importing.model import (
    CHUNK_POINTS,
    NO_EPOCH,
    Artifact,
    ImportedRun,
    Item,
    LoggingRecord,
    Points,
    RunFacts,
    StoredObject,
    TerminalLine,
    TrackedObject,
)
from matyan_client.transport.http import HttpTransport

# Types of objects without files, and with files.
_INLINE = ("texts", "distributions", "figures")
_WITH_FILES = ("images", "audios", "htmls", "point_clouds")


def stored_runs(http: HttpTransport, query: str, *, blobs: bool) -> Iterator[ImportedRun]:
    """Yields the runs that match a query. Without blobs, artifacts and media are left out."""
    for run_hash in http.find_hashes(query):
        # Series of all types that the server knows.
        info = http.get_run_info(run_hash)
        yield ImportedRun(
            run_hash=run_hash,
            label=run_hash,
            fingerprint="",
            items=partial(_items, http, run_hash, info, blobs),
            facts=_facts(run_hash, info),
        )


def _facts(run_hash: str, info: dict[str, Any]) -> RunFacts:
    props = info.get("props", {})
    experiment = props.get("experiment") or {}
    name = props.get("name")
    return RunFacts(
        # Servers before 0.4 made the name of a run that has none of its hash. Newer ones have
        # names of words, which another server makes again from the same hash.
        name=None if name == f"Run: {run_hash}" else name,
        description=props.get("description"),
        experiment=experiment.get("name"),
        tags=[tag["name"] for tag in props.get("tags", [])],
        params=info.get("params", {}),
        created=props.get("creation_time"),
        ended=props.get("end_time"),
        state=props.get("outcome"),
        error=props.get("outcome_message") or None,
        is_archived=bool(props.get("archived")),
    )


def _items(http: HttpTransport, run_hash: str, info: dict[str, Any], blobs: bool) -> Iterator[Item]:
    # One series after the other, so that a run of any size fits into the memory.
    for trace in info.get("traces", {}).get("metric", []):
        for series in http.series(run_hash, [(trace["name"], json.dumps(trace["context"]))]):
            yield from _points(series)
    for kind in (*_INLINE, *(_WITH_FILES if blobs else ())):
        names = {trace["name"]: None for trace in info.get("traces", {}).get(kind, [])}
        for name in names:
            yield from _objects(http, run_hash, kind, name)
    for number, text in http.iter_run_logs(run_hash):
        yield TerminalLine(text, number)
    for record in http.iter_run_log_records(run_hash):
        location = record.get("logger_info")
        yield LoggingRecord(
            level=_log_level(record.get("log_level")),
            message=str(record.get("message", "")),
            time=float(record.get("timestamp") or 0.0),
            arguments=record.get("args") or {},
            location=(str(location[0]), int(location[1])) if location else None,
        )
    if not blobs:
        return
    with tempfile.TemporaryDirectory(prefix="matyan-backup-") as directory:
        file = Path(directory) / "artifact"
        for artifact in info.get("artifacts", []):
            http.download_artifact(run_hash, artifact["path"], file)
            yield Artifact(file, artifact["path"])


def _epoch(epoch: float) -> int:
    return NO_EPOCH if math.isnan(epoch) else int(epoch)


def _points(series: Any) -> Iterator[Points]:
    for start in range(0, len(series), CHUNK_POINTS):
        piece = slice(start, start + CHUNK_POINTS)
        steps = series.steps[piece]
        times = [0] * len(steps) if series.times_us is None else series.times_us[piece]
        epochs = None if series.epochs is None else series.epochs[piece]
        yield Points(
            series.name,
            json.loads(series.context_json),
            values=array("d", series.values[piece]),
            steps=array("q", map(int, steps)),
            times_us=array("q", map(int, times)),
            epochs=None if epochs is None else array("q", map(_epoch, epochs)),
        )


def _objects(http: HttpTransport, run_hash: str, kind: str, name: str) -> Iterator[TrackedObject]:
    dtype = singular_dtype(kind)
    for found in stored_steps(http, run_hash, kind, name):
        objects = [
            StoredObject({"type": dtype, **described}, file) for described, file in found.members
        ]
        yield TrackedObject(objects, name, found.step, found.context, found.time, found.epoch)


def _log_level(level: object) -> int:
    """Returns a level of logging, which may be given by its name."""
    if isinstance(level, str):
        number = logging.getLevelName(level)
        return number if isinstance(number, int) else 0
    return level if isinstance(level, int) else 0
