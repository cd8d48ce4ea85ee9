"""Names of files that the reader looks up, and the form of stored objects."""

from __future__ import annotations

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
