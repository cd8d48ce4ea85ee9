"""Helpers that scripts may import: `_utils` and `_exception_resistant`."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from matyan_client.adapters import _exception_resistant as resistance
from matyan_client.adapters._utils import (
    DEFAULT_SYSTEM_TRACKING_INTERVAL,
    is_number,
    parse_context_prefix,
    with_objects_as_text,
)


@pytest.mark.parametrize(
    ("name", "prefixes", "expected"),
    [
        ("train_loss", None, ("loss", {"subset": "train"})),
        ("eval_f1", None, ("f1", {"subset": "eval"})),
        ("loss", None, ("loss", {})),
        ("fit_loss", {"fit": "fit_"}, ("loss", {"subset": "fit"})),
        ("train_loss", {"fit": "fit_"}, ("train_loss", {})),
        ("train_loss", {}, ("train_loss", {})),
    ],
)
def test_a_prefix_becomes_the_subset(name: str, prefixes: Any, expected: Any) -> None:
    assert parse_context_prefix(name, prefixes) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, True), (0.5, True), (True, True), ("3.5", True), ("x", False), (None, False), ([], False)],
)
def test_numbers_are_recognized(value: object, expected: bool) -> None:
    assert is_number(value) is expected


def test_the_default_interval_is_ten_seconds() -> None:
    assert DEFAULT_SYSTEM_TRACKING_INTERVAL == 10


def fail() -> None:
    raise LookupError("lost")


def test_exceptions_are_kept_from_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    protected = resistance.exception_resistant()(fail)
    with caplog.at_level(logging.WARNING, "matyan_client"):
        assert protected() is None
        assert protected() is None
    assert len(caplog.records) == 1
    assert protected.failures.count == 2  # type: ignore[attr-defined]
    assert protected.__name__ == "fail"


def test_silent_protection_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "matyan_client"):
        assert resistance.exception_resistant(silent=True)(fail)() is None
    assert not caplog.records


def test_the_safe_mode_decides_what_noexcept_does(caplog: pytest.LogCaptureFixture) -> None:
    protected = resistance.noexcept(fail)
    with pytest.raises(LookupError):
        protected()
    resistance.enable_safe_mode()
    try:
        with caplog.at_level(logging.WARNING, "matyan_client"):
            assert protected() is None
        assert "lost" in caplog.text
    finally:
        resistance.disable_safe_mode()
    with pytest.raises(LookupError):
        protected()


def test_objects_of_frameworks_become_text() -> None:
    class Model:
        def __init__(self) -> None:
            self.itself = self

        def __repr__(self) -> str:
            return "Model()"

    class Scalar:
        dtype = "float32"
        shape = ()

    scalar = Scalar()
    value = {"model": Model(), 1: [None, True, 2, 0.5, "x", (Model(),)], "array": scalar}
    assert with_objects_as_text(value) == {
        "model": "Model()",
        "1": [None, True, 2, 0.5, "x", ["Model()"]],
        "array": scalar,
    }
