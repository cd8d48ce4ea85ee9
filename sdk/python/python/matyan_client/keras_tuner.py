"""Short name of `matyan_client.adapters.keras_tuner`."""

from __future__ import annotations

from matyan_client.adapters.keras_tuner import AimCallback, MatyanCallback

__all__ = ["AimCallback", "MatyanCallback"]
