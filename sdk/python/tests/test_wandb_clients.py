"""The unmodified `wandb` package, the current version and one that is a year old, on this server."""

import base64
import contextlib
import http.client
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest

from matyan_client import Repo, Run

pytest.importorskip("wandb")

KEY = "a" * 40
PROJECT = "first-steps"

# The client then sends what was logged every second, and not every 15 seconds.
SENDS_SOON = {"WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1"}

# Only keeps a script that hangs from blocking its test forever.
GUARD_SECONDS = 300

# Readers of the package begin a process of the package, and wait for its end when the script ends.
# Now and then the request to end is lost, because the connection is closed right behind it. The
# process also ends with its script.
LEAVE = """
import os, sys
sys.stdout.flush()
os._exit(0)
"""

# Interpreters with a version of the package each. `make importers` names the older one.
PYTHONS = {"current": sys.executable, "old": os.environ.get("MATYAN_OLD_WANDB_PYTHON")}


@pytest.fixture(params=PYTHONS)
def client(request, tmp_path):
    python = PYTHONS[request.param]
    if python is None:
        pytest.skip("MATYAN_OLD_WANDB_PYTHON does not name an interpreter")
    return Client(python, tmp_path)


class Client:
    """Scripts of the package, in their own directory."""

    def __init__(self, python, directory):
        self.python = python
        self.directory = directory

    def environment(self, url, **variables):
        # Nothing of the machine's own W&B is read.
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "WANDB_API_KEY": KEY,
            "WANDB_BASE_URL": url,
            "WANDB_DIR": str(self.directory),
            "WANDB_SILENT": "true",
            **variables,
        }

    def begin(self, script, url, **variables):
        """Starts a script. What it logs is sent once it finishes its runs."""
        end = LEAVE if "wandb.Api()" in script else ""
        process = subprocess.Popen(
            [self.python, "-c", script + end],
            cwd=self.directory,
            env=self.environment(url, **variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        guard = threading.Timer(GUARD_SECONDS, process.kill)
        guard.daemon = True
        guard.start()
        return process

    def run(self, script, url, **variables):
        """Returns what a script prints, once it has ended well."""
        process = self.begin(script, url, **variables)
        printed, errors = process.communicate()
        assert process.returncode == 0, printed + errors
        return printed

    def sync(self, url):
        directories = [str(path) for path in (self.directory / "wandb").glob("offline-run-*")]
        assert directories
        command = [self.python, "-m", "wandb", "sync", "--include-synced", *directories]
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment(url),
            capture_output=True,
            text=True,
            timeout=GUARD_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def stored(server, run_id, project=PROJECT):
    return Run(f"{run_id}:{project}", repo=server.url, read_only=True)


def wait_for_metric(server, process, run_id, project, name):
    """Waits until a metric of a script is stored: the client decides when it sends what was logged."""
    run = f"{run_id}:{project}"
    while True:
        has_ended = process.poll() is not None
        exists = Repo(server.url).run_exists(run)
        metrics = stored(server, run_id, project).metrics() if exists else []
        if name in [metric["name"] for metric in metrics]:
            return
        assert not has_ended, "the script has ended without the metric"
        time.sleep(0.1)


def wait_for(condition, process):
    """Waits for something that a script causes."""
    while not condition():
        assert process.poll() is None, "the script has ended before"
        time.sleep(0.1)


def points(run, name):
    """Returns the values of a metric by step, each step once."""
    columns = run.series(name, {})
    assert len(set(columns.steps)) == len(columns.steps)
    return dict(zip(map(int, columns.steps), columns.values, strict=True))


LOG = """
import math, wandb
run = wandb.init(project="first-steps", id="r1", name="a name", notes="some notes", group="g",
                 job_type="train", tags=["x", "y"], config={"lr": 0.1, "model": {"depth": 3}})
wandb.define_metric("test/*", step_metric="loss")
for i in range(100):
    wandb.log({"loss": 1 / (i + 1), "val": {"acc": i}, "test/acc": i, "ok": True})
wandb.log({"odd": float("nan")})
wandb.log({"odd": float("inf")})
wandb.log({"odd": float("-inf")})
wandb.config.update({"epochs": 2})
wandb.define_metric("val.acc", step_metric="loss")
wandb.summary["best"] = 0.5
print("a line")
wandb.finish()
"""


def test_a_run_is_stored_exactly(client, shared_server):
    project = f"exact-{client.directory.name}"
    client.run(LOG.replace(PROJECT, project), shared_server.url)
    run = stored(shared_server, "r1", project)
    assert run["hparams"] == {"lr": 0.1, "model": {"depth": 3}, "epochs": 2}
    assert run["summary"]["best"] == 0.5
    assert (run.name, run.description, run.experiment) == ("a name", "some notes", project)
    assert set(run.tags) == {"x", "y"}
    assert run["wandb"]["group"] == "g"
    goals = run._http.get("/api/v1/rest/projects/metric-goals/")
    axes = {goal["name"]: goal["x_axis"] for goal in goals}
    assert (axes["val.acc"], axes["test/acc"]) == ("loss", "loss")
    version = run["wandb"]["config"]["cli_version"]
    assert (
        run._http.get(f"/api/v1/rest/runs/r1:{project}/info/")["props"]["client"]
        == f"W&B {version}"
    )
    assert run["wandb"]["job_type"] == "train"
    assert points(run, "loss") == {i: 1 / (i + 1) for i in range(100)}
    assert points(run, "val.acc") == {i: float(i) for i in range(100)}
    odd = points(run, "odd")
    assert math.isnan(odd[100])
    assert (odd[101], odd[102]) == (math.inf, -math.inf)


def test_a_failed_script_is_a_failed_run(client, shared_server):
    project = f"failed-{client.directory.name}"
    script = f'import wandb; wandb.init(project="{project}", id="r"); wandb.log({{"a": 1}}); raise ValueError("no")'
    process = client.begin(script, shared_server.url)
    process.communicate()
    assert process.returncode == 1
    assert stored(shared_server, "r", project).props["outcome"] == "failed"


def test_a_run_is_resumed_where_it_ended(client, shared_server):
    project = f"resumed-{client.directory.name}"
    script = """
import wandb
run = wandb.init(project="{project}", id="r", resume="allow", config={config}, tags=["x"])
# Newer clients return 0 as the step until something is logged.
for i in range(3):
    wandb.log({{"a": run.starting_step + i}})
print(run.resumed, run.step)
"""
    first = client.run(script.format(project=project, config={"lr": 1}), shared_server.url)
    second = client.run(script.format(project=project, config={"seed": 2}), shared_server.url)
    assert first.split() == ["False", "3"]
    assert second.split() == ["True", "6"]
    run = stored(shared_server, "r", project)
    assert points(run, "a") == {i: float(i) for i in range(6)}
    assert run["hparams"] == {"lr": 1, "seed": 2}
    assert set(run.tags) == {"x"}


BRANCHES = """
import wandb
run = wandb.init(project="{project}", id="r")
for i in range(10):
    run.log({{"loss": i}})
print("a line")
run.alert("slow", "below ten", level=wandb.AlertLevel.WARN)
run.finish()
fork = wandb.init(project="{project}", id="f", fork_from="r?_step=4")
fork.log({{"loss": 100}})
fork.finish()
rewound = wandb.init(project="{project}", resume_from="r?_step=6")
rewound.log({{"loss": 200}})
rewound.finish()
"""


def test_a_run_is_forked_and_rewound(client, shared_server):
    project = f"branches-{client.directory.name}"
    client.run(BRANCHES.format(project=project), shared_server.url)
    forked = points(stored(shared_server, "f", project), "loss")
    assert forked == {**{i: float(i) for i in range(5)}, 5: 100.0}
    run = stored(shared_server, "r", project)
    assert points(run, "loss") == {**{i: float(i) for i in range(7)}, 7: 200.0}
    assert "a line" in run.get_terminal_logs()
    records = json.dumps(run.get_log_records())
    assert "below ten" in records and '"WARNING"' in records


def test_an_offline_run_is_synced_once_however_often(client, shared_server):
    project = f"offline-{client.directory.name}"
    client.run(LOG.replace(PROJECT, project), shared_server.url, WANDB_MODE="offline")
    for _ in range(2):
        client.sync(shared_server.url)
    run = stored(shared_server, "r1", project)
    assert points(run, "loss") == {i: 1 / (i + 1) for i in range(100)}


def test_a_killed_server_loses_nothing(client, own_server):
    script = """
import sys, wandb
run = wandb.init(project="killed", id="r")
for i in range(1000):
    wandb.log({"loss": i})
    if i == 500:
        print("half", flush=True)
        sys.stdin.readline()
wandb.finish()
"""
    process = client.begin(script, own_server.url)
    assert process.stdout.readline() == "half\n"
    # Until then, nothing was acknowledged that could be lost.
    wait_for_metric(own_server, process, "r", "killed", "loss")
    own_server.stop(signal.SIGKILL)
    process.stdin.write("\n")
    process.stdin.flush()
    own_server.start()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert points(stored(own_server, "r", "killed"), "loss") == {i: float(i) for i in range(1000)}


def test_rule_108_a_cut_network_loses_and_doubles_nothing(client, shared_server, network):
    script = """
import sys, wandb
run = wandb.init(project="cut", id="r")
for i in range(1000):
    wandb.log({"loss": i})
    if i == 500:
        print("half", flush=True)
        sys.stdin.readline()
wandb.finish()
"""
    process = client.begin(script, network.url)
    assert process.stdout.readline() == "half\n"
    wait_for_metric(shared_server, process, "r", "cut", "loss")
    # What is sent next is stored, and the client does not learn that.
    network.lose_answers(3)
    process.stdin.write("\n")
    process.stdin.flush()
    wait_for(lambda: network.lost_answers == 3, process)
    network.cut()
    wait_for(lambda: network.refused, process)
    network.restore()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert points(stored(shared_server, "r", "cut"), "loss") == {i: float(i) for i in range(1000)}


def test_several_writers_lose_no_row(client, shared_server):
    project = f"shared-{client.directory.name}"
    script = """
import wandb
settings = wandb.Settings(mode="shared", x_primary={primary}, x_label="{writer}")
run = wandb.init(project="{project}", id="r", settings=settings)
for i in range(50):
    run.log({{"loss": i}})
run.finish()
"""
    processes = [
        client.begin(
            script.format(project=project, primary=writer == "0", writer=writer), shared_server.url
        )
        for writer in ("0", "1")
    ]
    reader = f"""
import wandb
rows = list(wandb.Api().run("matyan/{project}/r").scan_history(page_size=7))
print(*[row["loss"] for row in rows])
"""
    wait_for_metric(shared_server, processes[0], "r", project, "loss")
    # Pages are read while rows come. Steps of rows may change until all writers have begun.
    while any(process.poll() is None for process in processes):
        values = [float(value) for value in client.run(reader, shared_server.url).split()]
        assert set(values) <= set(map(float, range(50)))
    for process in processes:
        printed, errors = process.communicate()
        assert process.returncode == 0, printed + errors
    run = stored(shared_server, "r", project)
    writers = [metric["context"] for metric in run.metrics() if metric["name"] == "loss"]
    assert len(writers) == 2
    for context in writers:
        columns = run.series("loss", context)
        assert list(columns.values) == [float(i) for i in range(50)]
    values = [float(value) for value in client.run(reader, shared_server.url).split()]
    assert sorted(values) == sorted([float(i) for i in range(50)] * 2)


def test_objects_are_not_replaced_by_a_resumed_run(client, shared_server):
    project = f"objects-{client.directory.name}"
    script = f"""
import wandb
run = wandb.init(project="{project}", id="r", resume="allow")
for i in range(3):
    run.log({{"loss": i}})
run.log({{"words": "at the end"}})
print(run.step)
run.finish()
"""
    for last_step in ("4", "8"):
        assert client.run(script, shared_server.url).split() == [last_step]
    run = stored(shared_server, "r", project)
    assert sorted(points(run, "loss")) == [0, 1, 2, 4, 5, 6]
    texts = run.get_text_sequence("words")
    assert sorted(texts.indices) == [3, 7]


def test_media_and_files_are_stored(client, shared_server):
    project = f"media-{client.directory.name}"
    script = """
import wandb
from pathlib import Path
import numpy as np
run = wandb.init(project="{project}", id="r")
wandb.log({{"picture": wandb.Image(np.zeros((4, 6, 3), dtype=np.uint8), caption="black")}})
wandb.log({{"weights": wandb.Histogram(np_histogram=([1, 2], [0, 1, 2]))}})
wandb.log({{"words": "hello"}})
Path("model.txt").write_text("weights")
wandb.save("model.txt")
wandb.finish()
api = wandb.Api()
names = [file.name for file in api.run("matyan/{project}/r").files()]
print(*names)
print(api.run("matyan/{project}/r").file("model.txt").download(replace=True).read())
# `wandb restore` reads only files with a time.
asked = api.run("matyan/{project}/r").files(names=["model.txt", "none.patch"])
print(*[bool(file.updated_at) for file in asked])
""".format(project=project)
    names, content, times = client.run(script, shared_server.url).splitlines()
    assert {"model.txt", "config.yaml", "wandb-summary.json"} <= set(names.split())
    assert content == "weights"
    assert times == "True False"
    run = stored(shared_server, "r", project)
    assert run.get_image_sequence("picture") is not None
    assert run.get_distribution_sequence("weights") is not None
    assert run.get_text_sequence("words") is not None


LOAD = """
import json, sys, wandb
settings = wandb.Settings(x_stats_sampling_interval=0.1)
run = wandb.init(project="{project}", id="r", settings=settings)
run.log({{"loss": 1}})
sys.stdin.readline()
run.finish()
rows = wandb.Api().run("matyan/{project}/r").history(stream="system", samples=100_000, pandas=False)
print(json.dumps(rows))
"""


def test_the_load_of_the_machine_is_stored_as_metrics(client, shared_server):
    project = f"load-{client.directory.name}"
    name = "__system__memory_percent"
    process = client.begin(LOAD.format(project=project), shared_server.url, **SENDS_SOON)
    wait_for_metric(shared_server, process, "r", project, name)
    printed, errors = process.communicate("\n")
    assert process.returncode == 0, errors
    run = stored(shared_server, "r", project)
    system = [metric["name"] for metric in run.metrics() if metric["name"].startswith("__system__")]
    # W&B's own prefix is left out.
    assert not [one for one in system if one.startswith("__system__system.")]
    percents = points(run, name)
    assert all(0 < percent < 100 for percent in percents.values())
    # The step is the tenth of a second since the start.
    columns = run.series(name, {})
    steps = list(columns.steps)
    times = [time / 1e6 for time in columns.times_us]
    assert steps == pytest.approx([steps[0] + 10 * (time - times[0]) for time in times], abs=1.5)
    shown = "system.memory_percent"
    rows = {row["_step"]: row[shown] for row in json.loads(printed) if shown in row}
    assert rows == percents


API = """
import json, wandb
for i in range(5):
    run = wandb.init(project="{project}", id=f"r{{i}}", config={{"lr": i / 10, "opt": {{"name": "sgd" if i % 2 else "adam"}}}})
    for step in range(20):
        run.log({{"loss": step * i, "deep": {{"x": step}}}})
        if step % 2 == 0:
            run.log({{"rare": 1}})
    run.finish(exit_code=i % 2)
api = wandb.Api()
path = "matyan/{project}"
def ids(filters, order="+created_at"):
    return [run.id for run in api.runs(path, filters=filters, order=order)]
print(json.dumps([
    ids({{}}),
    ids({{"config.lr": {{"$gt": 0.15}}}}),
    ids({{"config.opt.name": "sgd", "state": "failed"}}),
    ids({{"$or": [{{"summary_metrics.loss": 0}}, {{"display_name": {{"$regex": "^nothing"}}}}]}}),
    ids({{}}, "-summary_metrics.loss"),
    len(api.runs(path)),
]))
run = api.run(path + "/r2")
print(json.dumps([run.state, run.config, run.summary["loss"]]))
rows = list(run.scan_history(keys=["loss", "deep.x"]))
assert list(run.scan_history(keys=["loss", "deep.x"], page_size=7)) == rows
print(len(rows), rows[3]["loss"], rows[3]["deep.x"])
print(len(run.history(samples=10, pandas=False)), len(run.history(keys=["rare"], pandas=False)))
"""


def test_the_public_api_reads_runs(client, shared_server):
    project = f"api-{client.directory.name}"
    found, one, scan, sampled = client.run(
        API.format(project=project), shared_server.url
    ).splitlines()
    everything = [f"r{i}" for i in range(5)]
    assert json.loads(found) == [
        everything,
        ["r2", "r3", "r4"],
        ["r1", "r3"],
        ["r0"],
        everything[::-1],
        5,
    ]
    assert json.loads(one) == ["finished", {"lr": 0.2, "opt": {"name": "adam"}}, 38]
    assert scan.split() == ["20", "6", "3"]
    assert [int(number) for number in sampled.split()] == [10, 10]


EDITS = """
import json, wandb
from pathlib import Path
path = "matyan/{project}"
run = wandb.init(project="{project}", id="r", tags=["old"], notes="old", config={{"lr": 0.1, "deep": {{"a": 1}}}})
run.log({{"loss": 1}})
Path("data.txt").write_text("one")
artifact = wandb.Artifact("data", type="dataset", description="old")
artifact.add_file("data.txt")
run.log_artifact(artifact).wait()
run.finish()

def fresh():
    return wandb.Api().run(path + "/r")

run = fresh()
run.tags = ["new", "other"]
run.name = "a name"
run.notes = "notes"
run.config["lr"] = 0.5
del run.config["deep"]
run.summary["best"] = 2
run.update()
read = fresh()
print(json.dumps([sorted(read.tags), read.name, read.notes, read.config, read.summary["best"]]))
Path("up.txt").write_text("up")
run.upload_file("up.txt")
run.file("up.txt").delete()
print("up.txt" in [file.name for file in fresh().files()])

def version(name="data:latest"):
    return wandb.Api().artifact(path + "/" + name)

artifact = version()
artifact.description = "new"
artifact.metadata = {{"n": 1}}
artifact.aliases.append("best")
artifact.save()
read = version("data:best")
print(json.dumps([read.description, read.metadata, sorted(read.aliases)]))
read.aliases.remove("best")
read.save()
print(version().aliases)
collection = wandb.Api().artifact_collection("dataset", path + "/data")
collection.description = "all data"
collection.save()
print(wandb.Api().artifact_collection("dataset", path + "/data").description)
collection.delete()
try:
    version()
except Exception:
    print("no artifact")
run.delete()
try:
    fresh()
except Exception:
    print("no run")
"""


def test_the_public_api_edits_runs_and_artifacts(client, shared_server):
    project = f"edits-{client.directory.name}"
    run, file, artifact, aliases, collection, *deleted = client.run(
        EDITS.format(project=project), shared_server.url
    ).splitlines()
    assert json.loads(run) == [["new", "other"], "a name", "notes", {"lr": 0.5}, 2]
    assert file == "False"
    assert json.loads(artifact) == ["new", {"n": 1}, ["best", "latest"]]
    assert aliases == "['latest']"
    assert collection == "all data"
    assert deleted == ["no artifact", "no run"]


def test_a_project_by_url_is_apart(client, own_server):
    repo = Repo(own_server.url)
    status, answer = send(own_server, "api/v1/rest/projects/", {"name": "team"})
    assert status == 201, answer
    script = 'import wandb; wandb.init(project="p", id="r"); wandb.log({"a": 1}); wandb.finish()'
    client.run(script, f"{own_server.url.rstrip('/')}/p/team")
    assert [run.hash for run in Repo(f"{own_server.url.rstrip('/')}/p/team").iter_runs()] == ["r:p"]
    assert not list(repo.iter_runs())


def test_sweeps_are_refused_with_a_way_out(client, shared_server):
    script = """
import wandb
try:
    wandb.sweep({"method": "random", "parameters": {"a": {"min": 0, "max": 1}}}, project="p")
except Exception as error:
    print("Optuna" in str(error))
try:
    # `wandb agent` asks for its sweep first, too.
    wandb.Api().sweep("me/p/s")
except Exception as error:
    print("Optuna" in str(error))
"""
    assert client.run(script, shared_server.url).split() == ["True", "True"]


# Requests that no client sends.


def ask(server, method, path, body=None, headers=None):
    """Returns status and content. The path is sent as it is, and not normalized as by clients."""
    authorization = base64.b64encode(f"api:{KEY}".encode()).decode()
    headers = {"Authorization": f"Basic {authorization}", **(headers or {})}
    address = urllib.parse.urlsplit(server.url).netloc
    for _ in range(5):
        connection = http.client.HTTPConnection(address, timeout=60)
        # The answer is sometimes lost with the connection.
        with contextlib.closing(connection), contextlib.suppress(ConnectionResetError):
            # The answer may come before the end of the body.
            with contextlib.suppress(BrokenPipeError):
                connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
    raise AssertionError("the server has ended the connection without an answer")


def send(server, path, body):
    """Returns status and answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    status, answer = ask(server, "POST", f"/{path}", content, headers)
    return status, json.loads(answer)


def begin_run(server, project, run_id):
    query = 'mutation { upsertBucket(input: {name: "%s", modelName: "%s"}) { bucket { id name } inserted } }'
    status, answer = send(server, "graphql", {"query": query % (run_id, project)})
    assert (status, "errors" in answer) == (200, False), answer


def rows(offset, lines):
    return {"files": {"wandb-history.jsonl": {"offset": offset, "content": lines}}}


def test_a_repeated_request_stores_nothing_twice(shared_server):
    begin_run(shared_server, "repeated", "r")
    body = rows(0, [json.dumps({"_step": i, "_timestamp": 1e9 + i, "a": i}) for i in range(10)])
    for _ in range(3):
        assert send(shared_server, "files/me/repeated/r/file_stream", body)[0] == 200
    # A client that sends a run again gives its lines other numbers.
    body["files"]["wandb-history.jsonl"]["offset"] = 500
    assert (
        send(
            shared_server,
            "files/me/repeated/r/file_stream",
            {**body, "complete": True, "exitcode": 0},
        )[0]
        == 200
    )
    assert points(stored(shared_server, "r", "repeated"), "a") == {i: float(i) for i in range(10)}


def test_a_repeated_sample_of_the_load_is_stored_once(shared_server):
    begin_run(shared_server, "samples", "r")
    samples = [
        {
            "_runtime": i + 0.04,
            "_timestamp": 1e9 + i,
            "system.cpu": i,
            "gpu": {"0": {"temp": i / 2}},
        }
        for i in range(10)
    ]
    for offset in (0, 0, 500):
        chunk = {"offset": offset, "content": [json.dumps(sample) for sample in samples]}
        body = {"files": {"wandb-events.jsonl": chunk}}
        assert send(shared_server, "files/me/samples/r/file_stream", body)[0] == 200
    end = {"complete": True, "exitcode": 0}
    assert send(shared_server, "files/me/samples/r/file_stream", end)[0] == 200
    run = stored(shared_server, "r", "samples")
    assert {metric["name"] for metric in run.metrics()} == {"__system__cpu", "__system__gpu.0.temp"}
    assert points(run, "__system__cpu") == {10 * i: float(i) for i in range(10)}
    assert points(run, "__system__gpu.0.temp") == {10 * i: i / 2 for i in range(10)}
    times = run.series("__system__cpu", {}).times_us
    assert [time / 1e6 for time in times] == [1e9 + i for i in range(10)]


BROKEN = {
    "no JSON": ("files/me/broken/r/file_stream", b"{"),
    "no object": ("files/me/broken/r/file_stream", b"[1]"),
    "a broken line": ("files/me/broken/r/file_stream", rows(0, ['{"_step": 0, "a": 1}', "{"])),
    "a negative offset": ("files/me/broken/r/file_stream", rows(-1, ['{"a": 1}'])),
    "a path out of the run": ("files/me/broken/r/file_stream", {"uploaded": ["../other/a"]}),
    "a huge body": ("files/me/broken/r/file_stream", b" " * (17 << 20)),
    "a run that does not exist": ("files/me/broken/none/file_stream", rows(0, ['{"a": 1}'])),
    "a hostile name": ("files/me/broken/a%3Ab/file_stream", rows(0, ['{"a": 1}'])),
    "no document": ("graphql", b"{}"),
    "a broken document": ("graphql", {"query": "{ viewer {"}),
    "an unknown field": ("graphql", {"query": "{ viewer { nothing } }"}),
    "an unknown operation": ("graphql", {"query": "mutation { nothing { id } }"}),
    "a deep document": ("graphql", {"query": "{ viewer " * 200 + "}" * 200}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_requests_are_refused_and_store_nothing(name, shared_server):
    begin_run(shared_server, "broken", "r")
    status, answer = send(shared_server, *BROKEN[name])
    assert 400 <= status < 500, answer
    assert answer["errors"][0]["message"]
    assert not list(stored(shared_server, "r", "broken").metrics())


def test_documents_of_clients_may_have_any_form(shared_server):
    query = """
        query ($skip: Boolean!) {
            who: viewer { ...F email @skip(if: $skip) }
            QueryType: __type(name: "Query") { fields { name args { name } } }
            None: __type(name: "Nothing") { name }
        }
        fragment F on User { __typename username }
    """
    status, answer = send(shared_server, "graphql", {"query": query, "variables": {"skip": True}})
    assert status == 200
    assert answer["data"]["who"] == {
        "__typename": "User",
        "username": answer["data"]["who"]["username"],
    }
    assert "project" in [field["name"] for field in answer["data"]["QueryType"]["fields"]]
    assert answer["data"]["None"] is None
