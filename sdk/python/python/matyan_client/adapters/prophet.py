"""Logger of Prophet, which has no callbacks: the model's attributes and metrics of the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import RunAdapter, RunOptions
from ._exception_resistant import guarded
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL, with_objects_as_text

__all__ = ["AimLogger", "MatyanLogger"]


class MatyanLogger(RunAdapter):
    """Logger of one model; the attributes of the model become params."""

    def __init__(
        self,
        prophet_model: Any,
        repo: str | None = None,
        experiment: str | None = None,
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
    ) -> None:
        self._init_run(
            RunOptions(
                repo, experiment, system_tracking_interval, log_system_params, capture_terminal_logs
            )
        )
        self.setup(self._attributes(prophet_model))

    @guarded
    def _attributes(self, model: Any) -> Mapping[str, Any]:
        return {name: with_objects_as_text(value) for name, value in vars(model).items()}

    @guarded
    def track_metrics(
        self, metrics: Mapping[str, float], context: Mapping[str, Any] | None = None
    ) -> None:
        """Tracks metrics of a validation, by default with the context `{"subset": "val"}`."""
        for name, value in metrics.items():
            self._track(value, name, context={"subset": "val"} if context is None else context)


AimLogger = MatyanLogger
