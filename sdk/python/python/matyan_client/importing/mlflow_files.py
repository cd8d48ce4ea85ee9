"""The file store of MLflow: `<experiment>/<run>/{meta.yaml,params,metrics,tags,artifacts}`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .flat_yaml import flat_yaml
from .mlflow_store import Metric, ReadableRun, StoredRun
from .model import digest
from .source_files import SourceFiles

_META = "meta.yaml"
_STATUS = {"1": "running", "2": "scheduled", "3": "finished", "4": "failed", "5": "killed"}


def is_store(directory: Path) -> bool:
    """Reports whether a directory has experiments of MLflow."""
    return next(directory.glob(f"*/{_META}"), None) is not None


def stored_runs(store: Path, files: SourceFiles) -> list[ReadableRun]:
    """Returns the runs that are not in the trash."""
    runs: list[ReadableRun] = []
    for meta in sorted(store.glob(f"*/{_META}")):
        experiment = _fields(meta, files) or {}
        if experiment.get("lifecycle_stage") == "deleted":
            continue
        for run_meta in sorted(meta.parent.glob(f"*/{_META}")):
            # Reading the run fails, and says why, if this leads outside.
            fields = _fields(run_meta, files) if files.contains(run_meta) else None
            is_run = fields is None or "run_id" in fields
            if is_run and (fields or {}).get("lifecycle_stage") != "deleted":
                read = partial(_run, run_meta, experiment.get("name", ""), files)
                runs.append((str(run_meta.parent), read))
    return runs


def _fields(meta: Path, files: SourceFiles) -> dict[str, str] | None:
    """Returns the fields of a file, or None if it is damaged."""
    try:
        return flat_yaml(files.read_text(meta))
    except (OSError, ValueError):
        return None


def _run(meta: Path, experiment: str, files: SourceFiles) -> StoredRun:
    fields = flat_yaml(files.read_text(meta))
    directory = meta.parent
    metrics = _named_files(directory / "metrics", files)
    status = fields.get("status", "")
    return StoredRun(
        run_id=fields["run_id"],
        name=fields.get("run_name", ""),
        experiment=experiment,
        status=_STATUS.get(status, status),
        start_ms=_milliseconds(fields.get("start_time")),
        end_ms=_milliseconds(fields.get("end_time")),
        params=_texts(directory / "params", files),
        tags=_texts(directory / "tags", files),
        artifact_uri=fields.get("artifact_uri", ""),
        artifact_directories=[directory / "artifacts"],
        metrics_fingerprint=digest([(name, file.stat().st_size) for name, file in metrics]),
        metrics=partial(_metrics, metrics, files),
    )


def _texts(directory: Path, files: SourceFiles) -> dict[str, str]:
    named = _named_files(directory, files)
    return {name: files.read_bytes(file).decode() for name, file in named}


def _named_files(directory: Path, files: SourceFiles) -> list[tuple[str, Path]]:
    """Returns files with their names, which may contain slashes."""
    return [
        (file.relative_to(directory).as_posix(), files.inside(file))
        for file in files.below(directory)
    ]


def _metrics(named: list[tuple[str, Path]], files: SourceFiles) -> Iterator[Metric]:
    for name, file in named:
        metric = Metric(name)
        with files.open_text(file) as lines:
            for line in lines:
                fields = line.split()
                # A process that was killed leaves a part of a line; old versions had no steps.
                if line.endswith("\n") and len(fields) >= 2:
                    step = int(fields[2]) if len(fields) > 2 else 0
                    metric.add(int(fields[0]), step, float(fields[1]))
        yield metric


def _milliseconds(text: str | None) -> int | None:
    return int(text) if text else None
