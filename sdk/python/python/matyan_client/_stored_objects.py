"""Objects of a run as a server has stored them: images, texts, and others."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .transport._answers import reading
from .transport.http import HttpTransport

if TYPE_CHECKING:
    from .objects._media import Encoded

# More than any series has: nothing is sampled.
_ALL = 2**31 - 1
# Files that are read at a time.
_BLOB_BATCH = 64


class StoredStep(NamedTuple):
    """The objects at a step of a series: of each its description, and its file or None."""

    context: dict[str, Any]
    step: int
    time: float | None
    epoch: int | None
    members: list[tuple[dict[str, Any], Encoded | None]]


def stored_steps(http: HttpTransport, run_hash: str, kind: str, name: str) -> Iterator[StoredStep]:
    """Yields the steps of the series of a type and name. Files are read with their step."""
    query = (
        f"run.hash == {run_hash!r} and run.archived in (True, False) "
        f"and {kind}.name == {json.dumps(name)}"
    )
    found = http.search_sequence(kind, query, record_density=_ALL, index_density=_ALL)
    with reading(f"the series {name!r} of {kind}"):
        for trace in found[0]["traces"].values() if found else ():
            context = _plain(trace.get("context") or {})
            steps = trace["iters"]
            times = trace["timestamps"]
            epochs = trace["epochs"]
            for at, value in trace["values"].items():
                # Sequences that never have several objects at a step come without a list.
                members = [value] if kind in ("distributions", "figures") else list(value.values())
                described = [_described(kind, member) for member in members]
                files = _files(http, kind, members)
                both = list(zip(described, files, strict=True))
                yield StoredStep(context, int(steps[at]), times[at], epochs[at], both)


def _described(kind: str, member: dict[str, Any]) -> dict[str, Any]:
    described = {
        key: _plain(value) for key, value in member.items() if key not in ("blob_uri", "index")
    }
    if kind == "figures":
        described["data"] = json.loads(described["data"])
    return described


def _plain(value: Any) -> Any:
    """Returns a value of a search as the script has tracked it."""
    if not isinstance(value, dict):
        return value
    if value.get("type") == "numpy":
        return array("d", value["blob"]).tolist()
    if value and list(value) == list(range(len(value))):
        # Searches write lists as dicts.
        return [_plain(member) for member in value.values()]
    return {key: _plain(member) for key, member in value.items()}


def _files(http: HttpTransport, kind: str, members: list[dict[str, Any]]) -> list[Encoded | None]:
    from .objects._media import Encoded  # noqa: PLC0415 - only for runs that are read

    files: list[Encoded | None] = []
    for start in range(0, len(members), _BLOB_BATCH):
        piece = members[start : start + _BLOB_BATCH]
        uris = [member["blob_uri"] for member in piece if member.get("blob_uri")]
        contents = http.get_blob_batch(kind, uris)
        for member in piece:
            content = contents.get(member.get("blob_uri", ""))
            form = member.get("format") or ""
            files.append(None if content is None else Encoded(content, form))
    return files
