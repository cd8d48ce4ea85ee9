"""A browser with a project: the unmodified UI, served by the binary, in Chromium.

Any error on a page fails the test that opened it: an error in the console, an exception, a failed request.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from grpc_stubs import generated
from matyan_client import Run
from playwright.sync_api import expect, sync_playwright
from project import log_project
from server import Server, eventually

CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, CHROMIUMS)), None)

GUARD_MS = 60_000
"""Keeps a broken page from hanging; no passing test waits for it."""

PYODIDE = "https://cdn.jsdelivr.net/pyodide/v0.23.4/full/"
"""URL from which the UI loads Python for the browser. The tests serve it from the npm package of the same version."""


def pytest_collection_modifyitems(items):
    if CHROMIUM:
        return
    if "browser" in os.environ.get("REQUIRE", "").split(","):
        pytest.exit("REQUIRE=browser, but Chromium is not on the PATH", returncode=1)
    for item in items:
        item.add_marker(pytest.mark.skip(reason="Chromium is not on the PATH: `apt-get install chromium`"))


# Servers that the bundle asks for fonts and for news. Pages may only use their own server.
REFUSED = ("https://fonts.googleapis.com", "https://api.github.com")
# Exceptions of the bundle itself when a click comes before the explorer has its query editor, as on a busy
# machine. The click has no effect then, which the test notices.
UNREADY = ("exception: Cannot read properties of null (reading 'getValue')",)

expect.set_options(timeout=GUARD_MS)


class Page(BaseHTTPRequestHandler):
    """A page from another origin."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<link rel=icon href='data:,'><p>a page")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def origins():
    """Two origins with pages: the first may call the server, the second may not."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Page) for _ in range(2)]
    for each in servers:
        Thread(target=each.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{each.server_port}" for each in servers]
    for each in servers:
        each.shutdown()
        each.server_close()


@pytest.fixture(scope="session")
def server(tmp_path_factory, origins):
    os.environ["CORS_ORIGINS"] = origins[0]
    # Reports run the code stored in them, so they are off by default.
    os.environ["MATYAN_UI_REPORTS"] = "on"
    running = Server(tmp_path_factory.mktemp("server")).start("--ui-dir", os.environ["MATYAN_UI_BUNDLE"])
    yield running
    assert running.stop() == 0, running.said()


@pytest.fixture(scope="session")
def project(server, tmp_path_factory):
    return log_project(server.query, server.ingest, tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    yield from generated(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="session")
def rest(server):
    """A client for the REST API, without the UI."""
    with httpx.Client(base_url=f"{server.query}/api/v1/rest", timeout=GUARD_MS / 1000) as client:
        yield client


@pytest.fixture
def another(server, rest):
    """Logs runs that a test may change; they are deleted afterwards."""
    runs = []

    def logged(name, **options):
        options.setdefault("capture_terminal_logs", False)
        run = Run(uuid.uuid4().hex, repo=server.query, frontier_url=server.ingest, **options)
        runs.append(run)
        run.name = name
        eventually(lambda: rest.get(f"/runs/{run.hash}/info/").json()["props"]["name"] == name, "the run is stored")
        return run

    yield logged
    for run in runs:
        run.close()
        rest.delete(f"/runs/{run.hash}/")


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        # The sandbox does not work as root, and the pages are trusted.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page of the UI, with all errors that occurred on it."""

    def __init__(self, context, base, screenshots):
        self.base = base
        self.screenshots = screenshots
        self.errors: list[str] = []
        self.requests: list[str] = []
        # Errors that a test provokes, by status and path; and harmless messages of the bundle, by a part of the text.
        self.provoked: tuple[str, ...] = ()
        self.known: tuple[str, ...] = ()
        self.page = context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        self.page.on("response", self._response)
        self.page.on("requestfailed", self._failed)

    def _console(self, message):
        # The browser's own message about a failed request has fewer details than the response. The explorers swallow
        # errors in responses, and only log them.
        swallowed = any(text in message.text for text in ("Unhandled error", "exception"))
        if (message.type == "error" or swallowed) and "Failed to load resource" not in message.text:
            self.errors.append(f"console: {message.text}")

    def _response(self, response):
        path = response.url.removeprefix(self.base)
        self.requests.append(f"{response.request.method} {path}")
        if response.status >= 400 and f"{response.status} {path.split('?')[0]}" not in self.provoked:
            self.errors.append(f"{response.status} {response.request.method} {path}")

    def _failed(self, request):
        # A page aborts a search when another one starts.
        if request.failure != "net::ERR_ABORTED":
            self.errors.append(f"failed: {request.url}: {request.failure}")

    def wrong(self):
        # The bundle reads the body of an error response twice.
        known = (*self.known, *REFUSED, *UNREADY)
        if any(REFUSED[1] in error for error in self.errors):
            # The bundle does not handle the error of its request for news.
            known = (*known, "exception: Failed to fetch")
        if self.provoked:
            known = (*known, "body stream already read")
        return [error for error in self.errors if not any(text in error for text in known)]

    def open(self, path):
        # Do not wait for everything that the page loads: Python for the browser is large.
        self.page.goto(self.base + path, wait_until="commit")
        return self.page

    def shot(self, name):
        self.page.screenshot(path=self.screenshots / f"{name.replace('/', ' ')}.png")


@pytest.fixture
def visit(server, project, chromium, request):
    screenshots = Path(os.environ["MATYAN_SCREENSHOTS"])
    screenshots.mkdir(parents=True, exist_ok=True)
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
    context.set_default_timeout(GUARD_MS)
    context.route(INTERNET, elsewhere)
    # Suppresses the invitation to join the community.
    context.add_init_script("localStorage.setItem('communityPopupSeen', 'true')")
    visit = Visit(context, server.query, screenshots)
    yield visit
    try:
        visit.shot(f"{request.node.name}-end")
    finally:
        context.close()
        if visit.wrong():
            # Without the cause: after a timeout the test would be retried.
            raise AssertionError(visit.wrong()) from None


# Not a function: Playwright would ask it about each request, which then waits until the test calls Playwright again.
INTERNET = re.compile(r"^https?://(?!127\.0\.0\.1:)")


def elsewhere(route):
    """Handles requests of the UI to the internet."""
    url = route.request.url
    if url.startswith(PYODIDE):
        return route.fulfill(path=Path(os.environ["MATYAN_PYODIDE"]) / url.removeprefix(PYODIDE))
    if url.startswith("https://api.github.com/"):
        return route.fulfill(body=json.dumps([]), content_type="application/json")
    if url.startswith("https://fonts."):
        return route.fulfill(body="", content_type="text/css")
    return route.abort()
