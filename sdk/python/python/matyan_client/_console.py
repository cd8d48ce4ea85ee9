"""Lines that the SDK prints: one when a run starts, and one when it ends with data left."""

from __future__ import annotations

import contextlib
import sys
import time

_BAR_WIDTH = 24
# A close that takes no longer shows nothing.
_BAR_DELAY = 1.0


def say(line: str) -> None:
    """Prints a line to the error stream, if there is one."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


class ProgressBar:
    """Shows what is still to be stored, on a terminal and if that takes long."""

    def __init__(self, *, quiet: bool) -> None:
        self._started = time.monotonic()
        self._is_shown = False
        with contextlib.suppress(AttributeError, ValueError):
            self._is_possible = not quiet and sys.stderr.isatty()

    def update(self, pending: int, total: int) -> bool:
        """Draws the bar. Returns True, so that the wait continues."""
        if not self._is_possible or time.monotonic() - self._started < _BAR_DELAY:
            return True
        done = _BAR_WIDTH * (total - pending) // max(1, total)
        bar = "#" * done + "." * (_BAR_WIDTH - done)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"\rmatyan: storing [{bar}] {pending} left ")
            sys.stderr.flush()
            self._is_shown = True
        return True

    def clear(self) -> None:
        """Removes the bar."""
        if self._is_shown:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()

    _is_possible = False
