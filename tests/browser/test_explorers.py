"""The explorers: metrics with grouping, params, scatters, and one for each kind of object."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect


def choose(page, button, *options):
    """Opens the list of options, selects some of them, and searches."""
    page.locator("button", has_text=button).first.click()
    for option in options:
        page.get_by_role("option", name=option, exact=True).click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Search").click()


def drawn(page, lines):
    """Waits until the page is idle, with a line for each run in its charts."""
    expect(lines).to_have_count(50)
    expect(page.get_by_text("Processing").first).to_be_hidden()


def test_metrics_are_drawn_and_grouped(visit):
    page = visit.open("/metrics")
    choose(page, "Metrics", 'loss subset="train"')
    lines = page.locator("svg path.Line")
    expect(page.get_by_text('metric.name="loss"').first).to_be_attached()
    drawn(page, lines)
    visit.shot("metrics")

    # One chart per optimizer.
    page.locator(".GroupingItem__icon__box").nth(2).click()
    page.get_by_placeholder("Select fields").fill("optimizer")
    page.get_by_role("option", name="optimizer").click()
    page.keyboard.press("Escape")
    for optimizer in ["adam", "sgd", "lion"]:
        expect(page.get_by_text(f'hparams.optimizer="{optimizer}"').first).to_be_attached()
    drawn(page, lines)
    visit.shot("metrics-grouped")


def test_an_invalid_query_shows_an_error(visit):
    page = visit.open("/metrics")
    visit.provoked = ("400 /api/runs/search/metric",)
    page.locator("button", has_text="Metrics").first.click()
    page.get_by_role("option", name='loss subset="val"', exact=True).click()
    page.keyboard.press("Escape")
    page.locator(".monaco-editor textarea").first.press_sequentially("run.hparams.lr >")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("syntax").first).to_be_visible()
    visit.shot("metrics-wrong-query")


def test_params_are_drawn(visit):
    page = visit.open("/params")
    choose(page, "Run Params", "hparams.lr", "hparams.batch_size", 'loss subset="train"')
    for axis in ["hparams.lr", "hparams.batch_size", "loss"]:
        expect(page.locator("svg").get_by_text(axis).first).to_be_visible()
    visit.shot("params")


def test_scatters_are_drawn(visit):
    page = visit.open("/scatters")
    for place, option in enumerate(["hparams.lr", 'loss subset="train"']):
        # With the keyboard: while runs are still loading, the list under the pointer is redrawn.
        field = page.locator("[class*='-control']").nth(place).locator("input")
        field.press_sequentially(option)
        expect(page.locator("[class$='-menu']").get_by_text(option, exact=True)).to_have_count(1)
        field.press("Enter")
    page.get_by_role("button", name="Search").click()
    # They appear one after another: wait for the fiftieth.
    expect(page.locator("svg circle").nth(49)).to_be_attached()
    visit.shot("scatters")


def test_images_are_shown(visit):
    page = visit.open("/images")
    choose(page, "Images", 'samples subset="val"')
    image = page.locator("img[alt='image at 2']").first
    expect(image).to_be_visible()
    assert image.evaluate("it => it.naturalWidth") == 48
    visit.shot("images")


@pytest.mark.parametrize(
    ("path", "button", "option", "shown"),
    [
        ("/text", "Texts", "captions", "text=text of run"),
        ("/audios", "Audios", "tones", "text=tone 2"),
        ("/figures", "Figures", "bars", ".js-plotly-plot .bars .point:last-child path"),
    ],
)
def test_other_objects_are_shown(visit, path, button, option, shown):
    page = visit.open(path)
    choose(page, button, option)
    expect(page.locator(shown).first).to_be_visible()
    visit.shot(path.strip("/"))
