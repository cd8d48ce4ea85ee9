"""Runs of an experiment as a server returns them over REST."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from typing import Any

from recording import StoredRun, series_key

# A guard against a hang: closing a run returns when its data is stored.
DEADLINE_S = 30
POLL_S = 0.1


def read_runs(url: str, experiment: str) -> list[StoredRun]:
    """Reads all runs, oldest first, once none of them is active."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        listed = _list_runs(url, experiment)
        if (listed and all(run["end_time"] for run in listed)) or time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    return [_read_run(url, run) for run in sorted(listed, key=lambda run: run["creation_time"])]


def _list_runs(url: str, experiment: str) -> list[dict[str, Any]]:
    for entry in _call(url, "experiments/"):
        if entry["name"] == experiment:
            runs: list[dict[str, Any]] = _call(url, f"experiments/{entry['id']}/runs/")["runs"]
            return runs
    return []


def _read_run(url: str, listed: dict[str, Any]) -> StoredRun:
    run_hash = listed["run_id"]
    info = _call(url, f"runs/{run_hash}/info/?skip_system=true")
    run = StoredRun(run_hash, info["props"]["experiment"]["name"], listed["name"])
    run.is_finished = bool(listed["end_time"])
    run.params = info["params"]
    traces = [
        {"name": trace["name"], "context": trace["context"]} for trace in info["traces"]["metric"]
    ]
    if traces:
        path = f"runs/{run_hash}/metric/get-batch/?record_density=0"
        for trace in _call(url, path, traces):
            key = series_key(trace["name"], trace["context"])
            pairs = zip(trace["iters"], trace["values"], strict=True)
            run.points[key] = [(step, value, None) for step, value in pairs]
    for trace in info["traces"].get("distributions", []):
        run.points[series_key(trace["name"], trace["context"])] = [(0, None, None)]
    return run


def _call(url: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(urllib.parse.urljoin(url, f"/api/v1/rest/{path}"))
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        return json.load(answer)
