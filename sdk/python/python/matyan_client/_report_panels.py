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

_NUMBERS = ("runs", "low", "high", "from", "to")
# X axes whose ends are not steps.
_OTHER_AXES = ("relative", "time", "epoch", "metric")
_AXES = ("auto", "step", *_OTHER_AXES)

_SETTING = re.compile(r"(\w[\w ]*?)\s*:\s*(.*?)\s*", re.DOTALL)
# Numbers of JavaScript.
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_OTHER_BASE = re.compile(r"0(x[\da-f]+|o[0-7]+|b[01]+)", re.ASCII | re.IGNORECASE)
_PATTERN = re.compile(r"/(.+)/", re.DOTALL)
# A comma of a name is written as `\,`.
_LISTED = re.compile(r"(?:\\.|[^,\\])+", re.DOTALL)


class Ends(NamedTuple):
    """The lowest and the highest value of an axis; None: the points decide."""

    low: float | None = None
    high: float | None = None


class PanelSettings:
    """The settings of a panel that notebooks use, and what is wrong with its text.

    As in the web UI, a line with a mistake sets nothing: `tests/vectors/panels.json` has cases.
    """

    def __init__(self, text: str) -> None:
        self.mistakes: list[str] = []
        self._found: dict[str, str] = {}
        last = ""
        for line in text.split("\n"):
            if line[:1].isspace():
                # It continues the line above, unless that line has a mistake.
                if last and line.strip():
                    self._found[last] = f"{self._found[last]}\n{line.strip()}".strip()
            elif line:
                last = self._read_line(line)

    def get(self, name: str) -> str:
        return self._found.get(name, "")

    def number(self, name: str) -> float | None:
        return _number(self.get(name))

    def ends(self, first: str, last: str) -> Ends:
        """Returns the ends of an axis, or no ends if they are in the wrong order."""
        low = self.number(first)
        high = self.number(last)
        is_wrong = low is not None and high is not None and low >= high
        return Ends() if is_wrong else Ends(low, high)

    def _read_line(self, line: str) -> str:
        """Returns the name of the setting in a line; empty: the line has a mistake."""
        setting = _SETTING.fullmatch(line)
        if setting is None or setting[1] in self._found:
            return ""
        name, value = setting.groups()
        mistake = _mistake(name, value) if value else ""
        if mistake:
            self.mistakes.append(mistake)
            return ""
        self._found[name] = value
        return name


class Chart:
    """The content of a chart of a report, and the mistakes in its text."""

    def __init__(self, text: str) -> None:
        settings = PanelSettings(text)
        self.mistakes = settings.mistakes
        self.query = settings.get("query")
        metric = settings.get("metric").strip()
        self.names = _names(metric)
        try:
            self._pattern = _pattern(metric)
        except ValueError as error:
            # It begins on the line below its name, where settings are not checked.
            self._pattern = None
            self.mistakes.append(str(error))
        self.title = settings.get("title") or ", ".join(self.names) or "Line chart"
        runs = settings.number("runs")
        count = _USUAL_RUNS if runs is None else math.floor(runs + 0.5)
        self.limit = min(max(count, 1), _MOST_RUNS)
        self.values = settings.ends("low", "high")
        # The axis may be unknown: lines below the first one of a setting are not checked.
        has_steps = settings.get("x") not in _OTHER_AXES
        self.steps = settings.ends("from", "to") if has_steps else Ends()

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


def _mistake(name: str, value: str) -> str:
    """Returns what is wrong with the value of a setting; empty: nothing."""
    if name in _NUMBERS and _number(value) is None:
        return f"“{name}” cannot be “{value}”. It is a number."
    if name == "x" and value not in _AXES:
        return f"“x” cannot be “{value}”. It is {', '.join(_AXES)}."
    if name == "metric":
        try:
            _pattern(value)
        except ValueError as error:
            return str(error)
    return ""


def _number(text: str) -> float | None:
    """Returns a finite number as JavaScript reads it."""
    text = text.strip()
    try:
        if _OTHER_BASE.fullmatch(text):
            return float(int(text, 0))
        number = float(text) if _DECIMAL.fullmatch(text) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _pattern(metric: str) -> re.Pattern[str] | None:
    """Returns the regular expression between slashes; None: these are names."""
    found = _PATTERN.fullmatch(metric)
    if found is None:
        return None
    # The names of groups are written differently in the web UI.
    source = re.sub(r"\(\?<(?![=!])", "(?P<", found[1])
    try:
        return re.compile(source, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the pattern {metric} cannot be read: {error}") from error


def _names(text: str) -> list[str]:
    """Returns names with commas between them, or a pattern, which may have its own commas."""
    if _PATTERN.fullmatch(text):
        return [text]
    listed = (re.sub(r"\\(.)", r"\1", part).strip() for part in _LISTED.findall(text))
    return [name for name in listed if name]


def _step(step: int) -> int:
    """Returns a step as 64 bits hold it."""
    return min(max(step, -(2**63)), 2**63 - 1)
