"""Values of params that a format stores as text."""

from __future__ import annotations

import ast
from typing import Any

# A longer text is no literal that anyone meant as a param, and Python needs far more memory for it.
_MOST_TEXT = 64 * 1024


def evaluated(text: str) -> Any:
    """Returns the value of a text that is a literal of Python; otherwise, raises a `ValueError`."""
    if len(text) > _MOST_TEXT:
        raise ValueError(f"{len(text)} characters; a literal has at most {_MOST_TEXT}")
    try:
        return ast.literal_eval(text)
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from None


def literal(text: str) -> Any:
    """Returns the value that Python writes as `text`, or the text if there is none.

    `0.1` becomes a number, because its text is `0.1` again, but `1e-1` and `007` stay text: no
    information is lost.
    """
    try:
        value = evaluated(text)
    except ValueError:
        return text
    is_plain = isinstance(value, (bool, int, float, list, tuple, dict)) or value is None
    return value if is_plain and str(value) == text else text
