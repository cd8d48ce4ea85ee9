"""Sending of data for one run, with the interface of the client of Matyan 0.3."""

from __future__ import annotations

from typing import Any

from matyan_client import _core, _urls, values

# Time that `close` waits for a server that cannot be reached, in seconds.
_UNREACHABLE_LIMIT = 3.0


class WsTransport:
    """Sends data of one run to a gateway. `Run` is the usual way to do that.

    The run starts with the transport, and ends with it. Nothing waits for the server: data that
    cannot be sent is kept in a spool, like the data of a `Run`.
    """

    def __init__(self, frontier_url: str, run_id: str) -> None:
        self._url = _urls.checked("frontier_url", frontier_url)
        self._run = _core.Run()
        self._run._open(  # noqa: SLF001 - the same package
            run_id, (self._url, self._url), None, force_resume=False, offline=False, joins=False
        )
        # The start of the run.
        self._messages = 1
        self._is_closed = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the server."""
        return not self._is_closed and self._run.health.connected

    @property
    def pending(self) -> int:
        """Number of messages that the server has not confirmed to have stored."""
        return self._run.health.pending

    @property
    def stats(self) -> dict[str, int]:
        """Numbers of messages that are stored, were dropped, and are pending."""
        health = self._run.health
        sent = max(0, self._messages - health.pending - health.dropped)
        return {"sent": sent, "dropped": health.dropped, "pending": health.pending}

    def send_create_run(self, *, force_resume: bool = False) -> None:
        """Does nothing: the run has started with the transport."""

    def send_log_metric(
        self,
        name: str,
        value: float,
        step: int | None = None,
        epoch: int | None = None,
        context: dict[str, Any] | None = None,
        dtype: str | None = None,
    ) -> None:
        """Tracks a number."""
        series = (name, context, dtype or "float")
        self._run._track_number(float(value), series, step, epoch)  # noqa: SLF001 - the same package
        self._messages += 1

    def send_log_custom_object(
        self,
        name: str,
        value: dict[str, Any],
        step: int | None = None,
        epoch: int | None = None,
        context: dict[str, Any] | None = None,
        dtype: str = "custom",
    ) -> None:
        """Tracks an object whose files are stored already."""
        stored: Any = values.plain(value)
        members = [(stored, None)]
        self._run._track_objects(members, (name, context, dtype), step, epoch)  # noqa: SLF001
        self._messages += 1

    def send_log_hparams(self, value: dict[str, Any]) -> None:
        """Sets params."""
        params: Any = values.plain(value)
        self._run._set_params(params)  # noqa: SLF001 - the same package
        self._messages += 1

    def send_set_run_property(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        archived: bool | None = None,
        experiment: str | None = None,
    ) -> None:
        """Sets the properties that are given."""
        self._run._set_properties(  # noqa: SLF001 - the same package
            name=name, description=description, archived=archived, experiment=experiment
        )
        self._messages += 1

    def send_add_tag(self, tag_name: str) -> None:
        """Adds a tag."""
        self._run._add_tag(tag_name)  # noqa: SLF001 - the same package
        self._messages += 1

    def send_remove_tag(self, tag_name: str) -> None:
        """Removes a tag."""
        self._run._remove_tag(tag_name)  # noqa: SLF001 - the same package
        self._messages += 1

    def send_log_terminal_line(self, line: str, step: int) -> None:
        """Stores a terminal line."""
        self._run._terminal_line(line, step)  # noqa: SLF001 - the same package
        self._messages += 1

    def send_log_record(
        self,
        message: str,
        level: int,
        timestamp: float,
        logger_info: list[Any] | None = None,
        extra_args: dict[str, Any] | None = None,
    ) -> None:
        """Stores a log record. `logger_info` is the file and the line of the call."""
        location = None if logger_info is None else (str(logger_info[0]), int(logger_info[1]))
        self._run._log_record(level, message, timestamp, location, extra_args)  # noqa: SLF001
        self._messages += 1

    def send_finish_run(self) -> None:
        """Ends the run as planned."""
        self._run._finish("finished", "")  # noqa: SLF001 - the same package
        self._messages += 1

    def wait_for_flush(self, timeout: float = 30.0) -> bool:
        """Waits until everything is stored, and returns whether it is."""
        return self._run._flush(timeout, False)  # noqa: SLF001 - the same package

    def close(self, timeout: float = 10.0) -> None:
        """Ends the run, and waits until everything is stored, or for this many seconds."""
        if self._is_closed:
            return
        self._is_closed = True
        unreachable = min(timeout, _UNREACHABLE_LIMIT)
        self._run._close(timeout, unreachable, lambda *_: True)  # noqa: SLF001 - the same package
