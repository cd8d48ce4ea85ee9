"""Messages of this package: lines on the error stream, and warnings that are shown once."""

from __future__ import annotations

import threading

from matyan_client import _console
from matyan_client._warnings import warn_user

__all__ = ["termerror", "termlog", "termwarn", "warn_once"]

_shown: set[str] = set()
_lock = threading.RLock()


def warn_once(message: str, error: BaseException | None = None, *, key: str | None = None) -> None:
    """Warns, unless that happened before with the same key, which is the message by default."""
    if _is_first(key or message):
        warn_user(message, error)


def after_fork() -> None:
    """Replaces the lock in a forked child, because a thread of the parent may have held it."""
    global _lock  # noqa: PLW0603 - once per process
    _lock = threading.RLock()


def ignore_unknown(function: str, keywords: dict[str, object]) -> None:
    """Warns once of each argument that has no effect."""
    for name in keywords:
        warn_once(f"wandb.{function}: the argument `{name}` has no effect")


def termlog(string: str = "", newline: bool = True, repeat: bool = True) -> None:
    """Prints a line to the error stream; without `repeat`, only the first time."""
    _print("wandb: ", string, newline, repeat)


def termwarn(string: str, newline: bool = True, repeat: bool = True) -> None:
    """Prints a warning to the error stream; without `repeat`, only the first time."""
    _print("wandb: WARNING ", string, newline, repeat)


def termerror(string: str, newline: bool = True, repeat: bool = True) -> None:
    """Prints an error to the error stream; without `repeat`, only the first time."""
    _print("wandb: ERROR ", string, newline, repeat)


def _print(prefix: str, string: str, newline: bool, repeat: bool) -> None:
    del newline
    if repeat or _is_first(f"{prefix}{string}"):
        for line in str(string).split("\n"):
            _console.write_line(f"{prefix}{line}")


def _is_first(key: str) -> bool:
    with _lock:
        is_first = key not in _shown
        _shown.add(key)
    return is_first
