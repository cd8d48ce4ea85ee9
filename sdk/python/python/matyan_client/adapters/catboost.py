"""Logger of CatBoost, which reads the metrics from the text of the training log."""

from __future__ import annotations

import re
from sys import stdout
from typing import IO

from ._base import RunAdapter, RunOptions
from ._exception_resistant import guarded
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL, is_number

__all__ = ["AimLogger", "MatyanLogger"]

# For example `12:  learn: 0.61  test: 0.63  best: 0.63 (11)  total: 40ms  remaining: 2ms`.
ITERATION = re.compile(r"(\d+):\s")
VALUE = re.compile(r"(?<!\S)(learn|test|best):\s+(\S+)")
# For example `bestTest = 0.63`.
PARAM = re.compile(r"(\S+)\s+=\s+(\S+)")


class MatyanLogger(RunAdapter):
    """Logger for `model.fit(..., log_cout=MatyanLogger(...))`.

    The metric is named by `loss_function`, its step is the iteration, and its context says whether
    the value belongs to the training data or the test data, or is the best so far. All output of
    CatBoost is passed on to `log_cout`.
    """

    def __init__(
        self,
        loss_function: str = "Loss",
        repo: str | None = None,
        experiment: str | None = None,
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
        log_cout: IO[str] | None = stdout,
    ) -> None:
        self._loss_function = loss_function
        self._log_cout = log_cout
        self._init_run(
            RunOptions(
                repo, experiment, system_tracking_interval, log_system_params, capture_terminal_logs
            )
        )

    def write(self, log: str) -> None:
        self._open_run()
        for line in log.splitlines():
            self._track_line(line.strip())
        self._echo(log)

    @guarded
    def flush(self) -> None:
        if self._log_cout is not None:
            self._log_cout.flush()

    @guarded
    def _track_line(self, line: str) -> None:
        if param := PARAM.fullmatch(line):
            key, value = param.groups()
            self._set_param(key, float(value) if is_number(value) else value)
        elif iteration := ITERATION.match(line):
            for kind, value in VALUE.findall(line):
                self._track(
                    float(value),
                    self._loss_function,
                    step=int(iteration[1]),
                    context={"log": kind},
                )

    @guarded
    def _echo(self, log: str) -> None:
        if self._log_cout is not None:
            self._log_cout.write(log)


AimLogger = MatyanLogger
