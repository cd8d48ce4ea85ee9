"""Behavior that clients of MLflow 2.x and 3.x share: this file is run with a client of each."""

from __future__ import annotations

import math

import pytest
from conftest import pages


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


def test_searches_are_paged(mlflow, request):
    client = mlflow.MlflowClient()
    experiment = mlflow.get_experiment_by_name(request.node.name).experiment_id
    for number in range(7):
        run = client.create_run(experiment, start_time=1_000 + number).info.run_id
        client.log_param(run, "number", number)
        client.log_metric(run, "acc", number % 4)

    def numbers(**search):
        found = pages(client.search_runs, experiment_ids=[experiment], max_results=3, **search)
        return [[run.data.params["number"] for run in page] for page in found]

    assert numbers() == [["6", "5", "4"], ["3", "2", "1"], ["0"]], "newest first"
    by_metric = numbers(order_by=["metrics.acc DESC", "attributes.start_time ASC"])
    assert by_metric == [["3", "2", "6"], ["1", "5", "0"], ["4"]]
    filtered = numbers(filter_string="metrics.acc > 0", order_by=["attributes.start_time ASC"])
    assert filtered == [["1", "2", "3"], ["5", "6"]]
    assert len(mlflow.search_runs([experiment], output_format="list")) == 7
    names = [f"{request.node.name} {number}" for number in range(5)]
    for name in names:
        client.create_experiment(name)
    search = {"filter_string": f"name LIKE '{request.node.name} %'", "order_by": ["name DESC"]}
    found = [[it.name for it in page] for page in pages(client.search_experiments, max_results=2, **search)]
    assert found == [names[:2:-1], names[2:0:-1], names[:1]]


def test_data_sets_of_a_run_are_stored_once(mlflow, request):
    from mlflow.entities import Dataset, DatasetInput, InputTag

    client = mlflow.MlflowClient()
    experiment = mlflow.get_experiment_by_name(request.node.name).experiment_id
    train = Dataset("numbers", "digest 1", "local", '{"uri": "data/numbers"}', '{"columns": 2}', '{"rows": 6}')
    test = Dataset("others", "digest 2", "http", '{"url": "https://example.com/data"}')
    first, second = (client.create_run(experiment).info.run_id for _ in range(2))
    for _ in range(2):
        client.log_inputs(first, [DatasetInput(train, [InputTag("mlflow.data.context", "training")])])
    client.log_inputs(second, [DatasetInput(train, []), DatasetInput(test, [InputTag("mlflow.data.context", "eval")])])

    def inputs(run):
        found = sorted(client.get_run(run).inputs.dataset_inputs, key=lambda it: it.dataset.name)
        return [(dict(it.dataset), [(tag.key, tag.value) for tag in it.tags]) for it in found]

    def runs(condition):
        return {run.info.run_id for run in client.search_runs([experiment], condition)}

    assert inputs(first) == [(dict(train), [("mlflow.data.context", "training")])]
    assert inputs(second) == [(dict(train), []), (dict(test), [("mlflow.data.context", "eval")])]
    assert runs("dataset.name = 'numbers'") == {first, second}
    assert runs("dataset.name = 'others'") == runs("dataset.context = 'eval'") == {second}
    assert runs("dataset.digest = 'digest 1' AND dataset.context = 'training'") == {first}
    assert runs("dataset.name = 'nothing'") == set()


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


def test_versions_of_a_model_move_through_stages(mlflow, request):
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    name = request.node.name
    client.create_registered_model(name)
    for number in range(3):
        client.create_model_version(name, f"s3://bucket/{number}")

    def stages():
        return [client.get_model_version(name, version).current_stage for version in "123"]

    def latest(*wanted):
        return {it.current_stage: str(it.version) for it in client.get_latest_versions(name, list(wanted) or None)}

    assert (stages(), latest()) == (["None"] * 3, {"None": "3"})
    moved = client.transition_model_version_stage(name, "1", "Staging")
    assert (str(moved.version), moved.current_stage) == ("1", "Staging")
    client.transition_model_version_stage(name, "1", "Production")
    client.transition_model_version_stage(name, "2", "Production")
    assert stages() == ["Production", "Production", "None"]
    assert latest("Production") == {"Production": "2"}
    client.transition_model_version_stage(name, "3", "production", archive_existing_versions=True)
    assert stages() == ["Archived", "Archived", "Production"]
    assert latest() == {"Archived": "2", "Production": "3"} and latest("Staging") == {}
    assert {it.current_stage for it in client.get_registered_model(name).latest_versions} == {"Archived", "Production"}
    for stage, archives in (("Retired", False), ("Archived", True)):
        with pytest.raises(MlflowException) as refused:
            client.transition_model_version_stage(name, "3", stage, archive_existing_versions=archives)
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(MlflowException) as missing:
        client.transition_model_version_stage(name, "4", "Staging")
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert stages() == ["Archived", "Archived", "Production"]
    client.delete_registered_model(name)


def test_an_error_is_of_mlflow_and_comes_at_once(mlflow):
    from mlflow.exceptions import MlflowException

    with mlflow.start_run():
        mlflow.log_param("lr", 0.1)
        with pytest.raises(MlflowException) as changed:
            mlflow.log_param("lr", 0.2)
    assert changed.value.error_code == "INVALID_PARAMETER_VALUE"
