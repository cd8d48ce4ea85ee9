"""Commands that import runs, and that write and read archives."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import _core, _urls, errors, importing
from ._console import add_command, complain, counted, say, show, size
from .backup import BackupResult, parsed_date, run_backup
from .config import SETTINGS
from .convert.tensorboard import convert_tensorboard
from .restore import restore_reingest
from .transport.http import HttpTransport

# Names of experiments that an error lists.
_MOST_NAMES = 10


def add_commands(commands: Any) -> None:
    """Adds `import`, `backup`, `restore-reingest`, and `convert`."""
    importer = add_command(commands, "import", "import runs that other trackers recorded")
    kinds = importing.SOURCES
    importer.add_argument("kind", choices=kinds, metavar="KIND", help=", ".join(kinds))
    importer.add_argument("source", metavar="SOURCE", help="directory or file to read")
    importer.add_argument("--repo", metavar="URL", help="default: MATYAN_BACKEND_URL")
    importer.add_argument("--experiment", metavar="NAME", help="put all runs into an experiment")
    importer.add_argument(
        "--outside-files",
        action="store_true",
        help="also read files outside SOURCE that the runs refer to",
    )
    importer.add_argument("--dry-run", action="store_true", help="only read and count")
    importer.add_argument("--json", action="store_true", help="print the outcome as JSON")
    importer.set_defaults(run=_checked("import", _import))

    backup = add_command(commands, "backup", "write runs to an archive, over REST")
    backup.add_argument("output_path", metavar="OUTPUT_PATH", help="directory for the archive")
    backup.add_argument("--backend-url", metavar="URL", help="default: MATYAN_BACKEND_URL")
    backup.add_argument("--runs", metavar="A,B", help="hashes of runs; default: all")
    backup.add_argument("--experiment", metavar="NAME", help="only runs of an experiment")
    backup.add_argument(
        "--since", metavar="DATE", help="only runs created since this date, such as 2026-01-31"
    )
    backup.add_argument("--no-blobs", action="store_true", help="leave out artifacts and media")
    backup.add_argument("--compress", action="store_true", help="write a .tar.gz file")
    backup.set_defaults(run=_checked("backup", _backup))

    restore = add_command(commands, "restore-reingest", "replay an archive through ingestion")
    restore.add_argument("backup_path", metavar="BACKUP_PATH", help="directory or .tar.gz")
    restore.add_argument("--backend-url", metavar="URL", help="default: MATYAN_BACKEND_URL")
    restore.add_argument("--frontier-url", metavar="URL", help="default: the backend")
    restore.add_argument(
        "--skip-entities", action="store_true", help="leave out experiments and tags"
    )
    restore.add_argument("--skip-blobs", action="store_true", help="leave out artifacts and media")
    restore.add_argument("--dry-run", action="store_true", help="only read and count")
    restore.set_defaults(run=_checked("restore-reingest", _restore))

    convert = add_command(commands, "convert", "convert data from other trackers to an archive")
    sources = convert.add_subparsers(title="sources", required=True, metavar="SOURCE")
    tensorboard = add_command(sources, "tensorboard", "convert event files of TensorBoard")
    tensorboard.add_argument("input_dir", metavar="INPUT_DIR", help="directory with event files")
    tensorboard.add_argument("output_path", metavar="OUTPUT_PATH", help="directory for the archive")
    tensorboard.add_argument("--experiment", metavar="NAME", help="put all runs into an experiment")
    tensorboard.add_argument("--compress", action="store_true", help="write a .tar.gz file")
    tensorboard.add_argument(
        "--workers", type=int, default=1, help="accepted for Matyan 0.3; has no effect"
    )
    tensorboard.set_defaults(run=_checked("convert", _convert))


def _checked(
    name: str, command: Callable[[argparse.Namespace], int]
) -> Callable[[argparse.Namespace], int]:
    """Returns a command that reports inputs it cannot read or reach, and exits with status 2."""

    def run(options: argparse.Namespace) -> int:
        # The report names all runs, so the package prints no line for each run.
        SETTINGS.quiet = True
        try:
            return command(options)
        except (importing.SourceError, errors.ServerError, ValueError, OSError) as error:
            complain(name, str(error))
            return 2

    return run


def _import(options: argparse.Namespace) -> int:
    url = _urls.checked("--repo", options.repo or SETTINGS.backend_url)
    target = importing.Target(url, options.experiment, options.dry_run)
    source = importing.open_source(
        options.kind, Path(options.source), with_outside_files=options.outside_files
    )
    report = importing.import_runs(options.kind, source.runs, target, source.files)
    if options.json:
        show(json.dumps(report.described()))
    else:
        _report_import(report)
    return 0 if report.is_complete else 1


def _backup(options: argparse.Namespace) -> int:
    runs = [run.strip() for run in (options.runs or "").split(",") if run.strip()]
    url = _urls.checked("--backend-url", options.backend_url or SETTINGS.backend_url)
    if options.since is not None:
        parsed_date("--since", options.since)
    problem = _missing(url, runs, options.experiment)
    if problem is not None:
        complain("backup", f"{problem}; nothing was written")
        return 1
    result = run_backup(
        options.output_path,
        backend_url=url,
        runs=runs,
        experiment=options.experiment,
        since=options.since,
        include_blobs=not options.no_blobs,
        compress=options.compress,
    )
    _report(result)
    return 0


def _missing(url: str, runs: list[str], experiment: str | None) -> str | None:
    """Returns the problem with a selection of items that the server does not have."""
    _core.use_token(url)
    http = HttpTransport(url)
    if experiment is not None:
        known = [str(found["name"]) for found in http.list_experiments()]
        if experiment not in known:
            listed = ", ".join(map(repr, known[:_MOST_NAMES])) or "none"
            more = ", ..." if len(known) > _MOST_NAMES else ""
            return f"there is no experiment {experiment!r}; the server at {url} has {listed}{more}"
    query = f"run.archived in (True, False) and run.hash in {runs!r}"
    stored = set(http.find_hashes(query)) if runs else set()
    unknown = ", ".join(run for run in runs if run not in stored)
    if unknown and not stored:
        return f"the server at {url} has no run {unknown}: check the hash and the URL"
    if unknown:
        say(f"matyan-client backup: left out, as the server does not have them: runs {unknown}")
    return None


def _restore(options: argparse.Namespace) -> int:
    result = restore_reingest(
        options.backup_path,
        backend_url=options.backend_url,
        frontier_url=options.frontier_url,
        skip_entities=options.skip_entities,
        skip_blobs=options.skip_blobs,
        dry_run=options.dry_run,
    )
    _report_import(result.report)
    if not options.dry_run:
        created = f"{counted(result.experiments, 'experiment')} and {counted(result.tags, 'tag')}"
        show(f"created {created}")
    return 0 if result.report.is_complete else 1


def _convert(options: argparse.Namespace) -> int:
    result = convert_tensorboard(
        options.input_dir,
        options.output_path,
        experiment=options.experiment,
        compress=options.compress,
    )
    _report(result)
    return 0


def _report(result: BackupResult) -> None:
    show(
        f"{counted(result.run_count, 'run')}, {counted(result.blob_count, 'file')} "
        f"({size(result.blob_bytes)})"
    )
    show(str(result.path))


def _report_import(report: importing.ImportReport) -> None:
    for outcome in report.runs:
        show(
            f"{outcome.run}  {outcome.state:<9}  {counted(outcome.points, 'point'):>17}  "
            f"{counted(outcome.objects, 'object'):>14}  "
            f"{counted(outcome.artifacts, 'artifact'):>16}  {outcome.label}"
        )
        if outcome.replaced:
            show(f"  points replaced by later ones with the same step: {outcome.replaced}")
        for note in outcome.notes:
            show(f"  {note}")
    states = ", ".join(
        f"{report.count(state)} {state}"
        for state in ("imported", "unchanged", "failed", "counted")
        if report.count(state)
    )
    show(f"{counted(len(report.runs), 'run')}: {states or 'nothing to import'}")
