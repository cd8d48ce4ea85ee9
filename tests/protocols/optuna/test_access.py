"""Projects and tokens. The client has no setting for metadata, so a subclass adds them, as the documentation shows."""

from __future__ import annotations

import grpc
import optuna
import pytest
from conftest import Server, address, command, found_runs
from optuna.storages import GrpcStorageProxy
from optuna.study import StudyDirection

MINIMIZE = [StudyDirection.MINIMIZE]


class WithMetadata(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, metadata):
        self.metadata = metadata

    def intercept_unary_unary(self, continuation, details, request):
        return continuation(details._replace(metadata=[*(details.metadata or []), *self.metadata]), request)


class MatyanStorage(GrpcStorageProxy):
    """A storage in a project, as the owner of a token."""

    def __init__(self, *, metadata, **place):
        self.metadata = metadata
        super().__init__(**place)

    def _setup(self):
        super()._setup()
        channel = grpc.intercept_channel(self._channel, WithMetadata(self.metadata))
        self._stub = type(self._stub)(channel)
        self._cache = type(self._cache)(self._stub)


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
    one, other = storage_in(server, "optuna-a"), storage_in(server, "optuna-b")
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
