"""Exceptions with the names that scripts for W&B catch."""

from __future__ import annotations

__all__ = ["CommError", "ConfigError", "Error", "UsageError"]


class Error(Exception):
    """A call that cannot be carried out."""


class UsageError(Error):
    """A call with arguments that contradict each other or the stored data."""


class CommError(Error):
    """A call that needs something that the server does not have."""


class ConfigError(Error):
    """A change of a config value that was not declared as such."""
