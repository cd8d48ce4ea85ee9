"""The check of a new branch, as far as the server answers at once."""

from __future__ import annotations

import time
from typing import Any

from . import errors
from .transport.http import HttpTransport

# Time that the server has to answer, in seconds. A script does not wait for a silent server.
_TIMEOUT = 1.0
# Time in which a parent may appear that another process has just stored, in seconds.
_LIMIT = 1.0
_INTERVAL = 0.1


def check(url: str, parent: str, run_hash: str | None) -> None:
    """Raises `ValueError` for a parent that the server does not have, and for a run that exists.

    Without a server nothing is known, and nothing is raised.
    """
    server = HttpTransport(url, timeout=_TIMEOUT)
    try:
        known = None if run_hash is None else _props(server, run_hash)
        # A restarted script continues its branch.
        if known is not None and (known.get("parent") or {}).get("run_id") != parent:
            raise ValueError(
                f"`fork_from`: run {run_hash} exists already, and only a new run can be a branch: "
                "leave out `run_hash`, or leave out `fork_from` to continue that run"
            )
        until = time.monotonic() + _LIMIT
        while known is None and _props(server, parent) is None:
            if time.monotonic() > until:
                raise ValueError(
                    f"`fork_from`: the server at {url} has no run {parent!r}: give the whole hash "
                    "of a run, and call `flush()` or `close()` of one that is being recorded"
                )
            time.sleep(_INTERVAL)
    except errors.ServerError:
        # The run is recorded in any case; the server decides later.
        return


def _props(server: HttpTransport, run_hash: str) -> dict[str, Any] | None:
    """Returns the properties of a run, or None if the server does not have it."""
    try:
        props: dict[str, Any] = server.get_run_info(run_hash).get("props") or {}
    except errors.NotFoundError:
        return None
    return props
