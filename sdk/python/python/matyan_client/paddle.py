"""Short name of `matyan_client.adapters.paddle`."""

from __future__ import annotations

from matyan_client.adapters.paddle import AimCallback, MatyanCallback

__all__ = ["AimCallback", "MatyanCallback"]
