"""Handlers of signals that use what the main thread is in the middle of."""

import os
import re
import signal
import subprocess
import sys

import pytest

from matyan_client import Run, _device, _lifecycle, _params
from matyan_client.adapters import _base, _exception_resistant
from matyan_client.wandb import _notices, _target

NOWHERE = "http://127.0.0.1:1"

# A child that waits for its own lock is ended after this many seconds.
CHILD_LIMIT = 10


def passes_in_a_child(check):
    """Reports whether a function returns True in a forked child, which may wait for ever."""
    child = os.fork()
    if child == 0:
        signal.alarm(CHILD_LIMIT)
        is_passed = False
        try:
            is_passed = check()
        finally:
            os._exit(0 if is_passed else 1)
    return os.waitpid(child, 0)[1] == 0


class Runs:
    """The runs that are open, with the lock of the module."""

    _lock = property(lambda _: _lifecycle._lock)

    def use(self):
        Run(repo=NOWHERE, offline=True, capture_terminal_logs=False).close()


class Notices:
    """The warnings that were shown, with the lock of the module."""

    _lock = property(lambda _: _notices._lock)


OWNERS = {
    "params": (_params.ParamsOverlay, lambda overlay: overlay.set(("a",), 1)),
    "device values": (_device.DeviceQueue, lambda queue: queue.settle(None, None)),
    "runs": (Runs, lambda runs: runs.use()),
    "sessions": (
        lambda: _base.RunSession(_base.RunOptions()),
        lambda session: session.close(),
    ),
    "files of wandb": (_target.Staging, lambda staging: staging.remove()),
    "warnings of wandb": (Notices, lambda _: _notices.warn_once("shown")),
    "failures": (
        _exception_resistant.FailureCounter,
        lambda counter: counter.record("track", ValueError("x")),
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("owner", OWNERS)
def test_a_handler_can_use_what_its_thread_has_locked(owner):
    make, use = OWNERS[owner]
    target = make()

    def check():
        signal.signal(signal.SIGUSR1, lambda *_: use(target))
        with target._lock:
            signal.raise_signal(signal.SIGUSR1)
        return True

    assert passes_in_a_child(check)


class Array:
    """An array of JAX that is complete when a signal was handled."""

    size = 1
    is_computed = False

    def copy_to_host_async(self):
        pass

    def is_ready(self):
        if self.is_computed:
            signal.raise_signal(signal.SIGUSR1)
        return self.is_computed

    def __float__(self):
        return 0.5


def test_a_handler_can_close_a_run_that_stores_values_of_a_device():
    def check():
        run = Run(repo=NOWHERE, offline=True, capture_terminal_logs=False)
        before = run.health.pending
        signal.signal(signal.SIGUSR1, lambda *_: run.close())
        for step in range(3):
            run.track(Array(), name="loss", step=step)
        Array.is_computed = True
        run._drain_devices()
        # The end of the run, and each value at least once.
        return (len(run._devices), run._devices.failed) == (0, 0) and (
            run.health.pending >= before + 4
        )

    assert passes_in_a_child(check)


class Segment(str):
    """A part of a path whose comparison lasts until a signal is handled."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        signal.raise_signal(signal.SIGUSR1)
        return str.__eq__(self, other)


def test_what_a_handler_writes_is_kept():
    def check():
        overlay = _params.ParamsOverlay()
        overlay.set((Segment("a"),), 1)
        left = [2, 3]

        def write(*_):
            if left:
                number = left.pop()
                overlay.set(("by handler", str(number)), number)

        signal.signal(signal.SIGUSR1, write)
        overlay.set(("b",), 4)
        return overlay.merged({}) == {"a": 1, "by handler": {"2": 2, "3": 3}, "b": 4}

    assert passes_in_a_child(check)


def test_a_handler_that_exits_ends_the_waits_at_exit_but_not_the_closing():
    program = """
import atexit, signal, sys
from matyan_client import Run
signal.signal(signal.SIGALRM, lambda *_: sys.exit(3))
runs = [Run(repo="http://127.0.0.1:1", capture_terminal_logs=False) for _ in range(2)]
# The last one that is registered is called first.
atexit.register(signal.setitimer, signal.ITIMER_REAL, 0.3)
"""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MATYAN_QUIET": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    begun = re.findall(r"^matyan: run (\w+)", finished.stderr, re.M)
    ended = re.findall(r"^matyan: not stored yet: 2 values of run (\w+)", finished.stderr, re.M)
    assert len(begun) == 2, finished.stderr
    assert sorted(ended) == sorted(begun), finished.stderr
