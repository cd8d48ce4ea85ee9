"""Goals of metrics that runs define in their params. The server keeps them for the project."""

from __future__ import annotations

from typing import Any

from . import _arguments

# The params in which the server looks for goals, by the name of the metric.
GOALS_KEY = "__metrics__"

# The limit of servers on the length of a unit.
_UNIT_BYTES = 32

# Directions, with the names that W&B and other trackers have for them.
_DIRECTIONS = {"lower": "lower", "minimize": "lower", "higher": "higher", "maximize": "higher"}
_SUMMARIES = {"last": "last", "best": "best"}
_FORMATS = {"percent": "percent", "scientific": "scientific", "integer": "integer"}


def definition(
    name: str, goal: Any, summary: Any, unit: Any, number_format: Any, step_metric: Any
) -> dict[str, str]:
    """Returns the fields of a goal that are given, as the server reads them."""
    fields = {
        "direction": _one_of("goal", goal, _DIRECTIONS),
        "summary": _one_of("summary", summary, _SUMMARIES),
        "unit": _unit(unit),
        "format": _one_of("format", number_format, _FORMATS),
        "x_axis": _x_axis(name, step_metric),
    }
    given = {key: value for key, value in fields.items() if value is not None}
    if not given:
        raise ValueError(
            "`goal`: required, or one of `summary`, `unit`, `format` and `step_metric`"
        )
    return given


def _one_of(argument: str, given: Any, values: dict[str, str]) -> str | None:
    if given is None:
        return None
    text = _arguments.required_text(argument, given)
    if text not in values:
        expected = ", ".join(repr(value) for value in values)
        raise ValueError(f"`{argument}`: expected one of {expected}, found {text!r}")
    return values[text]


def _x_axis(name: str, given: Any) -> str | None:
    if given is None:
        return None
    axis = _arguments.required_name("step_metric", given)
    if axis == name:
        raise ValueError(f"`step_metric`: expected another metric than {name!r} itself")
    return axis


def _unit(given: Any) -> str | None:
    if given is None:
        return None
    unit = _arguments.required_name("unit", given).strip()
    length = len(unit.encode(errors="replace"))
    if not 0 < length <= _UNIT_BYTES:
        raise ValueError(f"`unit`: expected 1 to {_UNIT_BYTES} bytes, found {length}")
    return unit
