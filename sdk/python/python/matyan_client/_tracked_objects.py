"""Objects as they are tracked: images, texts, and others with a method `json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from . import values

# Series whose types are known. Names that are made for each call must not fill the memory.
_MOST_SERIES = 10_000


class ObjectTypes:
    """Types of the objects that a process has tracked, by name and context of their series."""

    def __init__(self) -> None:
        self._types: dict[tuple[str, str], str] = {}

    def check(self, name: str, context: Any, dtype: str) -> None:
        """Raises `TypeError` if the type differs from the earlier type of the series."""
        if len(self._types) >= _MOST_SERIES:
            self._types.clear()
        key = (name, json.dumps(values.plain(context or {}), sort_keys=True))
        known = self._types.setdefault(key, dtype)
        if known != dtype:
            raise TypeError(
                f"`value`: the series {name!r} has objects of the type {known!r}, not {dtype!r}; "
                "use another name or context"
            )


def is_object(value: Any) -> bool:
    """Reports whether a value is an object rather than a number."""
    return callable(getattr(value, "json", None))


def is_table(value: Any) -> bool:
    """Reports whether a value is a table, which is stored as files."""
    return hasattr(value, "_files")


def is_list_of_objects(value: Any) -> bool:
    """Reports whether a value is a list of nothing but objects."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(is_object, value))


def described(objects: Sequence[Any]) -> tuple[str, list[tuple[dict[str, Any], Any]]]:
    """Returns the type of objects, and the stored form of each with its payload or None."""
    members = [_stored(value) for value in objects]
    types = {
        str(stored.get("type", type(value).__name__))
        for (stored, _), value in zip(members, objects, strict=True)
    }
    if len(types) > 1:
        raise TypeError(f"`value`: expected objects of one type, found {', '.join(sorted(types))}")
    return types.pop(), members


def _stored(value: Any) -> tuple[dict[str, Any], Any]:
    if hasattr(value, "_payload"):
        stored, media = value._payload()  # noqa: SLF001 - a class of the same package
        return stored, media
    stored = value.json()
    if not isinstance(stored, dict):
        raise TypeError(f"`value`: json() must return a dict, not {type(stored).__name__}")
    return stored, None
