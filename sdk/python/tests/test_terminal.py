"""Capture of terminal output, and its division into lines."""

import functools
import io
import logging
import subprocess
import sys
import threading

import pytest

from matyan_client import terminal
from matyan_client.log_handler import RunLogHandler


class Screen:
    """Lines as the server stores them: the last text for each number."""

    def __init__(self):
        self.lines = {}
        self.calls = []

    def __call__(self, line, number):
        self.lines[number] = line
        self.calls.append((line, number))

    def text(self):
        return [self.lines[number] for number in sorted(self.lines)]


def cut(*writes):
    screen = Screen()
    cutter = terminal.LineCutter(screen)
    for data in writes:
        cutter.write(data)
    cutter.flush()
    return screen.text()


@pytest.mark.parametrize(
    ("writes", "lines"),
    [
        (["one\ntwo\n"], ["one", "two"]),
        (["one\n", "\n", "two"], ["one", "", "two"]),
        (["he", "llo\n"], ["hello"]),
        (["10%\r50%\r100%\n"], ["100%"]),
        (["10%\r", "50%\r", "100%\r", "\n"], ["100%"]),
        (["step 1\r", "step 2\r"], ["step 2"]),
        (["windows\r\n", "line\r\n"], ["windows", "line"]),
        (["\x1b[2A\x1b[31mred\x1b[0m\x1b[K\n"], ["\x1b[31mred\x1b[0m\x1b[K"]),
        (["\x1b[", "3Dmoved\n"], ["moved"]),
        (["caf\u00e9 \U0001f600\n"], ["caf\u00e9 \U0001f600"]),
        ([], []),
    ],
)
def test_text_is_cut_into_lines(writes, lines):
    assert cut(*writes) == lines


def test_an_unfinished_line_keeps_its_number(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    screen = Screen()
    cutter = terminal.LineCutter(screen, first_line=7)
    for percent in range(100):
        cutter.write(f"\r{percent}%")
        now[0] += 0.1
    cutter.write("\rdone\nnext")
    cutter.flush()
    cutter.flush()
    assert screen.lines == {7: "done", 8: "next"}
    # One state per second, the finished line, and the flushed one once.
    assert 10 <= len(screen.calls) <= 13


def test_an_endless_line_does_not_fill_the_memory():
    screen = Screen()
    cutter = terminal.LineCutter(screen)
    for _ in range(40):
        cutter.write("x" * 100_000)
    cutter.flush()
    assert len(screen.lines[0]) == 1 << 20


def test_an_overlong_line_costs_no_other():
    long = "\u20ac" * 800_000
    first, short, unfinished = cut(f"{long}\nshort\n{long}")
    assert (len(first.encode()), short) == (1_048_575, "short")
    assert unfinished == first
    assert first == long[-len(first) :]


def test_print_works_while_captures_begin_and_end(monkeypatch):
    stream = type("Stream", (io.StringIO,), {})()
    monkeypatch.setattr(sys, "stdout", stream)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    ends = threading.Event()
    failures = []

    def change():
        while not ends.is_set():
            cutters = [terminal.LineCutter(Screen()) for _ in range(50)]
            for cutter in cutters:
                terminal.start(cutter)
            for cutter in cutters:
                terminal.stop(cutter)

    kept = terminal.LineCutter(Screen())
    terminal.start(kept)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(2_000):
            print("line")
    except RuntimeError as error:
        failures.append(error)
    finally:
        ends.set()
        thread.join()
        sys.setswitchinterval(interval)
        terminal.stop(kept)
    assert failures == []


def test_both_streams_are_captured_and_restored(monkeypatch):
    # `StringIO` itself does not allow a method to be replaced.
    stream = type("Stream", (io.StringIO,), {})
    out = stream()
    err = stream()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    first = Screen()
    second = Screen()
    cutters = [terminal.LineCutter(first), terminal.LineCutter(second)]
    terminal.start(cutters[0])
    terminal.start(cutters[1])
    print("to both")
    print("to the error stream", file=sys.stderr)
    terminal.stop(cutters[0])
    print("to the second")
    terminal.stop(cutters[1])
    print("to none")
    assert first.text() == ["to both", "to the error stream"]
    assert second.text() == ["to both", "to the error stream", "to the second"]
    assert out.getvalue() == "to both\nto the second\nto none\n"
    assert "write" not in vars(out)


def test_a_stream_that_cannot_be_captured_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    cutter = terminal.LineCutter(Screen())
    terminal.start(cutter)
    print("works", file=sys.stderr)
    terminal.stop(cutter)
    assert sys.stderr.getvalue() == "works\n"


def test_a_failing_or_printing_sink_does_not_disturb_print(monkeypatch):
    stream = type("Stream", (io.StringIO,), {})()
    monkeypatch.setattr(sys, "stdout", stream)
    calls = []

    def sink(line, number):
        calls.append(line)
        print("from the sink")
        raise RuntimeError("sink failed")

    cutter = terminal.LineCutter(sink)
    terminal.start(cutter)
    print("line")
    terminal.stop(cutter)
    assert calls
    assert stream.getvalue() == "line\nfrom the sink\n"


def test_a_cutter_that_is_dropped_no_longer_receives_anything(monkeypatch):
    stream = type("Stream", (io.StringIO,), {})()
    monkeypatch.setattr(sys, "stdout", stream)
    screen = Screen()
    cutter = terminal.LineCutter(screen)
    terminal.start(cutter)
    print("one")
    del cutter
    print("two")
    assert screen.text() == ["one"]


class Shell:
    """Replaces the method `write` of the output stream for each cell, as IPython does."""

    def __init__(self):
        self.events = self
        self.callbacks = {"pre_run_cell": []}

    def register(self, event, callback):
        self.callbacks[event].append(callback)

    def get_ipython(self):
        return self

    def run(self, cell):
        stream = sys.stdout
        original = sys.stdout.write
        stream.write = functools.partial(original)
        for callback in self.callbacks["pre_run_cell"]:
            callback(None)
        cell()
        stream.write = original


def test_every_cell_of_a_notebook_is_captured(monkeypatch):
    stream = type("Stream", (io.StringIO,), {})()
    monkeypatch.setattr(sys, "stdout", stream)
    shell = Shell()
    screen = Screen()
    monkeypatch.setitem(sys.modules, "IPython", shell)
    cutter = terminal.LineCutter(screen)

    def first():
        terminal.start(cutter)
        print("first")

    def last():
        terminal.stop(cutter)
        print("after the end")

    for cell in (first, lambda: print("second"), lambda: print("third"), last):
        shell.run(cell)
    assert screen.text() == ["first", "second", "third"]
    assert stream.getvalue() == "first\nsecond\nthird\nafter the end\n"


def test_every_cell_of_ipython_is_captured():
    pytest.importorskip("IPython")
    cells = [
        "import sys; from matyan_client import terminal; lines = []",
        "cutter = terminal.LineCutter(lambda line, number: lines.append(line))",
        "terminal.start(cutter); print('first')",
        "print('second')",
        "terminal.stop(cutter); print('after the end')",
    ]
    program = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in {cells!r}:
    shell.run_cell(cell)
assert shell.user_ns["lines"] == ["first", "second"], shell.user_ns["lines"]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_method_that_something_else_has_wrapped_is_captured_once(monkeypatch):
    stream = type("Stream", (io.StringIO,), {})()
    monkeypatch.setattr(sys, "stdout", stream)
    screen = Screen()
    cutter = terminal.LineCutter(screen)
    terminal.start(cutter)
    wrapped = stream.write
    stream.write = functools.partial(wrapped)
    terminal._capture_cell()
    print("once")
    terminal.stop(cutter)
    assert screen.text() == ["once"]


class Records:
    def __init__(self):
        self.records = []

    def _append_log_record(self, level, message, timestamp, location, extra):
        self.records.append((level, message, location, extra))


def test_the_log_handler_stores_records():
    run = Records()
    logger = logging.getLogger("handler_test")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(RunLogHandler(run))
    logger.warning("loss is %s", 0.5, extra={"epoch": 3, "where": {1, 2}})
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("failed")
    (level, message, location, extra), (_, failed, _, _) = run.records
    assert (level, message) == (30, "loss is 0.5")
    assert location[0] == __file__
    assert extra == {"epoch": 3, "where": [1, 2], "logger": "handler_test"}
    assert failed.startswith("failed\nTraceback") and "ValueError: bad" in failed
