"""Data that the log has and the store does not have yet, because a worker is late or a run is in quarantine."""

from __future__ import annotations

import os
import subprocess

import requests
from conftest import eventually


def command(server, *words):
    environment = {**os.environ, "MATYAN_BACKEND_URL": server.query}
    subprocess.run([os.environ["MATYAN_BIN"], *words], env=environment, check=True, capture_output=True)


def post(server, path, **body):
    # Not through the package, which would repeat the request.
    return requests.post(f"{server.query}/api/2.0/mlflow/runs/{path}", json=body)


def test_what_is_not_applied_is_neither_acknowledged_nor_overwritten(mlflow, server):
    client = mlflow.MlflowClient()
    run = client.create_run("0").info.run_id
    client.log_metric(run, "loss", 0.9, timestamp=9)
    command(server, "runs", "park", run)
    writes = [
        ("log-metric", {"key": "loss", "value": 0.8, "timestamp": 10}),
        ("log-metric", {"key": "loss", "value": 0.7, "timestamp": 11}),
        ("log-parameter", {"key": "lr", "value": "0.1"}),
        ("log-batch", {"params": [{"key": "lr", "value": "0.2"}]}),
        ("set-tag", {"key": "a", "value": "b"}),
        ("update", {"status": "FINISHED"}),
    ]
    for path, body in writes:
        refused = post(server, path, run_id=run, **body)
        assert refused.status_code == 503, (path, refused.text)
        assert "matyan runs resume" in refused.json()["message"]
    command(server, "runs", "resume", run)
    for path, body in writes[:3] * 2:
        eventually(lambda: post(server, path, run_id=run, **body).status_code == 200, path)  # noqa: B023
    history = client.get_metric_history(run, "loss")
    assert [(point.timestamp, point.value) for point in history] == [(9, 0.9), (10, 0.8), (11, 0.7)]
    assert client.get_run(run).data.params == {"lr": "0.1"}


def test_a_repeated_batch_of_one_step_is_stored_once(mlflow):
    from mlflow.entities import Metric

    client = mlflow.MlflowClient()
    run = client.create_run("0").info.run_id
    points = [Metric("loss", at / 8, at + 1, 0) for at in range(1_000)]
    for _ in range(2):
        client.log_batch(run, metrics=points)
    history = client.get_metric_history(run, "loss")
    assert [(point.timestamp, point.value) for point in history] == [(at + 1, at / 8) for at in range(1_000)]


def test_runs_do_not_wait_for_a_run_in_quarantine(mlflow, server):
    client = mlflow.MlflowClient()
    parked, other = (client.create_run("0").info.run_id for _ in range(2))
    command(server, "runs", "park", parked)
    for step in range(20):
        assert post(server, "log-metric", run_id=parked, key="a", value=step, timestamp=1, step=step).status_code == 503
        client.log_metric(other, "a", step, timestamp=1, step=step)
    assert len(client.get_metric_history(other, "a")) == 20
    command(server, "runs", "resume", parked)
