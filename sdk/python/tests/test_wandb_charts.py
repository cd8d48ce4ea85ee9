"""Charts and figures that are logged through the interface of W&B, without W&B."""

import sys

import pytest
from test_wandb import clean, online, reader  # noqa: F401 - fixtures

import matyan_client.wandb as wandb


def test_figures_and_charts(online):  # noqa: F811
    graph = pytest.importorskip("plotly.graph_objects")
    figure = pytest.importorskip("matplotlib.figure").Figure()
    figure.subplots().plot([1, 2])
    run = wandb.init(project="wandb-charts", settings=online)
    table = wandb.Table(columns=["x", "y", "kind"], data=[[2, 1, "a"], [1, 3, "b"], [0, 2, "a"]])
    charts = {
        "line": wandb.plot.line(table, "x", "y", title="t"),
        "stroke": wandb.plot.line(table, "x", "y", stroke="kind"),
        "scatter": wandb.plot.scatter(table, "x", "y"),
        "bar": wandb.plot.bar(table, "kind", "y", split_table=True),
        "histogram": wandb.plot.histogram(table, "y"),
        "series": wandb.plot.line_series([0, 1], [[1, 2], [3, 4]], keys=["a", "b"]),
        "confusion": wandb.plot.confusion_matrix(
            y_true=[0, 1, 1], preds=[0, 1, 0], class_names=["n", "y"]
        ),
        "roc": wandb.plot.roc_curve([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]),
        "pr": wandb.plot.pr_curve(
            [0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], labels=["n", "y"]
        ),
        "plotly": graph.Figure(graph.Scatter(x=[1], y=[2])),
        "explicit": wandb.Plotly(graph.Figure()),
        "matplotlib": figure,
    }
    data = {name: getattr(chart, "_object", None) for name, chart in charts.items()}
    assert data["line"].data["data"][0]["x"] == [0, 1, 2]
    assert [trace["name"] for trace in data["stroke"].data["data"]] == ["a", "b"]
    assert data["confusion"].data["data"][0]["z"] == [[1, 0], [1, 1]]
    assert data["roc"].data["data"][1]["x"] == [0.0, 0.0, 0.0, 1.0]
    assert data["roc"].data["data"][1]["y"] == [0.0, 0.5, 1.0, 1.0]
    assert data["pr"].data["data"][1]["y"] == [1.0, 1.0, pytest.approx(2 / 3)]
    wandb.log(charts)
    wandb.finish()
    figures = reader(run).collect_sequence_info("figures")["figures"]
    assert {item["name"] for item in figures} == set(charts)


def test_charts_without_plotly_are_tables(monkeypatch):
    for name in ("plotly", "plotly.graph_objects"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.warns(RuntimeWarning, match="tables"):
        chart = wandb.plot.confusion_matrix(y_true=[0, 1], preds=[0, 0])
    assert chart.data == [
        ["Class_1", "Class_1", 1],
        ["Class_1", "Class_2", 0],
        ["Class_2", "Class_1", 1],
        ["Class_2", "Class_2", 0],
    ]
