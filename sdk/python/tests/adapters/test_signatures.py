"""Import paths, names and arguments of all adapters, with stubs in place of the frameworks."""

from __future__ import annotations

import importlib
import inspect
import io
import sys
from typing import Any

import pytest
from frameworks import PACKAGES, replaced_framework

OPTIONS = {
    "repo": None,
    "experiment": None,
    "system_tracking_interval": 10,
    "log_system_params": True,
    "capture_terminal_logs": True,
}
OPTIONS_N = {
    "experiment_name" if name == "experiment" else name: value for name, value in OPTIONS.items()
}
REQUIRED = inspect.Parameter.empty
PREFIXES = {
    "train_metric_prefix": "train_",
    "val_metric_prefix": "val_",
    "test_metric_prefix": "test_",
}
LOGGER = {"repo": None, "experiment": None, **PREFIXES} | {
    name: OPTIONS[name]
    for name in ("system_tracking_interval", "log_system_params", "capture_terminal_logs")
}

SIGNATURES: list[tuple[str, str, dict[str, Any]]] = [
    ("keras", "MatyanCallback", OPTIONS),
    ("tensorflow", "MatyanCallback", OPTIONS),
    ("keras_tuner", "MatyanCallback", {"tuner": None, **OPTIONS}),
    (
        "pytorch_lightning",
        "MatyanLogger",
        {
            **LOGGER,
            "run_name": None,
            "run_hash": None,
            "context_prefixes": None,
            "context_postfixes": None,
        },
    ),
    ("pytorch_ignite", "MatyanLogger", LOGGER),
    (
        "pytorch_ignite",
        "OutputHandler",
        {
            "tag": REQUIRED,
            "metric_names": None,
            "output_transform": None,
            "global_step_transform": None,
            "state_attributes": None,
        },
    ),
    (
        "pytorch_ignite",
        "OptimizerParamsHandler",
        {"optimizer": REQUIRED, "param_name": "lr", "tag": None},
    ),
    ("hugging_face", "MatyanCallback", OPTIONS),
    (
        "distributed_hugging_face",
        "MatyanCallback",
        {
            "main_port": REQUIRED,
            **OPTIONS,
            "main_addr": None,
            "distributed_information": None,
            "connection_timeout": 300,
            "workers_only_on_rank_0": True,
        },
    ),
    ("xgboost", "MatyanCallback", OPTIONS),
    ("lightgbm", "MatyanCallback", OPTIONS),
    ("optuna", "MatyanCallback", {"metric_name": "value", "as_multirun": False, **OPTIONS_N}),
    ("fastai", "MatyanCallback", OPTIONS_N),
    ("sb3", "MatyanCallback", {**OPTIONS_N, "verbose": 0}),
    ("sb3", "MatyanOutputFormat", {"matyan_callback": REQUIRED}),
    ("acme", "MatyanCallback", {**OPTIONS_N, "args": None}),
    (
        "acme",
        "MatyanWriter",
        {
            "matyan_run": REQUIRED,
            "logger_label": REQUIRED,
            "steps_key": REQUIRED,
            "task_id": REQUIRED,
        },
    ),
    ("prophet", "MatyanLogger", {"prophet_model": REQUIRED, **OPTIONS}),
    ("paddle", "MatyanCallback", OPTIONS_N),
    (
        "mxnet",
        "MatyanLoggingHandler",
        {"log_interval": "epoch", **OPTIONS_N, "metrics": None, "priority": float("inf")},
    ),
]

PIP_NAMES = {
    "acme": "dm-acme",
    "distributed_hugging_face": "accelerate",
    "fastai": "fastai",
    "hugging_face": "transformers",
    "keras": "keras",
    "keras_tuner": "keras-tuner",
    "mxnet": "mxnet",
    "paddle": "paddlepaddle",
    "pytorch_ignite": "pytorch-ignite",
    "pytorch_lightning": "lightning",
    "sb3": "stable-baselines3",
    "tensorflow": "tensorflow",
    "xgboost": "xgboost",
}


def arguments(function: Any) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
    }


@pytest.mark.parametrize(("adapter", "name", "expected"), SIGNATURES)
def test_constructors_take_the_documented_arguments(
    adapter: str, name: str, expected: dict[str, Any]
) -> None:
    with replaced_framework(adapter) as module:
        found = arguments(getattr(module, name))
        assert found == expected
        assert list(found) == list(expected)


def test_the_logger_of_catboost_writes_to_stdout_by_default() -> None:
    with replaced_framework("catboost") as module:
        found = arguments(module.MatyanLogger)
        assert isinstance(found.pop("log_cout"), io.TextIOBase | type(sys.stdout))
        assert found == {"loss_function": "Loss", **OPTIONS}


def test_pytorch_has_two_functions() -> None:
    with replaced_framework("pytorch") as module:
        for name in ("track_params_dists", "track_gradients_dists"):
            assert list(arguments(getattr(module, name))) == ["model", "run"]


@pytest.mark.parametrize("adapter", PACKAGES)
def test_every_class_has_an_alias_for_scripts_of_aim(adapter: str) -> None:
    with replaced_framework(adapter) as module:
        ours = [name for name in module.__all__ if name.startswith("Matyan")]
        assert bool(ours) == (adapter != "pytorch")
        for name in ours:
            alias = name.replace("Matyan", "Aim")
            assert alias in module.__all__
            assert getattr(module, alias) is getattr(module, name)


@pytest.mark.parametrize("adapter", PACKAGES)
def test_short_module_names_offer_the_same(adapter: str) -> None:
    with replaced_framework(adapter) as module:
        short = importlib.import_module(f"matyan_client.{adapter}")
        assert sorted(short.__all__) == sorted(module.__all__)
        for name in short.__all__:
            assert getattr(short, name) is getattr(module, name)


@pytest.mark.parametrize("adapter", PIP_NAMES)
def test_a_missing_framework_is_named_at_import(adapter: str) -> None:
    with (
        pytest.raises(RuntimeError, match=f"pip install .*{PIP_NAMES[adapter]}"),
        replaced_framework(adapter, missing=True),
    ):
        pass


@pytest.mark.parametrize("adapter", sorted(set(PACKAGES) - set(PIP_NAMES)))
def test_some_adapters_import_without_their_framework(adapter: str) -> None:
    with replaced_framework(adapter, missing=True) as module:
        assert module.__all__
