"""Short name of `matyan_client.adapters.prophet`."""

from __future__ import annotations

from matyan_client.adapters.prophet import AimLogger, MatyanLogger

__all__ = ["AimLogger", "MatyanLogger"]
