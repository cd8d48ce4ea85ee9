"""Comparison with the published client 0.3.0: the same training, tracked by either.

Needs the server `MATYAN_BIN`, and `MATYAN_PUBLISHED`, a directory into which the published client
was installed with `pip install --target`. Both results are read back over REST.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from recording import StoredRun
from stored import read_runs

PUBLISHED = os.environ.get("MATYAN_PUBLISHED")

pytestmark = pytest.mark.skipif(not PUBLISHED, reason="needs MATYAN_PUBLISHED")

TRAINING_TIMEOUT_S = 300

# Trainings with equal results, and the module that each needs.
EQUAL = {
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "optuna": "optuna",
    "optuna_multirun": "optuna",
    "optuna_two_values": "optuna",
    "prophet": "prophet",
    "paddle": "paddle",
    "pytorch": "torch",
    "pytorch_lightning": "lightning",
    "pytorch_ignite": "ignite",
    "sb3": "stable_baselines3",
}

# Trainings for which our adapter tracks more, with comments on what the published adapter lacks.
EXTENDED = {
    # The learning rate, because Keras 3 has no `optimizer.lr`.
    "keras": "keras",
    # Params after the first that cannot be read, and those whose key has two parts.
    "fastai": "fastai",
    # All points within an epoch, because the server accepts whole epochs only.
    "hugging_face": "transformers",
}

# Names of measurements of time, whose values differ between two trainings.
TIMED = ("fps", "time_elapsed", "runtime", "samples_per_second", "steps_per_second")
VARYING_PARAMS = ("hparams.output_dir", "start_time")


class Train(Protocol):
    """Trains in its own process and returns the runs, ordered by name."""

    def __call__(self, training: str, module: str, *, published: bool) -> list[StoredRun]: ...


@pytest.fixture
def train(shared_server: Any) -> Train:
    return functools.partial(train_at, shared_server.url)


def train_at(url: str, training: str, module: str, *, published: bool) -> list[StoredRun]:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    experiment = f"{training}-{uuid.uuid4().hex}"
    environment = dict(os.environ)
    if published:
        paths = [PUBLISHED or "", *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        # The published client sends to this URL, and the server ingests at both ports.
        environment.pop("MATYAN_FRONTIER_URL", None)
    script = Path(__file__).with_name("trainings.py")
    command = [sys.executable, script, training, "--repo", url, "--experiment", experiment]
    result = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TRAINING_TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return sorted(read_runs(url, experiment), key=lambda run: run.name or "")


def leaves(params: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(params, dict) and params:
        for key, value in params.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    # An address in the text of an object differs between two processes.
    elif path not in VARYING_PARAMS and " at 0x" not in str(params):
        yield path, params


def comparable(run: StoredRun) -> dict[Any, Any]:
    """Params and points of a run, without what differs between two trainings."""
    result: dict[Any, Any] = dict(leaves(run.params))
    for (name, context), points in run.points.items():
        for step, value, _epoch in points:
            is_timed = name in TIMED or value is None
            result[name, context, step] = None if is_timed else pytest.approx(value, rel=1e-5)
    return result


@pytest.mark.parametrize(("training", "module"), EQUAL.items())
def test_the_same_is_stored(train: Train, training: str, module: str) -> None:
    theirs = train(training, module, published=True)
    ours = train(training, module, published=False)
    assert len(ours) == len(theirs)
    for our_run, their_run in zip(ours, theirs, strict=True):
        assert comparable(our_run) == comparable(their_run)


@pytest.mark.parametrize(("training", "module"), EXTENDED.items())
def test_everything_that_was_stored_is_stored(train: Train, training: str, module: str) -> None:
    (their_run,) = train(training, module, published=True)
    (our_run,) = train(training, module, published=False)
    theirs = comparable(their_run)
    ours = comparable(our_run)
    assert theirs == {key: ours.get(key) for key in theirs}
    assert len(ours) > len(theirs)


def test_xgboost_gains_the_data_set_and_the_iteration(train: Train) -> None:
    (their_run,) = train("xgboost", "xgboost", published=True)
    (our_run,) = train("xgboost", "xgboost", published=False)
    for metric in ("logloss", "auc"):
        # The published client has one point for all data sets and rounds: the last value stays.
        their_points = their_run.series(metric, {"stdv": False})
        assert [step for step, _value, _epoch in their_points] == [0]
        ours = our_run.values(metric, {"data": "valid", "stdv": False})
        assert ours[-1] == pytest.approx(their_points[0][1])
        assert len(ours) > 1


def test_keras_tuner_keeps_one_run_for_each_trial(train: Train) -> None:
    theirs = train("keras_tuner", "keras_tuner", published=True)
    ours = train("keras_tuner", "keras_tuner", published=False)
    assert len(theirs) == 2 * len(ours), "there, each execution of a trial has a run"
    by_trial = {run.param("trial_id"): run for run in ours}
    for their_run in theirs:
        our_run = by_trial[their_run.param("trial_id")]
        assert our_run.params == their_run.params
        assert len(our_run.values("loss")) == 2 * len(their_run.values("loss"))
