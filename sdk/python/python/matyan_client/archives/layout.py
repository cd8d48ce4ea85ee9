"""Names and numbers that the reader and the writer of archives share."""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from typing import Any, NamedTuple

FORMAT_VERSION = 1

MANIFEST = "manifest.json"
ENTITIES = "entities.jsonl"
RUNS = "runs"
SEQUENCES = "sequences.jsonl"
BLOBS = "blobs"
# Lists blobs whose files do not have their paths as names.
BLOB_LIST = "blobs.jsonl"

# Names and types of terminal lines and log records, which are stored as if they were series.
LINES = ("logs", "logs")
RECORDS = ("__log_records", "log_records")

OBJECT_TYPES = (
    "image",
    "text",
    "distribution",
    "audio",
    "figure",
    "html",
    "point_cloud",
    "custom",
)

# A longer name of a folder is replaced, as not every file system has room for it.
_MOST_NAME = 200


class StoredObject(NamedTuple):
    """An object as a server stores it, with the payload that is a file."""

    value: dict[str, Any]
    payload: Any = None

    def json(self) -> dict[str, Any]:
        """Returns what is stored with the series."""
        return self.value

    def _payload(self) -> tuple[dict[str, Any], Any]:
        return self.value, self.payload


def context_number(context: dict[str, Any]) -> int:
    """Returns the number of a context: 0 if it is empty, else 32 bits of a digest."""
    if not context:
        return 0
    canonical = json.dumps(context, sort_keys=True, separators=(",", ":"))
    return int(hashlib.sha256(canonical.encode()).hexdigest()[:8], 16)


def run_folder(run_hash: str) -> str:
    """Returns the name of the folder of a run: its hash, unless that is not a valid name.

    `run_folder` of `libs/archive` returns the same, so that each reads the archives of the other.
    """
    is_plain = (
        0 < len(run_hash.encode()) <= _MOST_NAME
        and not run_hash.startswith((".", "~"))
        and not any(char in "/\\" or unicodedata.category(char) == "Cc" for char in run_hash)
    )
    return run_hash if is_plain else digest_name(run_hash)


def digest_name(text: str) -> str:
    """Returns the name of a file or folder whose own name is not valid or not free."""
    return "~" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def log_level(level: object) -> int:
    """Returns a level of logging, which may be given by its name."""
    if isinstance(level, str):
        number = logging.getLevelName(level)
        return number if isinstance(number, int) else 0
    return level if isinstance(level, int) else 0


def singular(dtype: str) -> str:
    """Returns the type of objects by any of its names: `images` is `image`."""
    return dtype[:-1] if dtype.endswith("s") and dtype[:-1] in OBJECT_TYPES else dtype
