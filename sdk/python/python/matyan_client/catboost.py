"""Short name of `matyan_client.adapters.catboost`."""

from __future__ import annotations

from matyan_client.adapters.catboost import AimLogger, MatyanLogger

__all__ = ["AimLogger", "MatyanLogger"]
