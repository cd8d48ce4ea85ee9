"""The state of a run's delivery."""

from __future__ import annotations

from typing import NamedTuple


class Health(NamedTuple):
    """State of the delivery to the server."""

    # Values that the server has not stored yet.
    pending: int
    # Files that are not uploaded yet.
    pending_uploads: int
    # Age of the oldest of these values in seconds.
    oldest_s: float
    # Values and files that are lost: the spool was full, the server rejected them, a file was gone,
    # a device failed, or the run was deleted on the server.
    dropped: int
    # The part of `dropped` that the server rejected.
    rejected: int
    # Whether a server is connected.
    connected: bool
    # The last problem of the connection, if any.
    last_error: str | None
