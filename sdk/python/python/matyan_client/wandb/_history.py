"""Rows of values with the steps that W&B gives them.

Values are tracked at once instead of when their row is complete: a later value for the same name
and step replaces an earlier one, so that the result is the same, and nothing is lost if the
process is killed. Only the summary waits for complete rows.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from matyan_client import Run
from matyan_client.adapters._utils import whole_epoch

from ._metrics import Metric, MetricTable
from ._notices import warn_once
from ._summary import SummaryStore
from ._target import Moment, Staging, flattened
from ._values import log_value


class History:
    """Rows of one run."""

    def __init__(
        self, run: Run, staging: Staging, metrics: MetricTable, summary: SummaryStore
    ) -> None:
        self._run = run
        self._staging = staging
        self._metrics = metrics
        self._summary = summary
        self._lock = threading.RLock()
        self._row: dict[tuple[str, ...], Any] = {}
        self._is_open = False
        # Last values of metrics that other metrics have as their steps.
        self._step_values: dict[str, Any] = {}
        self.step = 0
        # Names of metrics that were logged, and the goals that the server was sent.
        self._names: set[str] = set()
        self._goals: dict[str, dict[str, str]] = {}
        # Without it, the server numbers the points of each series: a resumed run whose last step
        # could not be read.
        self.knows_steps = True

    def log(self, data: Mapping[str, Any], step: int | None, commit: bool | None) -> None:
        """Adds values to the current row, and completes it as W&B does."""
        with self._lock:
            if step is not None and not self._move_to(step):
                return
            self._add(flattened(data))
            if commit or (commit is None and step is None):
                self._complete()
                self.step += 1

    def define(self, metric: Metric) -> None:
        """Tells the server the goal of a metric, or of the logged metrics that a prefix matches."""
        with self._lock:
            names = self._names if metric.name.endswith("*") else {metric.name}
            for name in sorted(names):
                self._define_goal(name)

    def complete(self) -> None:
        """Completes an open row, at the end of the run."""
        with self._lock:
            if self._is_open:
                self._complete()

    def moment(self, epoch: int | None = None) -> Moment:
        """Returns the current step of the run."""
        return Moment(self._run, self._staging, self.step if self.knows_steps else None, epoch)

    def after_fork(self) -> None:
        """Replaces the locks in a forked child."""
        self._lock = threading.RLock()
        self._staging.after_fork()

    def _move_to(self, step: int) -> bool:
        """Makes `step` the current row. Returns False if it is over."""
        if step < self.step:
            warn_once(
                f"wandb.log: the step {step} is less than the current step {self.step}, so its "
                "values are ignored; use define_metric(..., step_metric=...) for an axis that "
                "does not grow",
                key="step",
            )
            return False
        if step > self.step:
            self.complete()
            self.step = step
        return True

    def _add(self, values: dict[tuple[str, ...], Any]) -> None:
        self._is_open = True
        if ("epoch",) in values:
            self._step_values["epoch"] = values[("epoch",)]
        # Points carry an epoch besides their step, which scripts call `epoch`.
        epoch = values.get(("epoch",), self._row.get(("epoch",)))
        moment = self.moment(whole_epoch(epoch) if isinstance(epoch, (int, float)) else None)
        for path, value in values.items():
            self._add_value(moment, path, value)

    def _add_value(self, moment: Moment, path: tuple[str, ...], value: Any) -> None:
        name = ".".join(path)
        try:
            shown = log_value(moment, name, value)
        except Exception as error:  # noqa: BLE001 - one value must not cost the others
            warn_once(f"wandb.log: failed to store {name!r}; training continues", error)
            return
        if shown is not None:
            self._row[path] = shown
        if name not in self._names:
            self._names.add(name)
            self._define_goal(name)

    def _define_goal(self, name: str) -> None:
        metric = self._metrics.find(name)
        fields = {} if metric is None else metric.goal_fields(name)
        if fields and self._goals.get(name) != fields:
            self._goals[name] = fields
            self._run.define_metric(name, **fields)

    def _complete(self) -> None:
        self._add_step_metrics()
        self._summary.add_row(self._row, self.step)
        self._row = {}
        self._is_open = False

    def _add_step_metrics(self) -> None:
        """Repeats the last values of the metrics that metrics of this row have as their step."""
        for path, value in self._row.items():
            self._step_values[".".join(path)] = value
        absent: dict[tuple[str, ...], Any] = {}
        for path in self._row:
            metric = self._metrics.find(".".join(path))
            if metric is None or metric.step_metric is None or not metric.step_sync:
                continue
            step_path = tuple(metric.step_metric.split("."))
            if step_path not in self._row and metric.step_metric in self._step_values:
                absent[step_path] = self._step_values[metric.step_metric]
        if absent:
            self._add(absent)
