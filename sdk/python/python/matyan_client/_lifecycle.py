"""End of runs: with which outcome, at interpreter exit, and when a process forks."""

from __future__ import annotations

import atexit
import functools
import logging
import math
import os
import sys
import threading
import time
import weakref
from types import FrameType
from typing import Any, NamedTuple, NoReturn, Protocol

_logger = logging.getLogger("matyan_client")


class Outcome(NamedTuple):
    """Outcome of a run: `finished`, `failed` or `interrupted`."""

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
    return Outcome("failed", f"{type(error).__name__}: {_text_of(error)}")


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001 - code of the script
        _logger.warning("an exception has no text: %s", type(failure).__name__)
        text = "(without text)"
    # Names of files may have lone surrogates, which UTF-8 has no form for.
    return text.encode("utf-8", "replace").decode("utf-8")


_last_exit: SystemExit | None = None
# The outermost frame of the script, which shows at exit how its code has ended.
_script_frame: FrameType | None = None


def _remember_exits() -> None:
    """Makes `sys.exit` note its code, which the interpreter forgets before it runs exit hooks."""
    plain = sys.exit

    @functools.wraps(plain)
    def noting(status: Any = None, /) -> NoReturn:
        global _last_exit  # noqa: PLW0603 - once per process
        # In another thread, it ends only that thread.
        if threading.current_thread() is threading.main_thread():
            _last_exit = SystemExit(status)
        plain(status)

    sys.exit = noting


def _outermost(frame: FrameType | None) -> FrameType | None:
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _has_returned(frame: FrameType) -> bool:
    """Reports whether a frame has ended by a return, or not ended, rather than by an exception."""
    import opcode  # noqa: PLC0415 - only at exit

    if frame is _outermost(sys._getframe()):  # noqa: SLF001 - there is no other way
        return True
    return "RETURN" in opcode.opname[frame.f_code.co_code[frame.f_lasti]]


def _outcome_of_script() -> Outcome | None:
    """Returns how the script has ended, or None if its exit code is not known."""
    # In an interactive session, the last exception or exit says nothing about the session's end.
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return FINISHED
    # An exception that the script has caught does not count.
    if _script_frame is None or _has_returned(_script_frame):
        return FINISHED
    # The interpreter keeps the exception that ended a script, unless it is a SystemExit.
    error = getattr(sys, "last_value", None) or _last_exit
    return None if error is None else outcome_of(error)


class OpenRun(Protocol):
    """The part of a run that the exit hook needs."""

    def _end(self, outcome: Outcome | None, *, spent: float = 0.0, is_exit: bool = False) -> None:
        """Closes the run, and waits until it is stored, but shorter by the time that is spent."""
        ...


_runs: weakref.WeakValueDictionary[int, OpenRun] = weakref.WeakValueDictionary()
# Reentrant, because a signal handler may close a run while another run is opened.
_lock = threading.RLock()
_is_registered = False


def opened(run: OpenRun) -> None:
    """Makes sure that a run is closed at the exit of the interpreter."""
    global _is_registered, _script_frame  # noqa: PLW0603 - once per process
    with _lock:
        _runs[id(run)] = run
        if not _is_registered:
            _is_registered = True
            frames = sys._current_frames()  # noqa: SLF001 - the run may be of another thread
            _script_frame = _outermost(frames.get(threading.main_thread().ident or 0))
            _remember_exits()
            atexit.register(_close_all)


def closed(run: OpenRun) -> None:
    """Forgets a run that was closed."""
    with _lock:
        _runs.pop(id(run), None)


def _close_all() -> None:
    with _lock:
        # Without the iterator of the dict, which fails if a signal handler closes a run in between.
        runs = [run for reference in _runs.valuerefs() if (run := reference()) is not None]
        _runs.clear()
    outcome = _outcome_of_script()
    began = time.monotonic()
    is_interrupted = False
    for run in runs:
        # The limits are the limits of the script's end, however many runs it has.
        spent = math.inf if is_interrupted else time.monotonic() - began
        try:
            run._end(outcome, spent=spent, is_exit=True)  # noqa: SLF001 - not for scripts
        except (KeyboardInterrupt, SystemExit):
            # By Ctrl-C, or by a signal handler that exits: this ends the waits for all runs.
            # Everything is in their spools.
            is_interrupted = True
        except Exception:
            _logger.exception("failed to close a run at exit")


def _forget_runs_of_parent() -> None:
    """Leaves the runs to the parent, which still uses them."""
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = threading.RLock()
    _runs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_runs_of_parent)
