"""Hostile names, huge values and broken messages: an error that the client knows, or the exact value, and nothing in
between."""

from __future__ import annotations

import json
import math

import grpc
import optuna
import pytest
from conftest import found_runs
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages._grpc.auto_generated import api_pb2, api_pb2_grpc
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

MINIMIZE = [StudyDirection.MINIMIZE]
NAME_BYTES = 1_024
ATTRIBUTE_BYTES = 8 << 20
FLOAT = FloatDistribution(0, 1)

HOSTILE = [
    "/", "a/b", "../../etc/passwd", "a\\b", "\0", "a\0b", "%00", "%2F", " a ", "\n", "\t", "'; DROP TABLE studies; --",
    '"', "{{7*7}}", "\u202e", "\ufffe", "\U0010ffff", "e\u0301", "\u00e9", "x" * NAME_BYTES, "ü" * (NAME_BYTES // 2),
]

# `tonic` reports a message over the limit as out of range.
REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE)


def is_refused(call, *arguments):
    """Whether the server refuses a call as a fault of its client."""
    with pytest.raises(grpc.RpcError) as refused:
        call(*arguments)
    return refused.value.code() in REFUSED


def everything(storage):
    """All that a new client reads."""
    reader = optuna.storages.GrpcStorageProxy(host=storage._host, port=storage._port)
    studies = reader.get_all_studies()
    found = [(repr(vars(study)), repr(reader.get_all_trials(study._study_id))) for study in studies]
    reader.close()
    return found


def runs_of(server, storage, study_id):
    """The runs of the trials of a study."""
    return found_runs(server, f"run.experiment == '{storage.get_study_name_from_id(study_id)}'")


@pytest.fixture
def study_id(storage, request):
    return storage.create_new_study(MINIMIZE, request.node.name)


@pytest.fixture
def trial_id(storage, study_id):
    return storage.create_new_trial(study_id)


def test_hostile_names_of_studies_are_kept_apart(storage):
    ids = {name: storage.create_new_study(MINIMIZE, name) for name in HOSTILE}
    assert len(set(ids.values())) == len(HOSTILE)
    assert {study.study_name: study._study_id for study in storage.get_all_studies()} == ids
    for name, study_id in ids.items():
        assert storage.get_study_name_from_id(study_id) == name
        assert storage.get_study_id_from_name(name) == study_id
        with pytest.raises(optuna.exceptions.DuplicatedStudyError):
            storage.create_new_study(MINIMIZE, name)
        trial_id = storage.create_new_trial(study_id)
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    for name, study_id in ids.items():
        assert len(storage.get_all_trials(study_id)) == 1, name
    gone = "a/b"
    storage.delete_study(ids[gone])
    with pytest.raises(KeyError):
        storage.get_study_id_from_name(gone)
    assert {study.study_name for study in storage.get_all_studies()} == set(HOSTILE) - {gone}


@pytest.mark.parametrize(
    "name", ["", "x" * (NAME_BYTES + 1), "ü" * NAME_BYTES, "x" * (1 << 20), "x" * (40 << 20)], ids=len
)
def test_wrong_names_of_studies_are_refused(storage, trial_id, name):
    before = everything(storage)
    assert is_refused(storage.create_new_study, MINIMIZE, name)
    if len(name) <= 1 << 20:
        with pytest.raises(KeyError):
            storage.get_study_id_from_name(name)
    assert everything(storage) == before


def test_hostile_names_of_params_and_attributes_are_kept_apart(storage, study_id, trial_id):
    for number, name in enumerate(HOSTILE):
        storage.set_study_user_attr(study_id, name, {name: number})
        storage.set_study_system_attr(study_id, name, [number])
        storage.set_trial_user_attr(trial_id, name, {name: [number]})
        storage.set_trial_system_attr(trial_id, name, name)
        storage.set_trial_param(trial_id, name, number / 100, FLOAT)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    numbers = {name: number for number, name in enumerate(HOSTILE)}
    assert storage.get_study_user_attrs(study_id) == {name: {name: number} for name, number in numbers.items()}
    assert storage.get_study_system_attrs(study_id) == {name: [number] for name, number in numbers.items()}
    trial = storage.get_trial(trial_id)
    assert trial.user_attrs == {name: {name: [number]} for name, number in numbers.items()}
    assert trial.system_attrs == {name: name for name in HOSTILE}
    assert trial.params == {name: number / 100 for name, number in numbers.items()}


def test_attributes_of_several_megabytes_are_read_back(storage, study_id, trial_id):
    # The JSON of a text has two quotation marks more.
    largest = "x" * (ATTRIBUTE_BYTES - 2)
    wide = [0.1 + number for number in range(200_000)]
    storage.set_study_user_attr(study_id, "largest", largest)
    storage.set_study_user_attr(study_id, "wide", wide)
    storage.set_trial_user_attr(trial_id, "largest", largest)
    storage.set_trial_system_attr(trial_id, "wide", wide)
    assert storage.get_study_user_attrs(study_id) == {"largest": largest, "wide": wide}
    trial = storage.get_trial(trial_id)
    assert (trial.user_attrs, trial.system_attrs) == ({"largest": largest}, {"wide": wide})
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    assert storage.get_all_trials(study_id)[0].state == TrialState.COMPLETE


@pytest.mark.parametrize("size", [ATTRIBUTE_BYTES + 1, 40 << 20])
def test_larger_attributes_are_refused_and_the_old_ones_stay(server, storage, study_id, trial_id, size):
    setters = [
        (storage.set_study_user_attr, study_id), (storage.set_study_system_attr, study_id),
        (storage.set_trial_user_attr, trial_id), (storage.set_trial_system_attr, trial_id),
    ]
    for set_attribute, owner in setters:
        set_attribute(owner, "old", 1)
    before = everything(storage)
    huge = "x" * (size - 2)
    for set_attribute, owner in setters:
        assert is_refused(set_attribute, owner, "old", huge)
        assert is_refused(set_attribute, owner, "new", huge)
        assert is_refused(set_attribute, owner, "x" * (NAME_BYTES + 1), 1)
    assert is_refused(storage.create_new_trial, study_id, create_trial(value=1.0, user_attrs={"new": huge}))
    assert everything(storage) == before
    assert len(runs_of(server, storage, study_id)) == 1, "the refused trial has no run"


def test_attributes_that_are_not_json_are_refused(storage, study_id, trial_id):
    stub = api_pb2_grpc.StorageServiceStub(storage._channel)
    before = everything(storage)
    for value in ("", "{", "[1,]", "nul", "1 2", "\0", '"\n', "[" * 100_000):
        for request, call in (
            (api_pb2.SetStudyUserAttributeRequest(study_id=study_id, key="k", value=value), stub.SetStudyUserAttribute),
            (api_pb2.SetTrialUserAttributeRequest(trial_id=trial_id, key="k", value=value), stub.SetTrialUserAttribute),
        ):
            assert is_refused(call, request), value[:20]
    assert everything(storage) == before


def test_params_that_no_distribution_has_are_refused(storage, study_id, trial_id):
    storage.set_trial_param(trial_id, "c", 1.0, CategoricalDistribution(["a", "b"]))
    before = everything(storage)
    for value in (math.nan, math.inf, -math.inf, -1.0, 2.0, 1e300):
        with pytest.raises(ValueError):
            storage.set_trial_param(trial_id, "new", value, CategoricalDistribution(["a", "b"]))
    assert is_refused(storage.set_trial_param, trial_id, "x" * (NAME_BYTES + 1), 0.5, FLOAT)
    assert is_refused(storage.set_trial_param, trial_id, "new", 0.0, CategoricalDistribution(["x" * (5 << 20)]))
    stub = api_pb2_grpc.StorageServiceStub(storage._channel)
    unknown = json.dumps({"name": "NoDistribution", "attributes": {}})
    for distribution in ("", "{", "7", "null", "[]", "{}", unknown, "[" * 100_000):
        request = api_pb2.SetTrialParameterRequest(
            trial_id=trial_id, param_name="new", param_value_internal=0.5, distribution=distribution
        )
        assert is_refused(stub.SetTrialParameter, request), distribution[:20]
    assert everything(storage) == before
    # The name is still free, for a param of another kind.
    storage.set_trial_param(trial_id, "new", 3.0, IntDistribution(0, 5))
    assert storage.get_trial(trial_id).params == {"c": "b", "new": 3}


def test_floats_that_are_no_numbers_are_read_back(server, storage, study_id, trial_id):
    for step, value in enumerate((math.nan, math.inf, -math.inf)):
        storage.set_trial_param(trial_id, str(value), value, FLOAT)
        storage.set_trial_intermediate_value(trial_id, step, value)
    storage.set_trial_user_attr(trial_id, "all", [math.inf, -math.inf])
    storage.set_trial_state_values(trial_id, TrialState.PRUNED, [math.nan])
    trial = storage.get_trial(trial_id)
    assert (str(trial.params["nan"]), trial.params["inf"], trial.params["-inf"]) == ("nan", math.inf, -math.inf)
    assert [str(trial.intermediate_values[step]) for step in range(3)] == ["nan", "inf", "-inf"]
    assert trial.user_attrs == {"all": [math.inf, -math.inf]} and math.isnan(trial.values[0])
    assert len(runs_of(server, storage, study_id)) == 1
