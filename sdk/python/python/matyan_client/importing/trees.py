"""Nested params of values whose names are paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def set_nested(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Sets the value at a path. A name that has both a value and members keeps both.

    Its own value is then below an empty name.
    """
    for segment in path[:-1]:
        if segment not in tree:
            tree[segment] = {}
        elif not isinstance(tree[segment], dict):
            tree[segment] = {"": tree[segment]}
        tree = tree[segment]
    below = tree.get(path[-1])
    if isinstance(below, dict) and below and not isinstance(value, dict):
        below[""] = value
    else:
        tree[path[-1]] = value
