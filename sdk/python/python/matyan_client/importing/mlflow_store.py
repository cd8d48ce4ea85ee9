"""Runs as both stores of MLflow have them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from .model import Points

# Name of a run for people, and the function that reads it, which raises if the run is damaged.
ReadableRun: TypeAlias = "tuple[str, Callable[[], StoredRun]]"


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run of a store. Times are in milliseconds, and empty texts stand for absent values."""

    run_id: str
    name: str
    experiment: str
    status: str
    start_ms: int | None
    end_ms: int | None
    params: dict[str, str]
    tags: dict[str, str]
    artifact_uri: str
    # Where artifacts are if the store was moved since their URI was written.
    artifact_directories: list[Path]
    metrics_fingerprint: str
    metrics: Callable[[], Iterator[Metric]]


class Metric:
    """The history of a metric."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._points: list[tuple[int, int, float]] = []

    def add(self, time_ms: int, step: int, value: float) -> None:
        """Appends a point."""
        self._points.append((time_ms, step, value))

    @property
    def is_without_steps(self) -> bool:
        """Whether all points have the same step, like points that were logged without a step."""
        return len(self._points) > 1 and len({step for _, step, _ in self._points}) == 1

    def columns(self) -> Points:
        """Returns the points in the order of their times. Points without steps are numbered."""
        # Stable, so that points of the same millisecond keep their order.
        ordered = sorted(self._points, key=lambda point: point[0])
        steps = range(len(ordered)) if self.is_without_steps else [step for _, step, _ in ordered]
        return Points(
            self.name,
            values=array("d", (value for _, _, value in ordered)),
            steps=array("q", steps),
            times_us=array("q", (time_ms * 1000 for time_ms, _, _ in ordered)),
        )
