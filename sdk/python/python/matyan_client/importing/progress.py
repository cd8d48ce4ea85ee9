"""The line on the terminal that shows how far an import is."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Self

_BAR_WIDTH = 24
_INTERVAL = 0.2


class Counts(Protocol):
    """What was read of a run so far."""

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
        now = time.monotonic()
        if not self._is_possible or now - self._drawn < _INTERVAL:
            return
        self._drawn = now
        done = _BAR_WIDTH * self._number // max(1, self._runs)
        bar = "#" * done + "." * (_BAR_WIDTH - done)
        self._write(
            f"\r\x1b[K[{bar}] run {self._number + 1} of {self._runs}: {counts.points} points, "
            f"{counts.objects} objects, {counts.artifacts} artifacts"
        )
        self._is_shown = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            self._write("\r\x1b[K")

    _is_possible = False

    @staticmethod
    def _write(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()
