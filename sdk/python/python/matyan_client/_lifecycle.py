"""End of runs: with which outcome, at interpreter exit, and when a process forks."""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
import threading
import time
import weakref
from typing import NamedTuple, Protocol

_logger = logging.getLogger("matyan_client")


class Outcome(NamedTuple):
    """How a run ended: `finished`, `failed` or `interrupted`."""

    kind: str
    error: str = ""


FINISHED = Outcome("finished")
INTERRUPTED = Outcome("interrupted")


def outcome_of(error: BaseException | None) -> Outcome:
    """Returns the outcome of code that ended with this exception, or without one."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return FINISHED
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return Outcome("failed", f"{type(error).__name__}: {error}")


def _outcome_of_script() -> Outcome:
    # The interpreter keeps the exception that ended a script. In an interactive session it keeps
    # the last one that was shown, which says nothing about the session's end.
    is_session = hasattr(sys, "ps1") or bool(sys.flags.interactive)
    return outcome_of(None if is_session else getattr(sys, "last_value", None))


class OpenRun(Protocol):
    """The part of a run that the exit hook needs."""

    def _end(self, outcome: Outcome, *, spent: float = 0.0) -> None:
        """Closes the run, and waits until it is stored, but shorter by the time that is spent."""
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
    outcome = _outcome_of_script()
    began, is_interrupted = time.monotonic(), False
    for run in runs:
        # The limits are those of the script's end, however many runs it has.
        spent = math.inf if is_interrupted else time.monotonic() - began
        try:
            run._end(outcome, spent=spent)  # noqa: SLF001 - not for scripts
        except KeyboardInterrupt:
            # The user does not want to wait for any of the runs. Everything is in their spools.
            is_interrupted = True
        except Exception:
            _logger.exception("failed to close a run at exit")


def _forget_runs_of_parent() -> None:
    """Leaves the runs to the parent, which still uses them."""
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = threading.Lock()
    _runs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_runs_of_parent)
