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
import time
from typing import Any, NamedTuple, Protocol

from . import _forks

# Values in flight. More than this means that the device is far behind; then it is waited for.
_MAX_PENDING = 10_000


class Completion(Protocol):
    """An event of a device, after the copy of a value."""

    def query(self) -> bool:
        """Reports whether the device has reached the event."""
        ...

    def synchronize(self) -> None:
        """Waits until the device has reached the event."""
        ...


class PendingValue(NamedTuple):
    """A value whose copy may not be complete, with the arguments of its `track` call."""

    event: Completion
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

    def add(self, value: Any, name: str, step: int | None, epoch: int | None, context: Any) -> None:
        """Starts the copy of a tensor or array with one element."""
        copy, event = _copied(value)
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

    def synchronize(self) -> None:
        self._array.block_until_ready()


def _copied(value: Any) -> tuple[Any, Completion]:
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
