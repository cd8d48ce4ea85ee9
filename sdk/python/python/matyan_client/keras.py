"""Short name of `matyan_client.adapters.keras`."""

from __future__ import annotations

from matyan_client.adapters.keras import AimCallback, MatyanCallback

__all__ = ["AimCallback", "MatyanCallback"]
