"""Replay of archives through ingestion."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from . import _core, _urls
from .archives import archived_runs, open_archive
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
            experiments, tags = _restore_entities(_core.Archive(root), HttpTransport(url))
        report = import_runs("archive", runs, target, SourceFiles(root.resolve()))
        return RestoreResult(report, experiments, tags)


def _restore_entities(archive: _core.Archive, http: HttpTransport) -> tuple[int, int]:
    """Creates the experiments and tags that the server does not have."""
    known = {found["name"] for found in http.list_experiments()}
    experiments = [name for _, name in archive.experiments() if name not in known]
    for name in experiments:
        http.create_experiment(name)
    known = {found["name"] for found in http.list_tags()}
    tags = [tag for tag in archive.tags() if tag[0] not in known]
    for name, color, description in tags:
        http.create_tag(name, color=color or None, description=description or None)
    return len(experiments), len(tags)
