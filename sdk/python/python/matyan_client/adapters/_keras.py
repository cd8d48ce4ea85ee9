"""Epoch metrics of Keras, shared by the adapters of Keras and TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import CallbackAdapter, RunOptions
from ._exception_resistant import guarded
from ._utils import is_number

VALIDATION_PREFIX = "val_"


class KerasEpochAdapter(CallbackAdapter):
    """Base that tracks the logs of an epoch and the learning rate."""

    model: Any

    def _init_run(self, options: RunOptions, run_hash: str | None = None) -> None:
        super()._init_run(options, run_hash)
        # The run exists from the constructor on.
        self._open_run()

    @guarded
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not logs:
            return
        for key, value in logs.items():
            if key.startswith(VALIDATION_PREFIX):
                name = key[len(VALIDATION_PREFIX) :]
                subset = "val"
            else:
                name = key
                subset = "train"
            self._track(value, name, epoch=epoch, context={"subset": subset})
        rate = learning_rate(getattr(self.model, "optimizer", None))
        if rate is not None:
            self._track(rate, "lr", epoch=epoch, context={"subset": "train"})


def learning_rate(optimizer: Any) -> float | None:
    """Returns the current learning rate, with a schedule evaluated at the optimizer's step."""
    # Keras 2 names it `lr`; Keras 3 has `learning_rate` only.
    rate = getattr(optimizer, "learning_rate", None)
    if rate is None:
        rate = getattr(optimizer, "lr", None)
    if callable(rate):
        rate = rate(optimizer.iterations)
    if rate is None or not is_number(rate):
        return None
    return float(rate)
