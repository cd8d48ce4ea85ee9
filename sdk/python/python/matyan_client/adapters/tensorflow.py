"""Callback of TensorFlow: metrics of each epoch and the learning rate."""

from __future__ import annotations

from ._keras import KerasEpochAdapter

try:
    from tensorflow.keras.callbacks import Callback
except ImportError:
    # Keras 3 runs without TensorFlow, and its callbacks are the same.
    try:
        from keras.callbacks import Callback
    except ImportError as error:
        message = "tensorflow is not installed; run `pip install tensorflow`"
        raise RuntimeError(message) from error

__all__ = ["AimCallback", "MatyanCallback"]


class MatyanCallback(KerasEpochAdapter, Callback):
    """Callback for `model.fit(callbacks=[...])`.

    Logs with the prefix `val_` get the context `{"subset": "val"}`, all others
    `{"subset": "train"}`. The run is created by the constructor.
    """


AimCallback = MatyanCallback
