"""A `logging` handler that stores records with a run."""

from __future__ import annotations

import logging
from typing import Protocol

from . import values

# Attributes of every record. The others came with `extra=`.
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime",
    "message",
    "taskName",
}


class RecordSink(Protocol):
    """The part of `Run` that the handler needs."""

    def _append_log_record(
        self,
        level: int,
        message: str,
        timestamp: float,
        location: tuple[str, int] | None,
        extra: dict[str, object],
    ) -> None: ...


class RunLogHandler(logging.Handler):
    """Stores each record with a run: message, level, time, source line, and `extra` values.

    Usage::

        logging.getLogger().addHandler(RunLogHandler(run))
    """

    def __init__(self, run: RecordSink, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._run = run

    def emit(self, record: logging.LogRecord) -> None:
        """Stores a record. Records of the SDK itself are left out."""
        if record.name.partition(".")[0] == "matyan_client":
            return
        try:
            # With a formatter, the text is formatted by it, otherwise it is the plain message.
            message = self.format(record)
            extra: dict[str, object] = {
                values.text(name): values.plain(value)
                for name, value in vars(record).items()
                if name not in _STANDARD_ATTRIBUTES
            }
            extra["logger"] = record.name
            location = (record.pathname, record.lineno)
            self._run._append_log_record(  # noqa: SLF001 - a class of the same package
                record.levelno, message, record.created, location, extra
            )
        except Exception:  # noqa: BLE001 - `handleError` is how handlers report their failures
            self.handleError(record)
