"""Distributions of the weights and gradients of a PyTorch model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from matyan_client import Distribution

from ._exception_resistant import exception_resistant

if TYPE_CHECKING:
    from matyan_client import Run

__all__ = ["track_gradients_dists", "track_params_dists"]

PARAMETERS = {"weight": "weights", "bias": "biases"}


@exception_resistant()
def track_params_dists(model: Any, run: Run) -> None:
    """Tracks a distribution of the weights and a distribution of the biases of every layer."""
    _track_layers(model, run, attribute="data", kind="data")


@exception_resistant()
def track_gradients_dists(model: Any, run: Run) -> None:
    """Tracks the gradients of every layer that has gradients, in the same way."""
    _track_layers(model, run, attribute="grad", kind="gradients")


def _track_layers(model: Any, run: Run, attribute: str, kind: str) -> None:
    for name, layer in _leaf_layers(model):
        for parameter, label in PARAMETERS.items():
            tensor = getattr(getattr(layer, parameter, None), attribute, None)
            if tensor is not None:
                samples = Distribution(_to_numpy(tensor))
                run.track(samples, name=name, context={"type": kind, "params": label})


def _leaf_layers(model: Any, parent: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the layers without children, named `Parent.Class__child.Class`."""
    for name, layer in model.named_children():
        path = f"{parent}__{name}" if parent else name
        path = f"{path}.{type(layer).__name__}"
        if any(True for _ in layer.children()):
            yield from _leaf_layers(layer, path)
        else:
            yield path, layer


def _to_numpy(tensor: Any) -> Any:
    tensor = tensor.detach()
    try:
        return tensor.cpu().numpy()
    except TypeError:
        # numpy has no counterpart of some types, for example bfloat16.
        return tensor.float().cpu().numpy()
