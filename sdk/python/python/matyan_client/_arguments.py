"""Checks and conversions of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from . import values


def check_text(argument: str, value: Any) -> None:
    """Raises `TypeError` unless a value is text or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"`{argument}`: expected a str, not {type(value).__name__}")


def required_text(argument: str, value: Any) -> str:
    """Returns text. Raises `TypeError` for everything else."""
    if not isinstance(value, str):
        raise TypeError(f"`{argument}`: expected a str, not {type(value).__name__}")
    return value


def check_seconds(argument: str, value: Any) -> None:
    """Raises `TypeError` unless a value is a number or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
        raise TypeError(f"`{argument}`: expected seconds, not {type(value).__name__}")


def required_name(argument: str, value: Any) -> str:
    """Returns text that is not empty."""
    if not required_text(argument, value):
        raise ValueError(f"`{argument}`: expected a name, found empty text")
    return str(value)


def column(given: Any, dtype: str) -> bytes | Sequence[Any] | None:
    """Returns a column as the core reads it. Arrays are handed over as bytes."""
    if given is None:
        return None
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes, bytearray)):
        return given
    if values.is_array(given):
        import numpy as np  # noqa: PLC0415 - optional

        if hasattr(given, "detach"):
            given = given.detach().cpu()
        return np.ascontiguousarray(given, dtype=dtype).tobytes()
    return list(given)
