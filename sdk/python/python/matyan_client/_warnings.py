"""Warnings that a script shows although it does not configure logging."""

from __future__ import annotations

import contextlib
import logging
import warnings

_logger = logging.getLogger("matyan_client")


def warn_user(message: str, error: BaseException | None = None) -> None:
    """Logs a warning, with the traceback, and shows it as a `RuntimeWarning`."""
    _logger.warning(message, exc_info=error)
    # A filter may turn the warning into an exception, and the text of the error may fail: neither
    # may end a training.
    with contextlib.suppress(Exception):
        cause = "" if error is None else f" ({type(error).__name__}: {error})"
        warnings.warn(f"{message}{cause}", RuntimeWarning, stacklevel=2)
