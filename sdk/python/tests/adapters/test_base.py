"""Rules that all adapters follow: the run on demand, resuming, and no error in a training."""

from __future__ import annotations

import copy
import logging
import pickle
import warnings
from typing import Any

import pytest
from recording import RecordingRun

from matyan_client.adapters._base import RunAdapter, RunOptions
from matyan_client.adapters._exception_resistant import guarded


class Callback(RunAdapter):
    """Smallest adapter."""

    def __init__(self, run_hash: str | None = None) -> None:
        self._init_run(RunOptions(repo="http://server", experiment="trees"), run_hash)

    def on_value(self, value: object, **arguments: Any) -> None:
        self._track(value, "loss", **arguments)

    def on_params(self, params: dict[Any, Any]) -> None:
        self._set_params(params, "hparams.")

    @guarded
    def on_bug(self) -> None:
        raise LookupError("no such layer")


def stored(callback: Callback) -> Any:
    return RecordingRun.stored[callback.experiment.hash]


def test_the_run_is_created_on_demand(opened: list[dict[str, object]]) -> None:
    callback = Callback()
    assert opened == []
    callback.on_value(1.0)
    callback.on_value(2.0)
    assert opened == [
        {
            "run_hash": None,
            "repo": "http://server",
            "experiment": "trees",
            "system_tracking_interval": 10,
            "log_system_params": True,
            "capture_terminal_logs": True,
        }
    ]
    assert stored(callback).values("loss") == [1.0, 2.0]


def test_a_closed_run_is_resumed(opened: list[dict[str, object]]) -> None:
    callback = Callback()
    run = callback.experiment
    callback.close()
    callback.close()
    assert RecordingRun.stored[run.hash].is_finished
    callback.on_value(3.0)
    assert callback.experiment.hash == run.hash
    assert opened[1]["run_hash"] == run.hash
    assert opened[1]["force_resume"] is True
    assert "experiment" not in opened[1], "resuming keeps the experiment that the run has now"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_a_copy_continues_the_run(opened: list[dict[str, object]], duplicate: Any) -> None:
    callback = Callback()
    callback.on_value(1.0)
    twin = duplicate(callback)
    twin.on_value(2.0)
    assert twin.experiment.hash == callback.experiment.hash
    assert len(opened) == 2


def test_a_failure_is_logged_once_and_counted(
    opened: list[dict[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    callback = Callback()
    with caplog.at_level(logging.WARNING, "matyan_client"):
        callback.on_value("not a number")
        callback.on_bug()
        callback.on_value(object())
        callback.on_value(1.0)
    assert callback.tracking_failures == 3
    assert len(caplog.records) == 1
    assert stored(callback).values("loss") == [1.0]


@pytest.mark.parametrize("action", ["always", "error"])
def test_the_first_failure_is_shown_without_any_logging(
    opened: list[dict[str, object]], action: Any
) -> None:
    callback = Callback()
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter(action)
        callback.on_bug()
        callback.on_bug()
    # A filter that raises hides the warning, and the training continues.
    assert len(shown) == (action == "always")
    assert all("no such layer" in str(warning.message) for warning in shown)
    assert callback.tracking_failures == 2


def test_an_unusable_run_does_not_stop_the_training(
    opened: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("matyan_client.adapters._base.Run", fail)
    callback = Callback()
    callback.setup({"lr": 1})
    callback.on_value(1.0)
    callback.close()
    assert callback.tracking_failures == 3


def test_one_bad_param_costs_only_itself(opened: list[dict[str, object]]) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    callback = Callback()
    callback.on_params({"a": 1, "bad": Hostile(), "labels": {0: "cat"}, "b": (1, 2)})
    assert stored(callback).params == {"hparams": {"a": 1, "labels": {"0": "cat"}, "b": [1, 2]}}
    assert callback.tracking_failures == 1


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(None, None), (2, 2), (0.66, 0), (1.0, 1), (float("nan"), None), ("x", None)],
)
def test_epochs_are_whole(
    opened: list[dict[str, object]], epoch: object, expected: int | None
) -> None:
    callback = Callback()
    callback.on_value(1.0, step=5, epoch=epoch)
    assert stored(callback).series("loss") == [(5, 1.0, expected)]
