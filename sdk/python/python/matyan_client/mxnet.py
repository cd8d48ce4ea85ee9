"""Short name of `matyan_client.adapters.mxnet`."""

from __future__ import annotations

from matyan_client.adapters.mxnet import AimLoggingHandler, MatyanLoggingHandler

__all__ = ["AimLoggingHandler", "MatyanLoggingHandler"]
