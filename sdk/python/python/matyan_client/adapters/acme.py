"""Callback and writer of DeepMind Acme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._base import RunAdapter, RunOptions
from ._exception_resistant import FailureCounter, guarded
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL

try:
    from acme.utils.loggers.base import Logger
except ImportError as error:
    raise RuntimeError("dm-acme is not installed; run `pip install dm-acme`") from error

if TYPE_CHECKING:
    from matyan_client import Run

__all__ = ["AimCallback", "AimWriter", "MatyanCallback", "MatyanWriter"]


class MatyanCallback(RunAdapter):
    """Owner of the run of an experiment; `args` become its params."""

    def __init__(
        self,
        repo: str | None = None,
        experiment_name: str | None = None,
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
        args: Mapping[str, Any] | None = None,
    ) -> None:
        self._init_run(
            RunOptions(
                repo,
                experiment_name,
                system_tracking_interval,
                log_system_params,
                capture_terminal_logs,
            )
        )
        self.setup(args)

    @guarded
    def track(
        self,
        logs: Mapping[str, Any],
        step: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in logs.items():
            self._track(value, name, step=step, context=context)


class MatyanWriter(Logger):
    """Acme logger that tracks each entry with the context `{"logger_label": label}`."""

    def __init__(self, matyan_run: Run, logger_label: str, steps_key: str, task_id: int) -> None:
        self.matyan_run = matyan_run
        self.logger_label = logger_label
        self.steps_key = steps_key
        self.task_id = task_id
        self._failures = FailureCounter()

    @guarded
    def write(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._track(value, name)

    @guarded
    def close(self) -> None:
        self.matyan_run.close()

    @guarded
    def _track(self, value: Any, name: str) -> None:
        self.matyan_run.track(value, name=name, context={"logger_label": self.logger_label})


AimCallback = MatyanCallback
AimWriter = MatyanWriter
