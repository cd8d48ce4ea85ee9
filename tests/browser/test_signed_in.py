"""Aim's pages on a server with access control."""

from __future__ import annotations

import json
import os
import uuid
from urllib.parse import urlsplit

import pytest
from conftest import GUARD_MS, INTERNET, elsewhere
from matyan_client import Run
from playwright.sync_api import expect
from server import Server, eventually


@pytest.fixture
def closed(tmp_path):
    running = Server(tmp_path).start("--access", "on", "--ui-dir", os.environ["MATYAN_UI_BUNDLE"])
    yield running
    assert running.stop() == 0, running.said()


def log_run(server, token, name):
    """Logs a run that has ended, and waits until it is stored."""
    query, ingest = (url.replace("://", f"://_:{token}@") for url in (server.query, server.ingest))
    run = Run(uuid.uuid4().hex, repo=query, frontier_url=ingest, experiment=name, capture_terminal_logs=False)
    run.close()
    eventually(lambda: run.hash in server.matyan("runs", "ls", "--json"), "the run is stored")


def test_a_reader_of_the_table_of_runs_signs_in_and_is_asked_again_when_the_token_is_revoked(closed, chromium):
    closed.matyan("access", "grant", "ana", "writer")
    token = closed.matyan("access", "token", "create", "ana")
    log_run(closed, token, "speech of ana")
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(GUARD_MS)
    context.route(INTERNET, elsewhere)
    context.add_init_script("localStorage.setItem('communityPopupSeen', 'true')")
    page = context.new_page()
    page.goto(f"{closed.query}/runs")
    page.wait_for_url("**/sign-in?next=**")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{closed.query}/runs")
    expect(page.get_by_text("speech of ana", exact=True).first).to_be_visible()

    listed = closed.matyan("access", "token", "ls", "--json").splitlines()
    [revoked] = [one["id"] for one in map(json.loads, listed) if one["principal"] == "ana"]
    closed.matyan("access", "token", "revoke", revoked)
    # A server that has just started remembers no caller, so the test need not wait until it asks again.
    port = urlsplit(closed.query).port
    assert closed.stop() == 0, closed.said()
    closed.start("--access", "on", "--ui-dir", os.environ["MATYAN_UI_BUNDLE"], query_port=port)
    page.reload()
    page.wait_for_url("**/sign-in?next=**")
    expect(page.get_by_label("Token")).to_be_visible()
    context.close()
