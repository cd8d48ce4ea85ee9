"""Short name of `matyan_client.adapters.pytorch`."""

from __future__ import annotations

from matyan_client.adapters.pytorch import track_gradients_dists, track_params_dists

__all__ = ["track_gradients_dists", "track_params_dists"]
