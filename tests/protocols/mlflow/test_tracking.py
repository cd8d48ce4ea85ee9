"""Runs, metrics, params, tags, searches and artifacts, through MLflow's own package."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from conftest import Network, Server, free_port, pages


def values(client, run, key):
    return [(point.step, point.value) for point in client.get_metric_history(run, key)]


def test_a_run_is_read_back_as_it_was_logged(mlflow):
    with mlflow.start_run(run_name="first", description="a note") as run:
        mlflow.log_params({"lr": 0.1, "optimizer": "adam", "layers": [64, 64], "tiny": 1e-5, "flag": True})
        mlflow.set_tags({"team": "vision", "mlflow.source.name": "train.py", "größe/a b": "x"})
        for step in range(3):
            mlflow.log_metrics({"loss": 1 / (step + 1), "val/acc": step / 10}, step=step)
        mlflow.log_metric("bad", math.nan)
        mlflow.log_metric("large", math.inf, step=-5)
    found = mlflow.get_run(run.info.run_id)
    expected = {"lr": "0.1", "optimizer": "adam", "layers": "[64, 64]", "tiny": "1e-05", "flag": "True"}
    assert found.data.params == expected
    assert found.data.tags["team"] == "vision" and found.data.tags["größe/a b"] == "x"
    assert found.data.tags["mlflow.runName"] == found.info.run_name == "first"
    assert found.data.tags["mlflow.note.content"] == "a note"
    assert found.data.metrics["loss"] == 1 / 3 and found.data.metrics["val/acc"] == 0.2
    assert math.isnan(found.data.metrics["bad"]) and found.data.metrics["large"] == math.inf
    assert found.info.status == "FINISHED" and found.info.lifecycle_stage == "active"
    assert found.info.end_time >= found.info.start_time >= run.info.start_time
    client = mlflow.MlflowClient()
    assert values(client, run.info.run_id, "loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert values(client, run.info.run_id, "large") == [(-5, math.inf)]
    assert values(client, run.info.run_id, "nothing") == []


def test_the_times_of_a_run_are_those_of_its_client(mlflow):
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("test_the_times_of_a_run_are_those_of_its_client")
    run = client.create_run(experiment.experiment_id, start_time=1_600_000_000_123)
    client.set_terminated(run.info.run_id, "KILLED", end_time=1_600_000_100_456)
    found = client.get_run(run.info.run_id).info
    assert (found.start_time, found.end_time, found.status) == (1_600_000_000_123, 1_600_000_100_456, "KILLED")
    client.update_run(run.info.run_id, status="RUNNING")
    assert client.get_run(run.info.run_id).info.status == "RUNNING"


def test_points_of_one_step_are_all_kept_and_each_once(mlflow):
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        run_id = run.info.run_id
    points = [(0.5, 1_000, 0), (0.4, 2_000, 0), (0.9, 1_500, 0), (0.7, 3_000, 1), (math.nan, 500, 1)]
    for value, timestamp, step in points * 2:
        client.log_metric(run_id, "loss", value, timestamp=timestamp, step=step)
    history = client.get_metric_history(run_id, "loss")
    assert [(point.timestamp, point.step) for point in history] == [(500, 1), (1_000, 0), (1_500, 0), (2_000, 0), (3_000, 1)]
    assert math.isnan(history[0].value)
    assert [point.value for point in history[1:]] == [0.5, 0.9, 0.4, 0.7]
    assert client.get_run(run_id).data.metrics["loss"] == 0.7, "the greatest step, then the latest time"


def test_metrics_without_steps_are_all_kept(mlflow):
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        for at in range(300):
            client.log_metric(run.info.run_id, "loss", at / 8, timestamp=at + 1)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.timestamp, point.value) for point in history] == [(at + 1, at / 8) for at in range(300)]
    assert client.get_run(run.info.run_id).data.metrics["loss"] == 299 / 8


def test_long_histories_are_paged(mlflow):
    from mlflow.entities import Metric

    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        for start in range(0, 30_000, 1_000):
            points = [Metric("loss", step / 7, step + 1, step) for step in range(start, start + 1_000)]
            client.log_batch(run.info.run_id, metrics=points)
    assert values(client, run.info.run_id, "loss") == [(step, step / 7) for step in range(30_000)]


def test_points_of_several_runs_are_ordered_by_run(mlflow, server):
    import requests

    client = mlflow.MlflowClient()
    experiment = client.create_experiment("points of several runs")
    runs = sorted(client.create_run(experiment).info.run_id for _ in range(3))
    for run in runs:
        client.log_metric(run, "loss", 1.0, step=0)
    for asked, limit, expected in [(runs[::-1], 2, runs[:2]), ([*runs, runs[0]], 9, runs)]:
        question = {"run_id": asked, "metric_key": "loss", "max_results": limit}
        found = requests.get(f"{server.query}/ajax-api/2.0/mlflow/metrics/get-history-bulk", params=question).json()
        assert [point["run_id"] for point in found["metrics"]] == expected


def test_a_param_never_changes(mlflow):
    from mlflow.exceptions import MlflowException

    with mlflow.start_run() as run:
        mlflow.log_param("lr", "0.10")
        mlflow.log_param("lr", "0.10")
        for value in ("0.1", "0.2", ""):
            with pytest.raises(MlflowException) as refused:
                mlflow.MlflowClient().log_param(run.info.run_id, "lr", value)
            assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    assert mlflow.get_run(run.info.run_id).data.params == {"lr": "0.10"}


def test_tags_are_replaced_and_deleted(mlflow):
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        for value in ("1", "2"):
            mlflow.set_tag("a.b", value)
    assert client.get_run(run.info.run_id).data.tags["a.b"] == "2"
    client.delete_tag(run.info.run_id, "a.b")
    assert "a.b" not in client.get_run(run.info.run_id).data.tags
    with pytest.raises(MlflowException) as refused:
        client.delete_tag(run.info.run_id, "a.b")
    assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_deleted_runs_are_restored(mlflow):
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        mlflow.log_param("a", 1)
    run_id = run.info.run_id
    experiment = run.info.experiment_id
    client.delete_run(run_id)
    client.delete_run(run_id)
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    assert client.search_runs([experiment]) == []
    assert [it.info.run_id for it in client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)] == [run_id]
    with pytest.raises(MlflowException) as refused:
        client.log_metric(run_id, "loss", 1)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    client.restore_run(run_id)
    assert [it.info.run_id for it in client.search_runs([experiment])] == [run_id]


@pytest.fixture
def grid(mlflow):
    """Ten runs of one experiment, oldest first."""
    runs = []
    for at in range(10):
        with mlflow.start_run(run_name=f"run_{at}", tags={"even": str(at % 2 == 0), "only": "x"} if at else {}) as run:
            mlflow.log_params({"lr": at / 10, "optimizer": "adam" if at < 5 else "sgd"})
            mlflow.log_metric("loss", 10 - at)
            if at == 3:
                mlflow.log_metric("rare", 1)
        runs.append(run.info.run_id)
    return runs


@pytest.mark.parametrize(
    ("filter_string", "expected"),
    [
        ("", range(10)),
        ("metrics.loss < 3", [8, 9]),
        ("metrics.loss >= 9 and params.optimizer = 'adam'", [0, 1]),
        ("metrics.rare != 0", [3]),
        ("params.lr = '0.3'", [3]),
        ("params.lr != '0.3' AND params.optimizer != 'sgd'", [0, 1, 2, 4]),
        ("params.lr LIKE '0.%' AND params.lr ILIKE '%1'", [1]),
        ("tags.even = 'True'", [2, 4, 6, 8]),
        ("tags.only IS NULL", [0]),
        ("tags.only IS NOT NULL AND metrics.loss > 8", [1]),
        ("attributes.run_name LIKE 'run_%' AND run_name LIKE '%_7'", [7]),
        ("attributes.status = 'FINISHED' AND metrics.loss = 5", [5]),
        ("attributes.status = 'FAILED'", []),
        ("params.nothing = 'x'", []),
    ],
)
def test_runs_are_filtered(mlflow, grid, filter_string, expected):
    client = mlflow.MlflowClient()
    experiment = client.get_run(grid[0]).info.experiment_id
    found = client.search_runs([experiment], filter_string)
    assert sorted(grid.index(run.info.run_id) for run in found) == list(expected)


def test_runs_are_sorted_and_paged(mlflow, grid):
    client = mlflow.MlflowClient()
    experiment = client.get_run(grid[0]).info.experiment_id

    def order(*keys):
        found = client.search_runs([experiment], order_by=list(keys))
        return [grid.index(run.info.run_id) for run in found]

    assert order() == list(range(9, -1, -1)), "newest first"
    assert order("metrics.loss ASC") == list(range(9, -1, -1))
    assert order("metrics.loss DESC") == list(range(10))
    assert order("params.optimizer DESC", "attributes.start_time ASC") == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]
    assert order("metrics.rare")[0] == order("metrics.rare DESC")[0] == 3
    by_loss = pages(client.search_runs, experiment_ids=[experiment], max_results=4, order_by=["metrics.loss"])
    assert [[grid.index(run.info.run_id) for run in page] for page in by_loss] == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]
    ids = ", ".join(f"'{run}'" for run in grid[2:4])
    found = client.search_runs([experiment], f"attributes.run_id IN ({ids})")
    assert {run.info.run_id for run in found} == set(grid[2:4])


def test_datasets_are_inputs(mlflow):
    import numpy

    data = mlflow.data.from_numpy(numpy.arange(6.0), source="https://example.com/data", name="numbers")
    with mlflow.start_run() as run:
        mlflow.log_input(data, context="train")
        mlflow.log_input(data, context="train")
    inputs = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    assert [it.dataset.name for it in inputs] == ["numbers"]
    assert (inputs[0].dataset.digest, inputs[0].dataset.profile) == (data.digest, data.to_dict()["profile"])
    assert [(tag.key, tag.value) for tag in inputs[0].tags] == [("mlflow.data.context", "train")]
    client = mlflow.MlflowClient()
    found = client.search_runs([run.info.experiment_id], "dataset.name = 'numbers' AND dataset.context = 'train'")
    assert len(found) == 1
    assert client.search_runs([run.info.experiment_id], "dataset.name = 'others'") == []


def test_experiments_are_managed(mlflow):
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    default = client.get_experiment("0")
    assert (default.name, default.lifecycle_stage) == ("Default", "active")
    name = f"experiment-{time.time_ns()}"
    created = client.create_experiment(name, tags={"team": "a"})
    with pytest.raises(MlflowException) as refused:
        client.create_experiment(name)
    assert refused.value.error_code == "RESOURCE_ALREADY_EXISTS"
    client.set_experiment_tag(created, "stage", "one")
    found = client.get_experiment_by_name(name)
    assert found.experiment_id == created and found.tags == {"team": "a", "stage": "one"}
    assert found.artifact_location == f"mlflow-artifacts:/{created}"
    assert [it.name for it in client.search_experiments(filter_string=f"name = '{name}'")] == [name]
    assert [it.name for it in client.search_experiments(filter_string="tags.stage = 'one'")] == [name]
    run = client.create_run(created)
    client.delete_experiment(created)
    assert client.get_experiment(created).lifecycle_stage == "deleted"
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    deleted = client.search_experiments(view_type=ViewType.DELETED_ONLY, filter_string=f"name = '{name}'")
    assert [it.experiment_id for it in deleted] == [created]
    with pytest.raises(MlflowException):
        client.create_run(created)
    client.restore_experiment(created)
    client.rename_experiment(created, f"{name}-new")
    assert client.get_experiment(created).name == f"{name}-new"
    assert client.get_experiment_by_name("no such experiment") is None
    with pytest.raises(MlflowException) as missing:
        client.get_experiment("12345")
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_artifacts_are_uploaded_listed_and_read(mlflow, tmp_path):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "a b.txt").write_text("größe")
    large = bytes(range(256)) * 40_000
    (tmp_path / "folder" / "deep" / "large.bin").write_bytes(large)
    (tmp_path / "empty").write_bytes(b"")
    with mlflow.start_run() as run:
        mlflow.log_artifacts(tmp_path / "folder", artifact_path="data")
        mlflow.log_artifact(tmp_path / "empty")
        mlflow.log_text("first", "notes/note.txt")
        mlflow.log_text("second", "notes/note.txt")
        mlflow.log_dict({"a": [1, 2]}, "config.json")
    client = mlflow.MlflowClient()

    def listed(path=None):
        return {(it.path, it.is_dir, it.file_size) for it in client.list_artifacts(run.info.run_id, path)}

    top = {("config.json", False), ("data", True), ("empty", False), ("notes", True)}
    assert {(path, is_dir) for path, is_dir, _ in listed()} == top
    assert listed("data") == {("data/a b.txt", False, 7), ("data/deep", True, None)}
    assert listed("data/deep") == {("data/deep/large.bin", False, len(large))}
    assert listed("nothing") == set()
    path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="data", dst_path=str(tmp_path / "got"))
    assert (tmp_path / "got" / "data" / "deep" / "large.bin").read_bytes() == large, path
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/note.txt") == "second"
    assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/config.json") == {"a": [1, 2]}
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/empty") == ""


def test_a_large_file_is_sent_in_parts(mlflow, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "1000")
    content = bytes(range(256)) * 10
    (tmp_path / "model.bin").write_bytes(content)
    with mlflow.start_run() as run:
        for _ in range(2):
            mlflow.log_artifact(str(tmp_path / "model.bin"), "models")
    (file,) = mlflow.MlflowClient().list_artifacts(run.info.run_id, "models")
    assert (file.path, file.file_size) == ("models/model.bin", len(content))
    found = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="models/model.bin")
    assert Path(found).read_bytes() == content


def test_a_run_of_mlflow_is_an_ordinary_run(mlflow, server):
    import requests

    with mlflow.start_run(run_name="shown") as run:
        mlflow.log_param("lr", 0.25)
        mlflow.log_metric("loss", 0.5, step=7)
    info = requests.get(f"{server.query}/api/v1/rest/runs/{run.info.run_id}/info/").json()
    assert info["params"]["hparams"] == {"lr": 0.25}
    assert info["props"]["name"] == "shown"
    assert info["props"]["client"] == f"MLflow {mlflow.__version__}"
    assert info["props"]["experiment"]["name"] == "test_a_run_of_mlflow_is_an_ordinary_run"
    assert [(it["name"], it["last_value"]) for it in info["traces"]["metric"]] == [("loss", 0.5)]


def test_projects_are_separate(mlflow, server):
    import requests

    project = f"team-{time.time_ns()}"
    requests.post(f"{server.query}/api/v1/rest/projects/", json={"name": project}).raise_for_status()
    inside = mlflow.MlflowClient(tracking_uri=f"{server.query}/p/{project}")
    run = inside.create_run("0", run_name="inside")
    inside.log_metric(run.info.run_id, "loss", 1)
    assert [it.info.run_name for it in inside.search_runs(["0"])] == ["inside"]
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as missing:
        mlflow.MlflowClient().get_run(run.info.run_id)
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(MlflowException):
        mlflow.MlflowClient(tracking_uri=f"{server.query}/p/no-such-project").search_experiments()


def test_a_killed_server_loses_and_doubles_nothing(tmp_path):
    """The client repeats requests without an answer, also requests whose points were stored."""
    import mlflow
    from mlflow.entities import Metric

    port = free_port()
    server = Server(tmp_path).start(query_port=port)
    client = mlflow.MlflowClient(tracking_uri=server.query, registry_uri=server.query)
    run = client.create_run("0").info.run_id
    client.log_param(run, "lr", "0.1")
    expected = []
    for batch in range(12):
        points = [Metric("loss", (batch * 50 + at) / 3, 1_000 + batch, batch * 50 + at) for at in range(50)]
        expected += [(point.step, point.value) for point in points]
        if batch % 4 == 1:
            server.kill()
            server = Server(tmp_path).start(query_port=port)
        client.log_batch(run, metrics=points)
        # As a client does that has seen no answer.
        client.log_batch(run, metrics=points)
        client.log_param(run, "lr", "0.1")
    assert values(client, run, "loss") == expected
    client.set_terminated(run)
    assert client.get_run(run).info.status == "FINISHED"
    assert server.stop() == 0, server.said()


def test_rule_94_a_cut_network_loses_and_doubles_nothing(server):
    """The client repeats requests without an answer by itself."""
    import mlflow
    from mlflow.entities import Metric

    with Network(server.query) as network:
        client = mlflow.MlflowClient(tracking_uri=network.url, registry_uri=network.url)
        run = client.create_run("0").info.run_id
        expected = []
        for batch in range(12):
            points = [Metric("loss", (batch * 50 + at) / 3, 1_000 + batch, batch * 50 + at) for at in range(50)]
            expected += [(point.step, point.value) for point in points]
            if batch % 3 == 0:
                network.lose_answers(2)
            elif batch % 3 == 1:
                network.break_requests(2)
            client.log_batch(run, metrics=points)
            client.log_param(run, f"batch {batch}", str(batch))
        client.set_terminated(run)
        assert (network.lost_answers, network.broken_requests) == (8, 8)
    direct = mlflow.MlflowClient(tracking_uri=server.query, registry_uri=server.query)
    assert values(direct, run, "loss") == expected
    found = direct.get_run(run)
    assert found.data.params == {f"batch {batch}": str(batch) for batch in range(12)}
    assert found.info.status == "FINISHED"


def test_autolog_of_scikit_learn(mlflow):
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    mlflow.sklearn.autolog()
    try:
        features, labels = load_iris(return_X_y=True)
        with mlflow.start_run() as run:
            RandomForestClassifier(n_estimators=7, max_depth=3).fit(features, labels)
    finally:
        mlflow.sklearn.autolog(disable=True)
    found = mlflow.get_run(run.info.run_id)
    assert found.data.params["n_estimators"] == "7" and found.data.params["max_depth"] == "3"
    assert 0.9 < found.data.metrics["training_accuracy_score"] <= 1
    assert len(found.inputs.dataset_inputs) >= 1
    model = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")
    assert model.predict(features).shape == (150,)
