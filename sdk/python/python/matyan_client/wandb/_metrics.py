"""Definitions of metrics, and the aggregates that they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ._notices import warn_once

# The direction that an aggregate implies.
_DIRECTIONS = {"min": "minimize", "max": "maximize"}

_AGGREGATES = frozenset({"min", "max", "mean", "last", "first", "best", "copy", "none"})


@dataclass
class Metric:
    """Definition of a metric, or of all metrics whose names match `prefix*`."""

    name: str
    step_metric: str | None = None
    step_sync: bool = True
    hidden: bool = False
    summary: tuple[str, ...] = ()
    goal: str | None = None

    def described(self) -> dict[str, Any]:
        """Returns the part of the definition that was given."""
        given = {
            "step_metric": self.step_metric,
            "hidden": self.hidden or None,
            "summary": ",".join(self.summary) or None,
            "goal": self.goal,
        }
        return {key: value for key, value in given.items() if value is not None}

    def goal_fields(self, name: str) -> dict[str, str]:
        """Returns what is known of the goal of `name`, for `define_metric` of `matyan_client.Run`.

        An aggregate `min` or `max` says which values are better, unless both are wanted.
        """
        directions = {_DIRECTIONS.get(kind) for kind in self.summary} - {None}
        fields: dict[str, str] = {}
        if self.goal in ("minimize", "maximize"):
            fields["goal"] = self.goal
        elif len(directions) == 1:
            fields["goal"] = str(directions.pop())
        if fields and ("best" in self.summary or any(kind in _DIRECTIONS for kind in self.summary)):
            fields["summary"] = "best"
        elif self.summary == ("last",):
            fields["summary"] = "last"
        # W&B's own axes, such as `_step` and `_runtime`, are no metrics. A pattern may match its
        # own step.
        if self.step_metric and not self.step_metric.startswith("_") and self.step_metric != name:
            fields["step_metric"] = self.step_metric
        return fields


@dataclass
class _Aggregate:
    """Numbers over the rows of one metric."""

    values: dict[str, float] = field(default_factory=dict)
    total: float = 0.0
    count: int = 0

    def add(self, number: float, wanted: tuple[str, ...], goal: str | None) -> dict[str, float]:
        """Counts a number in, and returns the aggregates that are wanted."""
        self.total += number
        self.count += 1
        old = self.values
        best: Callable[[float, float], float] = max if goal == "maximize" else min
        self.values = {
            "min": _compared(min, old.get("min"), number),
            "max": _compared(max, old.get("max"), number),
            "mean": self.total / self.count,
            "last": number,
            "first": old.get("first", number),
            "best": _compared(best, old.get("best"), number),
        }
        return {name: self.values[name] for name in wanted if name in self.values}


class MetricTable:
    """All definitions of a run."""

    def __init__(self) -> None:
        self._exact: dict[str, Metric] = {}
        self._prefixes: dict[str, Metric] = {}
        self._aggregates: dict[str, _Aggregate] = {}

    def define(self, metric: Metric, *, overwrite: bool) -> Metric:
        """Adds a definition, which completes or replaces an earlier definition of the name."""
        table = self._exact
        name = metric.name
        if name.endswith("*"):
            table = self._prefixes
            name = name[:-1]
        earlier = table.get(name)
        if earlier is not None and not overwrite:
            metric = Metric(
                metric.name,
                metric.step_metric or earlier.step_metric,
                metric.step_sync,
                metric.hidden or earlier.hidden,
                tuple(dict.fromkeys(earlier.summary + metric.summary)),
                metric.goal or earlier.goal,
            )
        table[name] = metric
        return metric

    def find(self, name: str) -> Metric | None:
        """Returns the definition for a metric, or None.

        If several prefixes match, the longest prefix counts. W&B takes any prefix that matches.
        """
        metric = self._exact.get(name)
        if metric is not None or not self._prefixes or name.startswith("_"):
            return metric
        matching = [prefix for prefix in self._prefixes if name.startswith(prefix)]
        return self._prefixes[max(matching, key=len)] if matching else None

    def summarized(self, name: str, value: Any) -> Any:
        """Returns the summary of a metric after a row, or None if there is none."""
        metric = self.find(name)
        if metric is None or not metric.summary:
            return value
        if "none" in metric.summary:
            return None
        number = _number(value)
        if number is None:
            return value
        aggregate = self._aggregates.setdefault(name, _Aggregate())
        return aggregate.add(number, metric.summary, metric.goal) or value


def summary_kinds(given: str | None) -> tuple[str, ...]:
    """Returns the aggregates that an argument `summary` names."""
    kinds = [kind.strip() for kind in (given or "").split(",") if kind.strip()]
    for kind in kinds:
        if kind not in _AGGREGATES:
            expected = ", ".join(sorted(_AGGREGATES))
            warn_once(f"wandb.define_metric: `summary` is {kind!r}; expected one of {expected}")
    return tuple(kind for kind in kinds if kind in _AGGREGATES)


def _compared(choose: Callable[[float, float], float], old: float | None, new: float) -> float:
    # Every comparison with NaN is false, so it must not become the old value.
    if old is None or math.isnan(old):
        return new
    return old if math.isnan(new) else choose(old, new)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return value
    if hasattr(value, "detach") and hasattr(value, "item"):
        # The script asked for an aggregate, so this waits for the device, like W&B.
        return float(value.item())
    return None
