"""Charts of reports, written as lines such as `metric: loss`, as the web UI reads them.

A notebook shows the runs and metrics of a chart between its ends, without its axes, groups and
smoothing.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

# How many of the newest runs a chart has, unless it says so, and at most.
_USUAL_RUNS = 50
_MOST_RUNS = 1000

# Charts whose x axis is another one have ends that are no steps.
_STEP_AXES = ("", "auto", "step")

_SETTING = re.compile(r"(\w[\w ]*?)\s*:\s*(.*?)\s*", re.DOTALL)
_PATTERN = re.compile(r"/(.+)/", re.DOTALL)
# A comma of a name is written as `\,`.
_LISTED = re.compile(r"(?:\\.|[^,\\])+", re.DOTALL)


class Ends(NamedTuple):
    """The lowest and the highest value of an axis; None: those of the points."""

    low: float | None = None
    high: float | None = None


class Chart:
    """What a chart of a report shows, and what is wrong with its text."""

    def __init__(self, text: str) -> None:
        self.mistakes: list[str] = []
        self._settings = settings(text)
        self.query = self._settings.get("query", "")
        self.metric = self._settings.get("metric", "").strip()
        self.names = _names(self.metric)
        self._pattern = self._read_pattern()
        self.title = self._settings.get("title") or ", ".join(self.names)
        runs = self._number("runs")
        count = _USUAL_RUNS if runs is None else math.floor(runs + 0.5)
        self.limit = min(max(count, 1), _MOST_RUNS)
        self.values = Ends(self._number("low"), self._number("high"))
        has_steps = self._settings.get("x", "") in _STEP_AXES
        ends = Ends(self._number("from"), self._number("to"))
        self.steps = ends if has_steps else Ends()

    def shows(self, name: str) -> bool:
        """Reports whether the chart has a metric, by its names or its pattern."""
        if self._pattern is not None:
            return self._pattern.search(name) is not None
        return name in self.names

    @property
    def step_range(self) -> str:
        """The steps of the points as `first:end`, without the end; empty: all of them."""
        low, high = self.steps
        if low is None and high is None:
            return ""
        first = "" if low is None else str(_step(math.ceil(low)))
        end = "" if high is None else str(_step(math.floor(high) + 1))
        return f"{first}:{end}"

    def _read_pattern(self) -> re.Pattern[str] | None:
        found = _PATTERN.fullmatch(self.metric)
        if found is None:
            return None
        # The names of groups are written differently in the web UI.
        source = re.sub(r"\(\?<(?![=!])", "(?P<", found[1])
        try:
            return re.compile(source, re.IGNORECASE)
        except (re.error, OverflowError, RecursionError) as error:
            self.mistakes.append(f"the pattern {self.metric} cannot be read: {error}")
            return None

    def _number(self, name: str) -> float | None:
        text = self._settings.get(name, "")
        if text == "":
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
        self.mistakes.append(f"“{name}” cannot be “{text}”. It is a number.")
        return None


def settings(text: str) -> dict[str, str]:
    """Returns the settings of a panel. An indented line continues the one above."""
    found: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if not line.strip():
            continue
        if line[0].isspace():
            if last:
                found[last] = f"{found[last]}\n{line.strip()}".strip()
            continue
        setting = _SETTING.fullmatch(line)
        if setting is None or setting[1] in found:
            # Nothing continues a line with a mistake.
            last = ""
        else:
            last = setting[1]
            found[last] = setting[2]
    return found


def _names(text: str) -> list[str]:
    """Returns names with commas between them, or a pattern, which may have commas of its own."""
    if _PATTERN.fullmatch(text):
        return [text]
    listed = (re.sub(r"\\(.)", r"\1", part).strip() for part in _LISTED.findall(text))
    return [name for name in listed if name]


def _step(step: int) -> int:
    """Returns a step as 64 bits hold it."""
    return min(max(step, -(2**63)), 2**63 - 1)
