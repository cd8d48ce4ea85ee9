"""Spools that are full, missing, or left by other processes, as scripts see them."""

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from matyan_client import Repo, Run, cli, config, errors
from matyan_client import run as run_module

ABSENT = "http://127.0.0.1:1"


def run_script(script, **environment):
    """Runs a script in its own process, and returns what it printed."""
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "MATYAN_QUIET": "0", **environment}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


NOTICED = """
import logging
from matyan_client import Run

logging.basicConfig(format="%(message)s")
run = Run(repo="http://127.0.0.1:1", capture_terminal_logs=False, offline=True)
for step in range(100_000):
    run.track(step, name="loss", step=step)
assert run.health.dropped > 0
print("tracked", flush=True)
"""


def test_a_full_spool_is_reported_while_the_script_runs():
    command = [sys.executable, "-c", NOTICED]
    environment = {**os.environ, "MATYAN_QUIET": "1", "MATYAN_SPOOL_BYTES": "600000"}
    both = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=True,
    )
    before, _, after = both.stdout.partition("tracked\n")
    assert len(before.splitlines()) == 1
    assert "full" in before
    assert "full" not in after


def test_the_first_loss_is_printed_without_logging():
    program = NOTICED.replace("logging.basicConfig", "dict")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MATYAN_QUIET": "0", "MATYAN_SPOOL_BYTES": "600000"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = [line for line in done.stderr.splitlines() if "is full: further data is dropped" in line]
    assert len(said) == 1
    assert said[0].startswith("matyan: ")


NOWHERE = """
from matyan_client import Run

run = Run(repo="http://127.0.0.1:1", capture_terminal_logs=False)
for step in range(10):
    run.track(step, name="loss", step=step)
print(run.flush(1), run.health.dropped)
run.close()
"""


def test_a_script_without_any_directory_is_warned_and_sees_what_is_lost():
    # A file system of its own hides the directory that would do.
    shell = 'mount -t tmpfs -o ro tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", shell, "sh"]
    environment = {
        **os.environ,
        "MATYAN_QUIET": "0",
        "MATYAN_SPOOL_DIR": "/dev/null/named",
        "XDG_STATE_HOME": "/dev/null/state",
        "TMPDIR": "/dev/null/temporary",
    }
    python = [sys.executable, "-c", NOWHERE]
    done = subprocess.run(
        [*command, *python],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False 11\n"
    warnings = [line for line in done.stderr.splitlines() if "MATYAN_SPOOL_DIR" in line]
    assert len(warnings) == 1
    for part in (
        "nothing can be recorded",
        "/dev/null/named",
        "/dev/null/state",
        "/dev/null/temporary",
        "/dev/shm",
    ):
        assert part in warnings[0]
    assert "12 values of run" in done.stderr.splitlines()[-1]


SETTINGS = """
from matyan_client import Run

for _ in range(2):
    Run(repo="http://127.0.0.1:1", capture_terminal_logs=False, offline=True).close()
"""


def test_wrong_settings_are_named_once():
    wrong = {
        "MATYAN_SPOOL_FULL": "wait",
        "MATYAN_SPOOL_MODE": "fast",
        "MATYAN_SPOOL_BYTES": "8 GiB",
        "MATYAN_QUIET": "perhaps",
    }
    lines = run_script(SETTINGS, **wrong).stderr.splitlines()
    for name, value in wrong.items():
        assert sum(name in line and value in line for line in lines) == 1, lines


def test_an_empty_setting_is_none(monkeypatch):
    for name in ("BACKEND_URL", "FRONTIER_URL", "WS_BATCH_SIZE", "QUIET"):
        monkeypatch.setenv(f"MATYAN_{name}", " ")
    settings = config.Settings()
    assert settings.backend_url == "http://localhost:53800"
    assert settings.frontier_url == "http://localhost:53801"
    assert (settings.ws_batch_size, settings.quiet) == (100, False)


FULL = """
import sys, threading, time
from matyan_client import Run

run = Run(repo="http://127.0.0.1:1", capture_terminal_logs=False)

def report():
    before = 0
    # Nothing is stored without a server, so what is pending grows until the call waits.
    while before != run.health.pending or before < 10_000:
        before = run.health.pending
        time.sleep(0.3)
    print("waiting", flush=True)

threading.Thread(target=report, daemon=True).start()
try:
    for step in range(10_000_000):
        run.track(step, name="loss", step=step)
except KeyboardInterrupt:
    print(run.health.dropped, flush=True)
    sys.exit(0)
sys.exit("there was space for everything")
"""


def test_ctrl_c_ends_the_wait_for_space():
    settings = {"MATYAN_SPOOL_BYTES": "600000", "MATYAN_SPOOL_FULL": "block", "MATYAN_QUIET": "1"}
    script = subprocess.Popen(
        [sys.executable, "-c", FULL],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert script.stdout.readline() == "waiting\n"
    assert script.poll() is None
    script.send_signal(signal.SIGINT)
    assert script.stdout.readline() == "1\n"
    assert script.wait(20) == 0


def test_a_small_spool_blocks_only_until_something_is_stored(shared_server, monkeypatch):
    monkeypatch.setenv("MATYAN_SPOOL_BYTES", "1000000")
    monkeypatch.setenv("MATYAN_SPOOL_FULL", "block")
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        for step in range(200_000):
            run.track(step, name="loss", step=step)
        assert run.flush(60)
    assert run.series("loss").values.tolist() == list(range(200_000))


def test_a_run_is_read_right_after_it_was_written(shared_server):
    for _ in range(3):
        run = Run(repo=shared_server.url, capture_terminal_logs=False)
        run.track(0.5, name="loss", step=7)
        # There is no connection yet.
        assert run.series("loss").steps.tolist() == [7]
        run.close()


def test_a_read_does_not_wait_for_an_absent_server(monkeypatch):
    monkeypatch.setattr(run_module, "_OWN_WRITES_LIMIT", 120.0)
    run = Run(repo=ABSENT, capture_terminal_logs=False, offline=True)
    start = time.monotonic()
    assert run.metrics() == []
    assert time.monotonic() - start < 60
    run.close()


def answer_without_tls(listener):
    """Answers every connection as a server of plain HTTP that does not understand it."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def test_a_server_without_tls_is_reported_as_such():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_without_tls, args=(listener,), daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(
            errors.ServerError, match="does not seem to use TLS: if this is meant so, use http://"
        ):
            list(Repo(url).iter_runs())
        run = Run(repo=url, frontier_url=url, capture_terminal_logs=False)
        deadline = time.monotonic() + 60
        while "does not seem to use TLS" not in str(run.health.last_error):
            assert time.monotonic() < deadline, run.health
            time.sleep(0.01)
        run.close()


MANY = """
import resource
from matyan_client import Run

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
runs = [Run(repo="http://127.0.0.1:1", capture_terminal_logs=False) for _ in range(100)]
for run in runs:
    run.track(1.0, name="loss")
dropped = sum(run.health.dropped > 0 for run in runs)
print(dropped)
"""


def test_runs_beyond_the_limit_of_descriptors_raise_nothing(tmp_path):
    others = {"XDG_STATE_HOME": str(tmp_path / "state"), "TMPDIR": str(tmp_path)}
    done = run_script(MANY, MATYAN_QUIET="1", **others)
    # The first point of a series needs a descriptor too, and connections may hold the last ones.
    assert 20 < int(done.stdout) <= 100
    # A descriptor may be closed at any time, but data is not kept elsewhere for a lack of them.
    assert not (tmp_path / "state").exists()
    assert not list(tmp_path.glob("matyan-spool-*"))


def seeded(url, number, barrier):
    random.seed(1)
    run = Run(repo=url, capture_terminal_logs=False)
    barrier.wait(60)
    for step in range(500):
        run.track(number * 1000 + step, name="loss")
    run["seeded"] = number
    run.close()
    os._exit(0)


def test_processes_with_the_same_seed_have_runs_of_their_own(shared_server):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(8)
    arguments = [(shared_server.url, number, barrier) for number in range(8)]
    children = [context.Process(target=seeded, args=given) for given in arguments]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    found = {}
    for run in Repo(shared_server.url).query_runs("run.seeded >= 0").iter_runs():
        found[run["seeded"]] = run.series("loss").values.tolist()
    assert found == {number: [number * 1000.0 + step for step in range(500)] for number in range(8)}


def work(run, number):
    for step in range(500):
        run.track(step, name="loss", step=step, context={"number": number})
    os._exit(0)


def share(method, server):
    """Tracks in eight children that end by `os._exit`, and returns the run after its end."""
    context = multiprocessing.get_context(method)
    run = Run(repo=server.url, capture_terminal_logs=False)
    children = [context.Process(target=work, args=(run, number)) for number in range(8)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    run.close()
    return run


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_close_delivers_what_children_have_left(shared_server, spool, method):
    run = share(method, shared_server)
    assert [left for left in spool.iterdir() if (left / "owner").exists()] == []
    for number in range(8):
        assert run.series("loss", {"number": number}).values.tolist() == list(range(500))
    read = Run(run.hash, repo=shared_server.url, read_only=True)
    assert (read.props["active"], read.props["outcome"]) == (False, "finished")


def leave_what_cannot_be_opened(run, spool):
    others = set(spool.iterdir())
    run.track(1.0, name="of the child")
    for left in set(spool.iterdir()) - others:
        (left / "series").unlink(missing_ok=True)
        (left / "series").mkdir()
    os._exit(0)


def test_a_wait_for_children_costs_no_processor_time(shared_server, spool):
    run = Run(repo=shared_server.url, capture_terminal_logs=False)
    run.track(1.0, name="m")
    arguments = (run, spool)
    child = multiprocessing.get_context("fork").Process(
        target=leave_what_cannot_be_opened, args=arguments
    )
    child.start()
    child.join(60)
    began = time.monotonic()
    used = time.process_time()
    run.close()
    used = time.process_time() - used
    took = time.monotonic() - began
    assert len(list(spool.iterdir())) == 1
    # Without pauses, two threads are busy all the time.
    assert used < took / 2, (used, took)


def test_a_continued_run_that_was_deleted_is_named(shared_server, caplog):
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        run.track(1.0, name="loss")
    Repo(shared_server.url).delete_run(run.hash)
    with Run(run.hash, repo=shared_server.url, capture_terminal_logs=False) as again:
        again.track(2.0, name="loss")
    assert any("it was deleted" in record.getMessage() for record in caplog.records)


FIRST = """
import os, sys
from matyan_client import Run
run = Run(repo=sys.argv[1], offline=sys.argv[2] == "offline", capture_terminal_logs=False)
for value in range(5):
    run.track(value, name="m")
print(run.hash, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("kind", ["offline", "another address"])
def test_a_continued_run_sends_what_an_earlier_script_has_left_first(shared_server, kind):
    """Otherwise, the values of the earlier script would replace the later ones."""
    url = shared_server.url
    first = url if kind == "offline" else url.replace("127.0.0.1", "localhost")
    command = [sys.executable, "-c", FIRST, first, kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    with Run(done.stdout.strip(), repo=url, capture_terminal_logs=False) as run:
        for value in range(5, 10):
            run.track(value, name="m")
    assert run.series("m").values.tolist() == [float(value) for value in range(10)]


BLOCKED = """
import sys
from matyan_client import Image, Run
with Run(repo=sys.argv[1], offline=True, capture_terminal_logs=False) as run:
    for count in range(1, 8):
        images = [Image(bytes([137, 80, 78, 71, count, at])) for at in range(count)]
        run.track(images, name="samples", step=0)
    run.log_artifact(__file__, name="last")
print(run.hash)
"""


def test_lists_of_objects_at_one_step_do_not_block_each_other(shared_server, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(BLOCKED)
    command = [sys.executable, str(script), shared_server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    run_hash = done.stdout.strip()
    assert cli.main(["sync", run_hash]) == 0
    stored = Run(run_hash, repo=shared_server.url, read_only=True)
    assert [artifact["path"] for artifact in stored.artifacts] == ["last"]
    assert len(stored.get_image_sequence("samples").values[0]) == 7


# More runs than descriptors. The script keeps all runs.
MANY_CLOSED = """
import resource

from matyan_client import Run

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
runs = []
for number in range(100):
    with Run(repo="http://127.0.0.1:1", capture_terminal_logs=False, offline=True) as run:
        run.track(number, name="loss", step=0)
    runs.append(run)
print(sum(run.health.dropped for run in runs), sum(run.health.pending for run in runs))
"""


def test_rule_91_closed_offline_runs_need_no_descriptors(spool):
    done = run_script(MANY_CLOSED, MATYAN_QUIET="1")
    # A run, its value and its end.
    assert done.stdout == "0 300\n", done.stderr
    assert len(list(spool.glob("*/"))) == 100
