"""The command `matyan-client`."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _core, errors
from .config import SETTINGS
from .importing.sources import SOURCES
from .transport.http import HttpTransport

if TYPE_CHECKING:
    from .importing import ImportReport

_STATUS_TIMEOUT = 5.0
_WATCH_INTERVAL = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="matyan-client", description="Client of Matyan.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    status = commands.add_parser("status", help="show versions of the servers and of this client")
    status.add_argument("--backend-url", help="default: MATYAN_BACKEND_URL")
    status.add_argument("--frontier-url", help="default: MATYAN_FRONTIER_URL")
    status.set_defaults(run=_status)

    sync = commands.add_parser("sync", help="send the data that ended scripts left in spools")
    sync.add_argument("--watch", action="store_true", help="continue with spools as they appear")
    sync.add_argument(
        "--elsewhere",
        action="store_true",
        help="also send spools of other machines, none of which may still be in use",
    )
    sync.add_argument("--json", action="store_true", help="print the outcome as JSON")
    sync.set_defaults(run=_sync)

    spool = commands.add_parser("spool", help="show spools")
    actions = spool.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = actions.add_parser("ls", help="list spools with their runs and sizes")
    listing.add_argument("--json", action="store_true", help="print a JSON list")
    listing.set_defaults(run=_list_spools)

    importer = commands.add_parser("import", help="import runs that other trackers recorded")
    importer.add_argument("kind", choices=SOURCES, metavar="KIND", help=", ".join(SOURCES))
    importer.add_argument("source", metavar="SOURCE", help="directory or file to read")
    importer.add_argument("--repo", metavar="URL", help="default: MATYAN_BACKEND_URL")
    importer.add_argument("--experiment", metavar="NAME", help="put all runs into an experiment")
    importer.add_argument("--dry-run", action="store_true", help="only read and count")
    importer.add_argument("--json", action="store_true", help="print the outcome as JSON")
    importer.set_defaults(run=_import)
    return parser


def _status(options: argparse.Namespace) -> int:
    urls = {
        "Backend": options.backend_url or SETTINGS.backend_url,
        "Frontier": options.frontier_url or SETTINGS.frontier_url,
    }
    _say("Matyan components")
    for component, url in urls.items():
        version = HttpTransport(url, timeout=_STATUS_TIMEOUT).get_version()
        state = "unreachable" if version is None else "OK"
        number = "-" if version is None else version.get("version", "-")
        _say(f"  {component:<10} {state:<12} {number}")
    _say(f"  {'Client':<10} {'(local)':<12} {_client_version()}")
    return 0


def _sync(options: argparse.Namespace) -> int:
    interruptions: list[KeyboardInterrupt] = []
    is_shown = not options.json and sys.stderr is not None and sys.stderr.isatty()

    def report(spools: int, finished: int, stored: int) -> bool:
        try:
            if is_shown:
                sys.stderr.write(f"\r{finished} of {spools} spools, {stored} values stored ")
                sys.stderr.flush()
        except KeyboardInterrupt as interruption:
            interruptions.append(interruption)
            return False
        return True

    while True:
        spools, finished, stored, notices = _core.sync(options.elsewhere, report)
        if is_shown and spools:
            sys.stderr.write("\n")
        if spools or not options.watch:
            _report_sync(options.json, spools, finished, stored, notices)
        if interruptions:
            raise interruptions[0]
        if not options.watch:
            return 0 if finished == spools else 1
        time.sleep(_WATCH_INTERVAL)


def _report_sync(
    as_json: bool, spools: int, finished: int, stored: int, notices: list[tuple[int, str]]
) -> None:
    messages = [message for _, message in notices]
    if as_json:
        outcome = {"spools": spools, "finished": finished, "stored": stored, "messages": messages}
        _say(json.dumps(outcome))
        return
    for message in messages:
        print(message, file=sys.stderr)
    _say(f"{finished} of {spools} spools sent, {stored} values stored")


def _list_spools(options: argparse.Namespace) -> int:
    spools = sorted(_core.spools(), key=lambda spool: spool.created_us)
    if options.json:
        _say(json.dumps([_described(spool) for spool in spools]))
        return 0
    for spool in spools:
        created = datetime.datetime.fromtimestamp(spool.created_us / 1e6).astimezone()
        _say(
            f"{spool.run_id}  {spool.state:<9}  {spool.bytes:>12}  "
            f"{created:%Y-%m-%d %H:%M:%S}  {spool.gateway_url}  {spool.path}"
        )
    return 0


def _described(spool: _core.SpoolInfo) -> dict[str, Any]:
    return {
        "run": spool.run_id,
        "state": spool.state,
        "bytes": spool.bytes,
        "created": spool.created_us / 1e6,
        "gateway_url": spool.gateway_url,
        "path": str(spool.path),
    }


def _import(options: argparse.Namespace) -> int:
    from . import importing  # noqa: PLC0415 - not needed by the other commands

    # The outcome names all runs; a line for each of them would repeat that.
    SETTINGS.quiet = True
    url = (options.repo or SETTINGS.backend_url).rstrip("/")
    target = importing.Target(url, options.experiment, options.dry_run)
    try:
        runs = importing.open_source(options.kind, Path(options.source))
        report = importing.import_runs(options.kind, runs, target)
    except (importing.SourceError, errors.ServerError) as error:
        print(f"matyan-client import: {error}", file=sys.stderr)
        return 2
    if options.json:
        _say(json.dumps(report.described()))
    else:
        _report_import(report)
    return 0 if report.is_complete else 1


def _report_import(report: ImportReport) -> None:
    for outcome in report.runs:
        _say(
            f"{outcome.run}  {outcome.state:<9}  {outcome.points:>10} points  "
            f"{outcome.objects:>6} objects  {outcome.artifacts:>6} artifacts  {outcome.label}"
        )
        if outcome.replaced:
            _say(f"  {outcome.replaced} points were replaced by later ones with the same step")
        for note in outcome.notes:
            _say(f"  {note}")
    states = ", ".join(
        f"{report.count(state)} {state}"
        for state in ("imported", "unchanged", "failed", "counted")
        if report.count(state)
    )
    _say(f"{len(report.runs)} runs: {states or 'nothing to import'}")


def _client_version() -> str:
    try:
        return importlib.metadata.version("matyan-client")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _say(line: str) -> None:
    print(line)


if __name__ == "__main__":
    sys.exit(main())
