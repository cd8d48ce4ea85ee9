"""The command `matyan-client`."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import sys
from collections.abc import Sequence
from typing import Any

from . import _console, _core, _data_commands, _login_commands, _sync_command, _urls, errors
from .config import SETTINGS
from .transport.http import HttpTransport

_STATUS_TIMEOUT = 5.0


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
    parser = argparse.ArgumentParser(
        prog="matyan-client", description="Command-line client of Matyan."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_client_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    status = _console.add_command(
        commands,
        "status",
        "show whether the servers answer, and all versions; status 1 if one does not",
    )
    status.add_argument("--backend-url", metavar="URL", help="default: MATYAN_BACKEND_URL")
    status.add_argument("--frontier-url", metavar="URL", help="default: MATYAN_FRONTIER_URL")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=_status)

    _login_commands.add_commands(commands)
    _sync_command.add_command(commands)

    spool = _console.add_command(commands, "spool", "show or remove spools")
    actions = spool.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = _console.add_command(actions, "ls", "list spools with their runs and sizes")
    listing.add_argument("--json", action="store_true", help="print a JSON list")
    listing.set_defaults(run=_list_spools)
    removal = _console.add_command(actions, "rm", "remove spools, including what was not sent")
    removal.add_argument("runs", nargs="+", metavar="RUN", help="hashes of runs")
    removal.add_argument("--yes", action="store_true", help="remove without asking")
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
        _console.complain("status", str(error))
        return 2
    found = {component: (*_version_at(url), url) for component, url in urls.items()}
    advice = {number: _core.version_advice(number) for number, _, _ in found.values()}
    status = 0 if all(reason is None for _, reason, _ in found.values()) else 1
    if options.json:
        described: dict[str, Any] = {
            component.lower(): {
                "url": url,
                "ok": reason is None,
                "version": number,
                "reason": reason,
                "advice": advice[number],
            }
            for component, (number, reason, url) in found.items()
        }
        _console.show(json.dumps({**described, "client": {"version": _client_version()}}))
        return status
    _console.show("Matyan components")
    for component, (number, reason, url) in found.items():
        state = "OK" if reason is None else "unreachable"
        _console.show(f"  {component:<10} {state:<12} {number:<10} {url}")
        if reason is not None:
            _console.show(f"  {'':<10} {reason}")
    _console.show(f"  {'Client':<10} {'(local)':<12} {_client_version()}")
    for text in filter(None, advice.values()):
        _console.show(text)
    return status


def _version_at(url: str) -> tuple[str, str | None]:
    """Returns the version of a server, or `-` and the reason why it is not known."""
    try:
        version = HttpTransport(url, timeout=_STATUS_TIMEOUT).read_version()
    except errors.TransportError as error:
        return "-", f"{error}; start the server, or correct the URL"
    except errors.ServerError as error:
        if error.status in (None, 404):
            # Its answer may be a page, and says nothing more.
            return "-", "a server answers, but it is not a Matyan server; correct the URL"
        return "-", str(error)
    return str(version.get("version", "-")), None


def _list_spools(options: argparse.Namespace) -> int:
    spools = sorted(_core.spools(), key=lambda spool: spool.created_us)
    if options.json:
        _console.show(json.dumps([_described(spool) for spool in spools]))
        return 0
    if not spools:
        _console.say("there are no spools: nothing is left to send")
        return 0
    width = max(len(spool.run_id) for spool in spools)
    heading = f"{'STATE':<9}  {'SIZE':>10}  {'FILES':>5}  {'CREATED':<19}  SERVER, SPOOL"
    _console.show(f"{'RUN':<{width}}  {heading}")
    for spool in spools:
        created = datetime.datetime.fromtimestamp(spool.created_us / 1e6).astimezone()
        _console.show(
            f"{spool.run_id:<{width}}  {spool.state:<9}  {_console.size(spool.bytes):>10}  "
            f"{spool.uploads:>5}  {created:%Y-%m-%d %H:%M:%S}  {spool.gateway_url}, {spool.path}"
        )
    return 0


def _remove_spools(options: argparse.Namespace) -> int:
    wanted = set(options.runs)
    spools = [spool for spool in _core.spools() if spool.run_id in wanted]
    for run in sorted(wanted - {spool.run_id for spool in spools}):
        _console.complain(
            "spool rm", f"there is no spool of run {run}; `matyan-client spool ls` lists all spools"
        )
    status = 0 if wanted == {spool.run_id for spool in spools} else 1
    for spool in spools:
        files = f" and {_console.counted(spool.uploads, 'file')}" if spool.uploads else ""
        size = f"{_console.size(spool.bytes)}{files}"
        if not options.yes and not _confirms(f"permanently remove {size} of run {spool.run_id}?"):
            status = 1
        elif _core.remove_spool(spool.path):
            _console.show(f"removed {spool.path}")
        else:
            _console.complain("spool rm", f"run {spool.run_id} is in use: end its script first")
            status = 1
    return status


def _confirms(question: str) -> bool:
    if not sys.stdin.isatty():
        _console.complain("spool rm", f"{question} Run the command again with --yes")
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


if __name__ == "__main__":
    sys.exit(main())
