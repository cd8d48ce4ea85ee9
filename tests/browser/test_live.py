"""What changes while it is looked at: a run that goes on, runs that are archived and deleted."""

from __future__ import annotations

import uuid

from matyan_client import Run
from matyan_client.transport.http import HttpTransport
from playwright.sync_api import expect
from server import eventually


def test_a_run_that_goes_on_is_followed(visit, server, project):
    run = Run(uuid.uuid4().hex, repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False)
    run.name = "going on"
    run.track(1.0, name="live", step=0)
    http = HttpTransport(server.query)
    eventually(lambda: http.get_run_info(run.hash)["traces"]["metric"], "the run is there")
    try:
        page = visit.open("/runs")
        expect(page.get_by_text("going on", exact=True)).to_be_visible()
        page.locator(".Switcher").first.click()
        run.track(0.123456, name="live", step=1)
        expect(page.get_by_text("0.123456", exact=True)).to_be_visible()
        run.track(0.654321, name="live", step=2)
        expect(page.get_by_text("0.654321", exact=True)).to_be_visible()
        visit.shot("runs-live")
        page = visit.open(f"/runs/{run.hash}")
        expect(page.get_by_text("In Progress")).to_be_visible()
    finally:
        run.close()
        http.close()
    page.reload()
    expect(page.get_by_text("Finished")).to_be_visible()


def test_a_run_is_archived_and_deleted_on_its_page(visit, project):
    path = f"/runs/{project.hashes[2]}/settings"
    page = visit.open(path)
    page.get_by_role("button", name="Archive", exact=True).click()
    expect(page.get_by_text("Run successfully archived")).to_be_visible()
    expect(page.get_by_role("button", name="Unarchive")).to_be_visible()
    visit.open("/runs")
    expect(page.get_by_text("run 49", exact=True)).to_be_visible()
    page.locator(".monaco-editor textarea").first.press_sequentially('run.name == "run 02"')
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("run 49", exact=True)).to_have_count(0)
    expect(page.get_by_text("run 02", exact=True)).to_have_count(0)

    page = visit.open(path)
    page.get_by_role("button", name="Delete", exact=True).click()
    visit.shot("run-delete")
    page.locator(".ConfirmModal").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/runs", wait_until="commit")
    visit.provoked = (f"404 /api/runs/{project.hashes[2]}/info",)
    with page.expect_response(f"**/api/runs/{project.hashes[2]}/info") as answer:
        visit.open(path)
    assert answer.value.status == 404
    visit.shot("run-gone")


def test_runs_are_archived_and_deleted_in_the_table(visit, project):
    page = visit.open("/runs")

    def pick(name):
        page.locator(".monaco-editor textarea").first.press_sequentially(f'run.name == "{name}"')
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_text("run 49", exact=True)).to_have_count(0)
        expect(page.get_by_text(name, exact=True)).to_be_visible()
        # That of all rows, and that of the only one.
        expect(page.locator("input[type=checkbox]")).to_have_count(2)
        page.locator("input[type=checkbox]").nth(1).dispatch_event("click")

    def confirm(button):
        page.locator(".Table__header__item", has_text=button).click()
        page.locator(".ActionModalWrapper").get_by_role("button", name=button).click()

    expect(page.get_by_text("run 49", exact=True)).to_be_visible()
    pick("run 03")
    confirm("Archive")
    expect(page.get_by_text("run 03", exact=True)).to_have_count(0)
    page = visit.open("/runs")
    expect(page.get_by_text("run 49", exact=True)).to_be_visible()
    pick("run 04")
    confirm("Delete")
    expect(page.get_by_text("run 04", exact=True)).to_have_count(0)
    visit.shot("runs-deleted")
