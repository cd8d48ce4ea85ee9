"""Copies of runs in other processes, and Ctrl-C at the end of scripts."""

import multiprocessing
import os
import subprocess
import sys

import pytest

from matyan_client import Run, cli

NOWHERE = "http://127.0.0.1:1"


def run_script(program, *arguments, **environment):
    """Runs a script to its end, which leaves no process."""
    script = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        # Its processes are a group.
        start_new_session=True,
    )
    out, err = script.communicate(timeout=120)
    with pytest.raises(ProcessLookupError):
        os.killpg(script.pid, 0)
    return subprocess.CompletedProcess(script.args, script.returncode, out, err)


def track_and_end(run):
    run.track(1.0, name="child")
    run.flush(0)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_copy_of_a_run_prints_nothing(method, capfd, monkeypatch):
    monkeypatch.setenv("MATYAN_QUIET", "0")
    run = Run(repo=NOWHERE, offline=True, capture_terminal_logs=False)
    child = multiprocessing.get_context(method).Process(target=track_and_end, args=(run,))
    child.start()
    child.join(60)
    run.close()
    assert child.exitcode == 0
    assert capfd.readouterr().err == ""


# Counts how often waits report their progress, which is every 100 ms.
WATCHED = """
import atexit, os, signal, sys, threading
from matyan_client import Run, _console
waits = threading.Semaphore(0)
reports = []
plain = _console.ProgressBar.update
def update(bar, *numbers):
    reports.append(bar)
    waits.release()
    return plain(bar, *numbers)
_console.ProgressBar.update = update
"""

INTERRUPTED = (
    WATCHED
    + """
def interrupt():
    for _ in range(5):
        waits.acquire()
    os.kill(os.getpid(), signal.SIGINT)
runs = [Run(repo="http://127.0.0.1:1", capture_terminal_logs=False) for _ in range(5)]
for run in runs:
    run.track(1.0, name="m")
threading.Thread(target=interrupt, daemon=True).start()
"""
)


def test_ctrl_c_ends_close_and_is_raised():
    finished = run_script(
        INTERRUPTED
        + """
try:
    runs[0].close()
    print("swallowed")
except KeyboardInterrupt:
    print("raised")
print(runs[0].active, runs[0].end_time is not None, runs[0].close())
sys.stdout.flush()
os._exit(0)
""",
        MATYAN_QUIET="0",
    )
    assert finished.stdout.splitlines() == ["raised", "False True None"]
    assert "values of run" in finished.stderr


def test_ctrl_c_at_exit_ends_the_script_quietly():
    last = "atexit.register(lambda: print(len(set(reports)), len(reports)))\n"
    finished = run_script(WATCHED + last + INTERRUPTED.removeprefix(WATCHED))
    assert (finished.returncode, finished.stderr) == (0, "")
    runs, reports = map(int, finished.stdout.split())
    # Without a server, each of the five runs would wait for three seconds.
    assert (runs, reports < 20) == (5, True)


CAPTURED = """
import ctypes, os, subprocess, sys
from matyan_client import Run
libc = ctypes.CDLL(None)
run = Run(repo=sys.argv[1], capture_terminal_logs="fd")
print("python")
libc.printf(b"c code\\n")
libc.fflush(None)
subprocess.run(["echo", "a program"], check=True)
print("an error", file=sys.stderr, flush=True)
child = os.fork()
if child == 0:
    print("a forked child", flush=True)
    run.flush(0)
    run.close()
    os._exit(0)
os.waitpid(child, 0)
os.write(1, b"10%\\r50%\\r100%\\n")
libc.printf(b"without an end")
run.close()
print("after the end", os.isatty(1))
sys.__stderr__.write("HASH " + run.hash)
"""


def test_descriptors_are_captured_with_c_code_and_child_processes(shared_server):
    finished = run_script(CAPTURED, shared_server.url)
    assert finished.returncode == 0, finished.stderr
    shown = finished.stdout.replace("\r", "\n").splitlines()
    lines = ["python", "c code", "a program", "a forked child", "100%", "without an end"]
    assert [line for line in shown if line in lines] == [*lines[:-1]]
    assert shown[-1] == "without an endafter the end False"
    run_hash = finished.stderr.rpartition("HASH ")[2]
    stored = Run(run_hash, repo=shared_server.url, read_only=True).get_terminal_logs()
    assert [line for line in stored if line in lines] == lines
    assert "an error" in stored
    assert "after the end" not in " ".join(stored)


def test_captured_descriptors_lead_to_where_they_led_before(capfd):
    def targets():
        return [(found.st_dev, found.st_ino) for found in map(os.fstat, (1, 2))]

    before = targets()
    runs = [
        Run(repo=NOWHERE, offline=True, capture_terminal_logs="fd"),
        Run(repo=NOWHERE, offline=True, capture_terminal_logs="fd"),
    ]
    during = targets()
    assert not set(during) & set(before)
    pending = runs[1].health.pending
    runs[0].close()
    os.write(1, b"still captured\n")
    runs[1].flush(0)
    assert runs[1].health.pending > pending
    runs[1].close()
    assert targets() == before
    os.write(1, b"not captured\n")
    assert capfd.readouterr().out == "still captured\nnot captured\n"


def test_much_output_of_code_that_holds_the_interpreter_is_captured():
    program = """
import ctypes, sys
from matyan_client import Run
run = Run(repo="http://127.0.0.1:1", offline=True, capture_terminal_logs="fd")
# A function that is called with the lock held, unlike the functions of `CDLL`.
write = ctypes.PyDLL(None).write
for _ in range(200):
    write(1, b"x" * 9_999 + b"\\n", 10_000)
run.close()
print(run.health.pending > 200)
"""
    finished = run_script(program)
    assert len(finished.stdout) == 2_000_000 + len("True\n")
    assert finished.stdout.endswith("\nTrue\n")


def test_another_kind_of_capture_is_refused():
    with pytest.raises(ValueError, match="capture_terminal_logs"):
        Run(repo=NOWHERE, offline=True, capture_terminal_logs="pty")


LATE = """
import atexit, sys, threading, time
from matyan_client import Run

def late():
    for step in range(100):
        run.track(step, name="late", step=step)
    run.track_many([1.0, 2.0], name="columns")
    run["late"] = {"a": 1}
    run.log_info("a late message")
    run.add_tag("late")
    counted = counts[0]
    while counts[0] < counted + 10:
        time.sleep(0.001)
    print(run.hash, counts[0], run.active, flush=True)

def work():
    while True:
        run.track(counts[0], name="thread", step=counts[0])
        counts[0] += 1
        time.sleep(0.001)

counts = [0]
# It runs after the exit hook of the package, which is registered later.
atexit.register(late)
run = Run(repo=sys.argv[1], capture_terminal_logs=False)
run.track(1.0, name="early")
threading.Thread(target=work, daemon=True).start()
"""


@pytest.mark.parametrize(
    ("end", "code", "outcome"), [("", 0, "finished"), ("sys.exit('no data')", 1, "failed")]
)
def test_what_is_tracked_after_the_exit_hook_is_kept(shared_server, end, code, outcome):
    finished = run_script(LATE + end, shared_server.url)
    assert (finished.returncode, finished.stderr) == (code, "no data\n" if code else "")
    run_hash, count, active = finished.stdout.split()
    assert active == "False"
    assert cli.main(["sync"]) == 0
    run = Run(run_hash, repo=shared_server.url, read_only=True)
    assert run.series("early").values.tolist() == [1.0]
    assert run.series("late").values.tolist() == list(range(100))
    assert run.series("columns").values.tolist() == [1.0, 2.0]
    thread = run.series("thread").values.tolist()
    assert thread == list(range(len(thread)))
    assert len(thread) >= int(count)
    assert (run["late"], run.tags) == ({"a": 1}, ["late"])
    assert "a late message" in str(run.get_log_records())
    assert (run.active, run.props["outcome"]) == (False, outcome)


def test_a_short_script_has_the_description_of_its_machine(shared_server):
    program = """
import sys
from matyan_client import Run
run = Run(repo=sys.argv[1], log_system_params=True, capture_terminal_logs=False)
print(run.hash)
"""
    run_hash = run_script(program, shared_server.url).stdout.strip()
    run = Run(run_hash, repo=shared_server.url, read_only=True)
    assert run["__system_params"]["executable"] == sys.executable
    assert not run.active


def test_the_end_of_a_script_waits_once_for_all_runs():
    program = """
atexit.register(lambda: print(len(reports)))
runs = [Run(repo="http://127.0.0.1:1", capture_terminal_logs=False) for _ in range(10)]
"""
    finished = run_script(WATCHED + program)
    assert finished.returncode == 0
    # All runs together wait for three seconds. Each run alone would report 30 times.
    assert int(finished.stdout) < 60
