"""The same scripts with Aim and with `matyan_client`: one line differs.

One process writes a run, and another one reads it, as Aim requires. Both have to read the same.
"""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("aim") is None, reason="needs aim")

# A script has `repo`. The second one has the `hash` of the run, and puts what it reads into
# `found`, which `plain` makes comparable.
BEGIN = """
import contextlib, io, json, math, sys
import numpy as np
(repo, *hash), found = sys.argv[1:], {}
hash = "".join(hash)
def columns(metric):
    # The steps of `values.sparse_numpy()` are hashes in Aim.
    assert len(metric.values.sparse_numpy()[1]) == len(metric.dataframe())
    # Aim keeps the order of the calls, and this package the order of the steps.
    whole = metric.dataframe(include_name=True, include_context=True, include_run=True)
    whole = whole.drop(columns=["time", "run.hash"], errors="ignore").sort_values("step")
    steps, (values, epochs, _) = metric.data.items_list()
    return {
        **{name: whole[name].tolist() for name in whole if not name.startswith("run.__")},
        "data": sorted(map(str, zip(steps, values, epochs))),
    }
def plain(value):
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if type(value).__name__ == "ObjectFlagType":
        return "{}"
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
"""
WRITTEN = """
run.close()
print(run.hash)
"""
CONTEXT = {"aim": "from aim.storage.context import Context", "matyan_client": "Context = dict"}
# Aim reads only what its server has put into an index, unless this is done.
INDEX = """
from aim import Repo
Repo(repo)._recreate_index()
print()
"""
READ = """
print(json.dumps(plain(found), sort_keys=True))
"""

TRAINING = """
run = Run(repo=repo, experiment="mnist", capture_terminal_logs=False)
run["hparams"] = {"lr": 0.001, "batch_size": 32, "layers": [1, 2], "net": {"act": "relu"}}
run["dataset", "name"] = "mnist"
run["seed"] = 7
for epoch in range(2):
    for batch in range(5):
        at = epoch * 5 + batch
        run.track(1 / (at + 1), name="loss", step=at, epoch=epoch, context={"subset": "train"})
        run.track(np.float32(at), name="acc", epoch=epoch)
        run.track({"a": at, "b": -at}, step=at, context={"subset": "train"})
    run.track(at / 10, name="loss", step=at, epoch=epoch, context={"subset": "val"})
run.track(math.nan, name="odd", step=3)
run.track(math.inf, name="odd", step=1)
"""

SCRIPTS = {
    "params": (
        TRAINING
        + """
run.set("given", {"deep": [1, {"x": None}]})
run["hparams", "lr"] = 0.01
del run["seed"]
run.name, run.description = "first", "A description"
run.add_tag("one")
run.add_tag("two")
run.remove_tag("one")
""",
        """
read = Run(hash, repo=repo, read_only=True)
found["params"] = read["hparams"]
found["nested"] = [read["dataset"]["name"], read["hparams", "net", "act"], read["given"]]
found["absent"] = [read.get("seed"), read.get("seed", 5)]
found["facts"] = [read.name, read.description, read.experiment, read.tags, read.archived]
try:
    read["absent"]
except KeyError:
    found["error"] = "KeyError"
""",
    ),
    "metrics of a run": (
        TRAINING,
        """
read = Run(hash, repo=repo, read_only=True)
for metric in read.metrics():
    if not metric.name.startswith("__"):
        found[f"{metric.name} {metric.context.to_dict()}"] = columns(metric)
""",
    ),
    "queries": (
        TRAINING,
        """
reader = Repo(repo)
with contextlib.redirect_stderr(io.StringIO()):
    query = "run.hparams.lr == 0.001 and metric.name == 'loss'"
    for metrics in reader.query_metrics(query).iter_runs():
        found["run"] = [metrics.run.hash == hash, metrics.run["hparams"]["batch_size"]]
        for metric in metrics:
            found[str(metric.context.to_dict())] = [metric.name, *columns(metric)]
    for metric in reader.query_metrics("metric.name == 'acc'").iter():
        found["acc"] = columns(metric)
    runs = [one.run for one in reader.query_runs("run.experiment == 'mnist'").iter_runs()]
    found["runs"] = [hash in [one.hash for one in runs]]
    found["none"] = [one for one in reader.query_runs("run.hparams.lr > 100").iter_runs()]
""",
    ),
    "objects": (
        """
from PIL import Image as PilImage
run = Run(repo=repo, experiment="media", capture_terminal_logs=False)
for step in range(2):
    pixels = [PilImage.new("RGB", (4, 3), (index, step, 0)) for index in range(2)]
    run.track(
        [Image(one, caption=f"image {step}") for one in pixels],
        name="samples", step=step, context={"subset": "val"},
    )
    run.track(Text(f"text {step}"), name="notes", step=step)
    run.track(Distribution([0, 1, 2, 3, step], bin_count=4), name="weights", step=step)
""",
        """
read = Run(hash, repo=repo, read_only=True)
context = Context({"subset": "val"})
images = read.get_image_sequence("samples", context)
steps, values = images.values.sparse_list()
found["images"] = [
    steps,
    [[one.caption, one.width, one.height, list(one.to_pil_image().getpixel((0, 0))[:3])]
     for list_of_step in values for one in list_of_step],
]
steps, values = read.get_text_sequence("notes", Context({})).values.sparse_list()
found["texts"] = [steps, [one.data for one in values]]
steps, values = read.get_distribution_sequence("weights", Context({})).values.sparse_list()
found["distributions"] = [steps, [[list(part) for part in one.to_np_histogram()] for one in values]]
""",
    ),
}


def last_line(program, *arguments):
    finished = subprocess.run(
        [sys.executable, "-c", BEGIN + program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "AIM_UI_TELEMETRY_ENABLED": "0"},
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_reads_the_same(name, own_server, tmp_path):
    write, read = SCRIPTS[name]
    names = "Run, Repo, Image, Text, Distribution"
    found = {}
    for package, repo in {"aim": str(tmp_path), "matyan_client": own_server.url}.items():
        line = f"from {package} import {names}\n{CONTEXT[package]}\n"
        run_hash = last_line(line + write + WRITTEN, repo)
        if package == "aim":
            last_line(INDEX, repo)
        found[package] = json.loads(last_line(line + read + READ, repo, run_hash))
    assert found["matyan_client"] == found["aim"]
    assert found["aim"]
