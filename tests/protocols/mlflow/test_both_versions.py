"""What clients of MLflow 2.x and 3.x have in common: this file is run with a client of each."""

from __future__ import annotations

import math

import pytest


def test_a_run_is_read_back(mlflow):
    with mlflow.start_run(run_name="first") as run:
        mlflow.log_params({"lr": 0.1, "optimizer": "adam"})
        mlflow.set_tag("team", "vision")
        for step in range(50):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metric("bad", math.nan)
    client = mlflow.MlflowClient()
    found = client.get_run(run.info.run_id)
    assert found.data.params == {"lr": "0.1", "optimizer": "adam"}
    assert found.data.tags["team"] == "vision" and found.info.run_name == "first"
    assert found.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 1 / (step + 1)) for step in range(50)]
    assert math.isnan(found.data.metrics["bad"])


def test_batches_are_stored(mlflow):
    from mlflow.entities import Metric, Param, RunTag

    client = mlflow.MlflowClient()
    experiment = mlflow.get_experiment_by_name("test_batches_are_stored")
    run = client.create_run(experiment.experiment_id)
    metrics = [Metric("loss", step / 3, 1_000 + step, step) for step in range(500)]
    client.log_batch(run.info.run_id, metrics, [Param("lr", "0.1")], [RunTag("team", "vision")])
    client.set_terminated(run.info.run_id, "FAILED")
    found = client.get_run(run.info.run_id)
    assert found.info.status == "FAILED" and found.data.metrics["loss"] == 499 / 3
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 500


def test_runs_are_searched_and_deleted(mlflow):
    client = mlflow.MlflowClient()
    for number in range(5):
        with mlflow.start_run():
            mlflow.log_param("number", number)
            mlflow.log_metric("acc", number / 10)
    experiment = mlflow.get_experiment_by_name("test_runs_are_searched_and_deleted")
    found = client.search_runs([experiment.experiment_id], "metrics.acc > 0.15", order_by=["metrics.acc DESC"])
    assert [run.data.params["number"] for run in found] == ["4", "3", "2"]
    client.delete_run(found[0].info.run_id)
    assert len(client.search_runs([experiment.experiment_id])) == 4
    client.restore_run(found[0].info.run_id)
    assert len(client.search_runs([experiment.experiment_id])) == 5


def test_artifacts_are_read_back(mlflow, tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a b.txt").write_text("plotted")
    large = bytes(range(256)) * 20_000
    (tmp_path / "large.bin").write_bytes(large)
    with mlflow.start_run() as run:
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_artifacts(str(tmp_path), "files")
        mlflow.log_dict({"lr": 0.1}, "config.json")
    client = mlflow.MlflowClient()
    run_id = run.info.run_id
    assert {it.path for it in client.list_artifacts(run_id)} == {"notes", "files", "config.json"}
    listed = {it.path: it.file_size for it in client.list_artifacts(run_id, "files")}
    assert listed == {"files/large.bin": len(large), "files/plots": None}
    target = tmp_path / "target"
    target.mkdir()
    copied = client.download_artifacts(run_id, "files", str(target))
    assert (tmp_path / "large.bin").read_bytes() == large
    with open(f"{copied}/large.bin", "rb") as file:
        assert file.read() == large
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/hello.txt") == "hello"


def test_models_and_versions_are_managed(mlflow, request):
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    name = request.node.name
    with mlflow.start_run() as run:
        mlflow.log_text("weights", "model/weights.txt")
    client.create_registered_model(name, description="a model")
    source = f"{run.info.artifact_uri}/model"
    first = client.create_model_version(name, source, run.info.run_id)
    second = client.create_model_version(name, source, run.info.run_id)
    assert (str(first.version), str(second.version)) == ("1", "2")
    client.set_registered_model_alias(name, "champion", "2")
    assert str(client.get_model_version_by_alias(name, "champion").version) == "2"
    found = client.search_model_versions(f"name = '{name}'")
    assert sorted(str(version.version) for version in found) == ["1", "2"]
    copied = mlflow.artifacts.download_artifacts(f"models:/{name}/1")
    with open(f"{copied}/weights.txt") as file:
        assert file.read() == "weights"
    client.delete_registered_model(name)
    with pytest.raises(MlflowException) as missing:
        client.get_registered_model(name)
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_an_error_is_of_mlflow_and_comes_at_once(mlflow):
    from mlflow.exceptions import MlflowException

    with mlflow.start_run():
        mlflow.log_param("lr", 0.1)
        with pytest.raises(MlflowException) as changed:
            mlflow.log_param("lr", 0.2)
    assert changed.value.error_code == "INVALID_PARAMETER_VALUE"
