"""Runs as notebooks show them."""

import json
import re
from pathlib import Path

import pytest

from matyan_client import Repo, Run, _core, _notebook, errors
from matyan_client._report import OTHER_PANELS, Report, blocks
from matyan_client._report_panels import Chart

PANELS = json.loads((Path(__file__).parents[3] / "tests/vectors/panels.json").read_text("utf-8"))

INFO = {
    "props": {"name": "<b>first</b>", "active": False, "outcome": "failed"},
    "traces": {
        "metric": [
            {"name": "loss", "context": {"subset": "val"}, "last_value": 0.123456789},
            {"name": "__system__cpu", "context": {}, "last_value": 1.0},
            {"name": "accuracy", "context": {}, "last_value": None},
        ]
    },
}


def test_what_was_logged_is_no_markup():
    params = {"hparams": {"<i>lr</i>": "<script>"}, "__system_params": {"secret": 1}}
    shown = _notebook.run_html('http://x/runs/1"', "1", INFO, params, [])
    assert "<b>first" not in shown
    assert "<script" not in shown
    assert "<i>lr" not in shown
    assert 'href="http://x/runs/1&quot;"' in shown
    # What the package itself logs is left out.
    assert "secret" not in shown
    assert "cpu" not in shown
    assert "failed" in shown
    assert "0.12346" in shown
    assert "loss subset=val" in shown
    assert "1 param<" in shown


def test_curves_are_within_their_pictures():
    curve = {
        "name": "loss",
        "context": {"subset": "val"},
        "iters": [0, 1, 2, 3, 4],
        "values": [1e300, float("nan"), "NaN", -1e300, 5.0],
    }
    shown = _notebook.run_html("http://x/runs/1", "1", INFO, {}, [curve])
    (points,) = re.findall('points="([^"]*)"', shown)
    places = [tuple(map(float, point.split(","))) for point in points.split()]
    assert len(places) == 3
    assert all(0 <= x <= 160 and 0 <= y <= 28 for x, y in places)
    flat = {**curve, "values": [2.0] * 5}
    assert "polyline" in _notebook.run_html("http://x/runs/1", "1", INFO, {}, [flat])
    single = {**curve, "iters": [0], "values": [1.0]}
    assert "polyline" not in _notebook.run_html("http://x/runs/1", "1", INFO, {}, [single])


def test_long_lists_are_cut_and_say_so():
    metrics = [{"name": f"m{at}", "context": {}, "last_value": 1.0} for at in range(40)]
    params = {f"p{at}": "x" * 1000 for at in range(100)}
    shown = _notebook.run_html("u", "h", {"traces": {"metric": metrics}}, params, [])
    assert "and 28 more metrics" in shown
    assert "100 params" in shown
    assert len(shown) < 8000


def test_a_notebook_shows_a_run_with_its_curves(shared_server):
    with Run(repo=shared_server.url, experiment="shown", capture_terminal_logs=False) as run:
        run["hparams"] = {"lr": 0.1}
        for step in range(20):
            run.track(1 / (step + 1), name="loss", step=step, context={"subset": "train"})
    shown = Run(run.hash, repo=shared_server.url, read_only=True)._repr_html_()
    assert f'href="{run.url}"' in shown
    assert "loss subset=train" in shown
    assert "polyline" in shown
    assert "hparams.lr" in shown
    assert "shown" in shown
    # The server has given the run a name that people can say.
    name = _core.spoken_name(run.hash)
    assert re.fullmatch(r"[a-z]+-[a-z]+-\d{1,3}", name)
    assert Run(run.hash, repo=shared_server.url, read_only=True).name == name
    assert name in shown


def test_a_run_is_shown_without_a_server(tmp_path, monkeypatch):
    monkeypatch.setenv("MATYAN_SPOOL_DIR", str(tmp_path))
    with Run(repo="http://127.0.0.1:1", offline=True, capture_terminal_logs=False) as run:
        run["hparams"] = {"lr": 0.1}
        shown = run._repr_html_()
    assert run.url in shown
    assert _core.spoken_name(run.hash) in shown
    assert "hparams.lr" in shown
    assert "cannot be reached" in shown


def test_a_notebook_shows_a_report(shared_server):
    with Run(repo=shared_server.url, experiment="reported", capture_terminal_logs=False) as run:
        for step in range(20):
            run.track(1 / (step + 1), name="loss", step=step)
    repo = Repo(shared_server.url)
    code = (
        "# First <b>results</b>\n\n- *one* `a<b`\n- **two**\n\n```chart\ntitle: Losses\n"
        "metric: loss\nquery: run.experiment ==\n  'reported'\n```\n\nThe end.\n\n"
        "```scatter\nmetric: loss\n```\n\n```python\nx < 1\n```\n"
    )
    repo.http.post("/api/v1/rest/reports/", {"name": "Weekly", "code": code})
    report = repo.report("Weekly")
    assert repo.report(report.id).code == code
    shown = report._repr_html_()
    assert f'href="{report.url}"' in shown
    assert "<h3>First &lt;b&gt;results&lt;/b&gt;</h3>" in shown
    assert "<li><em>one</em> <code>a&lt;b</code></li><li><strong>two</strong></li>" in shown
    assert "<b>Losses</b>" in shown
    assert shown.count("polyline") == 1
    assert _core.spoken_name(run.hash) in shown
    assert "<p>The end.</p>" in shown
    assert "scatter</a>" in shown
    assert "<pre>x &lt; 1</pre>" in shown
    with pytest.raises(KeyError, match="Weekly"):
        repo.report("unknown")


class StoredRuns:
    """Runs with the same metrics, in place of a server."""

    url = "http://x"

    def __init__(self, count=2, names=("loss", "val/loss", "accuracy")):
        self.runs = [{"hash": f"run{number}"} for number in range(count)]
        self.names = names
        self.refusals = {}
        self.queries = []
        self.limits = []
        self.ranges = []

    def search_runs(self, query, limit):
        self.queries.append(query)
        self.limits.append(limit)
        if query in self.refusals:
            raise self.refusals[query]
        return self.runs[:limit]

    def get_run_info(self, run_hash):
        if run_hash in self.refusals:
            raise self.refusals[run_hash]
        metrics = [{"name": name, "context": {}, "last_value": 1.0} for name in self.names]
        return {"props": {"name": f"name of {run_hash}"}, "traces": {"metric": metrics}}

    def get_run_metric_batch(self, run_hash, traces, record_range="", record_density=50):
        self.ranges.append(record_range)
        return [{**one, "iters": [0, 1, 2], "values": [0.0, 5.0, 10.0]} for one in traces]


def shown_chart(runs, *lines):
    code = "\n".join(["```chart", *lines, "```"])
    return Report(runs, {"id": "1", "name": "r", "code": code})._repr_html_()


def test_a_chart_says_what_cannot_be_read():
    runs = StoredRuns()
    runs.refusals = {
        "run.x = 1": errors.QueryError("line 1: expected <b>==</b>", status=400),
        "run0": errors.NotFoundError("there is no run", status=404),
    }
    shown = shown_chart(runs, "metric: loss", "query: run.x = 1")
    assert "failed to find the runs: line 1: expected &lt;b&gt;==&lt;/b&gt;" in shown
    assert "has loss" not in shown
    # Other runs of the chart are shown.
    shown = shown_chart(runs, "metric: loss")
    assert "failed to read run run0: there is no run" in shown
    assert "name of run1" in shown
    assert shown.count("polyline") == 1


def test_a_chart_has_the_metrics_of_its_pattern():
    check = [
        ("loss", ["loss"]),
        ("loss, accuracy,", ["loss", "accuracy"]),
        ("/loss$/", ["loss", "val/loss"]),
        ("/^VAL/", ["val/loss"]),
        ("/^(?<part>val|a,)/", ["val/loss", "a,b"]),
        (r"a\,b, c\\d", ["a,b", "c\\d"]),
        ("", []),
    ]
    names = ("loss", "val/loss", "accuracy", "a,b", "c\\d")
    for metric, expected in check:
        chart = Chart(f"metric: {metric}")
        assert [name for name in names if chart.shows(name)] == expected
        assert chart.mistakes == []
    shown = shown_chart(StoredRuns(1), "metric: /loss$/")
    assert shown.count("polyline") == 2
    assert "<b>/loss$/</b>" in shown
    shown = shown_chart(StoredRuns(1), "metric: /(/")
    assert "the pattern /(/ cannot be read" in shown
    assert "No run of this query has f1." in shown_chart(StoredRuns(), "metric: f1", "query: a")
    assert "No run has a metric." in shown_chart(StoredRuns(), "title: none")


def test_a_chart_has_the_limits_of_its_panel():
    runs = StoredRuns(20)
    shown = shown_chart(runs, "metric: loss", "runs: 3")
    assert shown.count("polyline") == 3
    assert "newest" not in shown
    # The page of the report shows all 20.
    shown = shown_chart(runs, "metric: loss")
    assert shown.count("polyline") == 8
    assert "Only the 8 newest runs are shown here." in shown
    assert runs.limits == [3, 9]
    for text, limit in [("0", 1), ("-1", 1), ("2.5", 3), ("1e9", 1000), ("", 50), ("many", 50)]:
        assert Chart(f"runs: {text}").limit == limit
    assert "“runs” cannot be “many”" in shown_chart(runs, "metric: loss", "runs: many")
    many = StoredRuns(1, names=[f"m{number}" for number in range(120)])
    shown = shown_chart(many, "metric: /m/")
    assert shown.count("polyline") == 100
    assert "20 more lines are left out here." in shown


@pytest.mark.parametrize("case", PANELS["reports"], ids=lambda case: case["about"])
def test_notebooks_read_reports_as_the_web_ui_does(case):
    # Notebooks name other panels without their runs, and show neither pictures nor dashboards.
    def shown(kind, query, runs):
        return (kind, query, runs) if kind == "chart" else (kind,)

    found = []
    for kind, text in blocks(case["text"]):
        if kind in ("chart", *OTHER_PANELS):
            chart = Chart(text)
            found.append(shown(kind, chart.query, chart.limit))
    assert found == [shown(one["kind"], one["query"], one["runs"]) for one in case["panels"]]


@pytest.mark.parametrize("case", PANELS["queries"], ids=lambda case: case["query"])
def test_a_chart_searches_for_words_as_the_web_ui_does(case):
    assert _core.query_expression(case["query"]) == case["expression"]
    runs = StoredRuns()
    if "\n" not in case["query"]:
        shown_chart(runs, "metric: loss", f"query: {case['query']}")
        assert runs.queries == [_core.query_expression(case["query"].strip())]


def test_only_the_setting_above_is_continued():
    check = [
        ("query: run.a\n  and run.b", "run.a\nand run.b"),
        ("query: run.a\n\n  and run.b", "run.a\nand run.b"),
        ("query: run.a\nno setting\n  or run.b", "run.a"),
        ("query: run.a\nquery: run.b\n  or run.c", "run.a"),
        ("  or run.b\nquery: run.a", "run.a"),
    ]
    for text, query in check:
        assert Chart(text).query == query


def test_a_chart_has_the_ends_of_its_panel():
    ends = ["metric: loss", "from: 0.5", "to: 10", "low: 0", "high: 5"]
    runs = StoredRuns(1)
    shown = shown_chart(runs, *ends)
    (points,) = re.findall('points="([^"]*)"', shown)
    heights = [float(point.split(",")[1]) for point in points.split()]
    # The last value is above the upper end.
    assert heights == [26.0, 2.0, 2.0]
    shown_chart(runs, "metric: loss", "to: -1e300")
    # Times are no steps.
    shown_chart(runs, *ends, "x: time")
    assert runs.ranges == ["1:11", f":{-(2**63)}", ""]
    # As in the web UI, an unknown axis counts as steps, and ends in the wrong order are ignored.
    assert Chart("to: 10\nx: step\n  of time").step_range == ":11"
    wrong = Chart("from: 10\nto: 5\nlow: 1\nhigh: 1")
    assert (wrong.step_range, wrong.values) == ("", (None, None))


def test_a_run_says_what_cannot_be_read():
    shown = _notebook.run_html("u", "h", {}, {}, [], "the server refuses <it>")
    assert "the server refuses &lt;it&gt;" in shown
