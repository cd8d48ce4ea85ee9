"""The SQLite file of MLflow's tracking server. It is opened read-only."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from .mlflow_store import Metric, ReadableRun, StoredRun
from .model import SourceError, digest

# Written in the place of infinities, which not every database can store.
_LARGEST = 1.7976931348623157e308


def stored_runs(file: Path) -> list[ReadableRun]:
    """Returns the runs that are not in the trash."""
    with contextlib.closing(_connection(file)) as database:
        try:
            rows = database.execute(
                "SELECT r.run_uuid, r.name, e.name, r.status, r.start_time, r.end_time,"
                " r.artifact_uri, r.experiment_id"
                " FROM runs r JOIN experiments e USING (experiment_id)"
                " WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'"
                " ORDER BY r.start_time, r.run_uuid"
            ).fetchall()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise SourceError(f"{str(file)!r} is not a database of MLflow: {error}") from None
    return [(str(row[0]), partial(_run, file, row)) for row in rows]


def _connection(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)


def _run(
    file: Path,
    row: tuple[str, str | None, str, str | None, int | None, int | None, str | None, int],
) -> StoredRun:
    run_id, name, experiment, status, start_ms, end_ms, artifact_uri, experiment_id = row
    below = Path(str(experiment_id)) / run_id / "artifacts"
    with contextlib.closing(_connection(file)) as database:
        metrics = database.execute(
            "SELECT key, count(*), max(timestamp), max(step) FROM metrics WHERE run_uuid = ?"
            " GROUP BY key ORDER BY key",
            (run_id,),
        ).fetchall()
        params = _pairs(database, "SELECT key, value FROM params WHERE run_uuid = ?", run_id)
        tags = _pairs(database, "SELECT key, value FROM tags WHERE run_uuid = ?", run_id)
    return StoredRun(
        run_id=run_id,
        name=name or "",
        experiment=experiment,
        status=status or "",
        start_ms=start_ms,
        end_ms=end_ms,
        params=params,
        tags=tags,
        artifact_uri=artifact_uri or "",
        artifact_directories=[file.parent / top / below for top in ("mlartifacts", "mlruns")],
        metrics_fingerprint=digest(metrics),
        metrics=partial(_metrics, file, run_id),
    )


def _pairs(database: sqlite3.Connection, query: str, run_id: str) -> dict[str, str]:
    return {key: value or "" for key, value in sorted(database.execute(query, (run_id,)))}


def _metrics(file: Path, run_id: str) -> Iterator[Metric]:
    with contextlib.closing(_connection(file)) as database:
        rows = database.execute(
            "SELECT key, timestamp, step, value, is_nan FROM metrics WHERE run_uuid = ?"
            " ORDER BY key, timestamp, step, rowid",
            (run_id,),
        )
        for name, points in groupby(rows, key=itemgetter(0)):
            metric = Metric(name)
            for _, time_ms, step, value, is_nan in points:
                metric.add(time_ms, step, math.nan if is_nan else _restored(value))
            yield metric


def _restored(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= _LARGEST else value
