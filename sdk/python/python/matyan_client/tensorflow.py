"""Short name of `matyan_client.adapters.tensorflow`."""

from __future__ import annotations

from matyan_client.adapters.tensorflow import AimCallback, MatyanCallback

__all__ = ["AimCallback", "MatyanCallback"]
