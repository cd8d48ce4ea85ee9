"""Runs of MLflow: the directory of a file store (`mlruns`), or the SQLite file of a server.

A run keeps its id as its hash. Tags of MLflow are pairs of name and value, and therefore become
params, in `mlflow.tags`. Points that were logged without a step all have the step 0; they are
numbered in the order of their times, because a series has one point for each step. Runs in the
trash are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from . import mlflow_files, mlflow_sqlite
from .literals import literal
from .mlflow_store import StoredRun
from .model import (
    Artifact,
    ImportedRun,
    Item,
    RunFacts,
    SourceError,
    attempted,
    derived_hash,
    digest,
)

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_NOTE = "mlflow.note.content"


def runs(source: Path) -> list[ImportedRun]:
    """Returns the runs of a file store or of an SQLite file."""
    if source.is_file():
        stored = mlflow_sqlite.stored_runs(source)
    elif mlflow_files.is_store(source):
        stored = mlflow_files.stored_runs(source)
    elif (source / "mlflow.db").is_file():
        stored = mlflow_sqlite.stored_runs(source / "mlflow.db")
    elif mlflow_files.is_store(source / "mlruns"):
        stored = mlflow_files.stored_runs(source / "mlruns")
    else:
        found = "a directory without runs of MLflow" if source.is_dir() else "no file or directory"
        raise SourceError(
            f"{str(source)!r} is {found}: name the directory `mlruns` of a file store, or the "
            "SQLite file of a server, such as `mlflow.db`"
        )
    return [attempted(label, partial(_imported, read)) for label, read in stored]


def _imported(read: Callable[[], StoredRun]) -> ImportedRun:
    run = read()
    params: dict[str, object] = {}
    if run.params:
        params["hparams"] = {name: literal(value) for name, value in run.params.items()}
    params["mlflow"] = {"run_id": run.run_id, "tags": run.tags}
    facts = RunFacts(
        name=run.name or run.tags.get("mlflow.runName"),
        description=run.tags.get(_NOTE),
        experiment=run.experiment or None,
        params=params,
        created=_seconds(run.start_ms),
        ended=_seconds(run.end_ms),
        state=run.status.lower() or None,
    )
    directory = _artifact_directory(run)
    files = sorted(file for file in directory.rglob("*") if file.is_file()) if directory else []
    sizes = [(file.as_posix(), file.stat().st_size) for file in files]

    def items() -> Iterator[Item]:
        for metric in run.metrics():
            if metric.is_without_steps:
                facts.notes.append(f"{metric.name}: without steps, numbered by time")
            yield metric.columns()
        if directory is None:
            facts.notes.append(f"artifacts at {run.artifact_uri} were not imported")
        else:
            for file in files:
                yield Artifact(file, file.relative_to(directory).as_posix())

    is_id = _RUN_ID.fullmatch(run.run_id)
    return ImportedRun(
        run_hash=run.run_id if is_id else derived_hash("mlflow", run.run_id),
        label=facts.name or run.run_id,
        fingerprint=digest(run.params, run.tags, run.status, run.metrics_fingerprint, sizes),
        items=items,
        facts=facts,
    )


def _artifact_directory(run: StoredRun) -> Path | None:
    """Returns the directory with the artifacts, or None if they are elsewhere."""
    uri = urlsplit(run.artifact_uri)
    candidates = list(run.artifact_directories)
    if uri.scheme in ("", "file"):
        candidates.insert(0, Path(unquote(uri.path)))
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    # A run without artifacts has no directory.
    return candidates[0] if uri.scheme in ("", "file", "mlflow-artifacts") else None


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
