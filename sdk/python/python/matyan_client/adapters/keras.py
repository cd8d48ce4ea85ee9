"""Callback of Keras: metrics of each epoch and the learning rate."""

from __future__ import annotations

from ._base import RunOptions
from ._keras import KerasEpochAdapter
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL

try:
    from keras.callbacks import Callback
except ImportError as error:
    raise RuntimeError("keras is not installed; run `pip install keras`") from error

__all__ = ["AimCallback", "MatyanCallback"]


class MatyanCallback(KerasEpochAdapter, Callback):
    """Callback for `model.fit(callbacks=[...])`.

    Logs with the prefix `val_` get the context `{"subset": "val"}`, all others
    `{"subset": "train"}`. The run is created by the constructor.
    """

    def __init__(
        self,
        repo: str | None = None,
        experiment: str | None = None,
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
    ) -> None:
        super().__init__()
        self._init_run(
            RunOptions(
                repo, experiment, system_tracking_interval, log_system_params, capture_terminal_logs
            )
        )
        self._open_run()


AimCallback = MatyanCallback
