"""Callback of PaddlePaddle's high-level API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import NamedCallbackAdapter
from ._exception_resistant import guarded
from ._utils import with_objects_as_text

try:
    from paddle.callbacks import Callback
except ImportError as error:
    raise RuntimeError("paddlepaddle is not installed; run `pip install paddlepaddle`") from error

__all__ = ["AimCallback", "MatyanCallback"]


class MatyanCallback(NamedCallbackAdapter, Callback):
    """Callback for `model.fit(callbacks=[...])`.

    The logs of each training batch have the context `{"subset": "train"}` and the batch as step,
    the logs of an evaluation `{"subset": "valid"}`. An entry with several values is tracked as
    `<name>_<index>`.
    """

    epoch = 0

    @guarded
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self.setup(with_objects_as_text(self.params))

    def on_epoch_begin(
        self, epoch: int | None = None, logs: Mapping[str, Any] | None = None
    ) -> None:
        self.epoch = epoch or 0

    @guarded
    def on_train_batch_end(self, step: int, logs: Mapping[str, Any] | None = None) -> None:
        self._track_logs(logs or {}, "train", step)

    @guarded
    def on_eval_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._track_logs(logs or {}, "valid", None)

    def _track_logs(self, logs: Mapping[str, Any], subset: str, step: int | None) -> None:
        context = {"subset": subset}
        for key, value in logs.items():
            values = value if isinstance(value, (list, tuple)) else [value]
            for index, item in enumerate(values):
                name = key if len(values) == 1 else f"{key}_{index}"
                self._track(item, name, step=step, epoch=self.epoch, context=context)


AimCallback = MatyanCallback
