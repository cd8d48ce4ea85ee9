"""Stored data of odd values, and of calls that collections and forks disturb."""

import gc
import json
import math
import subprocess
import sys

import pytest

from matyan_client import Run, Table


@pytest.fixture
def run(shared_server):
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        yield run


def stored_points(run):
    """Returns steps and values of all metrics, by name and context."""
    run.close()
    return {
        (series.name, series.context_json): (series.steps.tolist(), series.values.tolist())
        for series in run._http.series(run.hash, [])
    }


def test_odd_contexts_names_and_params_are_stored(run):
    cycle = {}
    cycle["self"] = cycle
    odd = object()
    for context in ({1: 2}, {"a": odd}, {"a": "\udc80"}, {"a": {1, 2}}, {"a": math.nan}):
        run.track(1.0, name="m\udc80", context=context)
        run.track(2.0, name="m\udc80", context=context)
    with pytest.raises(ValueError, match="context"):
        run.track(1.0, name="m", context={"x": "y" * 10_000})
    run["odd"] = {"cycle": cycle, "bytes": b"x", "lone": "\udc80", 5: {1, 2}}
    contexts = ['{"1":2}', f'{{"a":"{odd}"}}', '{"a":"\\ufffd"}', '{"a":[1,2]}', '{"a":NaN}']
    found = stored_points(run)
    (name,) = {name for name, _ in found}
    assert name.startswith("m\ufffd")
    assert found == {(name, context): ([0, 1], [1.0, 2.0]) for context in contexts}
    params = Run(run.hash, repo=run._backend_url, read_only=True)["odd"]
    assert (params["5"], params["bytes"]) == ([1, 2], "eA==")
    assert params["lone"].startswith("\ufffd")
    assert params["cycle"]["self"]["self"]


def test_contexts_are_distinguished_by_type(run):
    pairs = [(1, "1"), (1.0, "1.0"), (True, "true"), ("1", '"1"'), (None, "null")]
    pairs += [(0, "0"), (0.0, "0.0"), (-0.0, "-0.0"), (False, "false")]
    for number in range(3):
        for at, (value, _) in enumerate(pairs):
            run.track(at * 10 + number, name="m", context={"v": value})
    assert stored_points(run) == {
        ("m", f'{{"v":{text}}}'): ([0, 1, 2], [at * 10.0, at * 10.0 + 1, at * 10.0 + 2])
        for at, (_, text) in enumerate(pairs)
    }


def test_dicts_of_many_values_are_stored(run):
    for step in range(20):
        values = {f"m{number}": number + step / 8 for number in range(50)}
        run.track(values, step=step, context={"subset": "train"})
    steps = list(range(20))
    assert stored_points(run) == {
        (f"m{number}", '{"subset":"train"}'): (steps, [number + step / 8 for step in steps])
        for number in range(50)
    }


def test_garbage_collection_in_every_call_costs_nothing(run):
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for step in range(200):
            run.track(step, name=f"m{step % 7}", context={"subset": "train", "n": step % 3})
            run["step"] = {"n": step, "l": [step]}
    finally:
        gc.set_threshold(*thresholds)
    expected = {}
    for step in range(200):
        key = (f"m{step % 7}", f'{{"n":{step % 3},"subset":"train"}}')
        steps, values = expected.setdefault(key, ([], []))
        steps.append(len(steps))
        values.append(float(step))
    assert stored_points(run) == expected
    reader = Run(run.hash, repo=run._backend_url, read_only=True)
    assert reader["step"] == {"n": 199, "l": [199]}


FORKS = """
import os, sys, threading
from matyan_client import Run, Table
run = Run(repo=sys.argv[1], capture_terminal_logs=False)
stop = threading.Event()
counts = [0, 0, 0]
def work(number):
    while not stop.is_set():
        run.track(counts[number], name="m", step=counts[number], context={"thread": number})
        counts[number] += 1
        run["p"] = {"a": 1, "b": 2}
threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for number in range(100):
    child = os.fork()
    if child == 0:
        run.track(number, name="child", context={"number": number})
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
run.close()
print(run.hash, *counts)
"""


def test_forks_while_other_threads_track_cost_nothing(shared_server):
    done = subprocess.run(
        [sys.executable, "-c", FORKS, shared_server.url],
        check=True,
        timeout=200,
        capture_output=True,
        text=True,
    )
    run_hash, *counts = done.stdout.split()
    run = Run(run_hash, repo=shared_server.url, read_only=True)
    expected = {
        ("child", f'{{"number":{number}}}'): ([0], [float(number)]) for number in range(100)
    }
    for number, count in enumerate(map(int, counts)):
        values = [float(step) for step in range(count)]
        expected["m", f'{{"thread":{number}}}'] = (list(range(count)), values)
    assert stored_points(run) == expected
    assert run["p"] == {"a": 1, "b": 2}


def test_goals_of_metrics_reach_the_project(run):
    name = f"score {run.hash}"
    run.define_metric(name, goal="higher", summary="best", unit="pp", format="scientific")
    run.define_metric(name, step_metric="epoch")
    run.close()
    goals = run._http.get("/api/v1/rest/projects/metric-goals/")
    (goal,) = (goal for goal in goals if goal["name"] == name)
    assert goal == {
        "name": name,
        "direction": "higher",
        "summary": "best",
        "format": "scientific",
        "unit": "pp",
        "x_axis": "epoch",
        "primary": False,
    }
    info = run._http.get(f"/api/v1/rest/runs/{run.hash}/info/?skip_system=true")
    assert "__metrics__" not in info["params"]


def test_tables_are_artifacts_of_a_run(run):
    for step in (0, 1):
        run.track(Table(["label", "score"], [["cat", step / 2]]), name="predictions", step=step)
    run.track(Table(["a"]), name="empty", context={"subset": "val"})
    for epoch in (0, 1):
        run.track(Table(["a"]), name="each", epoch=epoch)
    run.track(Table(["a"]), name="a:b/../c_1")
    with pytest.raises(ValueError, match="expected a name"):
        run.track(Table(["a"]), name="")
    with pytest.raises(TypeError, match="cannot have tables"):
        run.track([Table(["a"])], name="several")
    run.close()
    stored = Run(run.hash, repo=run._backend_url, read_only=True)
    paths = [
        "tables/a%3Ab/%2E%2E/c%5F1",
        "tables/each_e0",
        "tables/each_e1",
        "tables/empty subset=val",
        "tables/predictions_0",
        "tables/predictions_1",
    ]
    found = [artifact["path"] for artifact in stored.artifacts]
    assert found == [f"{path}.table.json" for path in paths]
    second = json.loads(stored.get_artifact("tables/predictions_1.table.json"))
    assert second == {"columns": ["label", "score"], "data": [["cat", 0.5]]}
    with pytest.raises(RuntimeError, match="closed"):
        run.track(Table(["a"]), name="late")
