"""Short name of `matyan_client.adapters.pytorch_ignite`."""

from __future__ import annotations

from matyan_client.adapters.pytorch_ignite import (
    AimLogger,
    MatyanLogger,
    OptimizerParamsHandler,
    OutputHandler,
)

__all__ = ["AimLogger", "MatyanLogger", "OptimizerParamsHandler", "OutputHandler"]
