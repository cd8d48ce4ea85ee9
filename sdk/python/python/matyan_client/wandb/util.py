"""The part of `wandb.util` that training scripts use."""

from __future__ import annotations

import secrets

__all__ = ["generate_id"]

_CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


def generate_id(length: int = 8) -> str:
    """Returns a random id for `init`."""
    return "".join(secrets.choice(_CHARACTERS) for _ in range(length))
