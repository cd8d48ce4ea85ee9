"""Callback of Keras: metrics of each epoch and the learning rate."""

from __future__ import annotations

from ._keras import KerasEpochAdapter

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


AimCallback = MatyanCallback
