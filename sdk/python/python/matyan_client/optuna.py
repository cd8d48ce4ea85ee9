"""Short name of `matyan_client.adapters.optuna`."""

from __future__ import annotations

from matyan_client.adapters.optuna import AimCallback, MatyanCallback

__all__ = ["AimCallback", "MatyanCallback"]
