"""Attacks in a real browser on someone who has signed in: by pages of other origins, by pages of `http://` with the host name of
an https server, and in frames.

Each attack has a counterpart: a page of the server itself, for which the same requests succeed.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from conftest import CHROMIUM, GUARD_MS
from playwright.sync_api import expect
from server import Server
from test_hostile_pages import CONNECT, EVIL, FRAME, SUBMIT, renamed

HOST = "matyan.example"
"""Host name of the https server, which the browser resolves to this machine."""

# Requests as a page makes them, with all cookies that the browser permits.
READ = """async (url) => {
    try {
        const answer = await fetch(url, {credentials: "include"});
        return [answer.status, await answer.text()];
    } catch (error) {
        return [0, String(error)];
    }
}"""

WRITE = """([base, name]) => fetch(`${base}/api/v1/rest/experiments/`, {
    method: "POST", mode: "no-cors", credentials: "include", headers: {"content-type": "text/plain"}, body: JSON.stringify({name}),
}).catch(() => {})"""

DELETE = """async (url) => {
    try {
        return (await fetch(url, {method: "DELETE", credentials: "include"})).status;
    } catch (error) {
        return 0;
    }
}"""

# A form of the pages for signing in and out, on a page of someone else.
SUBMIT_SIGN_IN = """([action, token]) => {
    const form = Object.assign(document.createElement("form"), {method: "POST", action});
    form.append(Object.assign(document.createElement("input"), {name: "token", value: token}));
    document.body.append(form);
    form.submit();
}"""


@dataclass
class Site:
    """A server with access control, as a browser reaches it."""

    server: Server
    base: str
    token: str
    """Token of `ana`, who is attacked."""
    foreign_token: str
    """Token of `mallory`, who has no role in common with `ana`."""

    @property
    def is_https(self):
        return self.base.startswith("https:")

    @property
    def cookie(self):
        """Name of the cookie of a session."""
        return f"{'__Host-' if self.is_https else ''}matyan-{urlsplit(self.base).port}"

    def rest(self):
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=f"{self.server.query}/api/v1/rest", headers=headers, timeout=GUARD_MS / 1000, verify=False)

    def experiments(self):
        """Names and ids of all experiments."""
        with self.rest() as rest:
            return {one["name"]: one["id"] for one in rest.get("/experiments/").raise_for_status().json()}

    def has_run(self, run):
        with self.rest() as rest:
            return rest.get(f"/runs/{run}/info/").status_code == 200


def made_certificate(folder):
    """Flags of a server with a certificate for the host name, that nobody but this test trusts."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not on the PATH")
    key = folder / "key.pem"
    certificate = folder / "certificate.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    names = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    made = ["openssl", "req", "-x509", *kind, *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    return ["--tls-cert", str(certificate), "--tls-key", str(key)]


@pytest.fixture(scope="module", params=["http", "https"])
def site(request, origins, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"closed-{request.param}")
    flags = made_certificate(folder) if request.param == "https" else []
    server = Server(folder, variables={"CORS_ORIGINS": origins[0], "MATYAN_ALLOWED_HOSTS": HOST})
    # The command would not trust the certificate.
    server.start("--access", "on")
    server.matyan("access", "grant", "ana", "editor")
    server.matyan("projects", "create", "other")
    server.matyan("access", "grant", "mallory", "editor", "--project", "other")
    tokens = [server.matyan("access", "token", "create", *words) for words in (["ana"], ["mallory", "--project", "other"])]
    if flags:
        assert server.stop() == 0, server.said()
        server.start("--access", "on", *flags)
    base = f"https://{HOST}:{urlsplit(server.query).port}" if flags else server.query
    yield Site(server, base, *tokens)
    assert server.stop() == 0, server.said()


@pytest.fixture(scope="module")
def chromium(chromium):
    """A browser without protection of its own against the attacker, whose host name leads to this machine."""
    flags = [f"--host-resolver-rules=MAP {EVIL} 127.0.0.1,MAP {HOST} 127.0.0.1", "--disable-features=LocalNetworkAccessChecks"]
    browser = chromium.browser_type.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
    yield browser
    browser.close()


@pytest.fixture
def context(chromium):
    context = chromium.new_context(ignore_https_errors=True)
    context.set_default_timeout(GUARD_MS)
    yield context
    context.close()


def sign_in(context, site, token):
    """Returns a page of the server in a browser that has signed in."""
    page = context.new_page()
    page.goto(f"{site.base}/experiments")
    page.wait_for_url("**/sign-in?next=**")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site.base}/experiments")
    return page


def who(context, site):
    """The principal whom the page for signing in names; an empty text without one."""
    page = context.new_page()
    page.goto(f"{site.base}/sign-in")
    signed_in = page.locator("form.who b")
    name = signed_in.inner_text() if signed_in.count() else ""
    page.close()
    return name


def attackers(site, origins):
    """Addresses of pages of others, and whether they are of the same site, so that the browser sends them cookies."""
    if site.is_https:
        # Anyone who controls the network can answer for any address of http.
        return {f"http://{HOST}:{urlsplit(origins[1]).port}": False, renamed(origins[1]): False}
    return {origins[1]: True, renamed(origins[1]): False}


def sent_cookies(request):
    return request.all_headers().get("cookie", "")


def test_no_script_reads_the_cookie_of_a_session(context, site):
    page = sign_in(context, site, site.token)
    [cookie] = context.cookies()
    assert cookie["name"] == site.cookie
    attributes = [cookie[name] for name in ("httpOnly", "secure", "sameSite", "path", "domain")]
    assert attributes == [True, site.is_https, "Lax", "/", urlsplit(site.base).hostname]
    assert page.evaluate("document.cookie") == ""


def test_pages_of_other_origins_do_not_read_with_the_cookie(context, site, origins):
    own = sign_in(context, site, site.token)
    urls = [f"{site.base}/api/v1/rest/{path}" for path in ("experiments/", "runs/search/run/?q=")]
    for url in urls:
        assert own.evaluate(READ, url)[0] == 200
    for base in attackers(site, origins):
        page = context.new_page()
        page.goto(base)
        assert page.evaluate("document.cookie") == ""
        for url in urls:
            assert page.evaluate(READ, url) == [0, "TypeError: Failed to fetch"], base
        # A link to the API is followed as by a stranger, although the browser sends the cookie.
        with page.expect_navigation() as opened:
            page.evaluate("url => { location = url }", urls[0])
        assert opened.value.status == 401, base
        assert site.cookie in sent_cookies(opened.value.request), base
        page.close()
    with own.expect_navigation() as opened:
        own.evaluate("url => { location = url }", urls[0])
    assert opened.value.status == 200


def test_a_page_of_an_admitted_origin_reads_answers_and_has_no_session(context, site, origins):
    sign_in(context, site, site.token)
    page = context.new_page()
    page.goto(origins[0])
    status, text = page.evaluate(READ, f"{site.base}/api/v1/rest/experiments/")
    assert status == 401, text
    name = "of an admitted page"
    page.evaluate(WRITE, [site.base, name])
    # For a WebSocket, browsers name the origin, and no site.
    assert page.evaluate(CONNECT, [site.base, "admitted-run"]) is False
    assert name not in site.experiments()
    assert not site.has_run("admitted-run")
    for path, token in [("/sign-in/code", ""), ("/sign-out", ""), ("/sign-in", site.foreign_token)]:
        page.goto(origins[0])
        with page.expect_navigation() as answer:
            page.evaluate(SUBMIT_SIGN_IN, [site.base + path, token])
        assert answer.value.status == 403, path
        # Another port of http is of the same site.
        assert (site.cookie in sent_cookies(answer.value.request)) == (not site.is_https)
    assert who(context, site) == "ana"


def test_pages_of_other_origins_do_not_write_with_the_cookie(context, site, origins):
    own = sign_in(context, site, site.token)
    names = ["query", "form"]
    for name in ("kept", "removed"):
        own.evaluate(WRITE, [site.base, name])
    experiments = site.experiments()
    for number, (base, is_same_site) in enumerate(attackers(site, origins).items()):
        page = context.new_page()
        page.goto(base)
        run = f"attacked-{number}"
        page.evaluate(WRITE, [site.base, names[0]])
        assert page.evaluate(CONNECT, [site.base, run]) is False, base
        assert page.evaluate(DELETE, f"{site.base}/api/v1/rest/experiments/{experiments['kept']}/") == 0, base
        with page.expect_navigation() as answer:
            page.evaluate(SUBMIT, [site.base, names[1]])
        assert answer.value.status == 403, base
        assert (site.cookie in sent_cookies(answer.value.request)) == is_same_site, base
        assert site.experiments() == experiments, base
        assert not site.has_run(run), base
        page.close()
    own.evaluate(WRITE, [site.base, names[0]])
    assert own.evaluate(CONNECT, [site.base, "own-run"]) is True
    assert own.evaluate(DELETE, f"{site.base}/api/v1/rest/experiments/{experiments['removed']}/") == 200
    with own.expect_navigation() as answer:
        own.evaluate(SUBMIT, [site.base, names[1]])
    assert answer.value.status == 200
    assert {*site.experiments()} == {"kept", *names} | ({*experiments} - {"removed"})


def test_pages_of_other_origins_sign_nobody_in_or_out(context, site, origins):
    sign_in(context, site, site.token)
    for base in attackers(site, origins):
        page = context.new_page()
        for path, token in [("/sign-out", ""), ("/sign-in", site.foreign_token)]:
            page.goto(base)
            with page.expect_navigation() as answer:
                page.evaluate(SUBMIT_SIGN_IN, [site.base + path, token])
            assert answer.value.status == 403, (base, path)
        assert who(context, site) == "ana", base
        page.close()


def test_no_page_of_another_origin_shows_a_page_of_a_session_in_a_frame(context, site, origins):
    own = sign_in(context, site, site.token)
    urls = [f"{site.base}{path}" for path in ("/tags", "/sign-in", "/sign-in/code")]
    for base in attackers(site, origins):
        page = context.new_page()
        page.goto(base)
        for url in urls:
            with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
                page.evaluate(FRAME, [url, ""])
        assert [frame.url for frame in page.main_frame.child_frames if frame.url.startswith(site.base)] == [], base
        page.close()
    for url in urls:
        with own.expect_event("framenavigated", lambda frame, url=url: frame.url == url):
            own.evaluate(FRAME, [url, ""])
    expect(own.frame_locator(f"iframe[src='{urls[1]}']").locator("form.who b")).to_have_text("ana")


@pytest.mark.parametrize("site", ["https"], indirect=True)
def test_a_page_of_http_neither_gets_nor_replaces_the_cookie_of_https(context, chromium, site, origins):
    stranger = chromium.new_context(ignore_https_errors=True)
    sign_in(stranger, site, site.foreign_token)
    [foreign] = stranger.cookies()
    stranger.close()

    def plant():
        """A page of `http://` with the host name of the server sets cookies, under both names."""
        page = context.new_page()
        opened = page.goto(f"http://{HOST}:{urlsplit(origins[1]).port}")
        assert site.cookie not in sent_cookies(opened.request)
        plain = site.cookie.removeprefix("__Host-")
        for name, more in [(site.cookie, ""), (site.cookie, "; secure"), (plain, "")]:
            page.evaluate("text => { document.cookie = text }", f"{name}={foreign['value']}; path=/{more}")
        page.close()
        return plain

    # A browser that has not signed in is not signed in as someone else.
    plain = plant()
    assert [cookie["name"] for cookie in context.cookies()] == [plain]
    assert who(context, site) == ""
    sign_in(context, site, site.token)
    plant()
    cookies = {cookie["name"]: cookie["value"] for cookie in context.cookies()}
    assert cookies[plain] == foreign["value"] != cookies[site.cookie]
    assert who(context, site) == "ana"
