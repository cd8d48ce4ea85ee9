"""Studies of several processes, of a server that is killed, and of a network that is cut."""

from __future__ import annotations

import csv
import io
import multiprocessing

import optuna
import pytest
import workers
from conftest import Network, Server, address, address_of, command, eventually, found_runs, storage_of
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

PROCESSES = 8
# Processes that report to a server until a fault ends them.
REPORTING = 4


def in_processes(function, arguments):
    """Calls a function once for each tuple of arguments, each in its own process."""
    with multiprocessing.get_context("spawn").Pool(len(arguments)) as pool:
        return pool.starmap(function, arguments, chunksize=1)


def test_rule_98_numbers_of_eight_processes_have_no_gaps(server, storage):
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    added = in_processes(workers.add, [(address(server), study_id, 25)] * PROCESSES)
    trials = storage.get_all_trials(study_id)
    assert [trial.number for trial in trials] == list(range(PROCESSES * 25))
    assert sorted(trial_id for ids in added for trial_id in ids) == [trial._trial_id for trial in trials]
    for ids in added:
        assert ids == sorted(ids)


def test_rule_99_each_waiting_trial_is_taken_by_one_process(server, storage):
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    waiting = [storage.create_new_trial(study_id, create_trial(state=TrialState.WAITING)) for _ in range(40)]
    taken = in_processes(workers.take, [(address(server), waiting)] * PROCESSES)
    assert sorted(trial_id for ids in taken for trial_id in ids) == waiting
    assert all(trial.state == TrialState.RUNNING for trial in storage.get_all_trials(study_id))


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random"])
def test_a_sampler_of_several_processes_finds_the_best(server, storage, sampler):
    study = optuna.create_study(storage=storage, study_name=f"with {sampler}")
    study.enqueue_trial({"x": 2.5, "y": 0.5})
    place = address(server)
    in_processes(workers.optimize, [(place, study.study_name, sampler, 15, seed) for seed in range(4)])
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(60))
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    enqueued = [trial for trial in trials if trial.params == {"x": 2.5, "y": 0.5}]
    assert len(enqueued) == 1, "it was taken once"
    assert study.best_value <= 0.75
    assert all(trial.user_attrs["sum"] == trial.params["x"] + trial.params["y"] for trial in trials)
    assert len(found_runs(server, f"run.experiment == 'with {sampler}'")) == 60


def test_hyperband_prunes_trials_of_several_processes(server, storage):
    study = optuna.create_study(storage=storage, study_name="pruned")
    in_processes(workers.prune, [(address(server), "pruned", 12, seed) for seed in range(4)])
    trials = study.get_trials()
    assert len(trials) == 48
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned, "Hyperband stops some of them"
    for trial in trials:
        steps = sorted(trial.intermediate_values)
        assert steps == list(range(len(steps)))
        assert (len(steps) == 27) or trial.state == TrialState.PRUNED
    query = "run.experiment == 'pruned' and run.optuna.state == 'pruned' and run.hparams.kind in ('a', 'b')"
    assert len(found_runs(server, query)) == len(pruned)


def report_until(fault, place, study_id):
    """Lets workers run trials until a fault ends them all, and returns what was acknowledged to them."""
    context = multiprocessing.get_context("spawn")
    acknowledged = context.Queue()
    processes = [
        context.Process(target=workers.report, args=(place, study_id, acknowledged))
        for _ in range(REPORTING)
    ]
    for process in processes:
        process.start()
    seen = [acknowledged.get(timeout=120) for _ in range(200)]
    fault()
    ended = 0
    while ended < len(processes):
        entry = acknowledged.get(timeout=120)
        ended += entry[0] == "error"
        seen.append(entry)
    for process in processes:
        process.join()
    return seen


def check_acknowledged(server, study, study_id, seen):
    """Checks that a study has everything that was acknowledged, and each value once."""
    storage = storage_of(server)
    trials = {trial._trial_id: trial for trial in storage.get_all_trials(study_id)}
    assert [trial.number for trial in trials.values()] == list(range(len(trials)))
    for kind, trial_id, detail in seen:
        if kind == "trial":
            assert trial_id in trials
        elif kind == "value":
            assert detail in trials[trial_id].intermediate_values
        elif kind == "end":
            assert (trials[trial_id].state, trials[trial_id].values) == (TrialState.COMPLETE, [detail])
    # At most the last trial of each worker has not ended, and it can go on.
    running = [trial for trial in trials.values() if trial.state == TrialState.RUNNING]
    assert len(running) <= REPORTING
    for trial in running:
        assert storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    # Every acknowledged value is a point of the run of its trial, and no other value is.
    acknowledged_points = {
        (trials[trial_id].number, *point_of(kind, detail))
        for kind, trial_id, detail in seen
        if kind in ("value", "end")
    }
    eventually(lambda: acknowledged_points <= charted_points(server, study), "the points are applied")
    stored = {
        (trial.number, "intermediate_value", step)
        for trial in trials.values()
        for step in trial.intermediate_values
    }
    complete = [trial for trial in trials.values() if trial.state == TrialState.COMPLETE]
    stored |= {(trial.number, "value", 0) for trial in complete}
    assert charted_points(server, study) <= stored
    storage.close()


def test_rule_101_a_killed_server_loses_nothing_that_it_acknowledged(own_server):
    storage = storage_of(own_server)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "killed")
    seen = report_until(own_server.kill, address(own_server), study_id)
    storage.close()
    own_server.start()
    check_acknowledged(own_server, "killed", study_id, seen)


def test_rule_101_a_cut_network_loses_nothing_that_was_acknowledged(server, storage):
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "cut off")
    with Network(server.query) as network:
        seen = report_until(network.cut, address_of(network.url), study_id)
    check_acknowledged(server, "cut off", study_id, seen)


def test_a_worker_that_repeats_its_requests_changes_nothing(server, storage):
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "repeated")
    trial_id = storage.create_new_trial(study_id)
    # The second time as a worker does that has seen no answer.
    for _ in range(2):
        storage.set_study_user_attr(study_id, "a", [1])
        storage.set_trial_param(trial_id, "x", 0.5, FloatDistribution(0, 1))
        storage.set_trial_user_attr(trial_id, "b", {"c": 2})
        storage.set_trial_system_attr(trial_id, "d", 3)
        for step in range(5):
            storage.set_trial_intermediate_value(trial_id, step, step / 7)
    assert storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.25])
    ended = storage.get_trial(trial_id)
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.25])
    assert storage.get_all_trials(study_id) == [ended]
    assert (ended.params, ended.user_attrs, ended.system_attrs) == ({"x": 0.5}, {"b": {"c": 2}}, {"d": 3})
    assert (ended.intermediate_values, ended.value) == ({step: step / 7 for step in range(5)}, 0.25)
    assert storage.get_study_user_attrs(study_id) == {"a": [1]}
    expected = [(0, "intermediate_value", step, step / 7) for step in range(5)] + [(0, "value", 0, 0.25)]
    eventually(lambda: sorted(charted_values(server, "repeated")) == expected, "each value is a point, once")


def point_of(kind, detail):
    """The series and the step of a value that was acknowledged."""
    return ("intermediate_value", detail) if kind == "value" else ("value", 0)


def charted_points(server, study):
    """The points of the runs of a study, each by the number of its trial, its series and its step."""
    return {point[:3] for point in charted_values(server, study)}


def charted_values(server, study):
    """The points of the runs of a study: the number of the trial, the series, the step and the value of each."""
    runs = found_runs(server, f"run.experiment == '{study}'")
    numbers = {run["run_id"]: int(run["name"].removeprefix("trial-")) for run in runs}
    table = command(server, "export", "metrics", "--query", f"run.experiment == '{study}'", "--format", "csv")
    rows = csv.DictReader(io.StringIO(table))
    return [
        (numbers[row["run"]], row["name"], int(row["step"]), float(row["value"]))
        for row in rows
        if row["run"] in numbers
    ]
