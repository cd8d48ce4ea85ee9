"""Replay of archives through ingestion."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from . import _core, _urls
from .archives import archived_runs, open_archive
from .archives.reading import entities
from .config import SETTINGS
from .importing import ImportReport, SourceFiles, Target, import_runs
from .transport.http import HttpTransport


class RestoreResult(NamedTuple):
    """Outcome of a restore."""

    report: ImportReport
    experiments: int
    tags: int


def restore_reingest(
    backup_path: str | Path,
    *,
    backend_url: str | None = None,
    frontier_url: str | None = None,
    skip_entities: bool = False,
    skip_blobs: bool = False,
    dry_run: bool = False,
) -> RestoreResult:
    """Replays an archive: a directory or a `.tar.gz` file.

    Runs keep their hashes, times, and steps. A run that is stored completely is skipped when the
    call is repeated. Only `matyan restore` restores data that ingestion cannot express.
    """
    url = _urls.checked("backend_url", backend_url or SETTINGS.backend_url)
    _core.use_token(url)
    with open_archive(Path(backup_path)) as root:
        runs = archived_runs(root, blobs=not skip_blobs)
        target = Target(url, None, dry_run, frontier_url)
        experiments = 0
        tags = 0
        if not skip_entities and not dry_run:
            experiments, tags = _restore_entities(root, HttpTransport(url))
        report = import_runs("archive", runs, target, SourceFiles(root.resolve()))
        return RestoreResult(report, experiments, tags)


def _restore_entities(root: Path, http: HttpTransport) -> tuple[int, int]:
    """Creates the experiments and tags that the server does not have."""
    experiments = {found["name"] for found in http.list_experiments()}
    tags = {found["name"] for found in http.list_tags()}
    created = {"experiment": 0, "tag": 0}
    for entity in entities(root):
        data = entity["data"]
        if entity["entity_type"] == "experiment" and data["name"] not in experiments:
            http.create_experiment(data["name"])
            created["experiment"] += 1
        elif entity["entity_type"] == "tag" and data["name"] not in tags:
            description = data.get("description") or None
            http.create_tag(data["name"], color=data.get("color"), description=description)
            created["tag"] += 1
    return created["experiment"], created["tag"]
