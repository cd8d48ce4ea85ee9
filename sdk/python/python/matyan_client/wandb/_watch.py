"""Distributions of the gradients and parameters of watched PyTorch models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from matyan_client import Distribution
from matyan_client.adapters import pytorch

from ._notices import warn_once

if TYPE_CHECKING:
    from ._target import Moment


class Watch:
    """Hooks in models, with the names and contexts of `matyan_client.pytorch`.

    Every `log_freq` batches, a layer's gradients are recorded when they are computed, and its
    parameters before the model's next call.
    """

    def __init__(self, moment: Callable[[], Moment], log_freq: int) -> None:
        self._moment = moment
        self._log_freq = max(1, int(log_freq))
        self._handles: list[tuple[Any, Any]] = []

    def add(self, model: Any, log: str | None) -> None:
        """Starts to watch a model."""
        if log in ("gradients", "all"):
            for name, layer in pytorch._leaf_layers(model):  # noqa: SLF001 - same package
                for parameter, label in pytorch.PARAMETERS.items():
                    tensor = getattr(layer, parameter, None)
                    if tensor is not None and tensor.requires_grad:
                        context = {"type": "gradients", "params": label}
                        hook = self._gradient_hook(name, context)
                        self._handles.append((model, tensor.register_hook(hook)))
        if log in ("parameters", "all"):
            handle = model.register_forward_pre_hook(self._parameter_hook())
            self._handles.append((model, handle))

    def remove(self, model: Any | None) -> None:
        """Ends to watch a model, or all of them."""
        for watched, handle in self._handles:
            if model is None or watched is model:
                handle.remove()
        if model is None:
            self._handles = []
        else:
            self._handles = [pair for pair in self._handles if pair[0] is not model]

    def _gradient_hook(self, name: str, context: dict[str, str]) -> Callable[[Any], None]:
        is_due = self._counter()

        def hook(gradient: Any) -> None:
            if is_due():
                try:
                    samples = pytorch._to_numpy(gradient)  # noqa: SLF001 - same package
                    self._moment().track(Distribution(samples), name, dict(context))
                except Exception as error:  # noqa: BLE001 - must not reach the training
                    warn_once(f"wandb.watch: failed to store gradients of {name!r}", error)

        return hook

    def _parameter_hook(self) -> Callable[[Any, Any], None]:
        is_due = self._counter()

        def hook(model: Any, _inputs: Any) -> None:
            if is_due():
                pytorch.track_params_dists(model, _AtMoment(self._moment()))  # type: ignore[arg-type]

        return hook

    def _counter(self) -> Callable[[], bool]:
        count = 0

        def is_due() -> bool:
            nonlocal count
            count += 1
            return (count - 1) % self._log_freq == 0

        return is_due


class _AtMoment:
    """The part of a run that the adapter uses, at a given step."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    def track(self, value: Any, *, name: str, context: dict[str, Any]) -> None:
        self._moment.track(value, name, context)
