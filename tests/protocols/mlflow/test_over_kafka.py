"""MLflow's client on a server whose log is Apache Kafka."""

from __future__ import annotations

import kafka
import pytest


@pytest.fixture
def system(tmp_path):
    if reason := kafka.lacking():
        pytest.skip(reason)
    running = kafka.RestartedSystem(tmp_path)
    yield running
    assert running.stop() == 0, running.said()


def test_a_killed_server_loses_and_doubles_nothing(system):
    import mlflow
    from mlflow.entities import Metric, Param

    client = mlflow.MlflowClient(tracking_uri=system.query, registry_uri=system.query)
    experiment = client.create_experiment("over kafka")
    run = client.create_run(experiment).info.run_id
    expected = []
    for batch in range(8):
        points = [Metric("loss", (batch * 50 + at) / 3, 1_000 + batch, batch * 50 + at) for at in range(50)]
        expected += [(point.step, point.value) for point in points]
        if batch % 4 == 1:
            system.restart()
        # The second time as a client does that has seen no answer.
        for _ in range(2):
            client.log_batch(run, metrics=points, params=[Param("lr", "0.1")])
    client.log_text(run, "hello", "notes/hello.txt")
    client.set_terminated(run)
    history = client.get_metric_history(run, "loss")
    assert [(point.step, point.value) for point in history] == expected
    assert client.get_run(run).data.params == {"lr": "0.1"}
    assert [it.path for it in client.list_artifacts(run, "notes")] == ["notes/hello.txt"]
    [found] = client.search_runs([experiment], "metrics.loss > 100 and params.lr = '0.1'")
    assert found.info.run_id == run and found.info.status == "FINISHED"
