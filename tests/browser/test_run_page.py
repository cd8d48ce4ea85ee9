"""The runs table and the page of one run, with all of its tabs."""

from __future__ import annotations

import base64
import re
import zipfile

import pytest
from playwright.sync_api import expect
from project import ARTIFACTS, tone, weights
from server import eventually
from test_explorers import choose


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


def test_an_invalid_query_is_underlined(visit):
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


def bars(page):
    """Heights of the bars of a histogram relative to the highest one; empty while they are still animated."""
    heights = page.locator(".DistributionsVisualizer .highcharts-histogram-series rect").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().height)"
    )
    return [height / max(heights) for height in heights] if max(heights, default=0) > 80 else []


def test_distributions_are_drawn_as_logged(visit, project):
    page = visit.open(f"/runs/{project.hashes[0]}/distributions")
    cells = page.locator(".DistributionsVisualizer .highcharts-heatmap-series path.highcharts-point")
    for step in (0, 2):
        if step:
            # A click on a column of the lower chart selects the step of the upper one.
            cells.nth(30 + step).click()
        expect(page.locator(".DistributionsVisualizer")).to_contain_text(f"Step {step}")
        bins = list(weights(0, step).weights)
        wanted = [count / max(bins) for count in bins]
        # Heights are rounded to whole pixels.
        eventually(
            lambda: len(bars(page)) == 32 and all(abs(a - b) < 0.02 for a, b in zip(bars(page), wanted, strict=True)),
            f"the bins of step {step} are drawn",
        )
    # The lower chart has a column for each step, with colored cells.
    fills = cells.evaluate_all("all => all.map(one => one.getAttribute('fill'))")
    for step in range(3):
        assert len({fill for fill in fills[step::3] if fill != "rgb(255,255,255)"}) > 5, (step, fills)
    visit.shot("run-distributions-step-2")


HEARD = """
window.heard = [];
const Made = window.Audio;
window.Audio = function (...given) { const it = new Made(...given); heard.push(it); return it; };
"""


@pytest.mark.parametrize("where", ["run", "explorer"])
def test_audio_is_played_and_saved(visit, project, where):
    """The page plays the bytes that it received."""
    visit.page.add_init_script(HEARD)
    # The page starts with an empty player, which it removes as soon as it plays.
    visit.known = ("play() request was interrupted because the media was removed",)
    if where == "run":
        page = visit.open(f"/runs/{project.hashes[0]}/audios")
    else:
        page = visit.open("/audios")
        choose(page, "Audios", "tones")
    box = page.locator(".AudioBox", has_text="tone 2").first
    box.locator(".AudioBox__controllers__player svg").click()
    logged = base64.b64decode(tone(2).json()["data"])
    expect(box).to_contain_text("/00:01")
    [source, length, error] = eventually(
        lambda: page.evaluate("heard.filter(it => it.duration && it.ended).map(it => [it.src, it.duration, it.error])[0]"),
        "the sound was played to its end",
    )
    assert base64.b64decode(source.removeprefix("data:audio/wav;base64,")) == logged
    assert (length, error) == (0.5, None)
    visit.shot(f"audio-played-{where}")
    with page.expect_download() as saved:
        box.locator("button", has=page.locator(".icon-download")).click()
    assert saved.value.path().read_bytes() == logged


def test_artifacts_are_listed_and_downloaded(visit, rest, project):
    run = project.hashes[0]
    page = visit.open(f"/runs/{run}/overview")
    card = page.locator(".RunOverviewTab__cardBox", has_text="Run Artifacts")
    listed = rest.get(f"/runs/{run}/info/").json()["artifacts"]
    assert sorted(one["path"] for one in listed) == sorted(ARTIFACTS)
    for one in listed:
        expect(card.get_by_title(one["path"], exact=True).first).to_be_visible()
        expect(card).to_contain_text(one["uri"])
    visit.shot("run-artifacts")

    # The page shows the URIs without links; this test adds links, as any page may.
    def download(path):
        with page.expect_download() as saved:
            link = "to => Object.assign(document.createElement('a'), {href: to}).click()"
            page.evaluate(link, f"/api/runs/{run}/artifacts/{path}")
        return saved.value

    for path, content in ARTIFACTS.items():
        saved = download(f"download?path={path}")
        assert (saved.suggested_filename, saved.path().read_bytes()) == (path, content)
    saved = download("download-all")
    assert saved.suggested_filename == f"{run}-artifacts.zip"
    with zipfile.ZipFile(saved.path()) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == ARTIFACTS
