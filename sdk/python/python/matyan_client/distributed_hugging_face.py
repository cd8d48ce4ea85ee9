"""Short name of `matyan_client.adapters.distributed_hugging_face`."""

from __future__ import annotations

from matyan_client.adapters.distributed_hugging_face import AimCallback, MatyanCallback

__all__ = ["AimCallback", "MatyanCallback"]
