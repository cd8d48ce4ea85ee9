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
from .source_files import SourceFiles

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_NOTE = "mlflow.note.content"
# Schemes of URIs that name a directory on this machine.
_LOCAL = ("", "file")


def runs(source: Path, files: SourceFiles) -> list[ImportedRun]:
    """Returns the runs of a file store or of an SQLite file."""
    if source.is_file():
        stored = mlflow_sqlite.stored_runs(files.inside(source))
    elif mlflow_files.is_store(source):
        stored = mlflow_files.stored_runs(source, files)
    elif (source / "mlflow.db").is_file():
        stored = mlflow_sqlite.stored_runs(files.inside(source / "mlflow.db"))
    elif mlflow_files.is_store(source / "mlruns"):
        stored = mlflow_files.stored_runs(source / "mlruns", files)
    else:
        found = "a directory without runs of MLflow" if source.is_dir() else "no file or directory"
        raise SourceError(
            f"{str(source)!r} is {found}: name the directory `mlruns` of a file store, or the "
            "SQLite file of a server, such as `mlflow.db`"
        )
    return [attempted(label, partial(_imported, read, files)) for label, read in stored]


def _imported(read: Callable[[], StoredRun], files: SourceFiles) -> ImportedRun:
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
    places = _artifact_places(run)
    own = (place for place in places if files.contains(place) and place.is_dir())
    directory = next(own, None)
    artifacts = [] if directory is None else files.below(directory)
    sizes = [(file.as_posix(), file.stat().st_size) for file in artifacts]

    def items() -> Iterator[Item]:
        for metric in run.metrics():
            if metric.is_without_steps:
                facts.notes.append(f"{metric.name}: without steps, numbered by time")
            yield metric.columns()
        if directory is None:
            facts.notes.extend(_reasons_for_absence(run, places))
            return
        for file in artifacts:
            yield Artifact(file, file.relative_to(directory).as_posix())

    is_id = _RUN_ID.fullmatch(run.run_id)
    return ImportedRun(
        run_hash=run.run_id if is_id else derived_hash("mlflow", run.run_id),
        label=facts.name or run.run_id,
        fingerprint=digest(run.params, run.tags, run.status, run.metrics_fingerprint, sizes),
        items=items,
        facts=facts,
    )


def _artifact_places(run: StoredRun) -> list[Path]:
    """Returns the directories on this machine that may have the artifacts, the likeliest first."""
    uri = urlsplit(run.artifact_uri)
    named = [Path(unquote(uri.path))] if uri.scheme in _LOCAL else []
    return [*named, *run.artifact_directories]


def _reasons_for_absence(run: StoredRun, places: list[Path]) -> Iterator[str]:
    """Yields why the source has no directory with artifacts, unless the run has none."""
    if any(place.is_dir() for place in places):
        yield (
            f"left out: artifacts at {run.artifact_uri}, outside of the source; "
            "`--outside-files` uploads them"
        )
    elif urlsplit(run.artifact_uri).scheme not in (*_LOCAL, "mlflow-artifacts"):
        yield f"artifacts at {run.artifact_uri} were not imported"


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
