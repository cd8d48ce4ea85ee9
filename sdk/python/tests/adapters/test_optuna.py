"""Optuna, with one run for the study or one for each trial."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trainings
from tracking import Tracking

optuna = pytest.importorskip("optuna")

from matyan_client.adapters.optuna import MatyanCallback  # noqa: E402


def test_trials_are_steps_of_one_run(tracking: Tracking) -> None:
    study = trainings.optuna(tracking.options)
    run = tracking.run()
    assert run.values("x") == pytest.approx([trial.params["x"] for trial in study.trials])
    assert run.values("n") == [trial.params["n"] for trial in study.trials]
    assert run.values("value") == pytest.approx([trial.value for trial in study.trials])
    assert run.steps("value") == [trial.number for trial in study.trials]
    assert run.param("hparams.direction") == ["MINIMIZE"]
    assert run.param("study_name") == "parabola"


def test_categorical_values_become_params(tracking: Tracking) -> None:
    callback = MatyanCallback(**tracking.options_n)
    study = optuna.create_study()
    kinds = ["adam", "sgd"]
    for kind in kinds:
        study.enqueue_trial({"kind": kind, "flag": True})

    def objective(trial: Any) -> float:
        trial.suggest_categorical("kind", kinds)
        trial.suggest_categorical("flag", [True, False])
        return 1.0

    study.optimize(objective, n_trials=2, callbacks=[callback])
    callback.close()
    run = tracking.run()
    assert callback.tracking_failures == 0
    assert run.series("kind") == []
    assert run.values("flag") == [1.0, 1.0]
    assert run.param("hparams.kind") == "sgd"
    assert run.param("trials") == {"0": {"kind": "adam"}, "1": {"kind": "sgd"}}


def test_every_trial_has_a_run(tracking: Tracking) -> None:
    study = trainings.optuna_multirun(tracking.options)
    runs = {run.name: run for run in tracking.runs()}
    assert sorted(runs) == ["trial-0", "trial-1", "trial-2", "trial-3"]
    for trial in study.trials:
        run = runs[f"trial-{trial.number}"]
        assert run.is_finished
        assert run.param("hparams.kind") == trial.params["kind"]
        assert run.param("hparams.x") == pytest.approx(trial.params["x"])
        assert run.param("value") == pytest.approx(trial.value)
        assert run.param("trial_number") == trial.number


def test_several_values_are_numbered_or_named(tracking: Tracking) -> None:
    study = trainings.optuna_two_values(tracking.options)
    run = tracking.run()
    for index in (0, 1):
        values = [trial.values[index] for trial in study.trials]
        assert run.values(f"value_{index}") == pytest.approx(values)
    assert run.param("hparams.direction") == ["MINIMIZE", "MAXIMIZE"]


def test_the_number_of_names_must_match(tracking: Tracking) -> None:
    callback = MatyanCallback(metric_name=["loss", "size"], **tracking.options_n)
    study = optuna.create_study()
    with pytest.raises(ValueError, match=r"2 names.*1 value"):
        study.optimize(lambda _trial: 1.0, n_trials=1, callbacks=[callback])
    callback.close()
    with pytest.raises(TypeError, match="metric_name"):
        MatyanCallback(metric_name=5)  # type: ignore[arg-type]


def test_pruned_and_failed_trials_have_params_only(tracking: Tracking) -> None:
    callback = MatyanCallback(metric_name=["loss"], **tracking.options_n)

    def objective(trial: Any) -> float:
        trial.suggest_float("x", 0, 1)
        raise optuna.TrialPruned

    optuna.create_study().optimize(objective, n_trials=2, callbacks=[callback])
    callback.close()
    assert tracking.run().steps("x") == [0, 1]
    assert tracking.run().series("loss") == []


def test_an_objective_can_use_the_run_of_its_trial(tracking: Tracking) -> None:
    callback = MatyanCallback(as_multirun=True, **tracking.options_n)
    meeting = threading.Barrier(2, timeout=30)

    @callback.track_in_aim()
    def objective(trial: Any) -> float:
        # Both trials are in progress at the same time.
        meeting.wait()
        callback.experiment.track(trial.number, name="seen")
        return float(trial.number)

    optuna.create_study().optimize(objective, n_trials=2, n_jobs=2, callbacks=[callback])
    runs = {run.name: run for run in tracking.runs()}
    assert sorted(runs) == ["trial-0", "trial-1"]
    for number in (0, 1):
        run = runs[f"trial-{number}"]
        assert run.values("seen") == [number]
        assert run.param("trial_number") == number
        assert run.is_finished
