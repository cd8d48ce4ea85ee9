"""Access to arrays and tensors without an import of their library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def library(value: object) -> str:
    """Returns the name of the package that the type of `value` comes from."""
    return type(value).__module__.partition(".")[0]


def is_torch(value: object) -> bool:
    """Reports whether `value` is a tensor of torch, whose images have the channels first."""
    return hasattr(value, "detach") and hasattr(value, "cpu")


def to_numpy(value: Any) -> NDArray[np.generic]:
    """Returns an array or tensor of any library as an array of numpy."""
    import numpy as np  # noqa: PLC0415 - optional, and slow to import

    if is_torch(value):
        value = value.detach().cpu()
        try:
            value = value.numpy()
        except TypeError:
            # numpy has no bfloat16.
            value = value.float().numpy()
    elif not hasattr(value, "__array__") and hasattr(value, "numpy"):
        value = value.numpy()
    array = np.asarray(value)
    # Small floats of other libraries arrive as types that numpy cannot calculate with.
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    return array
