"""The same scripts with W&B, offline, and with `matyan_client.wandb`: one line differs."""

import json
import math
import os
import struct
import subprocess
import sys

import pytest

from matyan_client import Run

# Scripts of one run each, which print the hash of our run at last.
SCRIPTS = {
    "config": """
run = wandb.init(project="p", config={"lr": 0.1, "model": {"depth": 3, "sizes": (1, 2)}, "a.b": 1})
wandb.config.update({"epochs": 2, "--flag-": True})
wandb.config.seed = 7
wandb.config["nested"] = {"x": [1, {"y": None}]}
wandb.config.setdefaults({"lr": 5, "extra": "text"})
wandb.config.update({"lr": 0.2}, allow_val_change=True)
import argparse
wandb.config.update(argparse.Namespace(workers=4, seed=7))
""",
    "rows": """
run = wandb.init(project="p")
for i in range(3):
    wandb.log({"loss": 1.0 / (i + 1), "val/acc": i, "layer": {"a": {"norm": i}}, "ok": True})
wandb.log({"a": 1}, commit=False)
wandb.log({"b": 2, "a": 3}, commit=False)
wandb.log({"c": 4})
wandb.log({"d": 1}, commit=False)
wandb.log({})
""",
    "steps": """
run = wandb.init(project="p")
wandb.log({"s": 1}, step=10)
wandb.log({"s": 2, "t": 1}, step=10)
wandb.log({"s": 3}, step=5)
wandb.log({"s": 4})
wandb.log({"u": 4}, step=20, commit=True)
wandb.log({"u": 5}, step=20)
wandb.log({"u": 6})
wandb.log({"u": 7}, step=30, commit=False)
wandb.log({"v": 8}, step=31)
""",
    "aggregates": """
run = wandb.init(project="p")
wandb.define_metric("acc", summary="max")
wandb.define_metric("min/*", summary="min")
wandb.define_metric("all", summary="min,max,mean,last,first")
wandb.define_metric("silent", summary="none")
wandb.define_metric("layer.norm", summary="max")
for i, x in enumerate([3, 1, 5, 2]):
    wandb.log({"acc": x / 10, "min/a": x, "all": x, "silent": x, "layer": {"norm": x}, "last": x})
wandb.summary["best"] = 0.9
wandb.run.summary.update({"deep": {"a": 1}})
wandb.summary["deep"]["b"] = 2
wandb.summary["last"] = 100
""",
    "step metrics": """
run = wandb.init(project="p")
wandb.define_metric("epoch")
wandb.define_metric("val/*", step_metric="epoch")
wandb.define_metric("custom", step_metric="batch")
for epoch in range(2):
    wandb.log({"epoch": epoch, "batch": epoch * 10})
    for i in range(2):
        wandb.log({"loss": i})
    wandb.log({"val/acc": epoch})
    wandb.log({"custom": epoch, "batch": 7})
wandb.log({"custom": 9})
""",
    "values": """
import numpy as np
run = wandb.init(project="p")
wandb.log({
    "f32": np.float32(0.5), "i64": np.int64(3), "zero": np.array(2.5), "one": np.array([4.0]),
    "text": "hello", "list": [1, 2, 3], "small": np.arange(3), "none": None, "flag": False,
    "nan": float("nan"), "inf": float("inf"), "big": 2**40,
})
wandb.log({"large": np.arange(100.0), "hist": wandb.Histogram([1, 2, 2, 3], num_bins=4)})
""",
    "definitions": """
run = wandb.init(project="p")
wandb.define_metric("val/*", summary="max")
wandb.define_metric("mixed", summary="min")
wandb.define_metric("twice", summary="min")
wandb.define_metric("twice", summary="max")
wandb.define_metric("replaced", summary="min")
wandb.define_metric("replaced", summary="last", overwrite=True)
for x in (2, 1, 3, 2):
    wandb.log({"any": x, "val/a": x, "twice": x, "replaced": x, "mixed": x if x > 1 else "text"})
wandb.log({"any": float("nan"), "flag": True})
wandb.log({"nested": {"a": {"b": 1}, "text": "x", "empty": {}}})
""",
    "several runs": """
run = wandb.init(project="p", name="first")
assert wandb.init(project="other").id == run.id
wandb.log({"a": 1})
wandb.finish()
with wandb.init(project="p", name="second", config={"n": 2}) as run:
    run.log({"a": 2})
    run.log({"a": 3})
""",
}

OURS = "\nimport sys; sys.stderr.flush()\nprint(run.matyan_run.hash)\nwandb.finish()\n"
THEIRS = "\nprint(run.settings.sync_file)\nwandb.finish()\n"


def script_output(script, line, ending, directory, extra):
    path = directory / "script.py"
    path.write_text(line + script + ending)
    command = [sys.executable, str(path)]
    environment = {name: text for name, text in os.environ.items() if "WANDB" not in name} | extra
    finished = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=directory,
        env=environment,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.split()[-1]


def records(path, messages):
    """Yields the messages of an offline file: blocks of 32 KiB, as in LevelDB's log."""
    data = path.read_bytes()
    position = 7
    parts = b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += 7
        parts += data[position : position + length]
        position += length
        if kind in (1, 4):
            record = messages.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def put(tree, path, value):
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            return
    tree[path[-1]] = value


def theirs(path, messages):
    """Config, rows, and summary that W&B has stored."""
    config = {}
    summary = {}
    rows = {}
    for record in records(path, messages):
        kind = record.WhichOneof("record_type")
        if kind in ("run", "config"):
            update = record.run.config.update if kind == "run" else record.config.update
            for item in update:
                put(config, list(item.nested_key) or [item.key], json.loads(item.value_json))
        elif kind == "summary":
            for item in record.summary.update:
                put(summary, list(item.nested_key) or [item.key], json.loads(item.value_json))
        elif kind == "history":
            row = rows.setdefault(record.history.step.num, {})
            for item in record.history.item:
                name = ".".join(item.nested_key) or item.key
                row[name] = json.loads(item.value_json)
    return public(config), public(summary), {step: public(row) for step, row in rows.items()}


def public(tree):
    return {key: value for key, value in tree.items() if not key.startswith("_")}


def numbers(row):
    return {name: value for name, value in row.items() if isinstance(value, (int, float)) and name}


def comparable(value):
    """Replaces NaN, which is not equal to itself, and which params store as None."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_stores_the_same(name, shared_server, tmp_path):
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}
    line = "import wandb\n"
    file = script_output(SCRIPTS[name], line, THEIRS, tmp_path, quiet)
    config, summary, rows = theirs(tmp_path / file, messages)

    servers = {
        "MATYAN_BACKEND_URL": shared_server.url,
        "MATYAN_FRONTIER_URL": shared_server.gateway,
    }
    line = "import matyan_client.wandb as wandb\n"
    run_hash = script_output(SCRIPTS[name], line, OURS, tmp_path, servers)
    run = Run(run_hash, repo=shared_server.url, read_only=True)

    assert config or rows
    assert run.get("hparams", {}) == config
    # Media are in the summary of W&B as descriptions of their files.
    plain = {key: value for key, value in summary.items() if not is_media(value)}
    assert comparable(public(run.get("summary", {}))) == comparable(plain)
    stored = {}
    for metric in run.metrics():
        if not metric["name"].startswith("__"):
            columns = run.series(metric["name"], metric["context"])
            for step, value in zip(columns.steps, columns.values, strict=True):
                stored.setdefault(int(step), {})[metric["name"]] = value
    expected = {step: numbers(row) for step, row in rows.items() if numbers(row)}
    assert repr(sorted_rows(stored)) == repr(sorted_rows(expected))


def sorted_rows(rows):
    return {
        step: {name: float(row[name]) for name in sorted(row)} for step, row in sorted(rows.items())
    }


def is_media(value):
    return isinstance(value, dict) and "_type" in value
