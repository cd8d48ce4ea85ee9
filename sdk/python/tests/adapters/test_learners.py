"""Stable-Baselines3, fastai, Prophet and PaddlePaddle with the real frameworks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trainings
from tracking import Tracking


def test_sb3_tracks_what_the_model_records(tracking: Tracking) -> None:
    pytest.importorskip("stable_baselines3")
    trainings.sb3(tracking.options)
    run = tracking.run()
    assert run.param("algo") == "PPO"
    assert run.param("n_steps") == 64
    assert run.param("policy_class").startswith("<class")
    assert run.steps("ep_rew_mean", {"tag": "rollout"}) == [64, 128]
    assert run.steps("value_loss", {"subset": "train"}) == [128]


def test_sb3_keys_give_name_and_context(tracking: Tracking) -> None:
    pytest.importorskip("stable_baselines3")
    from matyan_client.adapters.sb3 import MatyanCallback, MatyanOutputFormat

    callback = MatyanCallback(**tracking.options_n)
    output = MatyanOutputFormat(callback)
    values: dict[str, Any] = {
        "valid/loss": 1.0,
        "time/fps": 2,
        "alone": 3.0,
        "deep/er/key": 4.0,
        "hidden/a": 5.0,
        "hidden/b": 6.0,
        "text/a": "words",
    }
    excluded: dict[str, Any] = dict.fromkeys(values)
    excluded.update({"hidden/a": ("stdout", "aim"), "hidden/b": "matyan"})
    output.write(values, excluded, step=7)
    callback.close()
    run = tracking.run()
    assert run.steps("loss", {"subset": "valid"}) == [7]
    assert run.values("fps", {"tag": "time"}) == [2]
    assert run.values("alone") == [3.0]
    assert run.values("er/key", {"tag": "deep"}) == [4.0]
    assert len(run.points) == 4


def test_sb3_keeps_the_other_outputs_of_the_logger(tracking: Tracking) -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.logger import Logger

    from matyan_client.adapters.sb3 import MatyanCallback, MatyanOutputFormat

    callback = MatyanCallback(**tracking.options_n)
    other = SimpleNamespace(write=lambda *_args: None)
    logger = Logger(None, [other])
    model = SimpleNamespace(logger=logger, get_env=lambda: None, set_logger=None)
    for _learn in range(2):
        callback.init_callback(model)
    callback.close()
    outputs = logger.output_formats
    assert outputs[0] is other
    assert [type(output) for output in outputs[1:]] == [MatyanOutputFormat]


def test_fastai_tracks_batches_and_epochs(tracking: Tracking) -> None:
    pytest.importorskip("fastai")
    learner = trainings.fastai(tracking.options)
    run = tracking.run()
    assert run.param("batch_size") == 16
    assert run.param("model_parameters") == 2
    assert run.param("input 1 dim 1") == 16
    assert "after_batch" in run.param("dls"), "a key of two parts is a path"
    assert run.steps("train_loss", {"subset": "train"}) == list(range(1, 9))
    assert run.steps("train_loss", {"subset": "val"}) == [4, 8]
    assert run.values("lr_0", {"subset": "train"}) == pytest.approx([0.001] * 8)
    recorded = [values[1] for values in learner.recorder.values]
    assert run.values("valid_loss") == pytest.approx(recorded)


def test_prophet_records_the_model(tracking: Tracking) -> None:
    pytest.importorskip("prophet")
    trainings.prophet(tracking.options)
    run = tracking.run()
    assert run.param("n_changepoints") == 7
    assert run.param("seasonality_mode") == "multiplicative"
    assert run.values("mae", {"subset": "val"}) == [0.5]
    assert run.values("mae", {"subset": "test"}) == [0.25]


def test_paddle_tracks_batches_and_evaluations(tracking: Tracking) -> None:
    pytest.importorskip("paddle")
    trainings.paddle(tracking.options)
    run = tracking.run()
    assert run.param("epochs") == 2
    assert run.series("loss", {"subset": "train"})
    assert len(run.values("loss", {"subset": "valid"})) == 2
