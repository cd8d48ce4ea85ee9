"""Optuna's workers on a server whose log is Apache Kafka."""

from __future__ import annotations

import kafka
import optuna
import pytest
from conftest import eventually, found_runs, storage_of
from optuna.trial import TrialState


@pytest.fixture
def system(tmp_path):
    if reason := kafka.lacking():
        pytest.skip(reason)
    running = kafka.RestartedSystem(tmp_path)
    yield running
    assert running.stop() == 0, running.said()


def objective(trial):
    x = trial.suggest_float("x", -10, 10)
    trial.report(x, 0)
    return x**2


def test_a_study_goes_on_after_a_kill(system):
    name = "over kafka"
    study = optuna.create_study(storage=storage_of(system), study_name=name)
    study.optimize(objective, n_trials=10)
    system.restart()
    study = optuna.load_study(storage=storage_of(system), study_name=name)
    study.optimize(objective, n_trials=10)
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(20))
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    assert study.best_value == min(trial.value for trial in trials)
    query = f"run.experiment == {name!r} and run.optuna.state == 'complete'"
    eventually(lambda: len(found_runs(system, query)) == 20, "each trial is a run")
