"""Small helpers shared by the adapters."""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

DEFAULT_SYSTEM_TRACKING_INTERVAL: int = 10

SUBSET_PREFIXES: Mapping[str, str] = {
    "train": "train_",
    "val": "val_",
    "test": "test_",
    "eval": "eval_",
}


def parse_context_prefix(
    name: str, prefixes: Mapping[str, str] | None = None
) -> tuple[str, dict[str, str]]:
    """Returns the name without its prefix, and the context that the prefix stands for.

    `prefixes` maps the value of `subset` to a prefix. The first match wins; a name without a known
    prefix has an empty context.
    """
    for subset, prefix in (SUBSET_PREFIXES if prefixes is None else prefixes).items():
        if name.startswith(prefix):
            return name[len(prefix) :], {"subset": subset}
    return name, {}


def is_number(value: object) -> bool:
    """Returns whether `float(value)` succeeds; this includes numeric text and scalars of arrays."""
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def whole_epoch(epoch: Any) -> int | None:
    """Returns the epoch of a fractional epoch, because series store whole epochs."""
    if epoch is None or not is_number(epoch) or not math.isfinite(float(epoch)):
        return None
    return math.floor(float(epoch))


def with_objects_as_text(value: Any) -> Any:
    """Returns the value with each object of a framework as text.

    A run would store the attributes of such an object, and a framework's objects refer to models
    and data.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): with_objects_as_text(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_objects_as_text(item) for item in value]
    is_array = hasattr(value, "dtype") and hasattr(value, "shape")
    return value if is_array else str(value)


def plain_params(params: Any) -> Any:
    """Returns hyperparameters of an OmegaConf container or a namespace as a plain mapping."""
    # A container can only exist if the caller has imported omegaconf, which stays optional thus.
    omegaconf = sys.modules.get("omegaconf")
    if omegaconf is not None and omegaconf.OmegaConf.is_config(params):
        return omegaconf.OmegaConf.to_container(params, resolve=True)
    if isinstance(params, Namespace):
        return vars(params)
    return params or {}
