"""Short name of `matyan_client.adapters.hugging_face`."""

from __future__ import annotations

from matyan_client.adapters.hugging_face import AimCallback, MatyanCallback

__all__ = ["AimCallback", "MatyanCallback"]
