"""The command `sync`, which sends the data that ended scripts left in spools."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from typing import Any, NamedTuple

from . import _console, _core, _sync_servers, _urls, errors
from .config import SETTINGS
from .transport.http import HttpTransport

_WATCH_INTERVAL = 2.0
# Time that `sync` waits for a connection, in seconds.
_UNREACHABLE_LIMIT = 10.0
# Time between two lines of progress, unless they are shown on a terminal, in seconds.
_PROGRESS_INTERVAL = 5.0
# Time that a server has to say whether it has a run, in seconds.
_LOOKUP_TIMEOUT = 5.0
# At most this many runs are named one by one.
_MOST_RUNS = 20


def add_command(commands: Any) -> None:
    """Adds `sync`."""
    sync = _console.add_command(commands, "sync", "send the data that ended scripts left in spools")
    sync.add_argument("runs", nargs="*", metavar="RUN", help="hashes of runs; default: all")
    sync.add_argument("--watch", action="store_true", help="continue with spools as they appear")
    sync.add_argument(
        "--elsewhere",
        action="store_true",
        help="also send spools of other machines, none of which may still be in use",
    )
    sync.add_argument(
        "--repo",
        metavar="URL",
        help="send the data to this server, in place of the one that it was recorded for",
    )
    sync.add_argument(
        "--other-projects",
        action="store_true",
        help="with --repo, also send runs that were recorded for another project",
    )
    sync.add_argument(
        "--frontier-url", metavar="URL", help="URL that data is sent to, if it is not --repo"
    )
    sync.add_argument("--json", action="store_true", help="print the outcome as JSON")
    sync.set_defaults(run=_sync)


class SyncOutcome(NamedTuple):
    """Outcome of `sync`."""

    spools: int
    finished: int
    stored: int
    # Runs whose data is sent completely.
    sent: list[str]
    # Runs that have data left.
    left: list[str]
    # Runs whose spools other processes use.
    held: list[str]
    # Runs whose spools other machines have made, and that are not sent.
    elsewhere: list[str]
    # Runs that are not sent, because they were recorded for another project than `--repo` names.
    other_project: list[str]
    # Named runs that have no spool and are not on the server.
    unknown: list[str]
    messages: list[str]


class Batch:
    """The spools that are sent together, by their runs."""

    def __init__(
        self, spools: list[_core.SpoolInfo], states: set[str], gateway_url: str | None
    ) -> None:
        self._gateway_url = gateway_url
        self._spools: dict[str, list[_core.SpoolInfo]] = {}
        for spool in spools:
            if spool.state in states:
                self._spools.setdefault(spool.run_id, []).append(spool)
        # Paths of the other spools, which the same runs may have.
        self._others = {spool.path for spool in spools if spool.state not in states}

    def count(self) -> int:
        """Returns the number of spools."""
        return sum(len(spools) for spools in self._spools.values())

    def runs(self) -> list[str]:
        """Returns the runs."""
        return list(self._spools)

    def left(self) -> dict[str, list[str]]:
        """Returns the runs that have data left, with the directories of the data."""
        left: dict[str, list[str]] = {}
        # A spool that is stored completely is removed.
        for spool in _core.spools():
            if spool.run_id in self._spools and spool.path not in self._others:
                left.setdefault(spool.run_id, []).append(str(spool.path))
        return left

    def described(self, run: str) -> str:
        """Returns the size of a run's data, and where it is sent to."""
        spools = self._spools[run]
        files = sum(spool.uploads for spool in spools)
        parts = [_console.size(sum(spool.bytes for spool in spools))]
        if files:
            parts.append(_console.counted(files, "file"))
        urls = {self._gateway_url or spool.gateway_url for spool in spools}
        return f"{' and '.join(parts)} to {', '.join(sorted(urls))}"


class SyncReporter:
    """Shows the progress of `sync`, and ends it while no server can be reached."""

    def __init__(self, batch: Batch, *, is_shown: bool, waits: bool) -> None:
        self._batch = batch
        self._is_shown = is_shown
        self._is_terminal = is_shown and sys.stderr.isatty()
        self._waits = waits
        self._left = batch.runs()
        self._finished = 0
        self._stored = 0
        self._connected = time.monotonic()
        self._reported = self._connected
        self.is_unreachable = False
        # Whether the server answers, and refuses files.
        self.is_refused = False

    def begin(self) -> None:
        """Names the runs whose data is sent."""
        if self._is_shown:
            for run in self._left[:_MOST_RUNS]:
                self._say(f"run {run}: sending {self._batch.described(run)}")
            if len(self._left) > _MOST_RUNS:
                self._say(f"and {len(self._left) - _MOST_RUNS} more runs")

    def __call__(
        self, spools: int, finished: int, connected: int, refused: int, stored: int
    ) -> bool:
        """Returns whether the work continues."""
        now = time.monotonic()
        # A connection is of no use to a spool that only waits for files.
        if connected > refused or stored > self._stored or finished == spools:
            self._connected = now
        self._stored = stored
        self.is_unreachable = now - self._connected > _UNREACHABLE_LIMIT
        self.is_refused = refused > 0
        if self._is_shown and spools:
            self._show(spools, finished, connected, stored)
        return self._waits or not self.is_unreachable

    def _show(self, spools: int, finished: int, connected: int, stored: int) -> None:
        if finished > self._finished:
            self._finished = finished
            left = self._batch.left()
            for run in self._left:
                if run not in left:
                    self._say(f"run {run}: sent")
            self._left = [run for run in self._left if run in left]
        waiting = "the server refuses files" if self.is_refused else "waiting for a server"
        is_waiting = self.is_refused or not connected
        state = f", {waiting}" if is_waiting and finished < spools else ""
        line = f"{finished} of {_console.counted(spools, 'spool')} sent, "
        line += f"{_console.counted(stored, 'value')} stored"
        if self._is_terminal:
            sys.stderr.write(f"\r{line}{state}\x1b[K")
            sys.stderr.flush()
        elif time.monotonic() - self._reported >= _PROGRESS_INTERVAL:
            self._reported = time.monotonic()
            self._say(f"{line}{state}")

    def _say(self, line: str) -> None:
        self.end()
        _console.say(line)

    def end(self) -> None:
        """Clears the line of progress."""
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")


def _sync(options: argparse.Namespace) -> int:
    runs = set(options.runs) or None
    try:
        urls = _other_servers(options)
        # Only runs that are named are looked for there.
        server = urls[0] if urls else SETTINGS.backend_url if runs else ""
    except ValueError as error:
        _console.complain("sync", str(error))
        return 2
    if urls is not None:
        for url in urls:
            _core.use_token(url)
        # Spools keep the address from now on, so it must not be wrong, too.
        try:
            HttpTransport(urls[0], timeout=_LOOKUP_TIMEOUT).read_version()
        except errors.ServerError as error:
            # A server that refuses the token has answered; `refusals` finds the reason.
            if error.status != _sync_servers.UNAUTHENTICATED:
                _console.complain(
                    "sync",
                    f"nothing is sent, because `--repo` does not answer as a server: {error}",
                )
                return 1
    while True:
        found = [spool for spool in _core.spools() if runs is None or spool.run_id in runs]
        states = {"left", "offline", "elsewhere"} if options.elsewhere else {"left", "offline"}
        free = [spool for spool in found if spool.state in states]
        others: dict[str, str] = {}
        if urls is not None and runs is None and not options.other_projects:
            others = _sync_servers.other_projects(free, urls[1])
            free = [spool for spool in free if spool.run_id not in others]
        refused = _sync_servers.ServerRefusals({}, [])
        # The core waits for a server that is watched. Spools get no other address before its server
        # accepts them.
        if urls is not None or not options.watch:
            refused = _sync_servers.refusals(free, None if urls is None else urls[1])
        batch = Batch(
            [spool for spool in found if spool.run_id not in {*others, *refused.spools}],
            states,
            None if urls is None else urls[1],
        )
        is_shown = not options.json and sys.stderr is not None
        reporter = SyncReporter(batch, is_shown=is_shown, waits=options.watch)
        reporter.begin()
        spools, finished, stored, notices, interruption = _core.sync(
            options.elsewhere, reporter, set(batch.runs()), urls
        )
        reporter.end()
        left = {} if finished == batch.count() else batch.left()
        left.update(refused.spools)
        is_over = not options.watch and interruption is None
        named = runs if runs is not None and is_over else set()
        outcome = SyncOutcome(
            spools + sum(map(len, refused.spools.values())),
            finished,
            stored,
            sent=[run for run in batch.runs() if run not in left],
            left=list(left),
            held=_runs_in(found, "in use"),
            elsewhere=[] if options.elsewhere else _runs_in(found, "elsewhere"),
            other_project=sorted(others),
            unknown=_unknown(named - {spool.run_id for spool in found}, server),
            messages=refused.reasons + [message for _, message in notices],
        )
        if outcome.spools or not options.watch:
            _report(options.json, left, outcome)
        if interruption is not None:
            raise interruption
        if options.watch and refused.reasons:
            return 1
        if not options.watch:
            if reporter.is_unreachable and reporter.is_refused:
                _console.complain(
                    "sync",
                    "the server has refused files, for the reason that it gave; they stay in the "
                    "spool: run `matyan-client sync` again when it accepts them, or use `--watch` "
                    "to wait for that",
                )
            elif reporter.is_unreachable:
                _console.complain(
                    "sync",
                    f"no server was reached for {_UNREACHABLE_LIMIT:g} seconds; what is left stays "
                    "in the spool: start the server, then run `matyan-client sync` again, or use "
                    "`--watch` to wait for it; if the URL is wrong, `--repo URL` sends the data to "
                    "another server",
                )
            is_whole = all(level < logging.ERROR for level, _ in notices)
            are_sent = named.isdisjoint(outcome.held)
            is_all = not left and not others and not outcome.unknown
            return 0 if is_all and is_whole and are_sent else 1
        time.sleep(_WATCH_INTERVAL)


def _other_servers(options: argparse.Namespace) -> tuple[str, str] | None:
    """Returns the URLs of the backend and the gateway that get the data, if they are given."""
    if options.repo is None:
        if options.frontier_url is not None:
            raise ValueError(
                "`--frontier-url`: also give `--repo`, the server that data is read from"
            )
        return None
    repo = _urls.checked("--repo", options.repo)
    return repo, _urls.checked("--frontier-url", options.frontier_url or repo)


def _runs_in(spools: list[_core.SpoolInfo], state: str) -> list[str]:
    return sorted({spool.run_id for spool in spools if spool.state == state})


def _unknown(runs: set[str], url: str) -> list[str]:
    """Prints a line for each run, and returns the runs that the server may not have."""
    if not runs:
        return []
    unknown = []
    server = HttpTransport(url, timeout=_LOOKUP_TIMEOUT)
    for run in sorted(runs):
        try:
            server.get_run_info(run)
        except errors.ServerError as error:
            unknown.append(run)
            reason = (
                f"the server at {url} does not have it"
                if isinstance(error, errors.NotFoundError)
                else f"it is not known whether the server has it: {error}"
            )
            _console.complain(
                "sync",
                f"there is no spool of run {run}, and {reason}; check the hash: "
                "`matyan-client spool ls` lists all spools",
            )
        else:
            _console.say(f"run {run}: nothing is left to send, and the server at {url} has the run")
    return unknown


def _report(as_json: bool, left: dict[str, list[str]], outcome: SyncOutcome) -> None:
    if as_json:
        # With `--watch`, a reader of a pipe waits for each line.
        _console.show(json.dumps(outcome._asdict()))
        return
    for message in outcome.messages:
        _console.say(message)
    for run in outcome.left[:_MOST_RUNS]:
        _console.say(f"run {run}: not sent completely; the rest is in {', '.join(left[run])}")
    if outcome.held:
        held = ", ".join(outcome.held)
        _console.say(
            f"still in use by running scripts: the data of runs {held}; a script sends it itself, "
            "unless its run is offline: then end the script, or restart the notebook, also after "
            "`close`"
        )
    if outcome.elsewhere:
        _console.say(
            f"left to other machines: the data of runs {', '.join(outcome.elsewhere)}; "
            "`--elsewhere` sends it"
        )
    if outcome.other_project:
        _console.say(
            f"recorded for another project: the data of runs {', '.join(outcome.other_project)}; "
            "name the runs that `--repo` shall get, or add `--other-projects` for all of them"
        )
    if not outcome.spools:
        _console.show("nothing to send")
        return
    runs = len(outcome.sent) + len(outcome.left)
    _console.show(
        f"{len(outcome.sent)} of {_console.counted(runs, 'run')} sent "
        f"({outcome.finished} of {_console.counted(outcome.spools, 'spool')}), "
        f"{_console.counted(outcome.stored, 'value')} stored"
    )
