"""A run: the record of one training script."""

from __future__ import annotations

import logging
import math
import operator
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, SupportsIndex

from . import (
    _arguments,
    _branches,
    _console,
    _core,
    _device,
    _lifecycle,
    _metric_goals,
    _system,
    _tracked_objects,
    _urls,
    terminal,
    values,
)
from ._aim_calls import AimCalls
from ._params import Key, ParamsOverlay, nested, path_of
from ._properties import RunProperties
from ._warnings import is_shown, warn_user
from .config import SETTINGS
from .transport.http import HttpTransport

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from .repo import Repo

_logger = logging.getLogger("matyan_client")

# Limits on the time that `close` takes, in seconds.
_REACHABLE_LIMIT = 30.0
_UNREACHABLE_LIMIT = 3.0
# Part of it in which devices are waited for. The rest is left to the server.
_DEVICES_LIMIT = 20.0

# The params in which readers look for the number of steps.
_PROGRESS_KEY = "__progress__"

# Time that a reader waits for the writes of its own run, in seconds.
_OWN_WRITES_LIMIT = 5.0


class Run(RunProperties, AimCalls):
    """A run that is written by this process, or a run that is only read.

    Without a hash a new run is created, which takes no time and no server: everything that is
    tracked is stored in a local spool first, and sent in the background. With the hash of an
    existing run, the run is continued. `repo` is the URL of the server, or a `Repo`. Data is sent
    to the same URL, unless `frontier_url` is given.

    `log_system_params` describes the machine, the packages, and the git revision in the params
    `__system_params`, and uploads the changes since the last commit as the artifact
    `git-diff.patch`. `system_tracking_interval` is the number of seconds (0.1 to 86400) between two
    measurements of the load of the machine. With `offline`, nothing is sent until `matyan-client
    sync`. `token` is for a server with access control, in place of the variable `MATYAN_TOKEN`; it
    is sent to this server only.

    Usage::

        with Run(experiment="baseline") as run:
            run["hparams"] = {"lr": 0.01, "batch_size": 32}
            for step in range(100):
                run.track(loss, name="loss", step=step, context={"subset": "train"})
    """

    # A copy in another process prints nothing, and neither starts nor ends the run.
    _is_copy = False
    # An imported run keeps the time of its creation, in microseconds since the Unix epoch.
    _created_us: int | None = None

    # Set by the package: this module cannot import the module of `Repo`, which returns runs.
    _open_repo: ClassVar[Callable[[str], Repo]]

    def __init__(
        self,
        run_hash: str | None = None,
        *,
        repo: str | Repo | None = None,
        frontier_url: str | None = None,
        read_only: bool = False,
        experiment: str | None = None,
        force_resume: bool = False,
        system_tracking_interval: float | None = None,
        log_system_params: bool | None = False,
        capture_terminal_logs: bool | Literal["fd"] | None = True,
        offline: bool = False,
        fork_from: str | None = None,
        fork_step: SupportsIndex | None = None,
        token: str | None = None,
    ) -> None:
        _arguments.check_text("experiment", experiment)
        parent = _arguments.fork_point(fork_from, fork_step)
        if run_hash is not None:
            run_hash = _arguments.run_hash("run_hash", run_hash)
        experiment = None if experiment is None else values.text(experiment)
        if system_tracking_interval is not None:
            _arguments.check_seconds("system_tracking_interval", system_tracking_interval)
        terminal.check_kind(capture_terminal_logs)
        force_resume = _arguments.flag("force_resume", force_resume)
        log_system_params = _arguments.flag("log_system_params", log_system_params)
        self._read_only = _arguments.flag("read_only", read_only)
        self._is_offline = _arguments.flag("offline", offline)
        _arguments.check_text("frontier_url", frontier_url)
        url = getattr(repo, "url", repo)
        if url is not None and not isinstance(url, str):
            found = type(repo).__name__
            raise TypeError(f"`repo`: expected the URL of a server or a Repo, not {found}")
        self._backend_url = _urls.checked("repo", url or SETTINGS.backend_url)
        gateway_url = frontier_url or url or SETTINGS.frontier_url
        self._gateway_url = _urls.checked("frontier_url", gateway_url)
        _arguments.check_text("token", token)
        self._has_token = bool(token or os.environ.get("MATYAN_TOKEN", "").strip())
        for server in (self._backend_url, self._gateway_url):
            _core.use_token(server, token)
        self._http = HttpTransport(self._backend_url)
        self._is_new = run_hash is None and not self._read_only
        self._created = time.time()
        self._ended: float | None = None
        self._is_closed = False
        # Whether everything was stored when the run was closed.
        self._is_stored = False
        self._params = ParamsOverlay()
        self._local: dict[str, Any] = {}
        self._object_types = _tracked_objects.ObjectTypes()
        self._devices = _device.DeviceQueue()
        self._has_lost = False
        # Values of devices that were lost before the last `flush`.
        self._flushed_failures = 0
        self._capture: terminal.StreamCapture | terminal.DescriptorCapture | None = None
        # Kinds of writes that were ignored with a warning, because the run is read-only.
        self._ignored: set[str] = set()
        if self._read_only:
            if run_hash is None:
                raise ValueError("`run_hash`: required for a read-only run")
            self._hash = run_hash
            if experiment:
                self._ignore("`experiment` is not set")
            return
        if parent is not None and not self._is_offline and not self._is_copy:
            _branches.check(self._backend_url, parent[0], run_hash)
        self._hash, warnings = self._open(
            run_hash,
            (self._backend_url, self._gateway_url),
            experiment or None,
            parent=parent,
            force_resume=force_resume,
            offline=self._is_offline,
            joins=self._is_copy,
            created_us=self._created_us,
            token=token,
        )
        for warning in [*SETTINGS.take_warnings(), *warnings]:
            _logger.warning("%s", warning)
            if not is_shown(logging.WARNING):
                self._announce(warning)
        self._report_notices(aloud=True)
        if experiment:
            self._local["experiment"] = experiment
        if log_system_params:
            self._log_system_params(**_system.script_facts())
        if _system.is_valid_interval(system_tracking_interval):
            self._track_system_metrics(system_tracking_interval)
        elif system_tracking_interval:
            warn_user(
                "`system_tracking_interval`: expected 0.1 to 86400 seconds, found "
                f"{system_tracking_interval!r}; the load of the machine is not tracked"
            )
        self._announce(f"run {self._hash} {self.url}")
        self._capture = terminal.capture(self, capture_terminal_logs)
        _lifecycle.opened(self)

    @property
    def repo(self) -> Repo:
        """The server that the run is read from."""
        return Run._open_repo(self._http.url)

    def __setitem__(self, key: Key, val: Any) -> None:
        """Sets params. Every value is accepted, see `matyan_client.values.plain`."""
        path = path_of(key)
        if path == ("",):
            raise ValueError("`key`: expected a name, found empty text")
        value = values.plain(val)
        if not path:
            if not isinstance(value, dict):
                raise TypeError(f"`val`: expected a dict, not {type(val).__name__}")
            self._delete(path)
        if path or value:
            if self._read_only:
                self._ignore("params are not stored")
            else:
                self._set_params(nested(path, value))
            self._params.set(path, value)
        self._report_notices()

    def __delitem__(self, key: Key) -> None:
        """Deletes params, also on the server, which must be reachable for it."""
        self._delete(path_of(key))

    def set(self, key: Key, val: Any, strict: bool = True) -> None:
        """Sets params, like `run[key] = val`. `strict` exists in Aim, and has no effect."""
        del strict
        self[key] = val

    def track_many(
        self,
        values: Any,
        steps: Any = None,
        *,
        name: str,
        context: dict[str, Any] | None = None,
        epochs: Any = None,
    ) -> None:
        """Tracks whole columns: values, and for each of them a step and an epoch if given.

        Columns are arrays or sequences of equal length.
        """
        _arguments.required_name("name", name)
        numbers = _arguments.column("values", values, "f8")
        if numbers is None:
            raise TypeError("`values`: expected numbers, not None")
        steps = _arguments.column("steps", steps, "i8")
        epochs = _arguments.column("epochs", epochs, "i8", is_rounded=True)
        self._track_columns((name, context, "float"), numbers, steps, epochs, None)
        self._report_notices()

    def _track_other(
        self, value: Any, name: str, step: int | None, epoch: int | None, context: Any
    ) -> None:
        if _tracked_objects.is_table(value):
            self._check_uploads()
        super()._track_other(value, name, step, epoch, context)
        self._report_notices()

    def define_metric(
        self,
        name: str,
        *,
        goal: str | None = None,
        summary: str | None = None,
        unit: str | None = None,
        format: str | None = None,  # noqa: A002 - the word for it
        step_metric: str | None = None,
    ) -> None:
        """Says what a metric means, for all runs of the project, whatever the context.

        `goal` is "lower" or "higher", or in other words "minimize" or "maximize". `summary` is the
        value that stands for a run: "last" or "best". `unit` is shown after values, and `format` is
        "percent" for fractions, "scientific" or "integer". `step_metric` is the name of another
        metric, which charts have as their x axis unless their reader chooses another one. Fields
        that are not given stay as they are. What people have set on the server counts more.
        """
        name = _arguments.required_name("name", name)
        fields = _metric_goals.definition(name, goal, summary, unit, format, step_metric)
        if self._read_only:
            self._ignore("metrics are not defined")
            return
        for key, value in fields.items():
            self[_metric_goals.GOALS_KEY, name, key] = value

    def report_progress(
        self,
        *,
        total_steps: SupportsIndex | None = None,
        expect_next_in: int = 0,
        block: bool = False,
    ) -> None:
        """Says how many steps the training has, so that its progress is shown.

        The progress is the highest step of a metric. The other arguments exist in Aim, and have no
        effect.
        """
        if total_steps is None:
            super().report_progress(expect_next_in=expect_next_in, block=block)
            return
        total = operator.index(total_steps)
        if not 0 < total < 2**63:
            raise ValueError(f"`total_steps`: expected a positive number of 64 bits, found {total}")
        self[_PROGRESS_KEY, "total_steps"] = total

    def add_tag(self, value: str) -> None:
        """Adds a tag, which is created if it does not exist."""
        value = _arguments.required_name("value", value)
        if self._read_only:
            self._ignore("tags are not changed")
        else:
            self._add_tag(value)

    def remove_tag(self, tag_name: str) -> None:
        """Removes a tag; a tag that the run does not have is ignored."""
        tag_name = _arguments.required_name("tag_name", tag_name)
        if self._read_only:
            self._ignore("tags are not changed")
        else:
            self._remove_tag(tag_name)

    def log_debug(self, msg: str, **kwargs: Any) -> None:
        """Stores a log record with level DEBUG. Keywords are stored as its arguments."""
        self._log(logging.DEBUG, msg, kwargs)

    def log_info(self, msg: str, **kwargs: Any) -> None:
        """Stores a log record with level INFO. Keywords are stored as its arguments."""
        self._log(logging.INFO, msg, kwargs)

    def log_warning(self, msg: str, **kwargs: Any) -> None:
        """Stores a log record with level WARNING. Keywords are stored as its arguments."""
        self._log(logging.WARNING, msg, kwargs)

    def log_error(self, msg: str, **kwargs: Any) -> None:
        """Stores a log record with level ERROR. Keywords are stored as its arguments."""
        self._log(logging.ERROR, msg, kwargs)

    def log_artifact(
        self, path: str | os.PathLike[str], name: str | None = None, *, block: bool = False
    ) -> None:
        """Stores a file under `name`, by default its own. It is read in the background.

        `block` waits as `flush` does, and logs a warning if the file is not stored by then.
        """
        file = _arguments.path("path", path)
        _arguments.check_text("name", name)
        block = _arguments.flag("block", block)
        self._check_uploads()
        if not file.is_file():
            hint = "; `log_artifacts` stores the files of a directory" if file.is_dir() else ""
            raise FileNotFoundError(f"`path`: no file {os.fspath(path)!r}{hint}")
        self._log_artifact(file.absolute(), _arguments.artifact_name(name or file.name))
        if block:
            self._flush_artifacts(path)

    def _log_opened_artifact(self, opened: BinaryIO, path: Path, name: str) -> None:
        """Stores a file that is open. Another file that takes its place is never read."""
        self._check_uploads()
        descriptor = opened.fileno()
        self._log_artifact(path.absolute(), _arguments.artifact_name(name), descriptor)

    def log_artifacts(
        self, path: str | os.PathLike[str], name: str | None = None, *, block: bool = False
    ) -> None:
        """Stores all files below a directory under their paths relative to it.

        `name` is a prefix of the paths. `block` waits as `flush` does, once for all files. A file
        that cannot be read costs none of the others: the first error is raised after them.
        """
        directory = _arguments.path("path", path)
        _arguments.check_text("name", name)
        block = _arguments.flag("block", block)
        self._check_uploads()
        if not directory.is_dir():
            raise NotADirectoryError(f"`path`: no directory {os.fspath(path)!r}")
        failures: list[Exception] = []
        for file in sorted(directory.rglob("*")):
            if file.is_file():
                relative = file.relative_to(directory).as_posix()
                try:
                    self.log_artifact(file, f"{name}/{relative}" if name else relative)
                except (OSError, ValueError) as error:
                    failures.append(error)
        if block:
            self._flush_artifacts(path)
        if failures:
            raise failures[0]

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until everything that this process has tracked is stored by the server.

        Returns False if that takes longer than `timeout` seconds, by default 30, whether or not a
        server can be reached; also if values were lost since the last call, because the spool was
        full, the server rejected them, or they could not be read from their device.
        """
        _arguments.check_seconds("timeout", timeout)
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"`timeout`: expected at least 0 seconds, found {timeout!r}")
        limit = _REACHABLE_LIMIT if timeout is None else timeout
        began = time.monotonic()
        is_complete = self._wait_for_devices(limit)
        if not is_complete:
            _logger.warning(
                "run %s: values that a device is still computing: %d",
                self._hash,
                len(self._devices),
            )
        failures = self._flushed_failures
        self._flushed_failures = self._devices.failed
        is_complete = is_complete and self._flushed_failures <= failures
        if self._capture is not None:
            self._capture.flush()
        is_stored = self._flush(max(0.0, limit - (time.monotonic() - began)), False)
        self._note_position()
        self._report_notices()
        return is_stored and is_complete

    def close(self) -> None:
        """Finishes the run as planned, and waits until everything is stored.

        The wait ends after 30 seconds, or after 3 while no server can be reached. Ctrl-C ends it as
        well, and raises `KeyboardInterrupt` when the run is closed. Data that is left stays in the
        spool until `matyan-client sync` or a later script of the same user sends it. Values that a
        device has not computed after 20 seconds are lost, and their number is printed.
        """
        self._end(_lifecycle.FINISHED)

    def _end(
        self,
        outcome: _lifecycle.Outcome | None,
        *,
        spent: float = 0.0,
        time_us: int | None = None,
        stays_active: bool = False,
        is_exit: bool = False,
    ) -> None:
        """Closes the run with an outcome if it is known, and waits until everything is stored.

        The limits are shorter by the seconds that are `spent`. The time is the time of the end of
        an imported run; the copy of a run that has not ended stays active. At the exit of a script,
        the run still accepts the records of later exit hooks and other threads.
        """
        if self._is_closed:
            return
        self._is_closed = not is_exit
        self._ended = time.time()
        _lifecycle.closed(self)
        if self._read_only:
            return
        began = time.monotonic()
        interruption: BaseException | None = None
        capture = self._capture
        self._capture = None
        try:
            if capture is not None:
                capture.stop()
            self._wait_for_devices(_DEVICES_LIMIT - spent)
        except BaseException as raised:  # noqa: BLE001 - raised again, by Ctrl-C for example
            # The run ends nevertheless, and the ending names the data that is left.
            interruption = raised
            spent = math.inf
        kind, error = (None, "") if outcome is None else outcome
        self._finish(kind, error, time_us, stays_active=stays_active, is_exit=is_exit)
        failed = self._devices.failed
        late = self._devices.abandon()
        spent += time.monotonic() - began
        reachable = max(0.0, _REACHABLE_LIMIT - spent)
        unreachable = max(0.0, _UNREACHABLE_LIMIT - spent)
        bar = _console.ProgressBar(quiet=SETTINGS.quiet or self._is_copy)
        wait = _console.StoredWait(bar.update, lambda: _console.uploads_of(self._hash))
        update = wait.update if is_exit else bar.update
        numbers, spool, ended_by = self._close(reachable, unreachable, update)
        interruption = interruption or ended_by
        bar.clear()
        self._note_position()
        self._report_notices()
        # Values, files, or both may be left.
        self._is_stored = spool is None
        waited = time.monotonic() - began
        reason = self.health.last_error or self._reason(interruption, wait.is_enough, waited)
        is_known = not self._has_token or SETTINGS.is_server(self._gateway_url)
        ending = _console.ending(
            self._hash,
            numbers,
            spool,
            reason,
            (late, failed),
            server=None if is_known else self._backend_url,
        )
        if ending:
            self._announce(ending)
        if interruption is not None:
            raise interruption

    def _reason(self, interruption: BaseException | None, is_enough: bool, waited: float) -> str:
        """Returns why data is left although the server can be reached."""
        if self._is_offline:
            return "the run is offline"
        if interruption is not None:
            return f"the wait was ended by {type(interruption).__name__}"
        if is_enough:
            return "it was recorded after the end of the script"
        return f"the wait ended after {_console.counted(round(waited), 'second')}"

    def _announce(self, line: str) -> None:
        if not SETTINGS.quiet and not self._is_copy:
            _console.say(f"matyan: {line}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(_lifecycle.outcome_of(error))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Run):
            return NotImplemented
        return (self._hash, self._backend_url) == (other._hash, other._backend_url)

    def __hash__(self) -> int:
        return hash((self._hash, self._backend_url))

    def __repr__(self) -> str:
        # The experiment of a stored run is only known to the server.
        known = "" if self._read_only else f", experiment={self._local.get('experiment')!r}"
        return f"Run(hash={self._hash!r}{known})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The copy continues the same run in its process.
        urls = self._backend_url, self._gateway_url
        return _restored, (self._hash, *urls, self._read_only, self._is_offline)

    def _delete(self, path: tuple[str, ...]) -> None:
        self._check_writable("delete params of")
        # The server may only delete params that were written before.
        self._wait_for_own_writes()
        self._http.delete_params(self._hash, [list(path)])
        self._params.delete(path)

    def _wait_for_own_writes(self) -> None:
        if not self._read_only and not self._is_closed and not self._http.is_silent:
            began = time.monotonic()
            # A device that is far behind leaves half of the time to the server.
            self._wait_for_devices(_OWN_WRITES_LIMIT / 2)
            # Without a server there is nothing to wait for, and the read reports that.
            self._flush(_OWN_WRITES_LIMIT - (time.monotonic() - began), True)
            self._note_position()

    def _note_position(self) -> None:
        """Makes this process see its own stored writes."""
        position = self._last_position()
        if position is not None:
            HttpTransport.include(self._backend_url, self._hash, position)

    def _attend(self) -> None:
        """Stores device values that have arrived, and reports notices; the core asks for it."""
        self._drain_devices()
        self._report_notices()
        if self._devices:
            self._request_attention()

    def _flush_artifacts(self, path: str | os.PathLike[str]) -> None:
        is_stored = self._flush(_REACHABLE_LIMIT, False)
        self._note_position()
        self._report_notices()
        if not is_stored:
            _logger.warning("run %s: %r is not stored yet", self._hash, os.fspath(path))

    def _log(self, level: int, message: str, arguments: dict[str, Any]) -> None:
        # The caller of `log_info` and its like.
        caller = sys._getframe(2)  # noqa: SLF001 - `inspect` would slow down the import
        location = (caller.f_code.co_filename, caller.f_lineno)
        self._append_log_record(level, str(message), time.time(), location, arguments)

    def _append_log_record(
        self,
        level: int,
        message: str,
        timestamp: float,
        location: tuple[str, int] | None,
        extra: dict[str, Any],
    ) -> None:
        if self._is_closed:
            return
        if self._read_only:
            self._ignore("log records are not stored")
        else:
            self._log_record(level, message, timestamp, location, extra or None)

    def _append_terminal_line(self, line: str, number: int) -> None:
        self._terminal_line(line, number)

    def _report_notices(self, *, aloud: bool = False) -> None:
        notices = self._notices()
        # A script without logging learns of the first loss, and of each outage.
        is_first_loss = bool(notices) and not self._has_lost and self.health.dropped > 0
        self._has_lost = self._has_lost or is_first_loss
        for level, message in notices:
            _logger.log(level, "run %s: %s", self._hash, message)
            is_aloud = aloud or is_first_loss or message.startswith(_core.OUTAGE_NOTICE)
            if is_aloud and not is_shown(level):
                self._announce(message)


def _restored(run_hash: str, repo: str, frontier_url: str, read_only: bool, offline: bool) -> Run:
    """Returns the copy of a run in another process, for `pickle`."""
    copy = Run.__new__(Run)
    copy._is_copy = True  # noqa: SLF001 - same module
    copy.__init__(  # type: ignore[misc]
        run_hash,
        repo=repo,
        frontier_url=frontier_url,
        read_only=read_only,
        offline=offline,
        capture_terminal_logs=False,
    )
    return copy
