"""Short name of `matyan_client.adapters.lightgbm`."""

from __future__ import annotations

from matyan_client.adapters.lightgbm import AimCallback, MatyanCallback

__all__ = ["AimCallback", "MatyanCallback"]
