"""The command `matyan-client`."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import _core, _data_commands, _urls
from .config import SETTINGS
from .transport.http import HttpTransport

_STATUS_TIMEOUT = 5.0
_WATCH_INTERVAL = 2.0
# Time that `sync` waits for a connection, in seconds.
_UNREACHABLE_LIMIT = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit status."""
    options = _parser().parse_args(arguments)
    for warning in SETTINGS.take_warnings():
        print(f"matyan-client: {warning}", file=sys.stderr)
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
    sync.add_argument("runs", nargs="*", metavar="RUN", help="hashes of runs; default: all")
    sync.add_argument("--watch", action="store_true", help="continue with spools as they appear")
    sync.add_argument(
        "--elsewhere",
        action="store_true",
        help="also send spools of other machines, none of which may still be in use",
    )
    sync.add_argument("--json", action="store_true", help="print the outcome as JSON")
    sync.set_defaults(run=_sync)

    spool = commands.add_parser("spool", help="show or remove spools")
    actions = spool.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = actions.add_parser("ls", help="list spools with their runs and sizes")
    listing.add_argument("--json", action="store_true", help="print a JSON list")
    listing.set_defaults(run=_list_spools)
    removal = actions.add_parser("rm", help="remove spools, with all that was not sent")
    removal.add_argument("runs", nargs="+", metavar="RUN", help="hashes of runs")
    removal.add_argument("--yes", action="store_true", help="remove without a question")
    removal.set_defaults(run=_remove_spools)

    _data_commands.add_commands(commands)
    return parser


def _status(options: argparse.Namespace) -> int:
    try:
        urls = {
            "Backend": _urls.checked("--backend-url", options.backend_url or SETTINGS.backend_url),
            "Frontier": _urls.checked(
                "--frontier-url", options.frontier_url or SETTINGS.frontier_url
            ),
        }
    except ValueError as error:
        _complain("status", str(error))
        return 2
    _say("Matyan components")
    for component, url in urls.items():
        version = HttpTransport(url, timeout=_STATUS_TIMEOUT).get_version()
        state = "unreachable" if version is None else "OK"
        number = "-" if version is None else version.get("version", "-")
        _say(f"  {component:<10} {state:<12} {number}")
    _say(f"  {'Client':<10} {'(local)':<12} {_client_version()}")
    return 0


class SyncOutcome(NamedTuple):
    """Outcome of `sync`."""

    spools: int
    finished: int
    stored: int
    # Runs whose spools other processes use.
    held: list[str]
    messages: list[str]


class SyncReporter:
    """Shows the progress of `sync`, and ends it while no server can be reached."""

    def __init__(self, *, is_shown: bool, waits: bool) -> None:
        self._is_shown = is_shown
        self._waits = waits
        self._is_drawn = False
        self._connected = time.monotonic()
        self.is_unreachable = False

    def __call__(self, spools: int, finished: int, connected: int, stored: int) -> bool:
        """Returns whether the work continues."""
        now = time.monotonic()
        if connected or finished == spools:
            self._connected = now
        self.is_unreachable = now - self._connected > _UNREACHABLE_LIMIT
        if self._is_shown and spools:
            self._is_drawn = True
            sys.stderr.write(f"\r{finished} of {spools} spools, {stored} values stored ")
            sys.stderr.flush()
        return self._waits or not self.is_unreachable

    def end(self) -> None:
        """Ends the line of progress."""
        if self._is_drawn:
            sys.stderr.write("\n")


def _sync(options: argparse.Namespace) -> int:
    runs = set(options.runs) or None
    is_shown = not options.json and sys.stderr is not None and sys.stderr.isatty()
    while True:
        reporter = SyncReporter(is_shown=is_shown, waits=options.watch)
        found = [spool for spool in _core.spools() if runs is None or spool.run_id in runs]
        held = [spool.run_id for spool in found if spool.state == "in use"]
        unknown = sorted((runs or set()) - {spool.run_id for spool in found})
        spools, finished, stored, notices, interruption = _core.sync(
            options.elsewhere, reporter, runs
        )
        reporter.end()
        if spools or not options.watch:
            messages = [message for _, message in notices]
            _report_sync(options.json, SyncOutcome(spools, finished, stored, held, messages))
        if interruption is not None:
            raise interruption
        if not options.watch:
            if reporter.is_unreachable:
                _complain(
                    "sync",
                    f"no server was reached for {_UNREACHABLE_LIMIT:g} seconds; what is left stays "
                    "in the spool: start the server, then run `matyan-client sync` again, or use "
                    "`--watch` to wait for it",
                )
            for run in unknown:
                _complain("sync", f"there is no spool of run {run}: nothing of it is left here")
            return 0 if finished == spools else 1
        time.sleep(_WATCH_INTERVAL)


def _report_sync(as_json: bool, outcome: SyncOutcome) -> None:
    if as_json:
        _say(json.dumps(outcome._asdict()))
        return
    for message in outcome.messages:
        print(message, file=sys.stderr)
    if outcome.held:
        print(
            f"spools of scripts that run are left to them: "
            f"runs {', '.join(sorted(set(outcome.held)))}",
            file=sys.stderr,
        )
    _say(f"{outcome.finished} of {outcome.spools} spools sent, {outcome.stored} values stored")


def _list_spools(options: argparse.Namespace) -> int:
    spools = sorted(_core.spools(), key=lambda spool: spool.created_us)
    if options.json:
        _say(json.dumps([_described(spool) for spool in spools]))
        return 0
    for spool in spools:
        created = datetime.datetime.fromtimestamp(spool.created_us / 1e6).astimezone()
        _say(
            f"{spool.run_id}  {spool.state:<9}  {spool.bytes:>12}  {spool.uploads:>4} files  "
            f"{created:%Y-%m-%d %H:%M:%S}  {spool.gateway_url}  {spool.path}"
        )
    return 0


def _remove_spools(options: argparse.Namespace) -> int:
    wanted = set(options.runs)
    spools = [spool for spool in _core.spools() if spool.run_id in wanted]
    for run in sorted(wanted - {spool.run_id for spool in spools}):
        _complain("spool rm", f"there is no spool of run {run}")
    status = 0 if wanted == {spool.run_id for spool in spools} else 1
    for spool in spools:
        files = f" and {spool.uploads} files" if spool.uploads else ""
        size = f"{spool.bytes} bytes{files}"
        if not options.yes and not _confirms(f"remove {size} of run {spool.run_id} for ever?"):
            status = 1
        elif _core.remove_spool(spool.path):
            _say(f"removed {spool.path}")
        else:
            _complain("spool rm", f"run {spool.run_id} is in use: end its script first")
            status = 1
    return status


def _confirms(question: str) -> bool:
    if not sys.stdin.isatty():
        _complain("spool rm", f"{question} Repeat the command with --yes")
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _described(spool: _core.SpoolInfo) -> dict[str, Any]:
    return {
        "run": spool.run_id,
        "state": spool.state,
        "bytes": spool.bytes,
        "files": spool.uploads,
        "created": spool.created_us / 1e6,
        "gateway_url": spool.gateway_url,
        "path": str(spool.path),
    }


def _client_version() -> str:
    try:
        return importlib.metadata.version("matyan-client")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _complain(command: str, reason: str) -> None:
    print(f"matyan-client {command}: {reason}", file=sys.stderr)


def _say(line: str) -> None:
    print(line)


if __name__ == "__main__":
    sys.exit(main())
