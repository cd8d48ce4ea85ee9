"""Capture of the output of the process: `sys.stdout` and `sys.stderr`, or descriptors.

Descriptors are captured by the core, which also sees the output of C code and child processes. The
`write` methods of the streams are replaced while at least one run captures them. Each run cuts the
output into lines with its own `LineCutter`. There is no thread: a finished line is handed over
within the call that finishes it, an unfinished line with a later write or at a flush.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol, TextIO

from . import _arguments, _core, _forks

LineSink = Callable[[str, int], None]
"""Receives a line and its number. A line that has grown is repeated with the same number."""


def weak_sink(method: LineSink) -> LineSink:
    """Returns a sink that calls a method without keeping its object alive."""
    reference = weakref.WeakMethod(method)

    def sink(line: str, number: int) -> None:
        target = reference()
        if target is not None:
            target(line, number)

    return sink


class LineCutter:
    """Hands over written text as numbered lines, by the rules of the core."""

    def __init__(self, sink: LineSink, first_line: int = 0) -> None:
        self._sink = sink
        self._lines = _core.LineCutter(first_line)
        # Reentrant, because a signal handler may print within `write`.
        self._lock = threading.RLock()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Replaces the lock in a forked child."""
        self._lock = threading.RLock()

    def write(self, data: str) -> None:
        """Adds written text, and hands over the lines that it finishes."""
        with self._lock:
            for line, number in self._lines.write(data, time.monotonic()):
                self._sink(line, number)

    def flush(self) -> None:
        """Hands over the unfinished line, if it changed since it was last handed over."""
        with self._lock:
            partial = self._lines.partial()
            if partial is not None:
                self._sink(*partial)


class CapturingRun(Protocol):
    """The part of a run that captures need."""

    def _append_terminal_line(self, line: str, number: int) -> None: ...
    def _capture_descriptors(self) -> None: ...
    def _release_descriptors(self) -> None: ...
    def _flush_descriptors(self) -> None: ...


class StreamCapture:
    """Stores the output of the streams of Python with a run, which is held weakly."""

    def __init__(self, run: CapturingRun) -> None:
        self._cutter = LineCutter(weak_sink(run._append_terminal_line))  # noqa: SLF001
        start(self._cutter)

    def flush(self) -> None:
        """Stores the unfinished line."""
        self._cutter.flush()

    def stop(self) -> None:
        """Ends the capture."""
        stop(self._cutter)


class DescriptorCapture:
    """Stores the output of the descriptors 1 and 2 with a run, which is held weakly."""

    def __init__(self, run: CapturingRun) -> None:
        self._run = weakref.ref(run)
        flush_buffers()
        run._capture_descriptors()  # noqa: SLF001 - a class of the same package

    def flush(self) -> None:
        """Stores all output until now, with the unfinished line."""
        run = self._run()
        flush_buffers()
        if run is not None:
            run._flush_descriptors()  # noqa: SLF001 - a class of the same package

    def stop(self) -> None:
        """Ends the capture."""
        run = self._run()
        flush_buffers()
        if run is not None:
            run._release_descriptors()  # noqa: SLF001 - a class of the same package


def check_kind(kind: object) -> None:
    """Raises an exception for a kind of capture that does not exist, or not on this system."""
    if not isinstance(kind, str):
        _arguments.flag("capture_terminal_logs", kind)
    elif kind not in ("", "fd"):
        raise ValueError(f"`capture_terminal_logs`: expected a bool or 'fd', not {kind!r}")
    if kind == "fd" and sys.platform == "win32":
        raise ValueError("`capture_terminal_logs`: 'fd' is not supported on Windows")


def capture(run: CapturingRun, kind: object) -> StreamCapture | DescriptorCapture | None:
    """Starts to capture for a run: streams, or descriptors if the kind is `fd`."""
    if not kind:
        return None
    return DescriptorCapture(run) if kind == "fd" else StreamCapture(run)


def flush_buffers() -> None:
    """Writes the buffers of Python and C."""
    import ctypes  # noqa: PLC0415 - only for descriptors

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).fflush(None)


class _CapturedStream:
    """Replaces the `write` method of one stream."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.original = stream.write
        self._replaced_before = "write" in getattr(stream, "__dict__", {})
        # Kept, because each access to a method makes another object.
        self.replacement: Callable[[str], int] = self._write
        stream.write = self.replacement  # type: ignore[method-assign]

    def _write(self, data: str) -> int:
        if getattr(_writer, "data", None) is data:
            # Other code has wrapped this method before it was restored.
            return self.original(data)
        _writer.data = data
        try:
            written = self.original(data)
        finally:
            _writer.data = None
        _distribute(data)
        return written

    def is_in_place(self) -> bool:
        """Reports whether the stream still has this method."""
        return self.stream.write is self.replacement

    def restore(self) -> None:
        """Restores the method, unless something else has been put in its place since."""
        if not self.is_in_place():
            return
        if self._replaced_before:
            self.stream.write = self.original  # type: ignore[method-assign]
        else:
            del self.stream.write


_lock = threading.RLock()
# Replaced as a whole, so that `print` reads it without the lock. Cutters are held weakly.
_cutters: tuple[weakref.ref[LineCutter], ...] = ()
_streams: list[_CapturedStream] = []
_writer = threading.local()


def start(cutter: LineCutter) -> None:
    """Starts to pass everything written to `cutter`. It is held weakly."""
    global _cutters  # noqa: PLW0603 - belongs to the module
    with _lock:
        _cutters = (*_alive_without(cutter), weakref.ref(cutter))
        _capture()
        _watch_cells()


def _capture() -> None:
    captured = {id(stream.stream) for stream in _streams}
    for stream in (sys.stdout, sys.stderr):
        # Without a console, as in a Windows service, the streams are None. Programs replace
        # them with their own objects, which may not allow a method to be replaced.
        if stream is None or id(stream) in captured:
            continue
        try:
            _streams.append(_CapturedStream(stream))
            captured.add(id(stream))
        except AttributeError:
            continue


def _watch_cells() -> None:
    """Makes a notebook call `_capture_cell` when a cell starts."""
    notebook = sys.modules.get("IPython")
    shell = notebook.get_ipython() if notebook is not None else None
    if shell is not None and _capture_cell not in shell.events.callbacks["pre_run_cell"]:
        shell.events.register("pre_run_cell", _capture_cell)


def _capture_cell(*_: object) -> None:
    """Resumes the capture: IPython replaces the methods for each cell, and restores them later."""
    with _lock:
        _streams[:] = [stream for stream in _streams if stream.is_in_place()]
        if any(known() is not None for known in _cutters):
            _capture()


def stop(cutter: LineCutter) -> None:
    """Ends the capture of `start`, and hands over the unfinished line."""
    global _cutters  # noqa: PLW0603 - belongs to the module
    with _lock:
        _cutters = _alive_without(cutter)
        if not _cutters:
            while _streams:
                _streams.pop().restore()
    _isolated(cutter.flush)


def _alive_without(cutter: LineCutter) -> tuple[weakref.ref[LineCutter], ...]:
    return tuple(known for known in _cutters if known() not in (None, cutter))


def _distribute(data: object) -> None:
    if isinstance(data, str):
        for known in _cutters:
            cutter = known()
            if cutter is not None:
                _isolated(cutter.write, data)


def _isolated(function: Callable[..., None], *arguments: object) -> None:
    # A sink that prints, or logs to the console, would call itself without end.
    if getattr(_writer, "active", False):
        return
    _writer.active = True
    try:
        function(*arguments)
    except Exception:  # noqa: BLE001, S110 - `print` must work even if its copy fails
        pass
    finally:
        _writer.active = False


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - the lock belongs to the module
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
