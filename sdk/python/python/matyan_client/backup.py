"""Backups of runs through the REST API."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from . import _core
from .archives import ArchiveWriter, stored_runs
from .config import SETTINGS
from .transport.http import HttpTransport


class BackupResult(NamedTuple):
    """A complete archive."""

    path: Path
    run_count: int
    blob_count: int
    blob_bytes: int


def run_backup(
    output_path: str | Path,
    *,
    backend_url: str | None = None,
    runs: Sequence[str] = (),
    experiment: str | None = None,
    since: str | None = None,
    include_blobs: bool = True,
    compress: bool = False,
) -> BackupResult:
    """Writes runs into an archive below a directory.

    Without a selection, these are all runs, also archived ones. `since` is a date in ISO form.
    Nothing is sampled. Data outside of runs, except for experiments and tags, and data that only
    the server knows are in archives of `matyan backup`, which also continues after an interruption.
    """
    query = _query(runs, experiment, since)
    url = backend_url or SETTINGS.backend_url
    _core.use_token(url)
    http = HttpTransport(url)
    filters = {
        "runs": list(runs) or None,
        "experiment": experiment,
        "since": since,
    }
    given = {key: value for key, value in filters.items() if value is not None}
    writer = ArchiveWriter(Path(output_path), "matyan-backup", filters=given, blobs=include_blobs)
    with writer:
        for kind, found in (("experiment", http.list_experiments()), ("tag", http.list_tags())):
            for entity in found:
                writer.add_entity(kind, entity)
        for run in stored_runs(http, query, blobs=include_blobs):
            writer.add_run(run)
    path = writer.compress() if compress else writer.path
    return BackupResult(path, writer.run_count, writer.blob_count, writer.blob_bytes)


def parsed_date(argument: str, given: str) -> datetime.datetime:
    """Returns a date or time in ISO form, by the clock of this machine unless it has a zone."""
    try:
        return datetime.datetime.fromisoformat(given).astimezone()
    except ValueError:
        raise ValueError(
            f"`{argument}`: expected a date such as 2026-01-31, found {given!r}"
        ) from None


def _query(runs: Sequence[str], experiment: str | None, since: str | None) -> str:
    conditions = ["run.archived in (True, False)"]
    if runs:
        conditions.append(f"run.hash in {list(runs)!r}")
    if experiment is not None:
        conditions.append(f"run.experiment == {experiment!r}")
    if since is not None:
        conditions.append(f"run.creation_time >= {parsed_date('since', since).timestamp()}")
    return " and ".join(conditions)
