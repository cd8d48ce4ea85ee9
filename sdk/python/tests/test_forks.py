"""Locks and values of a process that forks while other threads run."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from matyan_client import Run, _device, _params, terminal
from matyan_client.adapters import _base, _exception_resistant

NOWHERE = "http://127.0.0.1:1"

# A forked child that waits for a lock is ended after this many seconds.
CHILD_LIMIT = 10


class Opened(_base.RunSession):
    """A session without its own run."""

    def _create(self):
        return Run(repo=NOWHERE, offline=True, capture_terminal_logs=False)


OWNERS = {
    "params": (_params.ParamsOverlay, lambda overlay: overlay.set(("a",), 1)),
    "device values": (_device.DeviceQueue, lambda queue: queue.settle(None, None)),
    "terminal lines": (
        lambda: terminal.LineCutter(lambda line, number: None),
        lambda cutter: cutter.write("line\n"),
    ),
    "failures": (
        _exception_resistant.FailureCounter,
        lambda counter: counter.record("track", ValueError("x")),
    ),
    "sessions": (lambda: Opened(_base.RunOptions()), lambda session: session.open()),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("owner", OWNERS)
def test_a_lock_that_a_thread_holds_is_free_in_a_forked_child(owner):
    make, use = OWNERS[owner]
    target = make()
    is_held = threading.Event()
    ends = threading.Event()

    def hold():
        with target._lock:
            is_held.set()
            ends.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert is_held.wait(CHILD_LIMIT)
        child = os.fork()
        if child == 0:
            signal.alarm(CHILD_LIMIT)
            use(target)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        ends.set()
        holder.join()
    use(target)


def test_values_on_a_device_are_left_to_the_parent():
    queue = _device.DeviceQueue()
    queue.add(SimpleNamespace(points=[(None, 0)]))
    child = os.fork()
    if child == 0:
        os._exit(len(queue))
    assert (os.waitpid(child, 0)[1], len(queue)) == (0, 1)
