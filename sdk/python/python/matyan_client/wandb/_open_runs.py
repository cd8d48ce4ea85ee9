"""Runs of this process that have not ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import _notices

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


def _after_fork() -> None:
    _notices.after_fork()
    for run in _runs:
        run.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
