"""Runs without a server: everything goes into the spool."""

import gc
import logging
import math
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import weakref

import pytest

from matyan_client import Distribution, Repo, Run, Text
from matyan_client._params import NotLocalError, ParamsOverlay

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def run():
    run = Run(repo=NOWHERE, offline=True, capture_terminal_logs=False)
    yield run
    run.close()


def test_a_run_starts_without_waiting_for_a_server(spool):
    # A client that waits for an answer would wait for its whole limit.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.perf_counter()
        run = Run(repo=f"http://127.0.0.1:{silent.getsockname()[1]}", capture_terminal_logs=False)
        assert time.perf_counter() - started < 2
    assert len(run.hash) == 32
    assert (run.active, run.name, run.description, run.archived) == (True, None, None, False)
    assert list(spool.iterdir())
    run._end(None, spent=math.inf)
    assert not run.active
    assert run.end_time >= run.creation_time


def test_a_branch_without_a_server_is_recorded():
    # One server refuses connections, the other is silent.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for url in (NOWHERE, f"http://127.0.0.1:{silent.getsockname()[1]}"):
            run = Run(repo=url, fork_from="trunk", capture_terminal_logs=False)
            assert run.health.pending > 0
            run._end(None, spent=math.inf)


def test_a_run_has_the_address_of_its_page(run):
    assert run.url == f"{NOWHERE}/runs/{run.hash}"
    reader = Run(run.hash, repo="http://127.0.0.1:1/p/team", read_only=True)
    assert reader.url == f"http://127.0.0.1:1/p/team/runs/{run.hash}"


@pytest.mark.parametrize(
    "value", [1, 0.5, True, "0.25", math.nan, math.inf, 2**60, Text("a"), {"x": 1, "y": {}.get}]
)
def test_every_kind_of_value_is_tracked_or_refused_at_the_call(run, value):
    before = run.health.pending
    if isinstance(value, dict):
        with pytest.raises(TypeError):
            run.track(value)
    else:
        run.track(value, name="m", step=1, epoch=2, context={"a": 1})
    assert run.health.pending == before + 1


def test_numbers_of_numpy_and_shapes(run):
    np = pytest.importorskip("numpy")
    before = run.health.pending
    for value in (np.float32(1), np.float64(1), np.int8(1), np.bool_(True), np.array(1.5)):
        run.track(value, name="m", step=np.int64(3), context={"a": np.float32(1)})
    assert run.health.pending == before + 5
    with pytest.raises(TypeError, match="value"):
        run.track(np.zeros(3), name="m")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (((), {"name": "m"}), TypeError, "value"),
        ((([1],), {"name": "m"}), TypeError, "value"),
        (((None,), {"name": "m"}), TypeError, "value"),
        ((("text",), {"name": "m"}), ValueError, "value"),
        (((1.0,), {}), ValueError, "name"),
        (((1.0,), {"name": 5}), TypeError, "name"),
        (((1.0,), {"name": ""}), ValueError, "`name`"),
        ((({"": 1.0},), {}), ValueError, "`name`"),
        (((Text("a"),), {"name": ""}), ValueError, "`name`"),
        ((([],), {"name": "m"}), TypeError, "value"),
        ((([Text("a"), 1.0],), {"name": "m"}), TypeError, "value"),
        ((([Text("a"), Distribution([1])],), {"name": "m"}), TypeError, "one type"),
        (((1.0,), {"name": "m", "step": "1"}), TypeError, "step"),
        (((1.0,), {"name": "m", "step": 1.5}), TypeError, "step"),
        (((1.0,), {"name": "m", "step": 2**64}), OverflowError, "step"),
        (((1.0,), {"name": "m", "epoch": "x"}), TypeError, "epoch"),
        (((1.0,), {"name": "m", "epoch": math.nan}), TypeError, "epoch"),
        (((1.0,), {"name": "m", "context": [1]}), TypeError, "context"),
        (((1.0,), {"name": "m" * 2000}), ValueError, "name"),
        (((1.0,), {"name": "m", "context": {"a": "x" * 9000}}), ValueError, "context"),
        (((10**400,), {"name": "m"}), OverflowError, "int"),
    ],
)
def test_a_bad_argument_is_named_and_costs_nothing_else(run, arguments, error, text):
    before = run.health.pending
    positional, keywords = arguments
    with pytest.raises(error, match=text):
        run.track(*positional, **keywords)
    assert run.health.pending == before
    run.track(1.0, name="good")
    assert run.health.pending == before + 1


def test_whole_columns(run):
    np = pytest.importorskip("numpy")
    before = run.health.pending
    run.track_many([1.0, 2, 3.5], name="list")
    run.track_many(np.arange(1000), steps=np.arange(1000) * 2, name="array", context={"a": 1})
    run.track_many((value for value in (1.0, 2.0)), steps=range(2), epochs=[1, 1], name="iterator")
    assert run.health.pending == before + 1005
    with pytest.raises(ValueError, match="steps"):
        run.track_many([1.0, 2.0], steps=[1], name="m")
    with pytest.raises(TypeError, match="values"):
        run.track_many(["a"], name="m")
    with pytest.raises(TypeError, match="values"):
        run.track_many(None, name="m")


def test_objects_of_other_classes(run):
    class Custom:
        def json(self):
            return {"type": "custom", "data": [1, 2]}

    class Wrong:
        def json(self):
            return 5

    run.track(Custom(), name="custom", step=1)
    run.track(Distribution([1, 2]), name="d", context={"a": 1})
    with pytest.raises(TypeError, match="json"):
        run.track(Wrong(), name="custom")


def test_a_series_has_objects_of_one_type(run):
    run.track(Text("a"), name="mixed", context={"subset": "train"})
    with pytest.raises(TypeError, match=r"'mixed' has objects of the type 'text'.*'distribution'"):
        run.track(Distribution([1]), name="mixed", context={"subset": "train"})
    run.track(Distribution([1]), name="mixed", context={"subset": "val"})
    run.track([Text("b"), Text("c")], name="mixed", context={"subset": "train"})
    run.track(1.0, name="mixed", context={"subset": "train"})


def test_params_of_this_process_are_consistent(run):
    run["hparams"] = {"lr": 0.1, "layers": [1, 2]}
    run["hparams.lr"] = 0.2
    run["a", "b.c"] = 1
    assert run["hparams"] == {"lr": 0.2, "layers": [1, 2]}
    assert run["a", "b.c"] == 1
    assert run.get("hparams.nothing", 5) == 5
    run["hparams"]["lr"] = "changed copy"
    assert run["hparams.lr"] == 0.2
    assert run[...] == {"hparams": {"lr": 0.2, "layers": [1, 2]}, "a": {"b.c": 1}}
    for key in (5, (), None):
        with pytest.raises(TypeError, match="key"):
            run[key]
    with pytest.raises(KeyError):
        run["missing"]


def test_the_overlay_has_the_rules_of_the_server():
    overlay = ParamsOverlay()
    overlay.set(("h",), {"lr": 1})
    with pytest.raises(NotLocalError):
        overlay.local(("h",))
    assert overlay.merged({"h": {"bs": 2}}) == {"h": {"bs": 2, "lr": 1}}
    overlay.set(("h",), {"lr": 1, "x": 2})
    assert overlay.merged({"h": {"bs": 2}}) == {"h": {"lr": 1, "x": 2}}
    overlay.delete(("h", "x"))
    with pytest.raises(KeyError):
        overlay.local(("h", "x"))
    assert overlay.local(("h",)) == {"lr": 1}
    overlay.set((), {"a": 1, "b": {"c": 2}})
    assert overlay.merged({"z": 1}) == {"z": 1, "h": {"lr": 1}, "a": 1, "b": {"c": 2}}
    overlay.delete(())
    assert overlay.merged({"z": 1}) == {}
    overlay.set(("a",), 1)
    overlay.set(("a", "b"), 2)
    assert overlay.merged({"a": 0}) == {"a": {"b": 2}}


def test_a_read_only_run_has_no_values_without_a_server():
    reader = Run("some", repo=NOWHERE, read_only=True)
    assert (reader.name, reader.archived) == (None, False)
    assert (reader.tags, reader.props, reader.metrics()) == ([], {}, [])
    with pytest.raises(KeyError):
        reader["a"]
    with pytest.raises(ConnectionError):
        reader.series("m")
    with pytest.raises(ValueError, match="run_hash"):
        Run(repo=NOWHERE, read_only=True)
    reader.close()


def test_hashes_of_runs():
    for run_hash in ("a/b", ""):
        with pytest.raises(ValueError, match="`run_hash`"):
            Run(run_hash, repo=NOWHERE, offline=True)
    assert Run("kept", repo=Repo(NOWHERE), offline=True).hash == "kept"


def test_a_refused_argument_begins_no_run(spool):
    with pytest.raises(ValueError, match="`capture_terminal_logs`"):
        Run(repo=NOWHERE, offline=True, capture_terminal_logs="screen")
    assert not spool.exists()


def test_a_closed_run_refuses_points(run):
    run.close()
    run.close()
    with pytest.raises(RuntimeError, match="WebSocket transport not initialized"):
        run.track(1.0, name="m")
    run.log_info("ignored")


def test_a_context_manager_closes_and_passes_exceptions_on():
    with pytest.raises(ZeroDivisionError), Run(repo=NOWHERE, offline=True) as run:
        raise ZeroDivisionError
    assert not run.active


def test_a_dropped_run_is_collected_with_its_capture():
    run = Run(repo=NOWHERE, offline=True)
    run.track(1.0, name="m")
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None
    print("no listener")


def test_a_run_can_be_pickled(run):
    copy = pickle.loads(pickle.dumps(run))
    assert (copy.hash, copy == run, hash(copy) == hash(run)) == (run.hash, True, True)
    copy.track(1.0, name="m")
    assert copy.health.pending == 1


def test_the_copy_of_an_offline_run_connects_to_no_server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        run = Run(repo=url, offline=True, capture_terminal_logs=False)
        copy = pickle.loads(pickle.dumps(run))
        copy.track(1.0, name="m")
        copy.flush(0.5)
        with pytest.raises(TimeoutError):
            listener.accept()
        copy.close()
        run.close()


def _track_and_exit(run):
    run.track(1.0, name="child")
    os._exit(0)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_can_track(run, method, spool):
    spools = len(list(spool.iterdir()))
    context = multiprocessing.get_context(method)
    child = context.Process(target=_track_and_exit, args=(run,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert len(list(spool.iterdir())) == spools + 1
    run.track(1.0, name="parent")


def test_a_forked_child_can_print_and_exit():
    program = """
import os, sys
from matyan_client import Run
run = Run(repo="http://127.0.0.1:1", offline=True)
child = os.fork()
if child == 0:
    print("from the child")
    run.track(1.0, name="m")
    sys.exit(3)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert finished.stdout.split("\n")[-2] == "3"


def test_log_records_know_their_caller(run, monkeypatch):
    records = []
    monkeypatch.setattr(
        Run, "_append_log_record", lambda self, *arguments: records.append(arguments)
    )
    run.log_warning("careful", key=1)
    level, message, _, location, extra = records[0]
    assert (level, message, extra) == (logging.WARNING, "careful", {"key": 1})
    assert location[0] == __file__


def test_threads_share_a_run(run):
    before = run.health.pending
    threads = [
        threading.Thread(target=lambda: [run.track(1.0, name="m") for _ in range(100)])
        for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.health.pending == before + 5000


def test_output_is_two_lines_at_most(spool):
    program = """
from matyan_client import Run
run = Run(repo="http://127.0.0.1:1", offline=True)
run.track(1.0, name="m")
"""
    for quiet, lines in (("0", 2), ("1", 0)):
        finished = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "MATYAN_QUIET": quiet},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert finished.stdout == ""
        assert len(finished.stderr.splitlines()) == lines, finished.stderr


def test_import_is_light():
    heavy = {"numpy", "PIL", "plotly", "matplotlib", "asyncio", "torch", "pandas"}
    heavy |= {"dataclasses", "inspect"}
    # Few scripts use these modules, which are loaded at their first use.
    heavy |= {"base64", "bisect", "copy", "datetime", "html", "numbers", "pathlib", "struct"}
    heavy |= {"matyan_client._notebook", "matyan_client._sequences", "matyan_client.repo"}
    program = f"""
import sys
known = set(sys.modules)
import matyan_client
print(sorted({heavy!r} & (set(sys.modules) - known)))
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert finished.stdout == "[]\n"


def test_forks_while_another_thread_tracks_for_the_first_time():
    # What is made at the first call is copied half-made into a child, so each process tries once.
    script = """
import os, threading
from matyan_client import Run
run = Run(offline=True, capture_terminal_logs=False)
def work():
    while True:
        run.track(1.0, name="m")
threading.Thread(target=work, daemon=True).start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        run.track(2.0, name="m")
        os._exit(0)
    os.waitpid(child, 0)
os._exit(0)
"""
    for _ in range(5):
        # The time is a guard against a child that waits for ever.
        subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_metric_is_defined_in_the_params(run):
    run.define_metric("val/acc", goal="maximize", summary="best", unit=" % ", format="percent")
    run.define_metric("loss", goal="lower")
    run.define_metric("loss", summary="last", step_metric="epoch")
    assert run["__metrics__", "loss", "direction"] == "lower"
    assert run._params.merged({})["__metrics__"] == {
        "val/acc": {"direction": "higher", "summary": "best", "unit": "%", "format": "percent"},
        "loss": {"direction": "lower", "summary": "last", "x_axis": "epoch"},
    }


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({}, "goal"),
        ({"goal": "sideways"}, "goal"),
        ({"goal": 1}, "goal"),
        ({"summary": "mean"}, "summary"),
        ({"format": "%"}, "format"),
        ({"unit": ""}, "unit"),
        ({"unit": "  "}, "unit"),
        ({"unit": "u" * 33}, "unit"),
        ({"step_metric": ""}, "step_metric"),
        ({"step_metric": "loss"}, "step_metric"),
    ],
)
def test_a_wrong_definition_of_a_metric_costs_nothing(run, arguments, argument):
    before = run.health.pending
    with pytest.raises((TypeError, ValueError), match=f"`{argument}`"):
        run.define_metric("loss", **arguments)
    with pytest.raises(ValueError, match="`name`"):
        run.define_metric("", goal="lower")
    assert run.health.pending == before


def test_the_number_of_steps_is_reported_once_it_is_known(run):
    run.report_progress(total_steps=1_000)
    run.report_progress(total_steps=2_000)
    assert run["__progress__", "total_steps"] == 2_000
    for wrong in (0, -1, 2**63):
        with pytest.raises(ValueError, match="total_steps"):
            run.report_progress(total_steps=wrong)
    with pytest.raises(TypeError):
        run.report_progress(total_steps=1.5)
    assert run["__progress__", "total_steps"] == 2_000
