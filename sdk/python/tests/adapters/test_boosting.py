"""XGBoost, LightGBM and CatBoost."""

from __future__ import annotations

import copy
import io
from types import SimpleNamespace
from typing import Any

import pytest
import trainings
from tracking import Tracking


def test_xgboost_tracks_every_round_of_every_data_set(tracking: Tracking) -> None:
    pytest.importorskip("xgboost")
    history = trainings.xgboost(tracking.options)
    run = tracking.run()
    assert run.is_finished, "the callback closes the run after the training"
    for data in ("train", "valid"):
        for metric in ("logloss", "auc"):
            context = {"data": data, "stdv": False}
            assert run.values(metric, context) == pytest.approx(history[data][metric])
            assert run.steps(metric, context) == list(range(trainings.ROUNDS))


def test_xgboost_tracks_the_deviation_of_a_cross_validation(tracking: Tracking) -> None:
    pytest.importorskip("xgboost")
    pytest.importorskip("pandas")
    table = trainings.xgboost_cv(tracking.options)
    run = tracking.run()
    for data in ("train", "test"):
        mean = run.values("logloss", {"data": data, "stdv": False})
        deviation = run.values("logloss", {"data": data, "stdv": True})
        assert mean == pytest.approx(list(table[f"{data}-logloss-mean"]))
        assert deviation == pytest.approx(list(table[f"{data}-logloss-std"]))


def test_xgboost_estimators_may_copy_the_callback(tracking: Tracking) -> None:
    pytest.importorskip("xgboost")
    from matyan_client.adapters.xgboost import MatyanCallback

    callback = MatyanCallback(**tracking.options)
    for rounds in (2, 3):
        callback_copy = copy.deepcopy(callback)
        callback_copy.before_training(None)
        for index in range(rounds):
            assert callback_copy.after_iteration(None, index, {"t": {"m": [index]}}) is False
        callback_copy.after_training(None)
    assert [len(run.points) for run in tracking.runs()] == [1, 1]


def test_xgboost_training_survives_a_broken_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xgboost")

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError("no server")

    monkeypatch.setattr("matyan_client.adapters._base.Run", fail)
    history = trainings.xgboost({"system_tracking_interval": None})
    assert len(history["train"]["auc"]) == trainings.ROUNDS


def test_lightgbm_tracks_every_round_of_every_data_set(tracking: Tracking) -> None:
    pytest.importorskip("lightgbm")
    history = trainings.lightgbm(tracking.options)
    run = tracking.run()
    for data in ("train", "valid"):
        values = run.values("binary_logloss", {"data_name": data})
        assert values == pytest.approx(history[data]["binary_logloss"])


def test_lightgbm_tracks_mean_and_deviation_of_a_cross_validation(tracking: Tracking) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("sklearn")
    history = trainings.lightgbm_cv(tracking.options)
    run = tracking.run()
    for suffix in ("mean", "stdv"):
        values = run.values(f"binary_logloss-{suffix}", {"data_name": "valid"})
        assert values == pytest.approx(history[f"valid binary_logloss-{suffix}"])


def test_lightgbm_calls_the_hooks_of_subclasses(tracking: Tracking) -> None:
    from matyan_client.adapters.lightgbm import MatyanCallback

    calls: list[tuple[str, Any]] = []

    class Callback(MatyanCallback):
        def before_tracking(self, **kwargs: Any) -> None:
            calls.append(("before", kwargs["env"].iteration))

        def after_tracking(self, **kwargs: Any) -> None:
            calls.append(("after", kwargs["env"].iteration))

    callback = Callback(**tracking.options)
    assert (callback.order, callback.before_iteration) == (25, False)
    results = [("valid", "l2", 0.5, False), ("cv_agg", "train l2", 0.25, False, 0.125), ("short",)]
    callback(SimpleNamespace(iteration=3, begin_iteration=0, evaluation_result_list=results))
    callback(SimpleNamespace(iteration=4, begin_iteration=0, evaluation_result_list=None))
    callback.close()
    assert calls == [("before", 3), ("after", 3), ("before", 4), ("after", 4)]
    assert callback.tracking_failures == 1
    run = tracking.run()
    assert run.values("l2", {"data_name": "valid"}) == [0.5]
    assert run.values("l2-mean", {"data_name": "train"}) == [0.25]
    assert run.values("l2-stdv", {"data_name": "train"}) == [0.125]


def test_catboost_tracks_what_the_log_says(tracking: Tracking) -> None:
    pytest.importorskip("catboost")
    history, echo = trainings.catboost(tracking.options)
    run = tracking.run()
    learn = run.values("Logloss", {"log": "learn"})
    test = run.values("Logloss", {"log": "test"})
    assert learn == pytest.approx(history["learn"]["Logloss"])
    assert test == pytest.approx(history["validation"]["Logloss"])
    assert run.values("Logloss", {"log": "best"})[-1] == min(test)
    assert run.param("bestTest") == pytest.approx(min(test))
    assert "bestTest" in echo, "everything is passed on"


def test_catboost_lines_are_read_one_by_one(tracking: Tracking) -> None:
    from matyan_client.adapters.catboost import MatyanLogger

    echo = io.StringIO()
    logger = MatyanLogger("RMSE", log_cout=echo, **tracking.options)
    text = (
        "Learning rate set to 0.5\n"
        "0:\tlearn: 0.5\ttotal: 1ms\tremaining: 2ms\n"
        "10:\tlearn: 0.25\ttest: 0.5\tbest: 0.375 (8)\ttotal: 1ms\n"
        "\n"
        "bestIteration = 8\n"
        "model = Plain\n"
        "Shrink model to first 9 iterations.\n"
    )
    logger.write(text)
    logger.close()
    assert echo.getvalue() == text
    run = tracking.run()
    assert [point[:2] for point in run.series("RMSE", {"log": "learn"})] == [(0, 0.5), (10, 0.25)]
    assert [point[:2] for point in run.series("RMSE", {"log": "test"})] == [(10, 0.5)]
    assert [point[:2] for point in run.series("RMSE", {"log": "best"})] == [(10, 0.375)]
    assert run.params == {"bestIteration": 8, "model": "Plain"}
