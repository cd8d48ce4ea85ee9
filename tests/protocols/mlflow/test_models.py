"""Logged models, and the registry of models."""

from __future__ import annotations

import time

import pytest


@pytest.fixture
def name():
    return f"model-{time.time_ns()}"


def logged_model(mlflow, **keywords):
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    return mlflow.sklearn.log_model(model, name="line", **keywords)


def test_a_model_is_logged_and_loaded(mlflow):
    with mlflow.start_run() as run:
        info = logged_model(mlflow)
    loaded = mlflow.sklearn.load_model(info.model_uri)
    assert loaded.predict([[2.0]]) == pytest.approx([5.0])
    found = mlflow.get_logged_model(info.model_id)
    assert (found.name, str(found.status), found.source_run_id) == ("line", "READY", run.info.run_id)
    assert [it.model_id for it in mlflow.get_run(run.info.run_id).outputs.model_outputs] == [info.model_id]
    mlflow.log_metric("accuracy", 0.5, run_id=run.info.run_id, model_id=info.model_id)
    assert [(it.key, it.value) for it in mlflow.get_logged_model(info.model_id).metrics] == [("accuracy", 0.5)]
    by_name = mlflow.search_logged_models(
        experiment_ids=[run.info.experiment_id], filter_string="name = 'line'", output_format="list"
    )
    assert [it.model_id for it in by_name] == [info.model_id]
    assert mlflow.search_logged_models(
        experiment_ids=[run.info.experiment_id], datasets=[{"dataset_name": "other"}], output_format="list"
    ) == []
    by_metric = mlflow.search_logged_models(
        experiment_ids=[run.info.experiment_id], filter_string="metrics.accuracy > 0.6", output_format="list"
    )
    assert by_metric == []
    mlflow.set_logged_model_tags(info.model_id, {"stage": "one"})
    assert mlflow.get_logged_model(info.model_id).tags["stage"] == "one"


def test_a_model_without_a_run_is_logged_and_loaded(mlflow):
    info = logged_model(mlflow)
    assert mlflow.sklearn.load_model(info.model_uri).predict([[2.0]]) == pytest.approx([5.0])
    # The run that has its files is in no list.
    experiment = mlflow.get_experiment_by_name("test_a_model_without_a_run_is_logged_and_loaded")
    client = mlflow.MlflowClient()
    assert client.search_runs([experiment.experiment_id], run_view_type=3) == []
    client.delete_experiment(experiment.experiment_id)
    client.restore_experiment(experiment.experiment_id)
    assert client.search_runs([experiment.experiment_id]) == []


def test_a_registered_model_is_loaded_by_version_and_alias(mlflow, name):
    client = mlflow.MlflowClient()
    with mlflow.start_run():
        logged_model(mlflow, registered_model_name=name)
        logged_model(mlflow, registered_model_name=name)
    assert mlflow.pyfunc.load_model(f"models:/{name}/1").predict([[2.0]]) == pytest.approx([5.0])
    client.set_registered_model_alias(name, "champion", 2)
    assert client.get_model_version_by_alias(name, "champion").version == "2"
    assert mlflow.sklearn.load_model(f"models:/{name}@champion").predict([[1.0]]) == pytest.approx([3.0])
    assert client.get_registered_model(name).aliases == {"champion": "2"}
    client.delete_registered_model_alias(name, "champion")
    assert client.get_registered_model(name).aliases == {}


def test_models_and_versions_are_managed(mlflow, name):
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    client.create_registered_model(name, tags={"team": "a"}, description="first")
    with pytest.raises(MlflowException) as refused:
        client.create_registered_model(name)
    assert refused.value.error_code == "RESOURCE_ALREADY_EXISTS"
    versions = [client.create_model_version(name, f"s3://bucket/{at}", tags={"at": str(at)}) for at in range(3)]
    assert [it.version for it in versions] == ["1", "2", "3"]
    client.transition_model_version_stage(name, "1", "Production")
    client.transition_model_version_stage(name, "2", "production", archive_existing_versions=True)
    stages = [client.get_model_version(name, version).current_stage for version in "123"]
    assert stages == ["Archived", "Production", "None"]
    assert [it.version for it in client.get_latest_versions(name, ["Production"])] == ["2"]
    client.update_model_version(name, "3", "better")
    client.set_model_version_tag(name, "3", "checked", "yes")
    client.delete_model_version_tag(name, "3", "at")
    third = client.get_model_version(name, "3")
    assert (third.description, third.tags) == ("better", {"checked": "yes"})
    assert client.get_model_version_download_uri(name, "3") == "s3://bucket/2"
    found = client.search_model_versions(f"name = '{name}' AND tags.checked = 'yes'")
    assert [it.version for it in found] == ["3"]
    client.delete_model_version(name, "3")
    with pytest.raises(MlflowException) as missing:
        client.get_model_version(name, "3")
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert client.create_model_version(name, "s3://bucket/new").version == "4", "numbers are not used again"
    copy = client.copy_model_version(f"models:/{name}/4", name)
    client.delete_model_version(name, "4")
    assert client.get_model_version_download_uri(name, copy.version) == "s3://bucket/new"
    client.update_registered_model(name, "second")
    client.set_registered_model_tag(name, "team", "b")
    # The client has no result for it.
    client.rename_registered_model(name, f"{name}-new")
    renamed = client.get_registered_model(f"{name}-new")
    assert (renamed.description, renamed.tags) == ("second", {"team": "b"})
    assert [it.name for it in client.search_registered_models(f"name LIKE '{name}%'")] == [f"{name}-new"]
    with pytest.raises(MlflowException) as missing:
        client.rename_registered_model(name, f"{name}-newer")
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    client.create_registered_model(name)
    with pytest.raises(MlflowException) as taken:
        client.rename_registered_model(name, f"{name}-new")
    assert taken.value.error_code == "RESOURCE_ALREADY_EXISTS"
    client.delete_registered_model(name)
    client.delete_registered_model(f"{name}-new")
    assert client.search_registered_models(f"name LIKE '{name}%'") == []


def test_prompts_are_stored(mlflow, name):
    client = mlflow.MlflowClient()
    if not hasattr(client, "register_prompt"):
        pytest.skip("this version has no prompts")
    for template in ("Hello {{name}}", "Hi {{name}}"):
        client.register_prompt(name, template, commit_message="why", tags={"team": "nlp"})
    assert client.load_prompt(f"prompts:/{name}/1").template == "Hello {{name}}"
    client.set_prompt_alias(name, "best", 2)
    assert client.load_prompt(f"prompts:/{name}@best").template == "Hi {{name}}"
    assert [prompt.name for prompt in client.search_prompts(f"name = '{name}'")] == [name]
    assert client.search_registered_models(f"name = '{name}'") == []
    with pytest.raises(mlflow.exceptions.MlflowException, match="already taken by a prompt"):
        client.create_registered_model(name)
    client.delete_prompt_alias(name, "best")
    for version in ("1", "2"):
        client.delete_prompt_version(name, version)
    client.delete_prompt(name)
    assert client.search_prompts(f"name = '{name}'") == []


def test_local_sources_are_refused(mlflow, name):
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    client.create_registered_model(name)
    for source in ("/etc/passwd", "file:///etc", "s3://bucket/../x"):
        with pytest.raises(MlflowException) as refused:
            client.create_model_version(name, source)
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    assert client.search_model_versions(f"name = '{name}'") == []
