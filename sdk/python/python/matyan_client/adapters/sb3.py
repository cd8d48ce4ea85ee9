"""Callback and output format of Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import RunAdapter, RunOptions
from ._exception_resistant import guarded
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL

try:
    import numpy as np
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.logger import KVWriter
except ImportError as error:
    message = "stable-baselines3 is not installed; run `pip install stable-baselines3`"
    raise RuntimeError(message) from error

__all__ = ["AimCallback", "AimOutputFormat", "MatyanCallback", "MatyanOutputFormat"]

SUBSETS = ("train", "valid")
# Names of this format in `logger.record(key, value, exclude=...)`.
FORMAT_NAMES = frozenset({"aim", "matyan"})


class MatyanOutputFormat(KVWriter):
    """Writer that tracks the numbers of a Stable-Baselines3 logger.

    The key `a/b` is tracked as `b`, with the context `{"subset": a}` for `train` and `valid`, and
    `{"tag": a}` otherwise. A key without a slash has no context.
    """

    def __init__(self, matyan_callback: MatyanCallback) -> None:
        self.matyan_callback = matyan_callback

    def write(
        self,
        key_values: Mapping[str, Any],
        key_excluded: Mapping[str, tuple[str, ...] | str | None],
        step: int = 0,
    ) -> None:
        for key, value in sorted(key_values.items()):
            excluded = key_excluded.get(key) or ()
            names = {excluded} if isinstance(excluded, str) else set(excluded)
            is_scalar = isinstance(value, np.ScalarType) and not isinstance(value, (str, bytes))
            if is_scalar and not names & FORMAT_NAMES:
                self._write_scalar(key, value, step)

    def _write_scalar(self, key: str, value: Any, step: int) -> None:
        tag, slash, name = key.partition("/")
        if not slash:
            self.matyan_callback.track_scalar(value, key, step, {})
        else:
            context = {"subset" if tag in SUBSETS else "tag": tag}
            self.matyan_callback.track_scalar(value, name, step, context)

    def close(self) -> None:
        """Leaves the run open, because it belongs to the callback."""


class MatyanCallback(RunAdapter, BaseCallback):
    """Callback for `model.learn(callback=...)`.

    The attributes of the model become params. The records of the model's logger are tracked, in
    addition to the existing outputs of the logger.
    """

    def __init__(
        self,
        repo: str | None = None,
        experiment_name: str | None = None,
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
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
    def _init_callback(self) -> None:
        params: dict[str, Any] = {"algo": type(self.model).__name__}
        for name, value in vars(self.model).items():
            params[name] = value if isinstance(value, (bool, int, float, str)) else str(value)
        self.setup(params)
        outputs = self.model.logger.output_formats
        # Each call of `learn` may bring a new logger, or keep the logger that was extended before.
        outputs[:] = [output for output in outputs if not isinstance(output, MatyanOutputFormat)]
        outputs.append(MatyanOutputFormat(self))

    def _on_step(self) -> bool:
        return True

    def track_scalar(self, value: Any, name: str, step: int, context: Mapping[str, str]) -> None:
        self._track(value, name, step=step, context=context)


AimCallback = MatyanCallback
AimOutputFormat = MatyanOutputFormat
