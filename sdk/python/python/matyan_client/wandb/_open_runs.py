"""Runs of this process that have not ended."""

from __future__ import annotations

import os

from . import _notices
from ._run import Run

# The runs that have ended stay here until the next run starts.
_runs: list[Run] = []


def add(run: Run) -> None:
    """Adds a run that starts."""
    _runs[:] = [*listed(), run]


def listed() -> list[Run]:
    """Returns the runs in the order of their start."""
    return [run for run in _runs if not run._is_finished]  # noqa: SLF001 - same package


def _after_fork() -> None:
    _notices.after_fork()
    for run in listed():
        run.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
