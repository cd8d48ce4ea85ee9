"""Entities other than runs: the dashboard, experiments, tags, notes, bookmarks, reports."""

from __future__ import annotations

from playwright.sync_api import expect


def test_the_dashboard_shows_experiments_and_tags(visit):
    page = visit.open("/")
    body = page.locator("body")
    for text in ["baseline", "augmented", "distilled", "wip", "best", "run 49"]:
        expect(body).to_contain_text(text)
    expect(page.get_by_text("Experiments (3)")).to_be_visible()
    visit.shot("dashboard")


def test_an_experiment_has_runs_notes_and_settings(visit):
    page = visit.open("/")
    page.get_by_text("distilled", exact=True).first.click()
    expect(page.get_by_text("Total runs: 16")).to_be_visible()
    visit.shot("experiment")
    page.get_by_role("tab", name="Runs", exact=True).click()
    expect(page.get_by_text("run 47", exact=True)).to_be_visible()
    visit.shot("experiment-runs")

    page.get_by_role("tab", name="Notes", exact=True).click()
    page.locator(".ProseMirror").click()
    page.keyboard.type("worth another look")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    page.reload()
    expect(page.locator(".ProseMirror")).to_contain_text("worth another look")

    page.get_by_role("tab", name="Settings", exact=True).click()
    page.locator("textarea").first.fill("smaller, from the larger one")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    page.reload()
    expect(page.locator("textarea").first).to_have_value("smaller, from the larger one")
    visit.shot("experiment-settings")


def test_a_run_has_a_note(visit, project):
    page = visit.open(f"/runs/{project.hashes[1]}/notes")
    page.locator(".ProseMirror").click()
    page.keyboard.type("diverged at the end")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    page.reload()
    expect(page.locator(".ProseMirror")).to_contain_text("diverged at the end")
    visit.shot("run-notes")


def test_tags_are_created_and_listed(visit):
    page = visit.open("/tags")
    expect(page.get_by_text("best", exact=True)).to_be_visible()
    page.get_by_role("button", name="Create Tag").click()
    page.locator("input[name=name], .TagForm input").first.fill("reviewed")
    page.locator(".TagForm__tagFormContainer__colorContainer__colorBox__colorButton").nth(2).click()
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_text("reviewed", exact=True)).to_be_visible()
    expect(page.get_by_text("3 Tags")).to_be_visible()
    visit.shot("tags")
    page.get_by_text("best", exact=True).click()
    expect(page.get_by_text("run 40", exact=True).first).to_be_visible()
    visit.shot("tag-runs")


def test_a_bookmark_is_saved_and_opened(visit):
    page = visit.open("/metrics")
    page.locator("button", has_text="Metrics").first.click()
    page.get_by_role("option", name='accuracy subset="val"', exact=True).click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text('metric.name="accuracy"').first).to_be_attached()
    page.get_by_role("button", name="Bookmark").click()
    fields = page.get_by_role("dialog").locator("input")
    fields.nth(0).fill("validation")
    fields.nth(1).fill("accuracy while it learns")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)

    page = visit.open("/bookmarks")
    expect(page.get_by_text("accuracy while it learns")).to_be_visible()
    visit.shot("bookmarks")
    page.get_by_text("View Bookmark").click()
    expect(page.get_by_text('metric.name="accuracy"').first).to_be_attached()
    visit.shot("bookmark-opened")


def test_a_report_is_saved_and_opened(visit):
    page = visit.open("/reports")
    page.get_by_text("Create New Report").click()
    page.locator(".monaco-editor textarea").first.press_sequentially("# What we learned")
    expect(page.get_by_role("heading", name="What we learned")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    fields = page.get_by_role("dialog").locator("input")
    fields.nth(0).fill("spring")
    fields.nth(1).fill("all that was tried")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)

    page = visit.open("/reports")
    page.get_by_text("spring", exact=True).click()
    expect(page.get_by_role("heading", name="What we learned")).to_be_visible()
    visit.shot("report-opened")
