"""Short name of `matyan_client.adapters.xgboost`."""

from __future__ import annotations

from matyan_client.adapters.xgboost import AimCallback, MatyanCallback

__all__ = ["AimCallback", "MatyanCallback"]
