"""Values that are still being computed on a device.

Reading such a value would stop the script until the device has finished everything before it.
Instead it is copied to the host in the device's own order of work, and read once that is complete.
This needs a library with events (PyTorch on CUDA, ROCm, XPU, and MPS) or with copies that can be
asked whether they are complete (JAX). TensorFlow has neither, so its tensors are waited for.

A copy and its event cost the caller several microseconds each, however small the value is. So the
tensors of one call are stacked on their device and copied together, and events are used again.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from . import _forks

if TYPE_CHECKING:
    from ._core import TrackedSeries

# Calls whose values are in flight. More than this means that the device is far behind; then it is
# waited for.
MOST_PENDING = 10_000
# Seconds between two looks at a device that is waited for. The wait of a device's own library would
# have no limit, and no signal could end it.
POLL_INTERVAL = 0.001


class Completion(Protocol):
    """An event of a device, after the copy of a value."""

    def query(self) -> bool:
        """Reports whether the device has reached the event."""
        ...


class StartedCopy(NamedTuple):
    """Values that are copied together, by their places among the values of the call."""

    places: Sequence[int]
    # One number, or an array of numbers if there are several places.
    copy: Any
    # Absent if nothing has to be waited for.
    event: Completion | None
    # The list that the event is returned to when it has passed.
    unused: list[Completion] | None

    def numbers(self) -> list[float]:
        """Returns the values, which must have arrived."""
        if len(self.places) == 1:
            return [float(self.copy)]
        return list(map(float, self.copy.tolist()))


class EventPool:
    """Events of devices that can be recorded again, because it takes long to make one."""

    def __init__(self) -> None:
        self._unused: dict[Any, list[Completion]] = {}

    def record(self, module: Any, device: Any) -> tuple[Completion, list[Completion]]:
        """Records an event in the current stream. Returns it with the list that it belongs to."""
        unused = self._unused.setdefault(device, [])
        try:
            event: Any = unused.pop()
        except IndexError:
            event = module.Event()
        event.record()
        return event, unused


# No dataclass: the import of their module would take longer than most of this package.
class PendingValues:
    """Values whose copy may not be complete, with the arguments and the time of their `track`."""

    __slots__ = ("copied", "epoch", "points", "time_us")

    def __init__(
        self,
        copied: StartedCopy,
        points: list[tuple[TrackedSeries, int | None]],
        epoch: int | None,
        time_us: int,
    ) -> None:
        self.copied = copied
        # Series and step of each value.
        self.points = points
        self.epoch = epoch
        self.time_us = time_us


Store = Callable[[PendingValues, list[float]], None]
"""Stores values that have arrived."""

Report = Callable[[PendingValues, Exception], None]
"""Reports the first values that cannot be read or stored."""


class DeviceQueue:
    """Values in flight, in the order of their calls."""

    def __init__(self) -> None:
        # Number of values that were lost.
        self.failed = 0
        self.events = EventPool()
        self._pending: collections.deque[PendingValues] = collections.deque()
        # Reentrant, because a signal handler may close the run while a value is stored. Nothing
        # waits for the lock: the thread that holds it stores the values of all threads.
        self._lock = threading.RLock()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Leaves the values to the parent, because a forked child cannot use its devices."""
        self._lock = threading.RLock()
        self.events = EventPool()
        self.abandon()
        self.failed = 0

    def __len__(self) -> int:
        return sum(len(values.points) for values in list(self._pending))

    def __bool__(self) -> bool:
        return bool(self._pending)

    def __contains__(self, values: object) -> bool:
        return values in self._pending

    def is_full(self) -> bool:
        """Reports whether a device is so far behind that it has to be waited for."""
        return len(self._pending) >= MOST_PENDING

    def add(self, values: PendingValues) -> None:
        """Adds values whose copy was started."""
        self._pending.append(values)

    def newest(self) -> PendingValues | None:
        """Returns the values that were added last, if any are left."""
        with contextlib.suppress(IndexError):
            return self._pending[-1]
        return None

    def abandon(self) -> int:
        """Gives up all values that are left, and returns their number."""
        left = len(self)
        self._pending.clear()
        self.failed += left
        return left

    def settle(self, store: Store, report: Report, *, in_order: bool = True) -> None:
        """Stores and removes the values before the first that has not arrived, or all that have.

        A value that cannot be read or stored is counted and removed.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            if in_order:
                while (first := self._first()) and self._is_settled(first, store, report):
                    pass
            else:
                for values in list(self._pending):
                    self._is_settled(values, store, report)
        finally:
            self._lock.release()

    def _first(self) -> PendingValues | None:
        # Another thread may abandon the values, or a signal handler store them.
        try:
            return self._pending[0]
        except IndexError:
            return None

    def _is_settled(self, values: PendingValues, store: Store, report: Report) -> bool:
        # Values are removed after they are stored. Until then, a signal handler that closes the run
        # finds them here, and stores them itself.
        copied = values.copied
        try:
            if copied.event is not None and not copied.event.query():
                return False
            store(values, copied.numbers())
        except Exception as error:  # noqa: BLE001 - of a device, and of one call only
            if self._remove(values):
                is_first = not self.failed
                self.failed += len(values.points)
                if is_first:
                    report(values, error)
        else:
            if self._remove(values) and copied.event is not None and copied.unused is not None:
                copied.unused.append(copied.event)
        return True

    def _remove(self, values: PendingValues) -> bool:
        try:
            self._pending.remove(values)
        except ValueError:
            return False
        return True


class _ArrayCompletion:
    """The completion of an array of JAX, which is asked itself."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def query(self) -> bool:
        return bool(self._array.is_ready())


def start_copies(values: Sequence[Any], events: EventPool) -> Iterator[StartedCopy]:
    """Starts copies to the host: one for all tensors of one type on one device.

    A value that can be read now, or only by waiting for its device, is not copied.
    """
    groups: dict[Any, list[int]] = {}
    for place, value in enumerate(values):
        group = (type(value), getattr(value, "device", None), getattr(value, "dtype", None))
        groups.setdefault(group, []).append(place)
    for (_, device, _), places in groups.items():
        tensors = [values[place] for place in places]
        if hasattr(tensors[0], "copy_to_host_async"):
            yield from map(_start_array_copy, places, tensors)
            continue
        library, module = _library(tensors[0])
        if hasattr(module, "Event"):
            yield _start_tensor_copy(library, module, device, places, tensors, events)
        else:
            for place, tensor in zip(places, tensors):  # noqa: B905 - of one length
                yield StartedCopy((place,), tensor, None, None)


def _start_array_copy(place: int, array: Any) -> StartedCopy:
    if array.is_ready():
        return StartedCopy((place,), array, None, None)
    array.copy_to_host_async()
    return StartedCopy((place,), array, _ArrayCompletion(array), None)


def _start_tensor_copy(
    library: Any,
    module: Any,
    device: Any,
    places: list[int],
    tensors: list[Any],
    events: EventPool,
) -> StartedCopy:
    # An event belongs to the current device, and is recorded in its current stream: that in which
    # the values are copied only if both are on the device of the values. MPS has a single device.
    current = getattr(module, "current_device", None)
    is_current = current is None or current() == device.index
    with contextlib.nullcontext() if is_current else module.device(device):
        if len(tensors) == 1:
            (tensor,) = tensors
            value = tensor.detach() if tensor.requires_grad else tensor
        else:
            with library.no_grad():
                value = library.stack([one.reshape(()) if one.ndim else one for one in tensors])
        copy = value.to("cpu", non_blocking=True)
        return StartedCopy(places, copy, *events.record(module, device))


def _library(tensor: Any) -> tuple[Any, Any]:
    """Returns the library of a tensor, such as `torch`, and its module for the device, if any."""
    kind = getattr(getattr(tensor, "device", None), "type", "cpu")
    if kind == "cpu":
        return None, None
    # The library is imported, because the class of the tensor, or a base of this class, is its own.
    for base in type(tensor).__mro__:
        library = sys.modules.get(base.__module__.partition(".")[0])
        module = getattr(library, kind, None)
        if module is not None:
            return library, module
    return None, None
