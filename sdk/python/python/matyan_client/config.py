"""Settings of the process from the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from . import _urls

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off", ""})


def _flag(value: str) -> bool:
    lowered = value.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError(value)


class _Setting(NamedTuple):
    """Conversion and default of a variable."""

    convert: Callable[[str], Any]
    default: Any
    expected: str


class _ServerSetting(NamedTuple):
    """Variable with the URL of a server. A wrong URL is an error: no other server was meant."""

    default: str


class Settings:
    """Settings with their environment variables, `MATYAN_` and the name in upper case.

    A variable is read when its setting is first used. A URL that is not valid raises `ValueError`;
    in place of other wrong values the default is used, with a warning. A change of an attribute
    affects objects that are created afterwards. The core reads further variables, for the spool and
    the sender.
    """

    backend_url: str
    frontier_url: str
    quiet: bool
    git_diff: bool
    # Accepted because scripts for Matyan 0.3 set them. Batches, connections, and memory are
    # limited by the core, so none of these has an effect.
    ws_verbose: bool
    ws_queue_max_memory_mb: int
    ws_heartbeat_interval: int
    ws_batch_interval_ms: int
    ws_batch_size: int
    ws_retry_count: int

    _KNOWN: ClassVar[dict[str, _Setting | _ServerSetting]] = {
        "backend_url": _ServerSetting("http://localhost:53800"),
        "frontier_url": _ServerSetting("http://localhost:53801"),
        "quiet": _Setting(_flag, False, "a boolean"),
        "git_diff": _Setting(_flag, True, "a boolean"),
        "ws_verbose": _Setting(_flag, False, "a boolean"),
        "ws_queue_max_memory_mb": _Setting(int, 512, "an integer"),
        "ws_heartbeat_interval": _Setting(int, 10, "an integer"),
        "ws_batch_interval_ms": _Setting(int, 50, "an integer"),
        "ws_batch_size": _Setting(int, 100, "an integer"),
        "ws_retry_count": _Setting(int, 2, "an integer"),
    }

    def __init__(self, **given: Any) -> None:
        self._warnings: list[str] = []
        for name, value in given.items():
            if name not in self._KNOWN:
                raise TypeError(f"`{name}`: there is no such setting")
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        """Reads the variable of a setting that has no value yet."""
        setting = self._KNOWN.get(name)
        if setting is None:
            raise AttributeError(f"there is no setting {name!r}")
        variable = f"MATYAN_{name.upper()}"
        value = self._read(variable, setting)
        is_default = not os.environ.get(variable, "").strip()
        if name == "frontier_url" and is_default and not _urls.is_default(self.backend_url):
            # A server whose gateway has its own port is started with the default ports.
            value = self.backend_url
        setattr(self, name, value)
        return value

    def is_server(self, url: str) -> bool:
        """Reports whether a URL is of a server of these settings, which gets `MATYAN_TOKEN`."""
        try:
            servers = self.backend_url, self.frontier_url
        except ValueError:
            # A variable that is no URL names no server.
            return False
        return _urls.origin(url) in map(_urls.origin, servers)

    def take_warnings(self) -> list[str]:
        """Reads all variables but the URLs, and returns warnings about wrong values, once."""
        for name, setting in self._KNOWN.items():
            if isinstance(setting, _Setting):
                getattr(self, name)
        warnings = self._warnings
        self._warnings = []
        return warnings

    def _read(self, variable: str, setting: _Setting | _ServerSetting) -> Any:
        given = os.environ.get(variable, "").strip()
        if not given:
            return setting.default
        if isinstance(setting, _ServerSetting):
            return _urls.checked(variable, given)
        try:
            return setting.convert(given)
        except ValueError:
            self._warnings.append(
                f"{variable}={given!r} is not {setting.expected}; "
                f"using the default {setting.default!r}"
            )
            return setting.default

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._KNOWN)
        return f"Settings({settings})"


SETTINGS = Settings()
