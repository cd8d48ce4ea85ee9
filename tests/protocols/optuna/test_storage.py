"""The contract of a storage: Optuna's own cases, and our cases for what they leave open."""

from __future__ import annotations

import datetime
import math

import grpc
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages._grpc.auto_generated import api_pb2, api_pb2_grpc
from optuna.study import StudyDirection
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState, create_trial

MINIMIZE = [StudyDirection.MINIMIZE]


class TestContract(StorageTestCase):
    """The cases that Optuna's package has for every storage."""

    @pytest.mark.skip(reason="maps of the client's protobuf library have no order")
    def test_get_all_trials_params_order(self):
        pass

    @pytest.mark.skip(reason="the name of a study is the name of its runs' experiment, and cannot be empty")
    def test_create_new_study_with_empty_name(self):
        pass


def stub(storage):
    return api_pb2_grpc.StorageServiceStub(storage._channel)


def new_numbers(storage, study_id, greater_than, included=()):
    """The numbers of the trials that one call returns."""
    request = api_pb2.GetTrialsRequest(
        study_id=study_id, included_trial_ids=included, trial_id_greater_than=greater_than
    )
    return [trial.number for trial in stub(storage).GetTrials(request).trials]


def test_rule_100_a_call_returns_what_is_new_and_nothing_else(storage):
    study_id = storage.create_new_study(MINIMIZE)
    other = storage.create_new_study(MINIMIZE)
    ids = [storage.create_new_trial(study_id) for _ in range(6)]
    foreign = storage.create_new_trial(other)
    assert ids == sorted(ids)
    assert new_numbers(storage, study_id, -1) == [0, 1, 2, 3, 4, 5]
    assert new_numbers(storage, study_id, ids[3]) == [4, 5]
    assert new_numbers(storage, study_id, ids[5]) == []
    assert new_numbers(storage, study_id, ids[4], [ids[1], ids[1], ids[5], foreign, -7, 2**62]) == [1, 5]
    assert new_numbers(storage, other, ids[5]) == [0]
    # The cache of the client is built on this: a trial that ends later is still seen.
    storage.set_trial_state_values(ids[5], TrialState.COMPLETE, [1.0])
    assert [trial.state for trial in storage.get_all_trials(study_id)].count(TrialState.COMPLETE) == 1
    storage.set_trial_state_values(ids[0], TrialState.FAIL)
    assert storage.get_all_trials(study_id)[0].state == TrialState.FAIL


def test_the_ids_of_deleted_studies_are_not_given_again(storage):
    first = storage.create_new_study(MINIMIZE, "s")
    trial_id = storage.create_new_trial(first)
    storage.delete_study(first)
    second = storage.create_new_study(MINIMIZE, "s")
    assert second > first
    assert storage.create_new_trial(second) > trial_id
    for call in (storage.get_study_directions, storage.get_all_trials, storage.delete_study, storage.create_new_trial):
        with pytest.raises(KeyError):
            call(first)
    with pytest.raises(KeyError):
        storage.get_trial(trial_id)


def test_rule_99_errors_are_those_of_a_storage(storage):
    study_id = storage.create_new_study(MINIMIZE, "s")
    with pytest.raises(DuplicatedStudyError):
        storage.create_new_study(MINIMIZE, "s")
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_param(trial_id, "x", 0.5, FloatDistribution(0, 1))
    other = storage.create_new_trial(study_id)
    for distribution in (
        FloatDistribution(0.1, 1, log=True), IntDistribution(0, 1), CategoricalDistribution([0.5, 1.0]),
    ):
        with pytest.raises(ValueError):
            storage.set_trial_param(other, "x", 1.0, distribution)
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
        ended = storage.create_new_trial(study_id)
        assert storage.set_trial_state_values(ended, state, [1.0])
        changes = (
            lambda ended=ended: storage.set_trial_state_values(ended, TrialState.RUNNING),
            lambda ended=ended: storage.set_trial_state_values(ended, TrialState.COMPLETE, [2.0]),
            lambda ended=ended: storage.set_trial_param(ended, "x", 0.5, FloatDistribution(0, 1)),
            lambda ended=ended: storage.set_trial_intermediate_value(ended, 0, 1.0),
            lambda ended=ended: storage.set_trial_user_attr(ended, "a", 1),
            lambda ended=ended: storage.set_trial_system_attr(ended, "a", 1),
        )
        before = storage.get_trial(ended)
        for change in changes:
            with pytest.raises(UpdateFinishedTrialError):
                change()
        assert storage.get_trial(ended) == before
    for unknown in (-1, 0, 5, 2**62, trial_id + 100):
        with pytest.raises(KeyError):
            storage.get_trial(unknown)
        with pytest.raises(KeyError):
            storage.set_trial_user_attr(unknown, "a", 1)
    with pytest.raises(KeyError):
        storage.get_trial_id_from_study_id_trial_number(study_id, 99)
    with pytest.raises(KeyError):
        storage.get_study_id_from_name("t")


def test_an_unknown_operation_is_not_implemented(storage):
    call = storage._channel.unary_unary("/optuna.StorageService/Explode")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"")
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


METHODS = [name for name in dir(api_pb2_grpc.StorageServiceServicer) if name[0] != "_"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("body", [b"\xff", b"\x08", b"\x0a\xff\xff\xff\xff\x0f"])
def test_broken_bodies_are_refused(storage, method, body):
    call = storage._channel.unary_unary(f"/optuna.StorageService/{method}")
    before = storage.get_all_studies()
    with pytest.raises(grpc.RpcError) as refused:
        call(body)
    # The code that gRPC defines for requests that cannot be decoded. Optuna's own server answers with it too.
    assert refused.value.code() == grpc.StatusCode.INTERNAL
    assert storage.get_all_studies() == before


@pytest.mark.parametrize("method", METHODS)
def test_numbers_out_of_range_are_refused(storage, method):
    call = storage._channel.unary_unary(f"/optuna.StorageService/{method}")
    before = storage.get_all_studies()
    codes = {
        # No field has this number.
        "GetAllStudies": grpc.StatusCode.OK,
        "CreateNewStudy": grpc.StatusCode.INVALID_ARGUMENT,
        # The field is a text, so the request cannot be decoded.
        "GetStudyIdFromName": grpc.StatusCode.INTERNAL,
    }
    answered = call.future(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
    assert answered.code() == codes.get(method, grpc.StatusCode.NOT_FOUND)
    assert storage.get_all_studies() == before


def test_exact_values_of_a_trial(storage):
    study_id = storage.create_new_study([StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE])
    moment = datetime.datetime(2026, 3, 4, 5, 6, 7, 89)
    given = create_trial(
        state=TrialState.COMPLETE,
        values=[math.inf, -0.0],
        params={"x": 0.1 + 0.2, "n": 7, "c": None, "ü": True},
        distributions={
            "x": FloatDistribution(0, 1), "n": IntDistribution(0, 2**40), "c": CategoricalDistribution([None, "a"]),
            "ü": CategoricalDistribution([True, False]),
        },
        user_attrs={"": math.nan, "deep": {"a": [1, {"b": None}]}, "k" * 1000: "v"},
        system_attrs={"large": "x" * (3 << 20)},
        intermediate_values={0: math.nan, 2**31: -math.inf, 7: 1e-320},
    )
    given.datetime_start = moment
    given.datetime_complete = moment + datetime.timedelta(microseconds=1)
    trial_id = storage.create_new_trial(study_id, given)
    for found in (storage.get_trial(trial_id), storage.get_all_trials(study_id)[0]):
        assert found.params == given.params
        assert found.distributions == given.distributions
        assert found.values == given.values
        assert math.copysign(1, found.values[1]) == -1
        assert (found.datetime_start, found.datetime_complete) == (given.datetime_start, given.datetime_complete)
        assert set(found.user_attrs) == set(given.user_attrs)
        assert math.isnan(found.user_attrs[""]) and found.user_attrs["deep"] == given.user_attrs["deep"]
        assert found.system_attrs == given.system_attrs
        assert math.isnan(found.intermediate_values[0])
        assert found.intermediate_values[2**31] == -math.inf
        assert found.intermediate_values[7] == 1e-320


def recorded_reads(reader):
    """Each time that a reader reads trials from now on: the ids in its request, and the trials in the answer."""
    reads = []
    get_trials = reader._stub.GetTrials

    def recorded(request):
        answer = get_trials(request)
        reads.append((len(request.included_trial_ids), len(answer.trials)))
        return answer

    reader._stub.GetTrials = recorded
    return reads


@pytest.mark.parametrize("count", [10, 2_000])
def test_rule_100_reading_again_costs_what_is_new_in_a_study_of_any_size(storage, count):
    study_id = storage.create_new_study(MINIMIZE, "large")
    template = create_trial(
        value=1.0,
        params={f"x{number}": 0.5 for number in range(5)},
        distributions={f"x{number}": FloatDistribution(0, 1) for number in range(5)},
    )
    for _ in range(count):
        storage.create_new_trial(study_id, template)
    reader = optuna.storages.GrpcStorageProxy(host=storage._host, port=storage._port)
    reads = recorded_reads(reader)
    trials = reader.get_all_trials(study_id)
    assert [trial.number for trial in trials] == list(range(count))
    assert all(trial.params == template.params for trial in trials)
    assert reader.get_all_trials(study_id) == trials
    assert reads == [(0, count), (0, 0)]
    reads.clear()
    running = [storage.create_new_trial(study_id) for _ in range(3)]
    reader.get_all_trials(study_id)
    storage.set_trial_state_values(running[1], TrialState.COMPLETE, [2.0])
    for _ in range(2):
        states = [trial.state for trial in reader.get_all_trials(study_id)]
    assert states[count:] == [TrialState.RUNNING, TrialState.COMPLETE, TrialState.RUNNING]
    # The new trials, all that had not ended at the read before, and those that are left.
    assert reads == [(0, 3), (3, 3), (2, 2)]
    reader.close()
