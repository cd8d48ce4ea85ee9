"""Short name of `matyan_client.adapters.sb3`."""

from __future__ import annotations

from matyan_client.adapters.sb3 import (
    AimCallback,
    AimOutputFormat,
    MatyanCallback,
    MatyanOutputFormat,
)

__all__ = ["AimCallback", "AimOutputFormat", "MatyanCallback", "MatyanOutputFormat"]
