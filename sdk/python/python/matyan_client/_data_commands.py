"""Commands that import runs, and that write and read archives."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import _urls, errors, importing
from .backup import BackupResult, run_backup
from .config import SETTINGS
from .convert.tensorboard import convert_tensorboard
from .restore import restore_reingest


def add_commands(commands: Any) -> None:
    """Adds `import`, `backup`, `restore-reingest`, and `convert`."""
    importer = commands.add_parser("import", help="import runs that other trackers recorded")
    kinds = importing.SOURCES
    importer.add_argument("kind", choices=kinds, metavar="KIND", help=", ".join(kinds))
    importer.add_argument("source", metavar="SOURCE", help="directory or file to read")
    importer.add_argument("--repo", metavar="URL", help="default: MATYAN_BACKEND_URL")
    importer.add_argument("--experiment", metavar="NAME", help="put all runs into an experiment")
    importer.add_argument(
        "--outside-files",
        action="store_true",
        help="also upload files that the runs refer to, but that are not below SOURCE",
    )
    importer.add_argument("--dry-run", action="store_true", help="only read and count")
    importer.add_argument("--json", action="store_true", help="print the outcome as JSON")
    importer.set_defaults(run=_checked("import", _import))

    backup = commands.add_parser("backup", help="write runs into an archive through REST")
    backup.add_argument("output_path", metavar="OUTPUT_PATH", help="directory for the archive")
    backup.add_argument("--backend-url", metavar="URL", help="default: MATYAN_BACKEND_URL")
    backup.add_argument("--runs", metavar="A,B", help="hashes of runs; default: all")
    backup.add_argument("--experiment", metavar="NAME", help="only runs of an experiment")
    backup.add_argument("--since", metavar="ISO", help="only runs created at this date or later")
    backup.add_argument("--no-blobs", action="store_true", help="leave out artifacts and media")
    backup.add_argument("--compress", action="store_true", help="write a file .tar.gz")
    backup.set_defaults(run=_checked("backup", _backup))

    restore = commands.add_parser("restore-reingest", help="replay an archive through ingestion")
    restore.add_argument("backup_path", metavar="BACKUP_PATH", help="directory or .tar.gz")
    restore.add_argument("--backend-url", metavar="URL", help="default: MATYAN_BACKEND_URL")
    restore.add_argument("--frontier-url", metavar="URL", help="default: the backend")
    restore.add_argument("--skip-entities", action="store_true", help="no experiments and tags")
    restore.add_argument("--skip-blobs", action="store_true", help="no artifacts and media")
    restore.add_argument("--dry-run", action="store_true", help="only read and count")
    restore.set_defaults(run=_checked("restore-reingest", _restore))

    convert = commands.add_parser("convert", help="convert data of other trackers to an archive")
    sources = convert.add_subparsers(title="sources", required=True, metavar="SOURCE")
    tensorboard = sources.add_parser("tensorboard", help="event files")
    tensorboard.add_argument("input_dir", metavar="INPUT_DIR")
    tensorboard.add_argument("output_path", metavar="OUTPUT_PATH")
    tensorboard.add_argument("--experiment", metavar="NAME", help="put all runs into it")
    tensorboard.add_argument("--compress", action="store_true", help="write a file .tar.gz")
    tensorboard.add_argument(
        "--workers", type=int, default=1, help="accepted for Matyan 0.3; has no effect"
    )
    tensorboard.set_defaults(run=_checked("convert", _convert))


def _checked(
    name: str, command: Callable[[argparse.Namespace], int]
) -> Callable[[argparse.Namespace], int]:
    """Returns a command that reports what it cannot read or reach, and exits with status 2."""

    def run(options: argparse.Namespace) -> int:
        # The outcome names all runs; a line for each of them would repeat that.
        SETTINGS.quiet = True
        try:
            return command(options)
        except (importing.SourceError, errors.ServerError, ValueError, OSError) as error:
            print(f"matyan-client {name}: {error}", file=sys.stderr)
            return 2

    return run


def _import(options: argparse.Namespace) -> int:
    url = _urls.checked("--repo", options.repo or SETTINGS.backend_url)
    target = importing.Target(
        url, options.experiment, options.dry_run, with_outside_files=options.outside_files
    )
    source = Path(options.source)
    runs = importing.open_source(options.kind, source)
    root = importing.root_of(options.kind, source)
    report = importing.import_runs(options.kind, runs, target, root=root)
    if options.json:
        print(json.dumps(report.described()))
    else:
        _report_import(report)
    return 0 if report.is_complete else 1


def _backup(options: argparse.Namespace) -> int:
    runs = [run.strip() for run in (options.runs or "").split(",") if run.strip()]
    result = run_backup(
        options.output_path,
        backend_url=options.backend_url,
        runs=runs,
        experiment=options.experiment,
        since=options.since,
        include_blobs=not options.no_blobs,
        compress=options.compress,
    )
    _report(result)
    return 0


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
    print(f"{result.experiments} experiments and {result.tags} tags created")
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
    print(f"{result.run_count} runs, {result.blob_count} files with {result.blob_bytes} bytes")
    print(result.path)


def _report_import(report: importing.ImportReport) -> None:
    for outcome in report.runs:
        print(
            f"{outcome.run}  {outcome.state:<9}  {outcome.points:>10} points  "
            f"{outcome.objects:>6} objects  {outcome.artifacts:>6} artifacts  {outcome.label}"
        )
        if outcome.replaced:
            print(f"  {outcome.replaced} points were replaced by later ones with the same step")
        for note in outcome.notes:
            print(f"  {note}")
    states = ", ".join(
        f"{report.count(state)} {state}"
        for state in ("imported", "unchanged", "failed", "counted")
        if report.count(state)
    )
    print(f"{len(report.runs)} runs: {states or 'nothing to import'}")
