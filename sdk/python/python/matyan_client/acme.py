"""Short name of `matyan_client.adapters.acme`."""

from __future__ import annotations

from matyan_client.adapters.acme import AimCallback, AimWriter, MatyanCallback, MatyanWriter

__all__ = ["AimCallback", "AimWriter", "MatyanCallback", "MatyanWriter"]
