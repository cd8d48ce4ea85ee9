"""Values that are still being computed on a device.

Reading such a tensor would stop the script until the device has finished everything before it.
Instead the tensor is copied to the host in the device's own order of work, and read once an event
after the copy has completed.
"""

from __future__ import annotations

import collections
import sys
import threading
import time
from typing import Any, NamedTuple

from . import _forks

# Values in flight. More than this means that the device is far behind; then it is waited for.
_MAX_PENDING = 10_000


class PendingValue(NamedTuple):
    """A value whose copy may not be complete, with the arguments of its `track` call."""

    event: Any
    copy: Any
    name: str
    step: int | None
    epoch: int | None
    context: Any
    time_us: int

    def is_complete(self) -> bool:
        """Reports whether the copy is complete, without waiting."""
        return bool(self.event.query())


class DeviceQueue:
    """Values in flight, in the order of their calls."""

    def __init__(self) -> None:
        self._pending: collections.deque[PendingValue] = collections.deque()
        self._lock = threading.Lock()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Leaves the values to the parent, as a forked child cannot use its devices."""
        self._lock = threading.Lock()
        self._pending.clear()

    def __len__(self) -> int:
        return len(self._pending)

    def add(
        self, tensor: Any, name: str, step: int | None, epoch: int | None, context: Any
    ) -> None:
        """Starts the copy of a tensor with one element."""
        # The library is imported, as the tensor comes from it.
        library = sys.modules[type(tensor).__module__.partition(".")[0]]
        copy = tensor.detach().to("cpu", non_blocking=True)
        event = library.cuda.Event()
        event.record()
        time_us = time.time_ns() // 1000
        if isinstance(context, dict):
            # The caller may change it before the value is read.
            context = dict(context)
        self._pending.append(PendingValue(event, copy, name, step, epoch, context, time_us))

    def take(self, *, wait: bool) -> list[PendingValue]:
        """Returns the first values up to one that is not complete, or all after waiting."""
        taken: list[PendingValue] = []
        with self._lock:
            while self._pending:
                first = self._pending[0]
                if not first.is_complete():
                    if not wait and len(self._pending) < _MAX_PENDING:
                        break
                    first.event.synchronize()
                taken.append(self._pending.popleft())
        return taken


def is_on_device(tensor: Any) -> bool:
    """Reports whether reading a tensor would wait for a device with events."""
    return bool(getattr(tensor, "is_cuda", False))
