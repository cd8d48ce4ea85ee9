"""Short name of `matyan_client.adapters.fastai`."""

from __future__ import annotations

from matyan_client.adapters.fastai import AimCallback, MatyanCallback

__all__ = ["AimCallback", "MatyanCallback"]
