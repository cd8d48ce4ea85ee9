"""End of runs: at interpreter exit, and when a process forks."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from typing import Protocol

_logger = logging.getLogger("matyan_client")


class OpenRun(Protocol):
    """The part of a run that the exit hook needs."""

    def close(self) -> None:
        """Finishes the run."""
        ...


_runs: weakref.WeakValueDictionary[int, OpenRun] = weakref.WeakValueDictionary()
_lock = threading.Lock()
_is_registered = False


def opened(run: OpenRun) -> None:
    """Makes sure that a run is closed at the exit of the interpreter."""
    global _is_registered  # noqa: PLW0603 - once per process
    with _lock:
        _runs[id(run)] = run
        if not _is_registered:
            _is_registered = True
            atexit.register(_close_all)


def closed(run: OpenRun) -> None:
    """Forgets a run that was closed."""
    with _lock:
        _runs.pop(id(run), None)


def _close_all() -> None:
    with _lock:
        runs = list(_runs.values())
        _runs.clear()
    for run in runs:
        try:
            run.close()
        except KeyboardInterrupt:
            # The user does not want to wait. Everything is in the spool.
            continue
        except Exception:
            _logger.exception("failed to close a run at exit")


def _forget_runs_of_parent() -> None:
    """Leaves the runs to the parent, which still uses them."""
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = threading.Lock()
    _runs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_runs_of_parent)
