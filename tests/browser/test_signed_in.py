"""Aim's pages on a server with access control."""

from __future__ import annotations

import json
import os
import random
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import GUARD_MS, INTERNET, Visit, elsewhere
from matyan_client import Run
from playwright.sync_api import expect
from project import ARTIFACTS, log_metrics, log_objects, log_texts
from server import Server, eventually
from test_explorers import choose

RUNS = ["a speech of ana", "another speech of ana"]


@pytest.fixture
def closed(tmp_path):
    # Reports are off by default, and the bundle loads what runs them anyway.
    running = Server(tmp_path, variables={"MATYAN_UI_REPORTS": "on"})
    running.start("--access", "on", "--ui-dir", os.environ["MATYAN_UI_BUNDLE"])
    running.matyan("access", "grant", "ana", "writer")
    yield running
    assert running.stop() == 0, running.said()


@pytest.fixture
def context(chromium):
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
    context.set_default_timeout(GUARD_MS)
    context.route(INTERNET, elsewhere)
    # Suppresses the invitation to join the community.
    context.add_init_script("localStorage.setItem('communityPopupSeen', 'true')")
    yield context
    context.close()


def log_run(server, token, name, log=lambda run: None):
    """Logs a run that has ended, and waits until it is stored. Returns its id."""
    query, ingest = (url.replace("://", f"://_:{token}@") for url in (server.query, server.ingest))
    run = Run(uuid.uuid4().hex, repo=query, frontier_url=ingest, experiment=name, capture_terminal_logs=name == RUNS[0])
    run.name = name
    log(run)
    run.close()
    eventually(lambda: run.hash in server.matyan("runs", "ls", "--json"), "the run is stored")
    return run.hash


def sign_in(page, token):
    page.wait_for_url("**/sign-in?next=**")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def open_table(page, server, token):
    """Signs in on the way to the table of runs."""
    page.goto(f"{server.query}/runs")
    sign_in(page, token)
    page.wait_for_url(f"{server.query}/runs")
    expect(page.get_by_text(RUNS[0], exact=True).first).to_be_visible()


def revoke_tokens(server, name):
    """Revokes all tokens of someone, at once."""
    listed = server.matyan("access", "token", "ls", "--json").splitlines()
    for token in map(json.loads, listed):
        if token["principal"] == name:
            server.matyan("access", "token", "revoke", token["id"])
    # A server that has just started remembers no caller, so the test need not wait until it asks again.
    port = urlsplit(server.query).port
    assert server.stop() == 0, server.said()
    server.start("--access", "on", "--ui-dir", os.environ["MATYAN_UI_BUNDLE"], query_port=port)


def test_a_reader_of_the_table_of_runs_signs_in_and_is_asked_again_when_the_token_is_revoked(closed, context):
    token = closed.matyan("access", "token", "create", "ana")
    log_run(closed, token, RUNS[0])
    page = context.new_page()
    open_table(page, closed, token)
    revoke_tokens(closed, "ana")
    page.reload()
    page.wait_for_url("**/sign-in?next=**")
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_page_that_believes_that_it_refreshes_a_token_gets_back_in(closed, context):
    """The bundle keeps this belief in its storage, and leads to no page for signing in as long as it has it."""
    token = closed.matyan("access", "token", "create", "ana")
    log_run(closed, token, RUNS[0])
    page = context.new_page()
    open_table(page, closed, token)
    for is_stuck in (True, False):
        if is_stuck:
            page.evaluate("localStorage.setItem('refreshing', 'true')")
        revoke_tokens(closed, "ana")
        with page.expect_response(lambda answer: "/runs/search/run" in answer.url) as searched:
            page.get_by_role("button", name="Search").click()
        assert searched.value.status == 401
        # By itself, the bundle reaches this state at the first refusal.
        page.wait_for_function("localStorage.getItem('refreshing') === 'true'")
        # The page stays open until its reader loads it again.
        assert page.url == f"{closed.query}/runs"
        with page.expect_response(lambda answer: urlsplit(answer.url).path == "/sign-in") as first:
            page.reload()
        assert first.value.all_headers()["clear-site-data"] == '"storage"'
        token = closed.matyan("access", "token", "create", "ana")
        sign_in(page, token)
        page.wait_for_url(f"{closed.query}/runs")
        expect(page.get_by_text(RUNS[0], exact=True).first).to_be_visible()
        assert page.evaluate("Object.keys(localStorage).includes('refreshing')") is False


def test_a_reader_who_has_signed_in_uses_explorers_and_the_page_of_a_run_until_signing_out(closed, context, tmp_path):
    token = closed.matyan("access", "token", "create", "ana")
    dice = random.Random(7)

    def log_all(run):
        log_metrics(run, dice)
        log_objects(run, 0)
        log_texts(run, tmp_path)

    logged = log_run(closed, token, RUNS[0], log_all)
    log_run(closed, token, RUNS[1], lambda run: log_metrics(run, dice))
    screenshots = Path(os.environ["MATYAN_SCREENSHOTS"])
    screenshots.mkdir(parents=True, exist_ok=True)
    visit = Visit(context, closed.query, screenshots)
    page = visit.page
    open_table(page, closed, token)

    visit.open("/metrics")
    choose(page, "Metrics", 'loss subset="train"')
    expect(page.locator("svg path.Line")).to_have_count(len(RUNS))
    expect(page.get_by_text("Processing").first).to_be_hidden()
    visit.shot("signed-in-metrics")

    visit.open("/images")
    choose(page, "Images", 'samples subset="val"')
    image = page.locator("img[alt='image at 2']").first
    expect(image).to_be_visible()
    assert image.evaluate("it => it.naturalWidth") == 48

    visit.open(f"/runs/{logged}/overview")
    card = page.locator(".RunOverviewTab__cardBox", has_text="Run Artifacts")
    for path in ARTIFACTS:
        expect(card.get_by_title(path, exact=True).first).to_be_visible()
    # A link that any page may have: the browser sends the cookie.
    with page.expect_download() as saved:
        link = "to => Object.assign(document.createElement('a'), {href: to}).click()"
        page.evaluate(link, f"/api/runs/{logged}/artifacts/download?path=weights.bin")
    assert saved.value.path().read_bytes() == ARTIFACTS["weights.bin"]
    for tab, text in [("Logs", "epoch 29/30 of the logged run"), ("Messages", "out of memory")]:
        page.get_by_role("tab", name=tab, exact=True).click()
        expect(page.locator("body")).to_contain_text(text)
    visit.shot("signed-in-run")
    # Aim's pages name nobody: the page for signing in does, and signs out.
    visit.open("/sign-in")
    expect(page.locator("form.who")).to_contain_text("You are signed in as ana")
    visit.shot("signed-in-who")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in?reason=signed-out")
    assert context.cookies() == []
    assert visit.wrong() == []
    assert page.request.get(f"{closed.query}/api/runs/{logged}/info").status == 401
    visit.open("/runs")
    page.wait_for_url("**/sign-in?next=**")
