"""Logging handler of the Gluon estimator of Apache MXNet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ._base import RunAdapter, RunOptions
from ._exception_resistant import guarded
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL

try:
    from mxnet.gluon.contrib.estimator import (
        BatchBegin,
        BatchEnd,
        EpochBegin,
        EpochEnd,
        TrainBegin,
        TrainEnd,
    )
except ImportError as error:
    raise RuntimeError("mxnet is not installed; run `pip install mxnet`") from error

__all__ = ["AimLoggingHandler", "MatyanLoggingHandler"]


class MatyanLoggingHandler(
    RunAdapter, TrainBegin, TrainEnd, EpochBegin, EpochEnd, BatchBegin, BatchEnd
):
    """Event handler for `estimator.fit(event_handlers=[...])`.

    Tracks the metrics at the end of each epoch and, if `log_interval` is a number, also after each
    batch whose index is a multiple of it. The step is the index of the batch within its epoch. The
    name `training accuracy` of a metric is tracked as `accuracy` with the context
    `{"subset": "training"}`.
    """

    def __init__(
        self,
        log_interval: int | str = "epoch",
        repo: str | None = None,
        experiment_name: str | None = None,
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
        metrics: Any = None,
        priority: float = math.inf,
    ) -> None:
        super().__init__()
        if log_interval != "epoch" and not isinstance(log_interval, int):
            raise ValueError("log_interval must be an integer or 'epoch'")
        self.log_interval = log_interval
        self.metrics: Sequence[Any] = _as_list(metrics)
        self.priority = priority
        self.batch_index = 0
        self.current_epoch = 0
        self._init_run(
            RunOptions(
                repo,
                experiment_name,
                system_tracking_interval,
                log_system_params,
                capture_terminal_logs,
            )
        )

    @guarded
    def train_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        self.batch_index = 0
        self.current_epoch = 0
        trainer = estimator.trainer
        self.setup(
            {
                "arch": estimator.net.name,
                "loss": estimator.loss.name,
                "optimizer": type(trainer.optimizer).__name__,
                "lr": trainer.learning_rate,
                "max_epoch": estimator.max_epoch,
                "max_batch": estimator.max_batch,
            },
        )

    def train_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Leaves the run open for a further call of `fit`."""

    def epoch_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Does nothing, because metrics are tracked at the end of an epoch."""

    def epoch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        self._track_metrics()
        self.current_epoch += 1
        self.batch_index = 0

    def batch_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        """Does nothing, because metrics are tracked at the end of a batch."""

    def batch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(self.log_interval, int) and self.batch_index % self.log_interval == 0:
            self._track_metrics()
        self.batch_index += 1

    @guarded
    def _track_metrics(self) -> None:
        for metric in self.metrics:
            names, values = metric.get()
            # A composite metric has several names and values.
            for name, value in zip(_as_list(names), _as_list(values), strict=True):
                subset, blank, short = name.partition(" ")
                context = {"subset": subset} if blank else None
                self._track(value, short or name, step=self.batch_index, context=context)


def _as_list(value: Any) -> Sequence[Any]:
    if value is None:
        return []
    return value if isinstance(value, (list, tuple)) else [value]


AimLoggingHandler = MatyanLoggingHandler
