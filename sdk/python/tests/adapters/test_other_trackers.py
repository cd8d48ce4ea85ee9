"""Trainings that log to W&B and MLflow as each framework documents it, by URL alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from matyan_client import Repo

SCRIPTS = Path(__file__).parent / "other_trackers"

# The packages that each framework needs, and for each tracker a metric and the number of its
# points.
TRAININGS = {
    "hugging_face": (
        ["transformers", "accelerate"],
        {"wandb": ("train/loss", 8), "mlflow": ("loss", 8)},
    ),
    "lightning": (["lightning"], {"wandb": ("train_loss", 8), "mlflow": ("train_loss", 8)}),
    "keras": (["keras"], {"wandb": ("epoch/loss", 3), "mlflow": ("loss", 3)}),
    "xgboost": (["xgboost"], {"wandb": ("train-logloss", 5), "mlflow": ("train-logloss", 5)}),
    "scikit_learn": (
        ["sklearn"],
        {"wandb": ("training_accuracy_score", 1), "mlflow": ("training_accuracy_score", 1)},
    ),
}


@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
@pytest.mark.parametrize("framework", TRAININGS)
def test_a_training_is_tracked_by_url_alone(framework, tracker, shared_server, tmp_path):
    packages, metrics = TRAININGS[framework]
    for package in [*packages, tracker]:
        pytest.importorskip(package)
    if (framework, tracker) == ("keras", "wandb"):
        # Its callback is one of TensorFlow's Keras.
        pytest.importorskip("tensorflow")
    name, count = metrics[tracker]
    experiment = f"{framework} with {tracker} {tmp_path.name}"
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "WANDB_API_KEY": "a" * 40,
        "WANDB_BASE_URL": shared_server.url,
        "WANDB_DIR": str(tmp_path),
        "WANDB_PROJECT": experiment,
        "MLFLOW_TRACKING_URI": shared_server.url,
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    script = SCRIPTS / f"with_{framework}.py"
    done = subprocess.run(
        [sys.executable, str(script), tracker],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = Repo(shared_server.url).query_runs(f"run.experiment == {experiment!r}").iter_runs()
    assert (run.name, run.active) == ("trained", False)
    steps = run.series(name, {}).steps
    assert len(set(steps)) == len(steps) == count, {m["name"] for m in run.metrics()}
    assert run["hparams"]
