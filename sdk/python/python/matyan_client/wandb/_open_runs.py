"""Runs of this process that have not ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._run import Run

_runs: list[Run] = []


def add(run: Run) -> None:
    """Adds a run that begins."""
    _runs.append(run)


def remove(run: Run) -> None:
    """Removes a run that ends."""
    if run in _runs:
        _runs.remove(run)


def listed() -> list[Run]:
    """Returns the runs in the order of their beginning."""
    return list(_runs)
