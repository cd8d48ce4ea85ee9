"""Warnings that a script shows although it does not configure logging."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings

_logger = logging.getLogger("matyan_client")

_PACKAGE = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - as text of code objects


def warn_user(message: str, error: BaseException | None = None) -> None:
    """Logs a warning, with the traceback, and shows it as a `RuntimeWarning`."""
    _logger.warning(message, exc_info=error)
    # A filter may turn the warning into an exception, and the text of the error may fail: neither
    # may end a training.
    with contextlib.suppress(Exception):
        cause = "" if error is None else f" ({type(error).__name__}: {error})"
        warnings.warn(f"{message}{cause}", RuntimeWarning, stacklevel=level_of_caller())


def level_of_caller() -> int:
    """Returns the `stacklevel` of the first frame outside the package, from where it is called."""
    # `skip_file_prefixes` exists since Python 3.12.
    frame = sys._getframe(1)  # noqa: SLF001 - `inspect` would slow down the import
    level = 1
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
        level += 1
    return level


def is_shown(level: int) -> bool:
    """Reports whether a handler of the script writes records of the package to the error stream."""
    if not _logger.isEnabledFor(level):
        return False
    logger: logging.Logger | None = _logger
    while logger is not None:
        for handler in logger.handlers:
            stream = getattr(handler, "stream", None)
            if stream in (sys.stderr, sys.__stderr__) and stream and level >= handler.level:
                return True
        logger = logger.parent if logger.propagate else None
    return False
