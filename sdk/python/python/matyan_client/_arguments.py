"""Checks and conversions of arguments."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import values
from .objects import _arrays

if TYPE_CHECKING:
    from pathlib import Path

# Names of the scalar that arrays of flags have in numpy 1 and 2.
_NUMPY_FLAGS = ("bool_", "bool")

# The limit of servers on the length of the hash of a run, and names that they use themselves.
_RUN_HASH_BYTES = 256
_RESERVED_HASHES = (".", "..", ".projects")

# Names of the types of series in queries.
SEQUENCE_TYPES = (
    "metric",
    "images",
    "figures",
    "texts",
    "audios",
    "distributions",
    "htmls",
    "point_clouds",
)

# Kinds of the elements of arrays that are numbers, or objects that may be.
_NUMBER_KINDS = "biufO"


def wrong_type(argument: str, expected: str, value: Any) -> TypeError:
    """Returns the error for an argument of another type than expected."""
    return TypeError(f"`{argument}`: expected {expected}, not {type(value).__name__}")


def check_text(argument: str, value: Any) -> None:
    """Raises `TypeError` unless a value is text or None."""
    if value is not None:
        required_text(argument, value)


def required_text(argument: str, value: Any) -> str:
    """Returns text. Raises `TypeError` for everything else."""
    if not isinstance(value, str):
        raise wrong_type(argument, "a str", value)
    return value


def required_name(argument: str, value: Any) -> str:
    """Returns text that is not empty."""
    if not required_text(argument, value):
        raise ValueError(f"`{argument}`: expected a name, found empty text")
    return str(value)


def run_hash(argument: str, value: Any) -> str:
    """Returns the hash of a run, by the rules of the server."""
    name = required_name(argument, value)
    if name in _RESERVED_HASHES or any(c == "/" or c < " " or "\x7f" <= c < "\xa0" for c in name):
        raise ValueError(
            f"`{argument}`: expected text without `/` and control characters, found {name!r}"
        )
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"`{argument}`: expected no surrogates, found {name!r}") from None
    if length > _RUN_HASH_BYTES:
        raise ValueError(f"`{argument}`: expected at most {_RUN_HASH_BYTES} bytes, found {length}")
    return name


def fork_point(run: Any, step: Any) -> tuple[str, int | None] | None:
    """Returns the run that is forked, and the last step that both runs share."""
    check_integer("fork_step", step)
    if run is None:
        if step is not None:
            raise ValueError("`fork_from`: required with `fork_step`")
        return None
    parent = run_hash("fork_from", run)
    if step is None:
        return parent, None
    last = operator.index(step)
    if not -(2**63) <= last < 2**63:
        raise OverflowError(f"`fork_step`: {last} does not fit into 64 bits")
    return parent, last


def texts(argument: str, given: Any) -> list[str]:
    """Returns a list of texts. A single text is refused: its characters are not meant."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise wrong_type(argument, "a list of str", given)
    return [required_text(argument, member) for member in given]


def flag(argument: str, value: Any) -> bool:
    """Returns a flag, for which None is False. Raises `TypeError` for everything else."""
    if value is None or isinstance(value, int) or type(value).__name__ in _NUMPY_FLAGS:
        return bool(value)
    raise wrong_type(argument, "a bool", value)


def check_seconds(argument: str, value: Any) -> None:
    """Raises `TypeError` unless a value is a number or None."""
    from numbers import Real  # noqa: PLC0415 - few scripts need it

    if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
        raise wrong_type(argument, "seconds", value)


def check_integer(argument: str, value: Any) -> None:
    """Raises `TypeError` unless a value is an integer or None."""
    if value is not None and not hasattr(value, "__index__"):
        raise wrong_type(argument, "an integer", value)


def length(argument: str, value: Any) -> int:
    """Returns a length, which is at least 1."""
    if not hasattr(value, "__index__"):
        raise wrong_type(argument, "an integer", value)
    if value < 1:
        raise ValueError(f"`{argument}`: expected at least 1, found {value}")
    return int(value)


def path(argument: str, value: Any) -> Path:
    """Returns a path. Raises `TypeError` if the value is no path."""
    from pathlib import Path  # noqa: PLC0415 - few scripts need it, and it is slow to import

    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise wrong_type(argument, "a str or a path", value)
    if value == "":
        raise ValueError(f"`{argument}`: expected a path, found empty text")
    return Path(value)


def context(value: Any) -> dict[str, Any]:
    """Returns a context as plain data. None is an empty context."""
    plain: Any = {} if value is None else values.plain(value)
    if not isinstance(plain, dict):
        raise wrong_type("context", "a dict", value)
    return plain


def artifact_name(name: str) -> str:
    """Returns the name of an artifact, with bytes that are not UTF-8 as `%FF`, for example."""
    if name.isascii():
        return name
    escaped = (f"%{ord(c) - 0xDC00:X}" if "\udc80" <= c <= "\udcff" else c for c in name)
    return values.text("".join(escaped))


def column(
    argument: str, given: Any, dtype: str, *, is_rounded: bool = False
) -> bytes | Sequence[Any] | None:
    """Returns a column as the core reads it. Arrays are handed over as bytes.

    Fractions in a column of integers are rounded down on request, and refused otherwise.
    """
    if given is None:
        return None
    if values.is_array(given):
        return _array_column(argument, given, dtype, is_rounded=is_rounded)
    if isinstance(given, (str, bytes, bytearray, Mapping)) or not isinstance(given, Iterable):
        raise wrong_type(argument, "a list or an array of numbers", given)
    listed = given if isinstance(given, Sequence) else list(given)
    if dtype == "i8" and any(isinstance(member, float) for member in listed):
        return [_integer(argument, member, is_rounded=is_rounded) for member in listed]
    return listed


def _integer(argument: str, member: Any, *, is_rounded: bool) -> Any:
    """Returns a member of a column of integers that has floats."""
    if isinstance(member, float) and math.isfinite(member):
        if not is_rounded and not member.is_integer():
            raise TypeError(f"`{argument}`: expected integers, found a fraction")
        return math.floor(member)
    return member


def _array_column(argument: str, given: Any, dtype: str, *, is_rounded: bool) -> bytes:
    import numpy as np  # noqa: PLC0415 - optional

    array = _arrays.to_numpy(given)
    if array.ndim != 1:
        raise ValueError(f"`{argument}`: expected one dimension, found the shape {array.shape}")
    if array.dtype.kind not in _NUMBER_KINDS:
        raise TypeError(f"`{argument}`: expected numbers, not {array.dtype}")
    if np.ma.is_masked(given):
        raise ValueError(f"`{argument}`: expected numbers, found masked elements")
    if is_rounded and array.dtype.kind == "f":
        array = np.floor(array)
    try:
        with np.errstate(invalid="ignore"):
            converted = np.ascontiguousarray(array, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise type(error)(f"`{argument}`: {error}") from None
    if dtype == "i8" and array.dtype.kind == "f" and not np.array_equal(converted, array):
        raise TypeError(f"`{argument}`: expected integers, found a fraction")
    if dtype == "i8" and array.dtype.kind == "u" and (converted < 0).any():
        raise OverflowError(f"`{argument}`: {array.max()} does not fit into 64 bits")
    return converted.tobytes()
