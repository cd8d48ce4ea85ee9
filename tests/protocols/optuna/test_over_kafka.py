"""Optuna's workers on a server whose log is Apache Kafka."""

from __future__ import annotations

import kafka
import optuna
import pytest
from conftest import eventually, found_runs, storage_of
from optuna.trial import TrialState
from test_live import test_intermediate_values_reach_a_connected_reader_before_the_trial_ends
from test_workers import (
    test_a_worker_that_repeats_its_requests_changes_nothing,
    test_rule_98_numbers_of_eight_processes_have_no_gaps,
    test_rule_99_each_waiting_trial_is_taken_by_one_process,
    test_rule_101_a_cut_network_loses_nothing_that_was_acknowledged,
    test_rule_101_a_killed_server_loses_nothing_that_it_acknowledged,
)

# These find the servers of this module.
__all__ = [
    "test_a_worker_that_repeats_its_requests_changes_nothing",
    "test_intermediate_values_reach_a_connected_reader_before_the_trial_ends",
    "test_rule_98_numbers_of_eight_processes_have_no_gaps",
    "test_rule_99_each_waiting_trial_is_taken_by_one_process",
    "test_rule_101_a_cut_network_loses_nothing_that_was_acknowledged",
    "test_rule_101_a_killed_server_loses_nothing_that_it_acknowledged",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if reason := kafka.lacking():
        pytest.skip(reason)
    running = kafka.RestartedSystem(tmp_path_factory.mktemp("kafka"))
    yield running
    assert running.stop() == 0, running.said()


@pytest.fixture
def own_server(server, storage):
    """The same server without studies: a broker takes seconds to start."""
    assert storage.get_all_studies() == []
    return server


def objective(trial):
    x = trial.suggest_float("x", -10, 10)
    trial.report(x, 0)
    return x**2


def test_a_study_goes_on_after_a_kill(server):
    name = "over kafka"
    study = optuna.create_study(storage=storage_of(server), study_name=name)
    study.optimize(objective, n_trials=10)
    server.restart()
    study = optuna.load_study(storage=storage_of(server), study_name=name)
    study.optimize(objective, n_trials=10)
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(20))
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    assert study.best_value == min(trial.value for trial in trials)
    query = f"run.experiment == {name!r} and run.optuna.state == 'complete'"
    eventually(lambda: len(found_runs(server, query)) == 20, "each trial is a run")
