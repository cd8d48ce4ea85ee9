"""Values that are still being computed on a device.

Reading such a value would stop the script until the device has finished everything before it.
Instead it is copied to the host in the device's own order of work, and read once that is complete.
This needs a library with events (PyTorch on CUDA, ROCm, XPU, and MPS) or with copies that can be
asked whether they are complete (JAX). TensorFlow has neither, so its tensors are waited for.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from . import _forks

# Values in flight. More than this means that the device is far behind; then it is waited for.
MOST_PENDING = 10_000
# Seconds between two looks at a device that is waited for. The wait of a device's own library would
# have no limit, and no signal could end it.
POLL_INTERVAL = 0.001


class Completion(Protocol):
    """An event of a device, after the copy of a value."""

    def query(self) -> bool:
        """Reports whether the device has reached the event."""
        ...


# No dataclass: the import of their module would take longer than most of this package.
class PendingValue:
    """A value whose copy may not be complete, with the arguments and the time of its `track`."""

    __slots__ = ("copy", "epoch", "event", "series", "step", "time_us")

    def __init__(
        self,
        copy: Any,
        event: Completion,
        series: tuple[str, Any, str],
        step: int | None,
        epoch: int | None,
        time_us: int,
    ) -> None:
        self.copy = copy
        self.event = event
        self.series = series
        self.step = step
        self.epoch = epoch
        self.time_us = time_us


Store = Callable[[PendingValue, float], None]
"""Stores a value that has arrived."""

Report = Callable[[PendingValue, Exception], None]
"""Reports the first value that cannot be read or stored."""


class DeviceQueue:
    """Values in flight, in the order of their calls."""

    def __init__(self) -> None:
        # Number of values that were lost.
        self.failed = 0
        self._pending: collections.deque[PendingValue] = collections.deque()
        # Reentrant, as a signal handler may close the run while a value is stored. Nothing waits
        # for it: the thread that holds it stores the values of all.
        self._lock = threading.RLock()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Leaves the values to the parent, as a forked child cannot use its devices."""
        self._lock = threading.RLock()
        self.abandon()
        self.failed = 0

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, value: object) -> bool:
        return value in self._pending

    def add(self, value: PendingValue) -> None:
        """Adds a value whose copy was started."""
        self._pending.append(value)

    def newest(self) -> PendingValue | None:
        """Returns the value that was added last, if any is left."""
        with contextlib.suppress(IndexError):
            return self._pending[-1]
        return None

    def abandon(self) -> int:
        """Gives up all values that are left, and returns their number."""
        left = len(self._pending)
        self._pending.clear()
        self.failed += left
        return left

    def settle(self, store: Store, report: Report, *, in_order: bool = True) -> None:
        """Stores and removes the first values up to one that has not arrived, or all that have.

        A value that cannot be read or stored is counted and removed.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            if in_order:
                while (first := self._first()) and self._is_settled(first, store, report):
                    pass
            else:
                for value in list(self._pending):
                    self._is_settled(value, store, report)
        finally:
            self._lock.release()

    def _first(self) -> PendingValue | None:
        with contextlib.suppress(IndexError):
            return self._pending[0]
        return None

    def _is_settled(self, value: PendingValue, store: Store, report: Report) -> bool:
        # A value is removed after it is stored. Until then, a signal handler that closes the run
        # finds it here, and stores it itself.
        try:
            if not value.event.query():
                return False
            store(value, float(value.copy))
        except Exception as error:  # noqa: BLE001 - of a device, and of one value only
            if self._remove(value):
                self.failed += 1
                if self.failed == 1:
                    report(value, error)
        else:
            self._remove(value)
        return True

    def _remove(self, value: PendingValue) -> bool:
        try:
            self._pending.remove(value)
        except ValueError:
            return False
        return True


def is_on_device(value: Any) -> bool:
    """Reports whether reading a tensor or array would wait for a device that can be asked."""
    if hasattr(value, "copy_to_host_async"):
        return not value.is_ready()
    return hasattr(_device_module(value), "Event")


class _ArrayCompletion:
    """The completion of an array of JAX, which is asked itself."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def query(self) -> bool:
        return bool(self._array.is_ready())


def start_copy(value: Any) -> tuple[Any, Completion]:
    """Starts a copy to the host, and returns it with its completion."""
    if hasattr(value, "copy_to_host_async"):
        value.copy_to_host_async()
        return value, _ArrayCompletion(value)
    module = _device_module(value)
    # An event belongs to the current device, and is recorded in its current stream: that in which
    # the value is copied only if both are on the device of the value. MPS has a single device.
    select = getattr(module, "device", None)
    with contextlib.nullcontext() if select is None else select(value.device):
        copy = value.detach().to("cpu", non_blocking=True)
        event = module.Event()
        event.record()
    return copy, event


def _device_module(tensor: Any) -> Any:
    """Returns the module of a library for the device of a tensor, such as `torch.cuda`, if any."""
    kind = getattr(getattr(tensor, "device", None), "type", "cpu")
    if kind == "cpu":
        return None
    # The library is imported, as the class of the tensor, or one that it derives from, is its own.
    for base in type(tensor).__mro__:
        module = getattr(sys.modules.get(base.__module__.partition(".")[0]), kind, None)
        if module is not None:
            return module
    return None
