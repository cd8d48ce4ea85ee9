"""Projects and tokens. The client has no setting for metadata, so a subclass adds them, which the documentation has."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import grpc
import optuna
import pytest
from conftest import Server, address, command, found_runs
from optuna.study import StudyDirection

MINIMIZE = [StudyDirection.MINIMIZE]


DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "concepts" / "optuna.md"


def documented_storage():
    """The storage of the documentation, which sends metadata with each call."""
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    [definitions] = [block.split("\nstorage = ")[0] for block in blocks if "class MatyanStorage" in block]
    names = {"__name__": __name__}
    exec(compile(definitions, str(DOCUMENT), "exec"), names)
    return names["MatyanStorage"]


MatyanStorage = documented_storage()


def storage_in(server, project=None, token=None):
    metadata = [("matyan-project", project)] if project else []
    if token:
        metadata.append(("authorization", f"Bearer {token}"))
    host, port = address(server)
    return MatyanStorage(metadata=metadata, host=host, port=port)


def code_of(call, *arguments):
    with pytest.raises(grpc.RpcError) as refused:
        call(*arguments)
    return refused.value.code()


def test_studies_of_projects_are_apart(server):
    for project in ("optuna-a", "optuna-b"):
        command(server, "projects", "create", project)
    one = storage_in(server, "optuna-a")
    other = storage_in(server, "optuna-b")
    study = optuna.create_study(storage=one, study_name="same")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    assert [found.study_name for found in one.get_all_studies()] == ["same"]
    assert other.get_all_studies() == []
    with pytest.raises(KeyError):
        other.get_trial(study.trials[0]._trial_id)
    second = other.create_new_study(MINIMIZE, "same")
    assert other.get_all_trials(second) == []
    query = "run.experiment == 'same'"
    assert len(found_runs(server, query, "--project", "optuna-a")) == 3
    assert found_runs(server, query, "--project", "optuna-b") == []
    # As Optuna does that sends a storage to other processes.
    copied = pickle.loads(pickle.dumps(one))
    assert len(copied.get_all_trials(study._study_id)) == 3
    assert code_of(storage_in(server, "no-such-project").create_new_study, MINIMIZE) == grpc.StatusCode.NOT_FOUND


def test_each_operation_needs_the_right_of_its_rpc(tmp_path):
    server = Server(tmp_path).start("--access", "on")
    operator = (tmp_path / "data" / "operator-token").read_text().strip()

    def token(role):
        lines = command(
            server, "access", "invite", role, "--role", role, "--with-token", token=operator
        ).splitlines()
        return next(line for line in lines if line.startswith("export MATYAN_TOKEN=")).split("=", 1)[1]

    writer, viewer, editor = (storage_in(server, token=token(role)) for role in ("writer", "viewer", "editor"))
    stranger = storage_in(server)
    study_id = writer.create_new_study(MINIMIZE, "s")
    trial_id = writer.create_new_trial(study_id)
    writer.set_trial_intermediate_value(trial_id, 0, 1.0)
    assert [trial._trial_id for trial in viewer.get_all_trials(study_id)] == [trial_id]
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert code_of(viewer.create_new_trial, study_id) == denied
    assert code_of(viewer.set_trial_user_attr, trial_id, "a", 1) == denied
    assert code_of(viewer.set_study_system_attr, study_id, "a", 1) == denied
    assert code_of(writer.delete_study, study_id) == denied
    assert code_of(stranger.get_all_studies) == grpc.StatusCode.UNAUTHENTICATED
    assert code_of(stranger.create_new_trial, study_id) == grpc.StatusCode.UNAUTHENTICATED
    assert len(viewer.get_all_trials(study_id)) == 1
    editor.delete_study(study_id)
    assert viewer.get_all_studies() == []
    assert server.stop() == 0, server.said()


def test_a_server_can_be_without_the_protocol(tmp_path):
    server = Server(tmp_path).start("--protocols", "none")
    assert code_of(storage_in(server).get_all_studies) == grpc.StatusCode.UNIMPLEMENTED
    assert server.stop() == 0, server.said()
