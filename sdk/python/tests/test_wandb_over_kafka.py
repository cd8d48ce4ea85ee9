"""The unmodified `wandb` package on a server whose log is Apache Kafka."""

import sys

import pytest
from test_wandb_clients import LOG, PROJECT, Client, points, stored

pytest.importorskip("wandb")


def test_a_run_over_kafka_is_stored_exactly(kafka_server, tmp_path):
    client = Client(sys.executable, tmp_path)
    project = f"kafka-{tmp_path.name}"
    client.run(LOG.replace(PROJECT, project), kafka_server.url)
    run = stored(kafka_server, "r1", project)
    assert run["hparams"] == {"lr": 0.1, "model": {"depth": 3}, "epochs": 2}
    assert points(run, "loss") == {i: 1 / (i + 1) for i in range(100)}
    assert points(run, "val.acc") == {i: float(i) for i in range(100)}
    assert run.active is False
