"""Common part of all adapters: one run that is created on demand, resumed, and closed.

An adapter derives from `RunAdapter` and from the class of its framework, calls `_init_run` in its
constructor, and reports through `_track` and `_set_params`, which never raise.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matyan_client import Run, _forks

from ._exception_resistant import FailureCounter, guarded
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL, whole_epoch


@dataclass(frozen=True)
class RunOptions:
    """Arguments of `Run` that every adapter takes in its constructor."""

    repo: str | None = None
    experiment: str | None = None
    system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL
    log_system_params: bool = True
    capture_terminal_logs: bool = True


class RunSession:
    """Run of an adapter that can be opened and closed any number of times.

    Frameworks copy and pickle their callbacks. A copy holds no live run, only the hash: it
    continues the same run on first use.
    """

    def __init__(self, options: RunOptions, run_hash: str | None = None) -> None:
        self.options = options
        self.run_hash = run_hash
        self.run: Run | None = None
        self._lock = threading.RLock()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Replaces the lock in a forked child."""
        self._lock = threading.RLock()

    def open(self) -> Run:
        with self._lock:
            if self.run is None:
                self.run = self._resume(self.run_hash) if self.run_hash else self._create()
                self.run_hash = self.run.hash
            return self.run

    def close(self) -> None:
        with self._lock:
            run = self.run
            self.run = None
        # The lock is released first, because closing waits until the data is stored.
        if run is not None:
            run.close()

    def _create(self) -> Run:
        return Run(
            repo=self.options.repo,
            experiment=self.options.experiment,
            system_tracking_interval=self.options.system_tracking_interval,
            log_system_params=self.options.log_system_params,
            capture_terminal_logs=self.options.capture_terminal_logs,
        )

    def _resume(self, run_hash: str) -> Run:
        return Run(
            run_hash,
            repo=self.options.repo,
            force_resume=True,
            system_tracking_interval=self.options.system_tracking_interval,
            capture_terminal_logs=self.options.capture_terminal_logs,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self.options, "run_hash": self.run_hash}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class RunAdapter:
    """Base of the adapters.

    A deleted adapter drops its run, which closes the run unless the script still holds it. There
    is no `__del__`: closing waits for the server, and finalizers run at arbitrary moments.
    """

    _session: RunSession
    _failures: FailureCounter

    def _init_run(self, options: RunOptions, run_hash: str | None = None) -> None:
        self._session = RunSession(options, run_hash)
        self._failures = FailureCounter()

    @property
    def experiment(self) -> Run:
        """The run; it is created, or resumed after `close()`, when it is first needed."""
        return self._current_session().open()

    @property
    def tracking_failures(self) -> int:
        """Number of values and hooks that could not be tracked."""
        return self._failures.count

    def setup(self, args: Any = None) -> None:
        """Opens the run and records `args` as params."""
        self._open_run()
        if args:
            self._set_params(args)

    @guarded
    def close(self) -> None:
        """Closes the run; the next use resumes it."""
        self._current_session().close()

    def _current_session(self) -> RunSession:
        """The session that the next value belongs to."""
        return self._session

    @guarded
    def _open_run(self) -> None:
        self._current_session().open()

    def _track(
        self,
        value: Any,
        name: str,
        *,
        step: int | None = None,
        epoch: Any = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            self._current_session().open().track(
                value,
                name=name,
                step=step,
                epoch=whole_epoch(epoch),
                context=dict(context) if context else None,
            )
        except Exception as error:
            self._failures.record(f"track {name!r}", error)

    def _set_params(self, params: Mapping[Any, Any], prefix: str = "") -> None:
        """Sets each entry as its own param, so that a bad value costs no other value."""
        for key, value in params.items():
            self._set_param(f"{prefix}{key}" if prefix else key, value)

    def _set_param(self, key: Any, value: Any) -> None:
        try:
            self._current_session().open()[key] = value
        except Exception as error:
            self._failures.record(f"set the param {key!r}", error)


class CallbackAdapter(RunAdapter):
    """Base of the adapters that have no arguments but the arguments of the run."""

    def __init__(
        self,
        repo: str | None = None,
        experiment: str | None = None,
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
    ) -> None:
        # The class of the framework.
        super().__init__()
        self._init_run(
            RunOptions(
                repo, experiment, system_tracking_interval, log_system_params, capture_terminal_logs
            )
        )


class NamedCallbackAdapter(CallbackAdapter):
    """Base of callbacks whose argument for the experiment is `experiment_name`."""

    def __init__(
        self,
        repo: str | None = None,
        experiment_name: str | None = None,
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
    ) -> None:
        super().__init__(
            repo,
            experiment_name,
            system_tracking_interval,
            log_system_params,
            capture_terminal_logs,
        )
