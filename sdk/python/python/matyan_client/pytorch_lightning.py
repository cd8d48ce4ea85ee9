"""Short name of `matyan_client.adapters.pytorch_lightning`."""

from __future__ import annotations

from matyan_client.adapters.pytorch_lightning import AimLogger, MatyanLogger

__all__ = ["AimLogger", "MatyanLogger"]
