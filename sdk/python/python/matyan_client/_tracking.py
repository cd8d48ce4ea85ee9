"""Tracking of values that are not plain numbers: objects, lists of them, and values of devices."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _arguments, _core, _device, _tracked_objects
from ._health import Health

if TYPE_CHECKING:
    from .objects import Table

_logger = logging.getLogger("matyan_client")


class Tracker(_core.Run):
    """The part of `Run` that tracks objects and tensors. The core calls it for such values."""

    _hash: str
    _object_types: _tracked_objects.ObjectTypes
    _devices: _device.DeviceQueue

    # The core does not know of values that never reached it.
    @property
    def health(self) -> Health:  # type: ignore[override]
        """State of the delivery to the server."""
        known = super().health
        return Health(
            pending=known.pending,
            pending_uploads=known.pending_uploads,
            oldest_s=known.oldest_s,
            dropped=known.dropped + self._devices.failed,
            rejected=known.rejected,
            connected=known.connected,
            last_error=known.last_error,
        )

    def _track_other(
        self, value: Any, name: str, step: int | None, epoch: int | None, context: Any
    ) -> None:
        """Tracks a value that is no number: an object, or a list of objects."""
        self._drain_devices()
        if _tracked_objects.is_table(value):
            self._store_table(value, name, step, epoch, context)
        elif _tracked_objects.is_object(value):
            self._track_object_list([value], name, step, epoch, context)
        elif _tracked_objects.is_list_of_objects(value):
            if any(map(_tracked_objects.is_table, value)):
                raise TypeError("`value`: a list cannot have tables: track each under its own name")
            self._track_object_list(value, name, step, epoch, context)
        else:
            hint = _hint(value)
            raise TypeError(f"`value`: cannot track {type(value).__name__} as {name!r}{hint}")

    def _store_table(
        self, table: Table, name: str, step: int | None, epoch: int | None, context: Any
    ) -> None:
        """Stores the files of a table as artifacts. Files of their size are copied at the call."""
        import tempfile  # noqa: PLC0415 - few scripts need it, and it is slow to import
        from pathlib import Path  # noqa: PLC0415 - few scripts need it

        name = _arguments.required_name("name", name)
        entries = _arguments.context(context)
        with tempfile.TemporaryDirectory(prefix="matyan-table-") as directory:
            # The method belongs to a class of the same package.
            files = table._files(name, step, entries, epoch)  # noqa: SLF001
            for number, (path, data) in enumerate(files):
                file = Path(directory, str(number))
                file.write_bytes(data)
                self._log_artifact(file, _arguments.artifact_name(path))

    def _track_tensors(
        self,
        members: list[tuple[Any, _core.TrackedSeries]],
        step: int | None,
        epoch: int | None,
    ) -> None:
        """Tracks tensors and arrays of JAX with one element, without waiting for their devices."""
        self._drain_devices()
        time_us = time.time_ns() // 1000
        while self._devices.is_full():
            time.sleep(_device.POLL_INTERVAL)
            self._drain_devices()
        values = [value for value, _ in members]
        for copied in _device.start_copies(values, self._devices.events):
            points = [(members[place][1], step) for place in copied.places]
            if copied.event is None:
                self._track_arrived(points, copied.numbers(), epoch, time_us)
                continue
            if step is None:
                # A point that is tracked before the value arrives gets a later step.
                points = [(series, self._reserve_step(series)) for series, _ in points]
            self._devices.add(_device.PendingValues(copied, points, epoch, time_us))
            self._request_attention()

    def _track_object_list(
        self,
        objects: Sequence[Any],
        name: str,
        step: int | None,
        epoch: int | None,
        context: Any,
        time_us: int | None = None,
    ) -> None:
        """Tracks objects of one type at the same step."""
        dtype, members = _tracked_objects.described(objects)
        self._object_types.check(name, context, dtype)
        self._track_objects(members, (name, context, dtype), step, epoch, time_us)

    def _drain_devices(self, *, in_order: bool = True) -> None:
        """Stores the device values that have arrived; in order, only up to a missing value."""
        self._devices.settle(self._store_arrived, self._report_failure, in_order=in_order)

    def _wait_for_devices(self, limit: float) -> bool:
        """Stores the device values that were tracked before, unless that takes too long.

        Returns whether all of them have arrived within the limit in seconds.
        """
        newest = self._devices.newest()
        end = time.monotonic() + limit
        self._drain_devices()
        while newest in self._devices and time.monotonic() < end:
            time.sleep(_device.POLL_INTERVAL)
            self._drain_devices()
        if newest in self._devices:
            # Values of one device do not wait for values of another device.
            self._drain_devices(in_order=False)
            return not self._devices
        return True

    def _store_arrived(self, pending: _device.PendingValues, numbers: list[float]) -> None:
        """Stores values of a device with the steps and the time of their call."""
        self._track_arrived(pending.points, numbers, pending.epoch, pending.time_us)

    def _report_failure(self, pending: _device.PendingValues, error: Exception) -> None:
        _logger.error(
            "run %s: failed to store a value of %r from a device; more failures are only counted",
            self._hash,
            pending.points[0][0].name,
            exc_info=error,
        )


def _hint(value: Any) -> str:
    """Returns how a value can be tracked that is no number."""
    if isinstance(value, Mapping):
        return "; without `name`, each member of a dict is tracked under its key"
    if isinstance(value, (list, tuple)) and not value:
        return "; it is empty"
    if isinstance(value, (list, tuple)) and any(map(_tracked_objects.is_object, value)):
        return "; a list must have only objects, such as images"
    if isinstance(value, (list, tuple)):
        return "; `track_many` tracks several values"
    return ""
