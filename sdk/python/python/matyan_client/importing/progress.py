"""The line on the terminal that shows how far an import is."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Protocol

from matyan_client._console import counted

if TYPE_CHECKING:
    from typing_extensions import Self

_BAR_WIDTH = 24
_INTERVAL = 0.2


# An import waits this long for a server that stores nothing, in seconds.
PATIENCE = 60.0


class LeftoverProgress:
    """Shows how much of the data of an earlier import is stored, and ends a wait without progress.

    It is called with the numbers of spools, finished spools, connections, and stored values.
    """

    def __init__(self) -> None:
        self.is_stuck = False
        self._stored = -1
        self._progress_at = time.monotonic()
        self._line = ProgressLine(0)

    def __call__(
        self, spools: int, finished: int, connected: int, refused: int, stored: int
    ) -> bool:
        """Returns whether the wait continues."""
        del connected, refused
        now = time.monotonic()
        if stored > self._stored:
            self._stored = stored
            self._progress_at = now
        values = counted(stored, "value")
        self._line.show(f"sending data that an earlier import left: {values} stored")
        self.is_stuck = finished < spools and now - self._progress_at > PATIENCE
        return not self.is_stuck

    def end(self) -> None:
        """Removes the line."""
        self._line.clear()


class Counts(Protocol):
    """Counts of the data of a run that was read so far."""

    points: int
    objects: int
    artifacts: int


class ProgressLine:
    """Shows the runs and the current counts, if the error stream is a terminal."""

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._number = 0
        self._drawn = 0.0
        self._is_shown = False
        with contextlib.suppress(AttributeError, ValueError):
            self._is_possible = sys.stderr.isatty()

    def start_run(self, number: int) -> None:
        """Notes that all runs before this number are done."""
        self._number = number

    def update(self, counts: Counts) -> None:
        """Draws the line, at most a few times per second."""
        done = _BAR_WIDTH * self._number // max(1, self._runs)
        bar = "#" * done + "." * (_BAR_WIDTH - done)
        self.show(
            f"[{bar}] run {self._number + 1} of {self._runs}: {counted(counts.points, 'point')}, "
            f"{counted(counts.objects, 'object')}, {counted(counts.artifacts, 'artifact')}"
        )

    def show(self, text: str) -> None:
        """Draws a text, at most a few times per second."""
        now = time.monotonic()
        if self._is_possible and now - self._drawn >= _INTERVAL:
            self._drawn = now
            self._is_shown = True
            self._write(f"\r\x1b[K{text}")

    def clear(self) -> None:
        """Removes the line."""
        if self._is_shown:
            self._is_shown = False
            self._write("\r\x1b[K")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    _is_possible = False

    @staticmethod
    def _write(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()
