"""Values of params that a format stores as text."""

from __future__ import annotations

import ast
from typing import Any


def literal(text: str) -> Any:
    """Returns the value that Python writes as `text`, or the text if there is none.

    `0.1` becomes a number, because its text is `0.1` again, but `1e-1` and `007` stay text: no
    information is lost.
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    is_plain = isinstance(value, (bool, int, float, list, tuple, dict)) or value is None
    return value if is_plain and str(value) == text else text
