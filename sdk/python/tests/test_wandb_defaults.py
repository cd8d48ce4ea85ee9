"""Data that `wandb.init` records without being asked for it, and the ways to leave it out."""

import subprocess

import pytest

import matyan_client.wandb as wandb
from matyan_client.config import SETTINGS


@pytest.fixture
def changed_tree(tmp_path, monkeypatch):
    """The working directory: a repository with a change that is not committed."""
    monkeypatch.chdir(tmp_path)
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "train.py").write_text("lr = 0.1\n")
    for command in (["init", "-q"], ["add", "train.py"], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], check=True)
    (tmp_path / "train.py").write_text("lr = 0.2\n")


@pytest.fixture
def record(shared_server, changed_tree, monkeypatch):
    """Records a run with more settings, and returns it."""
    monkeypatch.setattr(SETTINGS, "backend_url", shared_server.url)
    monkeypatch.setattr(SETTINGS, "frontier_url", shared_server.gateway)
    monkeypatch.setattr(SETTINGS, "git_diff", True)

    def record(**settings):
        # The switch of a run before counts for the process.
        SETTINGS.git_diff = True
        run = wandb.init(mode="online", settings={"console": "off", **settings})
        wandb.finish()
        return run.matyan_run

    return record


def test_the_machine_and_changes_are_recorded_by_default(record):
    run = record()
    assert {"executable", "arguments", "packages", "git_info"} <= set(run["__system_params"])
    assert b"-lr = 0.1\n+lr = 0.2\n" in run.get_artifact("git-diff.patch")


def test_no_variable_of_the_environment_is_recorded(record, monkeypatch):
    monkeypatch.setenv("BW_SESSION", "c2VjcmV0")
    monkeypatch.setenv("ANY_NAME", "any value")
    assert not record()["__system_params"].get("env_variables")


@pytest.mark.parametrize("variable", ["WANDB_DISABLE_GIT", "WANDB_DISABLE_CODE"])
def test_changes_are_left_out_on_request(record, monkeypatch, variable):
    monkeypatch.setenv(variable, "true")
    run = record()
    assert "git_info" in run["__system_params"]
    assert run.artifacts == []


@pytest.mark.parametrize("name", ["disable_git", "disable_code"])
def test_a_setting_leaves_changes_out(record, name):
    assert record(**{name: True}).artifacts == []


def test_a_setting_leaves_the_description_out(record):
    run = record(x_disable_meta=True)
    assert (run.get("__system_params"), run.artifacts) == (None, [])
