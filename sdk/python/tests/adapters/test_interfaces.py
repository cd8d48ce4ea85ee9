"""Adapters of frameworks that do not install here, driven through their documented interface."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from frameworks import replaced_framework
from tracking import Tracking


class Metric:
    """Metric of Gluon: `get` returns the name and the current value."""

    def __init__(self, name: Any, value: Any) -> None:
        self.name = name
        self.value = value

    def get(self) -> tuple[Any, Any]:
        return self.name, self.value


def fit_gluon(handler: Any, epochs: int, batches: int) -> None:
    """Calls the handlers in the order of `Estimator.fit`."""

    class NAG:
        pass

    estimator = SimpleNamespace(
        trainer=SimpleNamespace(optimizer=NAG(), learning_rate=0.1),
        net=SimpleNamespace(name="resnet"),
        loss=SimpleNamespace(name="softmax"),
        max_epoch=epochs,
        max_batch=None,
    )
    handler.train_begin(estimator)
    for _epoch in range(epochs):
        handler.epoch_begin(estimator)
        for _batch in range(batches):
            handler.batch_begin(estimator, batch=None)
            handler.batch_end(estimator, batch=None, pred=None, label=None, loss=None)
        handler.epoch_end(estimator)
    handler.train_end(estimator)


def test_mxnet_tracks_metrics_at_the_end_of_each_epoch(tracking: Tracking) -> None:
    with replaced_framework("mxnet") as module:
        metrics = [Metric("training accuracy", 0.5), Metric("validation accuracy", 0.25)]
        handler = module.MatyanLoggingHandler(metrics=metrics, **tracking.options_n)
        fit_gluon(handler, epochs=1, batches=3)
        handler.close()
    run = tracking.run()
    assert run.series("accuracy", {"subset": "training"})[0][:2] == (3, 0.5)
    assert run.series("accuracy", {"subset": "validation"})[0][:2] == (3, 0.25)
    assert run.params == {
        "arch": "resnet",
        "loss": "softmax",
        "optimizer": "NAG",
        "lr": 0.1,
        "max_epoch": 1,
        "max_batch": None,
    }


def test_mxnet_tracks_batches_in_the_chosen_interval(tracking: Tracking) -> None:
    with replaced_framework("mxnet") as module:
        metric = Metric(["training a", "b"], [1.0, 2.0])
        handler = module.MatyanLoggingHandler(2, metrics=metric, **tracking.options_n)
        fit_gluon(handler, epochs=1, batches=5)
        handler.close()
    assert tracking.run().steps("a", {"subset": "training"}) == [0, 2, 4, 5]
    assert tracking.run().steps("b") == [0, 2, 4, 5]


def test_mxnet_rejects_an_unknown_interval() -> None:
    with replaced_framework("mxnet") as module, pytest.raises(ValueError, match="log_interval"):
        module.MatyanLoggingHandler("batch")


def test_acme_tracks_the_values_of_loggers(tracking: Tracking) -> None:
    with replaced_framework("acme") as module:
        callback = module.MatyanCallback(args={"lr": 0.5, "seed": 1}, **tracking.options_n)
        writer = module.MatyanWriter(callback.experiment, "learner", "steps", 0)
        writer.write({"loss": 3.0, "phase": "warm-up"})
        writer.write({"loss": 2.0, "phase": "main"})
        callback.track({"score": 7}, step=4, context={"split": "eval"})
        writer.close()
    run = tracking.run()
    assert run.params == {"lr": 0.5, "seed": 1}
    assert run.values("loss", {"logger_label": "learner"}) == [3.0, 2.0]
    assert run.series("score", {"split": "eval"})[0][:2] == (4, 7.0)
    assert run.is_finished


def test_paddle_tracks_batches_and_evaluations(tracking: Tracking) -> None:
    with replaced_framework("paddle") as module:
        callback = module.MatyanCallback(**tracking.options_n)
        callback.params = {"batch_size": 4, "epochs": 1}
        callback.on_train_begin()
        callback.on_epoch_begin(0)
        callback.on_train_batch_end(0, {"loss": [0.5], "acc": [0.1, 0.2]})
        callback.on_train_batch_end(1, {"loss": [0.25], "acc": [0.3, 0.4]})
        callback.on_eval_end({"loss": [0.75]})
        callback.close()
    run = tracking.run()
    assert run.params == {"batch_size": 4, "epochs": 1}
    assert [point[:2] for point in run.series("loss", {"subset": "train"})] == [(0, 0.5), (1, 0.25)]
    assert run.values("acc_1", {"subset": "train"}) == [0.2, 0.4]
    assert run.values("loss", {"subset": "valid"}) == [0.75]


def test_prophet_records_the_attributes_of_the_model(tracking: Tracking) -> None:
    model = SimpleNamespace(growth="linear", n_changepoints=25, holidays=None)
    with replaced_framework("prophet") as module:
        logger = module.MatyanLogger(model, **tracking.options)
        logger.track_metrics({"mae": 0.5})
        logger.track_metrics({"mae": 0.25}, context={"subset": "test"})
        logger.close()
    run = tracking.run()
    assert run.params == {"growth": "linear", "n_changepoints": 25, "holidays": None}
    assert run.values("mae", {"subset": "val"}) == [0.5]
    assert run.values("mae", {"subset": "test"}) == [0.25]
