"""Callback of fastai."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from ._base import NamedCallbackAdapter
from ._exception_resistant import guarded
from ._utils import with_objects_as_text

try:
    from fastai.callback.hook import total_params
    from fastai.learner import Callback
    from fastcore.basics import detuplify
except ImportError as error:
    raise RuntimeError("fastai is not installed; run `pip install fastai`") from error

__all__ = ["AimCallback", "MatyanCallback"]

# Entries of the recorder that are no metrics of the epoch, or are tracked for each batch.
UNTRACKED = ("epoch", "time", "train_loss")


class MatyanCallback(NamedCallbackAdapter, Callback):
    """Callback for `Learner(cbs=[...])`.

    Each batch tracks the loss as `train_loss` and the hyperparameters of the optimizer as
    `<name>_<group>`, with the context `{"subset": "train"}` or `{"subset": "val"}`; each epoch
    tracks the metrics of the recorder.
    """

    @guarded
    def before_fit(self) -> None:
        if self._is_fitting() and self._session.run is None:
            self.setup(self._configuration())

    @guarded
    def after_batch(self) -> None:
        if not self._is_fitting():
            return
        context = {"subset": "train" if self.training else "val"}
        step = self.train_iter
        # The tensor is passed on, because `loss.item()` would wait for the device.
        self._track(self.loss.detach(), "train_loss", step=step, context=context)
        for group, hypers in enumerate(self.opt.hypers):
            for name, value in hypers.items():
                self._track(value, f"{name}_{group}", step=step, context=context)

    @guarded
    def after_epoch(self) -> None:
        if not self._is_fitting():
            return
        recorder = self.learn.recorder
        for name, value in zip(recorder.metric_names, recorder.log, strict=False):
            if name not in UNTRACKED and value is not None:
                self._track(value, name)

    def _is_fitting(self) -> bool:
        """False during `lr_find` and `get_preds`, which run the same hooks."""
        return not hasattr(self.learn, "lr_finder") and not hasattr(self.learn, "gather_preds")

    def _configuration(self) -> dict[Any, Any]:
        configuration: dict[Any, Any] = {"Learner": _arguments(self.learn)}
        for callback in self.learn.cbs:
            if callback is not self:
                stored = getattr(callback, "__stored_args__", True)
                configuration[str(callback)] = _arguments(stored)
        self._add_input_shape(configuration)
        data = self.dls
        entries: dict[Any, Callable[[], Any]] = {
            "batch_size": lambda: data.bs,
            "batch_per_epoch": lambda: len(data.train),
            "model_parameters": lambda: total_params(self.learn.model)[0],
            "device": lambda: data.device.type,
            "frozen": lambda: bool(self.opt.frozen_idx),
            "frozen_idx": lambda: self.opt.frozen_idx,
            ("dataset", "tfms"): lambda: str(data.dataset.tfms),
            ("dls", "after_item"): lambda: str(data.after_item),
            ("dls", "before_batch"): lambda: str(data.before_batch),
            ("dls", "after_batch"): lambda: str(data.after_batch),
        }
        for key, read in entries.items():
            # Data that was not made by the data block API lacks some of these.
            with contextlib.suppress(Exception):
                configuration[key] = read()
        return configuration

    def _add_input_shape(self, configuration: dict[Any, Any]) -> None:
        with contextlib.suppress(Exception):
            count = self.dls.train.n_inp
            configuration["n_inp"] = count
            for index, item in enumerate(self.dls.valid.one_batch()[:count], start=1):
                for dimension, size in enumerate(detuplify(item).shape, start=1):
                    configuration[f"input {index} dim {dimension}"] = size


def _arguments(value: Any) -> Any:
    """Returns plain values of the arguments of an object's constructor that fastai stored."""
    if isinstance(value, dict):
        return {name: _arguments(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_arguments(item) for item in value]
    stored = getattr(value, "__stored_args__", None)
    if stored is None:
        return with_objects_as_text(value)
    return {**_arguments(stored), "_name": str(value)}


AimCallback = MatyanCallback
