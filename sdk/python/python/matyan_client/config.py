"""Settings of the process, read once from the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

_logger = logging.getLogger("matyan_client")

_Value = TypeVar("_Value")

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off", ""})


def _flag(value: str) -> bool:
    lowered = value.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError(value)


def _url(value: str) -> str:
    return value.strip().rstrip("/")


def _read(name: str, convert: Callable[[str], _Value], default: _Value, expected: str) -> _Value:
    """Returns the value of the variable `MATYAN_<name>`."""
    variable = f"MATYAN_{name}"
    given = os.environ.get(variable)
    if given is None or not given.strip():
        return default
    try:
        return convert(given)
    except ValueError:
        _logger.warning("%s=%r is not %s; using the default %r", variable, given, expected, default)
        return default


class Settings:
    """Settings with their environment variables, `MATYAN_` and the name in upper case.

    A change of an attribute affects objects that are created afterwards. The core reads further
    variables, which concern the spool and the sender.
    """

    def __init__(self, **given: Any) -> None:
        self.backend_url: str = _read("BACKEND_URL", _url, "http://localhost:53800", "a URL")
        self.frontier_url: str = _read("FRONTIER_URL", _url, "http://localhost:53801", "a URL")
        self.quiet: bool = _read("QUIET", _flag, False, "a boolean")
        # Accepted because scripts for Matyan 0.3 set them. Batches, connections, and memory are
        # limited by the core, so none of these has an effect.
        self.ws_verbose: bool = _read("WS_VERBOSE", _flag, False, "a boolean")
        self.ws_queue_max_memory_mb: int = _read("WS_QUEUE_MAX_MEMORY_MB", int, 512, "an integer")
        self.ws_heartbeat_interval: int = _read("WS_HEARTBEAT_INTERVAL", int, 10, "an integer")
        self.ws_batch_interval_ms: int = _read("WS_BATCH_INTERVAL_MS", int, 50, "an integer")
        self.ws_batch_size: int = _read("WS_BATCH_SIZE", int, 100, "an integer")
        self.ws_retry_count: int = _read("WS_RETRY_COUNT", int, 2, "an integer")
        for name, value in given.items():
            if name not in vars(self):
                raise TypeError(f"`{name}`: there is no such setting")
            setattr(self, name, value)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"Settings({settings})"


SETTINGS = Settings()
