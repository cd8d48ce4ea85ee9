"""Changes while a page is open: an active run, and runs that are archived and deleted."""

from __future__ import annotations

import re
import uuid

from matyan_client import Run
from matyan_client.transport.http import HttpTransport
from playwright.sync_api import expect
from server import eventually
from test_explorers import choose


def test_an_active_run_is_updated_live(visit, server, project):
    run = Run(uuid.uuid4().hex, repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False)
    run.name = "going on"
    run.track(1.0, name="live", step=0)
    http = HttpTransport(server.query)
    eventually(lambda: http.get_run_info(run.hash)["traces"]["metric"], "the run is stored")
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


def points(line):
    """Number of points of a line in a chart."""
    return len(re.findall("[ML]", line.get_attribute("d") or ""))


def test_metrics_of_an_active_run_are_updated_live(visit, rest, another):
    name = f"live-{uuid.uuid4().hex}"
    run = another("learning")
    for step in range(2):
        run.track(step / 8, name=name, step=step)
    asked = {"json": [{"name": name, "context": {}}]}

    def stored():
        return rest.post(f"/runs/{run.hash}/metric/get-batch/", **asked).json()[0]["iters"]

    eventually(lambda: stored() == [0, 1], "two points are stored")
    page = visit.open("/metrics")
    choose(page, "Metrics", name)
    line = page.locator("svg path.Line")
    expect(line).to_have_count(1)
    eventually(lambda: points(line) == 2, "two points are drawn")
    visit.shot("metrics-before-live")
    # The switch only has an effect after a search.
    page.locator(".Switcher").first.click()
    for last in (4, 9):
        for step in range(points(line), last):
            run.track(step / 8, name=name, step=step)
        eventually(lambda: points(line) == last, "the line is extended")
        assert stored() == list(range(last))
    visit.shot("metrics-live")
    searches = [one for one in visit.requests if "/runs/search/metric" in one]
    assert len(searches) >= 3, visit.requests


def test_logs_of_an_active_run_are_updated_live(visit, rest, another):
    run = another("talking")
    lines = [f"line {number} of the run that goes on" for number in range(45)]

    def say(some):
        for number in some:
            run._send_terminal_line(lines[number], number)

    say(range(15))
    http = HttpTransport(visit.base)
    eventually(lambda: len(http.get_run_logs(run.hash, "0:")) == 15, "the lines are stored")
    page = visit.open(f"/runs/{run.hash}/logs")
    expect(page.get_by_text(lines[14], exact=True)).to_be_visible()
    # The page polls every three seconds.
    for last in (29, 44):
        say(range(last - 14, last + 1))
        expect(page.get_by_text(lines[last], exact=True)).to_be_visible()
    visit.shot("run-logs-live")
    assert len([one for one in visit.requests if f"/runs/{run.hash}/logs" in one]) >= 3, visit.requests
    assert [line for _, line in http.get_run_logs(run.hash, "0:")] == lines
    http.close()


def test_a_run_is_archived_and_deleted_on_its_page(visit, another):
    run = another("superfluous")
    run.close()
    path = f"/runs/{run.hash}/settings"
    page = visit.open(path)
    page.get_by_role("button", name="Archive", exact=True).click()
    expect(page.get_by_text("Run successfully archived")).to_be_visible()
    expect(page.get_by_role("button", name="Unarchive")).to_be_visible()
    visit.open("/runs")
    expect(page.get_by_text("run 49", exact=True)).to_be_visible()
    page.locator(".monaco-editor textarea").first.press_sequentially('run.name == "superfluous"')
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("run 49", exact=True)).to_have_count(0)
    expect(page.get_by_text("superfluous", exact=True)).to_have_count(0)

    page = visit.open(path)
    page.get_by_role("button", name="Delete", exact=True).click()
    visit.shot("run-delete")
    page.locator(".ConfirmModal").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/runs", wait_until="commit")
    visit.provoked = (f"404 /api/runs/{run.hash}/info",)
    with page.expect_response(f"**/api/runs/{run.hash}/info") as answer:
        visit.open(path)
    assert answer.value.status == 404
    visit.shot("run-gone")


def test_runs_are_archived_and_deleted_in_the_table(visit, another):
    for name in ("obsolete", "mistaken"):
        another(name).close()
    page = visit.open("/runs")

    def pick(name):
        page.locator(".monaco-editor textarea").first.press_sequentially(f'run.name == "{name}"')
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_text("run 49", exact=True)).to_have_count(0)
        expect(page.get_by_text(name, exact=True)).to_be_visible()
        # The checkbox for all rows, and the checkbox of the only row.
        expect(page.locator("input[type=checkbox]")).to_have_count(2)
        page.locator("input[type=checkbox]").nth(1).dispatch_event("click")

    def confirm(button):
        page.locator(".Table__header__item", has_text=button).click()
        page.locator(".ActionModalWrapper").get_by_role("button", name=button).click()

    expect(page.get_by_text("run 49", exact=True)).to_be_visible()
    pick("obsolete")
    confirm("Archive")
    expect(page.get_by_text("obsolete", exact=True)).to_have_count(0)
    page = visit.open("/runs")
    expect(page.get_by_text("run 49", exact=True)).to_be_visible()
    pick("mistaken")
    confirm("Delete")
    expect(page.get_by_text("mistaken", exact=True)).to_have_count(0)
    visit.shot("runs-deleted")
