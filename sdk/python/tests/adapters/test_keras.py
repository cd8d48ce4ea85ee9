"""Keras, TensorFlow and KerasTuner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trainings
from tracking import Tracking

pytest.importorskip("keras")


@pytest.mark.parametrize("train", [trainings.keras, trainings.tensorflow])
def test_epochs_are_tracked_by_subset(
    tracking: Tracking, train: Callable[[Any], dict[str, Any]]
) -> None:
    history = train(tracking.options)
    run = tracking.run()
    for name in ("loss", "accuracy"):
        train_values = run.values(name, {"subset": "train"})
        val_values = run.values(name, {"subset": "val"})
        assert train_values == pytest.approx(history[name])
        assert val_values == pytest.approx(history[f"val_{name}"])
        assert run.steps(name, {"subset": "val"}) == [0, 1, 2]
    # Five batches an epoch halve the rate once each.
    assert run.values("lr", {"subset": "train"}) == pytest.approx([0.05, 0.025, 0.0125])
    if not tracking.url:
        assert run.epochs("loss", {"subset": "train"}) == [0, 1, 2]


def test_the_run_begins_with_the_callback(opened: list[dict[str, object]]) -> None:
    from matyan_client.adapters.keras import MatyanCallback

    callback = MatyanCallback()
    assert len(opened) == 1
    callback.on_epoch_end(0, {"loss": 1.0})
    callback.on_epoch_end(1, None)
    assert callback.tracking_failures == 0, "a callback without a model has no learning rate"


def test_every_trial_of_a_tuner_has_a_run(tracking: Tracking) -> None:
    pytest.importorskip("keras_tuner")
    trials = trainings.keras_tuner(tracking.options)
    runs = {run.param("trial_id"): run for run in tracking.runs()}
    assert sorted(runs) == sorted(trials)
    for trial_id, values in trials.items():
        run = runs[trial_id]
        assert run.param("hparams") == values
        # Two executions of two epochs with three batches.
        assert len(run.values("loss")) == 12
        assert run.is_finished
