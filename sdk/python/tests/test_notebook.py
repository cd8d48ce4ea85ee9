"""Runs as notebooks show them."""

import re

import pytest

from matyan_client import Repo, Run, _core, _notebook

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
