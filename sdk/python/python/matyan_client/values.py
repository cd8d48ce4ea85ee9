"""Conversion of arbitrary Python values to plain values.

Params and contexts are converted when they are passed in, on the caller's thread: a value that
cannot be stored as it is becomes text, so that nothing can fail later, in the background.
No library is imported here. Values of numpy, torch, TensorFlow, and OmegaConf are recognized by
their attributes.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from ._types import JsonValue

MAX_ARRAY_ELEMENTS = 10_000
"""Largest array or tensor that is stored as a list. Larger ones are described by a text."""

# The server accepts 128 levels. The difference is left to the path under which a param is set.
MAX_DEPTH = 100


class Array(Protocol):
    """The part that arrays of numpy, torch, and jax have in common."""

    @property
    def shape(self) -> Sequence[int]:
        """Length of each dimension."""
        ...

    @property
    def dtype(self) -> object:
        """Type of the elements."""
        ...

    def tolist(self) -> Any:
        """Returns the elements as nested lists, or the only element."""
        ...


def plain(value: object) -> JsonValue:
    """Returns `value` as None, bool, int, float, str, list, and dict with text keys.

    Containers are copied, so later changes of the original have no effect. NaN and infinities are
    kept.
    """
    return _plain(value, 0)


def text(value: str) -> str:
    """Returns `value` with U+FFFD for each lone surrogate, which UTF-8 cannot express."""
    if value.isascii():
        return str(value)
    # A pair of surrogates is joined to the character that it stands for.
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def is_array(value: object) -> bool:
    """Reports whether `value` is an array, tensor, or scalar of an array library."""
    return (
        not isinstance(value, type)
        and hasattr(value, "dtype")
        and hasattr(value, "shape")
        and (hasattr(value, "tolist") or hasattr(value, "numpy"))
    )


def _plain(value: object, depth: int) -> JsonValue:
    kind = type(value)
    if value is None or kind is bool or kind is int or kind is float:
        return cast("None | bool | int | float", value)
    if kind is str:
        return text(cast("str", value))
    # Also ends the descent into a container that contains itself.
    if depth >= MAX_DEPTH:
        return "..."
    try:
        return _container(value, depth)
    except Exception:  # noqa: BLE001 - conversion calls foreign code, which may raise anything
        return _description(value)


def _container(value: Any, depth: int) -> JsonValue:
    """Returns a value of any other type than the plain scalars. May raise."""
    if isinstance(value, enum.Enum):
        return _plain(value.value, depth + 1)
    if is_array(value):
        return _plain_array(value, depth)
    if isinstance(value, (bool, int, float, str)):
        return _plain(_base_scalar(value), depth)
    if type(value).__module__.partition(".")[0] == "omegaconf":
        return _plain_config(value, depth)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        import base64  # noqa: PLC0415 - few scripts have bytes in their params

        return base64.b64encode(value).decode("ascii")
    if isinstance(value, AbstractSet):
        return [_plain(item, depth + 1) for item in _ordered(value)]
    if isinstance(value, Sequence):
        return [_plain(item, depth + 1) for item in value]
    return _plain_object(value, depth)


def _plain_object(value: Any, depth: int) -> JsonValue:
    import datetime  # noqa: PLC0415 - slow to import, and most params are plain values

    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return _plain(os.fsdecode(value), depth)
    # As `dataclasses.is_dataclass` does, whose import would take longer than all of this package.
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        return {name: _plain(getattr(value, name), depth + 1) for name in fields}
    if callable(value) and hasattr(value, "__qualname__"):
        # The usual text of a function contains its address, which differs in each process.
        return text(f"{value.__module__}.{value.__qualname__}")
    kind: Any = type(value)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        # The same holds for objects. The attributes of a settings object are its content.
        attributes = getattr(value, "__dict__", None)
        if attributes:
            return _plain(dict(attributes), depth + 1)
    if kind.__name__ == "Namespace" and hasattr(value, "__dict__"):
        return _plain(vars(value), depth + 1)
    return text(str(value))


def _base_scalar(value: bool | float | str) -> bool | int | float | str:
    """Returns a value of a subclass of int, float, or str as a value of the base class."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    return float.__float__(value)


def _plain_array(value: Any, depth: int) -> JsonValue:
    elements = 1
    for length in value.shape:
        elements *= int(length)
    if elements > MAX_ARRAY_ELEMENTS:
        shape = ", ".join(str(int(length)) for length in value.shape)
        return f"{type(value).__name__}(shape=({shape}), dtype={value.dtype})"
    listed = value.tolist() if hasattr(value, "tolist") else value.numpy().tolist()
    return _plain(str(listed) if is_array(listed) else listed, depth + 1)


def _plain_config(value: Any, depth: int) -> JsonValue:
    """Returns a configuration of OmegaConf, with its interpolations resolved if possible."""
    import omegaconf  # noqa: PLC0415 - already imported by the code that made the value

    if not omegaconf.OmegaConf.is_config(value):
        return text(str(value))
    try:
        container = omegaconf.OmegaConf.to_container(value, resolve=True)
    except omegaconf.errors.OmegaConfBaseException:
        container = omegaconf.OmegaConf.to_container(value, resolve=False)
    return _plain(container, depth)


def _key(key: object) -> str:
    """Returns the key of a mapping as `json.dumps` would write it."""
    if isinstance(key, str):
        return text(key)
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    return text(str(key))


def _ordered(values: AbstractSet[Any]) -> list[Any]:
    """Returns the members of a set in an order that does not depend on the process."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)


def _description(value: object) -> str:
    try:
        return text(str(value))
    except Exception:  # noqa: BLE001 - a failing `__str__` must not cost the other params
        return f"<{type(value).__name__}>"
