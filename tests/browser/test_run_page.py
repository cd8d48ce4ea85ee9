"""The runs table and the page of one run, with all of its tabs."""

from __future__ import annotations

import re

from playwright.sync_api import expect


def tab(visit, name):
    visit.page.get_by_role("tab", name=name, exact=True).click()
    return visit.page.locator("body")


def test_the_table_of_runs_is_searched(visit, project):
    page = visit.open("/runs")
    expect(page.get_by_text("run 49", exact=True)).to_be_visible()
    for text in ["baseline", "wip", "best", "accuracy"]:
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    visit.shot("runs")

    editor = page.locator(".monaco-editor textarea").first
    editor.press_sequentially('run.hparams.optimizer == "adam" and "best" in run.tags')
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("run 49", exact=True)).to_have_count(0)
    expect(page.get_by_text("run 30", exact=True)).to_be_visible()
    expect(page.get_by_text("run 00", exact=True)).to_be_visible()
    visit.shot("runs-found")


def test_a_wrong_query_is_underlined(visit):
    page = visit.open("/runs")
    expect(page.get_by_text("run 49", exact=True)).to_be_visible()
    visit.provoked = ("400 /api/runs/search/run",)
    page.locator(".monaco-editor textarea").first.press_sequentially("run.hparams.lr < ")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".squiggly-error").first).to_be_attached()
    expect(page.get_by_text(re.compile("syntax", re.IGNORECASE)).first).to_be_visible()
    visit.shot("runs-wrong-query")


def test_a_run_is_shown_in_all_its_tabs(visit, project):
    page = visit.open(f"/runs/{project.hashes[0]}")
    body = page.locator("body")
    for text in ["run 00", "baseline", "hparams.model.layers", "config.json", "model.txt"]:
        expect(body).to_contain_text(text)
    visit.shot("run-overview")
    for name, texts in [
        ("Run Params", ["optimizer", "dropout"]),
        ("Logs", ["epoch 29/30 of the logged run"]),
        ("Messages", ["learning begins", "out of memory"]),
        ("Metrics", ["accuracy", 'subset="val"']),
        ("Images", ["samples", "image at 2"]),
        ("Audios", ["tones", "tone 2"]),
        ("Texts", ["captions", "text of run 0 at step"]),
        ("Distributions", ["weights"]),
        ("Figures", ["bars", "bars 0 2"]),
        ("System", []),
        ("Settings", ["Archive Run", "Delete Run"]),
    ]:
        body = tab(visit, name)
        for text in texts:
            expect(body).to_contain_text(text)
        if name in ("Metrics", "System"):
            expect(page.locator("svg path.Line").first).to_be_attached()
        visit.shot(f"run-{name.lower().replace(' ', '-')}")


def test_images_and_plots_are_drawn(visit, project):
    page = visit.open(f"/runs/{project.hashes[0]}/images")
    image = page.locator("img[alt='image at 2']").first
    expect(image).to_be_visible()
    assert image.evaluate("it => [it.naturalWidth, it.naturalHeight]") == [48, 48]
    page = visit.open(f"/runs/{project.hashes[0]}/figures")
    expect(page.locator(".js-plotly-plot .bars path").last).to_be_visible()
    page = visit.open(f"/runs/{project.hashes[0]}/metrics")
    expect(page.locator("svg path.Line").first).to_be_attached()
