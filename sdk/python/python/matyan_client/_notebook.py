"""Runs as HTML, which notebooks show for the last expression of a cell."""

from __future__ import annotations

import html
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

# More rows would push the rest of a notebook away. The page of the run has all of them.
_MOST_METRICS = 12
_MOST_PARAMS = 20
_LONGEST_VALUE = 80

# Metrics that the package itself logs, such as the load of the machine.
_SYSTEM_PREFIX = "__system__"

_WIDTH = 160
_HEIGHT = 28
_EDGE = 2

# Points of a curve, which is no wider than this.
POINTS = 80


def shown_metrics(metrics: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the metrics that are shown, of all metrics of a run."""
    own = [one for one in metrics if not str(one.get("name", "")).startswith(_SYSTEM_PREFIX)]
    return sorted(own, key=lambda one: str(one.get("name", "")))[:_MOST_METRICS]


def run_html(
    url: str,
    name: str,
    info: dict[str, Any],
    params: dict[str, Any],
    curves: Sequence[dict[str, Any]],
    failure: str = "",
) -> str:
    """Returns the HTML of a run: its name as a link, its last values with their curves, its params.

    `name` is for a run that the server does not know yet. `info` is what the server knows of the
    run, empty if it cannot be read. `curves` has the sampled points of its metrics. `failure` says
    why something of the run is missing. Everything that was logged is escaped.
    """
    props = info.get("props", {})
    name = props.get("name") or name
    link = f'<a href="{html.escape(url)}" target="_blank" rel="noreferrer">{html.escape(name)}</a>'
    parts = [f"<div><b>{link}</b> <small>{html.escape(_state(props))}</small></div>"]
    if failure:
        parts.append(f"<div><small>{html.escape(failure)}</small></div>")
    metrics = info.get("traces", {}).get("metric", [])
    shown = shown_metrics(metrics)
    rows = metric_rows(shown, curves)
    if rows:
        parts.append(f"<table>{''.join(rows)}</table>")
    own = [one for one in metrics if not str(one.get("name", "")).startswith(_SYSTEM_PREFIX)]
    if len(own) > len(shown):
        parts.append(f"<small>and {len(own) - len(shown)} more metrics</small>")
    leaves = _leaves(params)
    if leaves:
        entries = "".join(_param_row(path, value) for path, value in leaves[:_MOST_PARAMS])
        title = f"{len(leaves)} {'param' if len(leaves) == 1 else 'params'}"
        parts.append(f"<details><summary>{title}</summary><table>{entries}</table></details>")
    return "".join(parts)


def metric_rows(
    metrics: Sequence[dict[str, Any]],
    curves: Sequence[dict[str, Any]],
    run_name: str | None = None,
    ends: tuple[float | None, float | None] = (None, None),
) -> list[str]:
    """Returns a row of a table for each metric. The name of the run comes first if it is given.

    `ends` are the lowest and the highest value of the curves; None: the points decide.
    """
    found = {_key(curve): curve for curve in curves}
    start = "" if run_name is None else _left_cell(run_name)
    return [
        f"<tr>{start}{_metric_cells(one, found.get(_key(one), {}), ends)}</tr>" for one in metrics
    ]


def _state(props: dict[str, Any]) -> str:
    if not props:
        return "not on the server yet, or the server cannot be reached"
    experiment = (props.get("experiment") or {}).get("name")
    state = "running" if props.get("active") else (props.get("outcome") or "ended")
    return " · ".join(part for part in (experiment, state) if part)


def _key(series: dict[str, Any]) -> tuple[str, str]:
    return str(series.get("name", "")), json.dumps(series.get("context", {}), sort_keys=True)


def _left_cell(text: str) -> str:
    return f'<td style="text-align:left">{html.escape(text)}</td>'


def _metric_cells(
    metric: dict[str, Any], curve: dict[str, Any], ends: tuple[float | None, float | None]
) -> str:
    context = " ".join(f"{key}={value}" for key, value in metric.get("context", {}).items())
    title = f"{metric.get('name', '')} {context}".strip()
    last = metric.get("last_value")
    text = "" if last is None else f"{last:.5g}"
    return f"{_left_cell(title)}<td>{html.escape(text)}</td><td>{_curve(curve, ends)}</td>"


def _curve(curve: dict[str, Any], ends: tuple[float | None, float | None]) -> str:
    """Returns the points that are numbers as a line, from the first step to the last."""
    pairs = zip(curve.get("iters") or (), curve.get("values") or (), strict=False)
    points = [(x, y) for x, y in pairs if _is_number(x) and _is_number(y)]
    if len(points) < 2:
        return ""
    (left, right), (low, high) = (
        (min(own), max(own)) for own in ([x for x, _ in points], [y for _, y in points])
    )
    low = low if ends[0] is None else ends[0]
    high = high if ends[1] is None else ends[1]

    def place(value: float, start: float, end: float, size: int) -> float:
        # The distance of very large values is infinite.
        is_wide = end > start and math.isfinite(end - start)
        share = (value - start) / (end - start) if is_wide else 0.5
        return _EDGE + min(max(share, 0), 1) * (size - 2 * _EDGE)

    path = " ".join(
        f"{place(x, left, right, _WIDTH):.1f},{_HEIGHT - place(y, low, high, _HEIGHT):.1f}"
        for x, y in points
    )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="Curve">'
        f'<polyline points="{path}" fill="none" stroke="#3c7fe8" stroke-width="1.5"/></svg>'
    )


def _is_number(value: Any) -> bool:
    # Some integers exceed every float, and NaN fails the comparison.
    return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


def _leaves(params: Any, path: str = "") -> list[tuple[str, Any]]:
    """Returns the values of nested params with their paths, without the package's own params."""
    if not isinstance(params, dict) or (path and not params):
        return [(path, params)] if path else []
    return [
        leaf
        for key, value in params.items()
        if path or not str(key).startswith("__")
        for leaf in _leaves(value, f"{path}.{key}" if path else str(key))
    ]


def _param_row(path: str, value: Any) -> str:
    text = str(value)
    if len(text) > _LONGEST_VALUE:
        text = f"{text[:_LONGEST_VALUE]}…"
    return f"<tr>{_left_cell(path)}{_left_cell(text)}</tr>"
