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
        warnings.warn(f"{message}{cause}", RuntimeWarning, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """Returns the number of frames from that of `warn_user` to the first outside the package."""
    # `skip_file_prefixes` exists since Python 3.12.
    frame, level = sys._getframe(1), 1  # noqa: SLF001 - `inspect` would slow down the import
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    return level
