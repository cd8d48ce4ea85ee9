"""The unmodified `wandb` package on a server whose log is Apache Kafka."""

import sys
from types import SimpleNamespace

import pytest
from peers import peers_module
from test_wandb_clients import (
    LOG,
    PROJECT,
    SENDS_SOON,
    Client,
    points,
    stored,
    wait_for,
    wait_for_metric,
)

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


STAGES = """
import sys, wandb
run = wandb.init(project="killed", id="r", config={"lr": 0.1})
for stage in range(4):
    for i in range(250):
        run.log({"loss": stage * 250 + i, f"stage{stage}": i})
    print("logged", flush=True)
    sys.stdin.readline()
run.finish()
"""


def test_a_killed_server_over_kafka_loses_and_doubles_nothing(own_kafka_server, tmp_path):
    client = Client(sys.executable, tmp_path)
    server = SimpleNamespace(url=own_kafka_server.query)
    network = peers_module("network").Network(own_kafka_server.query)
    with network, client.begin(STAGES, network.url, **SENDS_SOON) as process:
        for stage in range(3):
            assert process.stdout.readline() == "logged\n"
            wait_for_metric(server, process, "r", "killed", f"stage{stage}")
            # What is sent next is stored, and is sent again to the restarted server.
            network.lose_answers(1)
            process.stdin.write("\n")
            process.stdin.flush()
            wait_for(lambda lost=stage + 1: network.lost_answers == lost, process)
            network.cut()
            own_kafka_server.restart()
            network.restore()
        process.stdin.write("\n")
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    run = stored(server, "r", "killed")
    assert points(run, "loss") == {i: float(i) for i in range(1000)}
    for stage in range(4):
        steps = range(stage * 250, stage * 250 + 250)
        assert points(run, f"stage{stage}") == {step: step % 250.0 for step in steps}
    assert run["hparams"] == {"lr": 0.1}
    assert run.active is False
