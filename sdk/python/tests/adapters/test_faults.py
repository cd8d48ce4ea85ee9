"""Trainings whose tracking fails in every call: each must run to its end."""

from __future__ import annotations

import importlib.util
import logging

import pytest
import trainings
from recording import RecordingRun

# Modules that each training needs. Two are left out: `tensorflow` is the same code as `keras`, and
# the training `pytorch` creates its run outside of the adapter.
MODULES = {
    "xgboost": ["xgboost"],
    "xgboost_cv": ["xgboost", "pandas"],
    "lightgbm": ["lightgbm"],
    "lightgbm_cv": ["lightgbm", "sklearn"],
    "catboost": ["catboost"],
    "optuna": ["optuna"],
    "optuna_multirun": ["optuna"],
    "keras": ["keras"],
    "keras_tuner": ["keras_tuner"],
    "pytorch_lightning": ["lightning"],
    "pytorch_ignite": ["ignite"],
    "hugging_face": ["transformers"],
    "sb3": ["stable_baselines3"],
    "fastai": ["fastai"],
    "prophet": ["prophet"],
    "paddle": ["paddle"],
}


class UnusableRun:
    """Run that cannot even be created."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        raise OSError("disk full")


class FailingRun(RecordingRun):
    """Run that fails in every call."""

    def track(self, *_args: object, **_kwargs: object) -> None:
        raise OSError("disk full")

    def __setitem__(self, key: object, value: object) -> None:
        raise OSError("disk full")

    def close(self) -> None:
        raise OSError("disk full")


@pytest.mark.parametrize("run", [UnusableRun, FailingRun])
@pytest.mark.parametrize("training", MODULES)
def test_a_training_continues_without_tracking(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    training: str,
    run: type[object],
) -> None:
    for module in MODULES[training]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    monkeypatch.setattr("matyan_client.adapters._base.Run", run)
    with caplog.at_level(logging.WARNING, "matyan_client"):
        trainings.TRAININGS[training]({"system_tracking_interval": None})
    warnings = [record for record in caplog.records if record.name == "matyan_client"]
    assert warnings, "the user learns of it"
    # KerasTuner copies its callbacks, and all copies share the counter.
    assert len(warnings) == 1, "but once only"
