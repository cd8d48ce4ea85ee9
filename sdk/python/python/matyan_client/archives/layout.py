"""Names of files of archives, and objects as archives have them."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

ENTITIES = "entities.jsonl"
RUNS = "runs"
SEQUENCES = "sequences.jsonl"


class StoredObject(NamedTuple):
    """An object as a server stores it, with the payload that is a file."""

    value: dict[str, Any]
    payload: Any = None

    def json(self) -> dict[str, Any]:
        """Returns what is stored with the series."""
        return self.value

    def _payload(self) -> tuple[dict[str, Any], Any]:
        return self.value, self.payload


def log_level(level: object) -> int:
    """Returns a level of logging, which may be given by its name."""
    if isinstance(level, str):
        number = logging.getLevelName(level)
        return number if isinstance(number, int) else 0
    return level if isinstance(level, int) else 0
