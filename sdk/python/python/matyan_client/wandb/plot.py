"""Charts with the functions of `wandb.plot`, as figures of plotly.

Without plotly, the values of a chart are stored as a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matyan_client import Figure, values

from ._media import Media, Plotly, Table
from ._notices import ignore_unknown, warn_once

__all__ = [
    "bar",
    "confusion_matrix",
    "histogram",
    "line",
    "line_series",
    "plot_table",
    "pr_curve",
    "roc_curve",
    "scatter",
]


def line(
    table: Table, x: str, y: str, stroke: str | None = None, title: str = "", **keywords: Any
) -> Media:
    """Returns a line chart of two columns, with a line for each value of `stroke`."""
    _ignore("line", keywords)
    if stroke is None:
        return _chart(table, title, [_lines(table, x, y)], x, y)
    groups = dict.fromkeys(table.get_column(stroke))
    traces = []
    for group in groups:
        rows = [row for row in table.data if row[table.columns.index(stroke)] == group]
        traces.append({**_lines(Table(table.columns, rows), x, y), "name": str(group)})
    return _chart(table, title, traces, x, y)


def scatter(table: Table, x: str, y: str, title: str = "", **keywords: Any) -> Media:
    """Returns a scatter plot of two columns."""
    _ignore("scatter", keywords)
    return _chart(table, title, [{**_lines(table, x, y), "mode": "markers"}], x, y)


def bar(table: Table, label: str, value: str, title: str = "", **keywords: Any) -> Media:
    """Returns a bar for each row."""
    _ignore("bar", keywords)
    trace = {"type": "bar", "x": table.get_column(label), "y": table.get_column(value)}
    return _chart(table, title, [trace], label, value)


def histogram(table: Table, value: str, title: str = "", **keywords: Any) -> Media:
    """Returns a histogram of a column."""
    _ignore("histogram", keywords)
    trace = {"type": "histogram", "x": table.get_column(value)}
    return _chart(table, title, [trace], value, "count")


def line_series(
    xs: Iterable[Any],
    ys: Iterable[Iterable[Any]],
    keys: Iterable[str] | None = None,
    title: str = "",
    xname: str = "x",
    **keywords: Any,
) -> Media:
    """Returns several lines, whose points share `xs` or have their own."""
    _ignore("line_series", keywords)
    lines = [_list(line_values) for line_values in ys]
    positions: list[Any] = _list(xs)
    if not positions or not isinstance(positions[0], list):
        positions = [positions] * len(lines)
    names = [f"line_{number}" for number in range(len(lines))] if keys is None else list(keys)
    table = Table(["x", "key", "y"])
    traces = []
    for name, line_xs, line_ys in zip(names, positions, lines, strict=False):
        for point_x, point_y in zip(line_xs, line_ys, strict=False):
            table.add_data(point_x, str(name), point_y)
        trace = {"type": "scatter", "mode": "lines", "name": str(name), "x": line_xs, "y": line_ys}
        traces.append(trace)
    return _chart(table, title, traces, xname, "y")


def confusion_matrix(
    probs: Any = None,
    y_true: Any = None,
    preds: Any = None,
    class_names: Sequence[str] | None = None,
    title: str = "Confusion Matrix Curve",
    **keywords: Any,
) -> Media:
    """Returns how often each class was taken for each, from predictions or probabilities."""
    _ignore("confusion_matrix", keywords)
    if probs is not None:
        preds = [row.index(max(row)) for row in _list(probs)]
    actual = _list(y_true)
    predicted = _list(preds)
    if class_names is None:
        labels = sorted({*actual, *predicted})
        names = [f"Class_{number + 1}" for number in range(len(labels))]
        indices = {label: number for number, label in enumerate(labels)}
    else:
        names = [str(name) for name in class_names]
        indices = {number: number for number in range(len(names))}
    counts = [[0] * len(names) for _ in names]
    for true_label, predicted_label in zip(actual, predicted, strict=False):
        counts[indices[true_label]][indices[predicted_label]] += 1
    table = Table(["Actual", "Predicted", "nPredictions"])
    for row, row_name in zip(counts, names, strict=True):
        for count, name in zip(row, names, strict=True):
            table.add_data(row_name, name, count)
    trace = {"type": "heatmap", "x": names, "y": names, "z": counts, "colorscale": "Blues"}
    return _chart(table, title, [trace], "Predicted", "Actual")


def roc_curve(
    y_true: Any,
    y_probas: Any = None,
    labels: Sequence[str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    title: str = "ROC Curve",
    **keywords: Any,
) -> Media:
    """Returns the rate of true positives by the rate of false positives, for each class."""
    _ignore("roc_curve", keywords)

    def curve(hits: list[tuple[int, int]], positives: int, negatives: int) -> _Points:
        rates = [(wrong / max(1, negatives), right / max(1, positives)) for right, wrong in hits]
        return [(0.0, 0.0), *rates]

    return _curves((y_true, y_probas, labels, classes_to_plot), title, ("fpr", "tpr"), curve)


def pr_curve(
    y_true: Any = None,
    y_probas: Any = None,
    labels: Sequence[str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    interp_size: int = 21,
    title: str = "Precision-Recall Curve",
    **keywords: Any,
) -> Media:
    """Returns the precision by recall, for each class, at all thresholds."""
    del interp_size
    _ignore("pr_curve", keywords)

    def curve(hits: list[tuple[int, int]], positives: int, _negatives: int) -> _Points:
        return [
            (right / max(1, positives), right / (right + wrong))
            for right, wrong in hits
            if right + wrong
        ]

    return _curves(
        (y_true, y_probas, labels, classes_to_plot), title, ("recall", "precision"), curve
    )


def plot_table(
    vega_spec_name: str = "",
    data_table: Any = None,
    fields: Any = None,
    string_fields: Any = None,
    **keywords: Any,
) -> Media:
    """Returns the table: Matyan does not show charts of Vega."""
    del vega_spec_name, fields, string_fields
    _ignore("plot_table", keywords)
    warn_once("wandb.plot_table: charts of Vega are not shown; their table is stored")
    if not isinstance(data_table, Table):
        raise TypeError(f"`data_table`: expected a Table, not {type(data_table).__name__}")
    return data_table


_Points = list[tuple[float, float]]


def _curves(given: tuple[Any, ...], title: str, axes: tuple[str, str], curve: Any) -> Media:
    y_true, y_probas, labels, classes_to_plot = given
    actual = _list(y_true)
    scores = _list(y_probas)
    table = Table(["class", *axes])
    traces = []
    for number, label in enumerate(sorted(set(actual))):
        if classes_to_plot is not None and label not in classes_to_plot:
            continue
        name = str(labels[number] if labels is not None else label)
        ranked = sorted(
            ((row[number], value == label) for row, value in zip(scores, actual, strict=False)),
            key=lambda pair: -pair[0],
        )
        positives = sum(is_hit for _, is_hit in ranked)
        points = curve(_hits(ranked), positives, len(ranked) - positives)
        for x, y in points:
            table.add_data(name, x, y)
        xs = [x for x, _ in points]
        ys = [y for _, y in points]
        traces.append({"type": "scatter", "mode": "lines", "name": name, "x": xs, "y": ys})
    return _chart(table, title, traces, *axes)


def _hits(ranked: list[tuple[float, bool]]) -> list[tuple[int, int]]:
    """Returns true and false positives at each threshold, from the highest to the lowest."""
    hits = []
    right = 0
    wrong = 0
    for index, (score, is_hit) in enumerate(ranked):
        right += is_hit
        wrong += not is_hit
        if index + 1 == len(ranked) or ranked[index + 1][0] != score:
            hits.append((right, wrong))
    return hits


def _lines(table: Table, x: str, y: str) -> dict[str, Any]:
    pairs = sorted(zip(table.get_column(x), table.get_column(y), strict=True), key=_position)
    xs = [pair[0] for pair in pairs]
    ys = [pair[1] for pair in pairs]
    return {"type": "scatter", "mode": "lines", "x": xs, "y": ys}


def _position(pair: tuple[Any, Any]) -> float:
    return float(pair[0]) if isinstance(pair[0], (int, float)) else 0.0


def _chart(table: Table, title: str, traces: list[dict[str, Any]], x: str, y: str) -> Media:
    try:
        import plotly.graph_objects  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        warn_once("wandb.plot: without plotly, the values of charts are stored as tables")
        return table
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    layout = {"title": {"text": title}, **axes}
    # The library checks the traces, so that a wrong trace fails here and not in the browser.
    plotly.graph_objects.Figure(values.plain({"data": traces, "layout": layout}))
    return Plotly(Figure({"data": traces, "layout": layout}))


def _list(given: Any) -> list[Any]:
    listed = values.plain(given.tolist() if values.is_array(given) else list(given))
    return listed if isinstance(listed, list) else [listed]


def _ignore(function: str, keywords: dict[str, Any]) -> None:
    keywords.pop("split_table", None)
    ignore_unknown(f"plot.{function}", keywords)
