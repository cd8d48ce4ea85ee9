"""Attacks in a real browser, against Matyan's own UI and Aim's: pages of other origins, and runs with markup in all texts.

Each attack has a counterpart that the server permits, or that lacks the protection: it shows that the attack would work.
"""

from __future__ import annotations

import os
import uuid

import httpx
import numpy
import pytest
from conftest import CHROMIUM, GUARD_MS, INTERNET, elsewhere
from matyan_client import Figure, Image, Run, Text
from playwright.sync_api import expect
from server import Server, eventually

EVIL = "evil.example"
"""Host name of an attacker, which the browser resolves to this machine."""

MARKUP = (
    "<script>canary=1</script><img class=canary src=canary onerror=canary=1><svg class=canary onload=canary=1></svg>"
    "&lt;img class=canary src=canary onerror=canary=1&gt;"
)
LINK = "[link](javascript:canary=1)"

PAGES = {
    "own": {
        "/": ["name", "metric"],
        "/runs?columns=experiment,tags,param:params.value,metric:metric": ["name", "experiment", "tag"],
        "/runs?group=experiment": ["experiment"],
        "/runs/{run}": ["name", "metric", "context"],
        "/runs/{run}?tab=params": ["key", "value"],
        "/runs/{run}?tab=media&kind=texts": ["object", "text"],
        "/runs/{run}?tab=media&kind=images": ["caption"],
        "/runs/{run}?tab=media&kind=figures": ["figure"],
        "/runs/{run}?tab=terminal": ["line"],
        "/runs/{run}?tab=logs": ["record"],
        "/runs/{run}?tab=artifacts": ["artifact"],
        "/runs/{run}?tab=environment": ["environment"],
        "/runs/{run}?tab=overview": ["description", "note"],
        "/metrics?by=experiment": ["metric", "experiment"],
        "/params?axes=param:params.value,experiment": ["experiment"],
        "/media?kind=texts": ["text"],
        "/compare": ["name", "key", "value"],
        "/experiments": ["experiment"],
        "/tags": ["tag"],
        "/dashboards": ["dashboard"],
        "/reports": ["report"],
        "/reports/{report}": ["report", "code"],
    },
    "stock": {
        "/": ["experiment", "tag"],
        "/runs": ["name", "experiment", "tag"],
        "/runs/{run}/overview": ["name", "key", "value"],
        "/runs/{run}/logs": ["line"],
        "/runs/{run}/messages": ["record"],
        "/runs/{run}/metrics": ["metric"],
        "/runs/{run}/images": ["caption"],
        "/runs/{run}/texts": ["text"],
        "/runs/{run}/figures": [],
        "/runs/{run}/notes": ["note"],
        "/experiments/{experiment}/overview": ["experiment"],
        "/tags": ["tag"],
        "/bookmarks": ["dashboard"],
        "/reports": ["report"],
    },
}

EMPTY = {"own": "/nothing", "stock": "/scatters"}
"""Pages that show nothing of a run, so that what a test sees next is from the next page."""


def hostile(field):
    """Value of a field of the logged run: its name, then markup."""
    return f"{field} {MARKUP}"


def log_hostile(server, folder):
    """Logs a run with markup in all of its texts, and returns the ids of what a page may show."""
    run = Run(uuid.uuid4().hex, repo=server.query, frontier_url=server.ingest, experiment=hostile("experiment"))
    run.name = hostile("name")
    run.description = hostile("description")
    run.add_tag(hostile("tag"))
    run["params"] = {hostile("key"): hostile("value"), "value": hostile("value")}
    run["__system_params"] = {
        "packages": {hostile("environment"): "1"},
        "env_variables": {"A": hostile("environment")},
        "arguments": [hostile("environment")],
        "git_info": {"branch": hostile("environment"), "remote_origin_url": "javascript:canary=1"},
    }
    context = {"context": hostile("context")}
    run.track(1.0, name=hostile("metric"), step=0, context=context)
    run.track(Text(hostile("text")), name=hostile("object"), step=0, context=context)
    run.track(Image(numpy.zeros((8, 8, 3), dtype=numpy.uint8), caption=hostile("caption")), name=hostile("object"), step=0)
    title = {"title": {"text": hostile("figure")}, "annotations": [{"text": f"<a href='javascript:canary=1'>{hostile('figure')}</a>"}]}
    run.track(Figure({"data": [{"x": [1], "y": [1], "name": hostile("figure")}], "layout": title}), name=hostile("figure"), step=0)
    print(hostile("line"))  # noqa: T201
    print("\x1b[31m" + hostile("line"))  # noqa: T201
    run.log_error(hostile("record"), extra=hostile("record"))
    artifact = folder / "artifact.html"
    artifact.write_text(MARKUP)
    run.log_artifact(str(artifact), name=f"artifact {MARKUP.replace('/', '')}.html")
    run.close()
    # A second run, because a comparison needs two.
    other = Run(uuid.uuid4().hex, repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False)
    other["params"] = {hostile("key"): "other"}
    other.close()
    with httpx.Client(base_url=f"{server.query}/api/v1/rest", timeout=GUARD_MS / 1000) as rest:

        def created(path, **fields):
            return rest.post(path, json=fields).raise_for_status().json()["id"]

        def info():
            return rest.get(f"/runs/{run.hash}/info/").raise_for_status().json()

        eventually(lambda: info()["props"]["end_time"], "the run is stored")
        experiment = info()["props"]["experiment"]["id"]
        for owner in [f"/runs/{run.hash}", f"/experiments/{experiment}"]:
            created(f"{owner}/note/", content=f"{hostile('note')}\n\n{LINK}")
        report = created("/reports/", name=hostile("report"), code=f"{hostile('code')}\n\n{LINK}", description=hostile("report"))
        app = created("/apps/", type="metrics", state={"select": {"query": hostile("query"), "options": []}})
        created("/dashboards/", name=hostile("dashboard"), description=hostile("dashboard"), app_id=app)
    return {"run": run.hash, "experiment": experiment, "report": report}


@pytest.fixture(scope="module", params=list(PAGES))
def site(request, origins, tmp_path_factory):
    """A server with one of the two UIs, which admits pages of the first origin only."""
    folder = tmp_path_factory.mktemp(request.param)
    server = Server(folder, variables={"CORS_ORIGINS": origins[0], "MATYAN_UI_REPORTS": "off"})
    server.start(*(["--ui-dir", os.environ["MATYAN_UI_BUNDLE"]] if request.param == "stock" else []))
    server.ui = request.param
    server.ids = log_hostile(server, folder)
    yield server
    assert server.stop() == 0, server.said()


@pytest.fixture(scope="module")
def chromium(chromium):
    """A browser without protection of its own against the attacker, whose host name leads to this machine."""
    flags = [f"--host-resolver-rules=MAP {EVIL} 127.0.0.1", "--disable-features=LocalNetworkAccessChecks"]
    browser = chromium.browser_type.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
    yield browser
    browser.close()


@pytest.fixture
def context(chromium):
    context = chromium.new_context()
    context.set_default_timeout(GUARD_MS)
    yield context
    context.close()


def renamed(url):
    """The same address under the attacker's host name."""
    return url.replace("127.0.0.1", EVIL)


# Opens another page of the UI without loading the program again.
FOLLOW = """(path) => {
    history.pushState({}, "", path);
    dispatchEvent(new PopStateEvent("popstate", {state: {}}));
}"""

# Inserts markup, and returns the canary after the browser has handled it.
INSERT = """(markup) => new Promise((done) => {
    document.body.insertAdjacentHTML("beforeend", markup);
    document.body.querySelector(":scope > img.canary").addEventListener("error", () => done(window.canary ?? null));
})"""


def injected(page):
    """Traces of markup that a page took from a run: the canary, or elements and links."""
    marks = "img.canary, svg.canary, a[href^='javascript:']"
    found = "marks => [window.canary ?? null, [...document.querySelectorAll(marks)].map(one => one.outerHTML)]"
    return [(frame.url, trace) for frame in page.frames if (trace := frame.evaluate(found, marks)) != [None, []]]


def test_markup_in_runs_stays_text(chromium, site):
    """No text of a run becomes a part of the page, even without the policy that would not let it run."""
    context = chromium.new_context(bypass_csp=True, viewport={"width": 1400, "height": 2000})
    context.set_default_timeout(GUARD_MS)
    context.add_init_script("localStorage.setItem('communityPopupSeen', 'true')")
    context.route(INTERNET, elsewhere)
    page = context.new_page()
    page.goto(site.query)
    body = page.locator("body")
    for path, fields in PAGES[site.ui].items():
        page.evaluate(FOLLOW, EMPTY[site.ui])
        expect(body).not_to_contain_text("<script>canary")
        page.evaluate(FOLLOW, path.format(**site.ids))
        for field in fields:
            expect(body).to_contain_text(f"{field} <script>canary")
        if "figures" in path:
            place = page.frame_locator("iframe") if site.ui == "own" else page
            expect(place.locator(".gtitle").first).to_contain_text("figure <script>canary")
        assert injected(page) == [], path
    # The same markup in a page would run, and be found.
    assert page.evaluate(INSERT, MARKUP) == 1
    assert injected(page)
    context.close()


def test_the_policy_lets_no_markup_run(context, site):
    """Inserted markup, which would run elsewhere, does not run in a page of the UI."""
    page = context.new_page()
    page.goto(f"{site.query}/runs/{site.ids['run']}")
    assert page.evaluate(INSERT, MARKUP) is None


READ = """async ([base, path]) => {
    const answer = await fetch(base + path);
    return [answer.status, await answer.text()];
}"""

CONNECT = """([base, run]) => new Promise((done) => {
    const socket = new WebSocket(`${base.replace("http", "ws")}/api/v1/ws/runs/${run}`);
    socket.onopen = () => socket.send(JSON.stringify({type: "create_run", client_datetime: 1}));
    socket.onmessage = () => done(true);
    socket.onerror = () => done(false);
})"""

WRITE = """([base, name]) => fetch(`${base}/api/v1/rest/experiments/`, {
    method: "POST", mode: "no-cors", headers: {"content-type": "text/plain"}, body: JSON.stringify({name}),
}).catch(() => {})"""

# The form sends `name=value`: the equals sign becomes part of another field of the JSON object.
SUBMIT = """([base, name]) => {
    const form = Object.assign(document.createElement("form"), {method: "POST", enctype: "text/plain"});
    form.action = `${base}/api/v1/rest/experiments/`;
    const field = Object.assign(document.createElement("input"), {name: `{"name": "${name}", "other": "`, value: '"}'});
    form.append(field);
    document.body.append(form);
    form.submit();
}"""

FRAME = """([url, sandbox]) => {
    const frame = document.createElement("iframe");
    if (sandbox) frame.sandbox = sandbox;
    frame.src = url;
    document.body.append(frame);
}"""


def test_a_rebound_host_name_gets_nothing(context, site):
    """The attacker's page has the server's origin, because its host name has come to mean this server."""
    for host, permitted in [(EVIL, False), ("localhost", True)]:
        base = site.query.replace("127.0.0.1", host)
        page = context.new_page()
        answer = page.goto(base, wait_until="commit")
        assert (answer.status, "<script" in answer.text()) == ((200, True) if permitted else (421, False))
        context.route(f"{base}/attack", lambda route: route.fulfill(body="<p>a page", content_type="text/html"))
        page.goto(f"{base}/attack")
        for path in ["/api/v1/rest/experiments/", "/api/v1/rest/runs/search/run/?q=", f"/runs/{site.ids['run']}"]:
            status, text = page.evaluate(READ, [base, path])
            assert (status, "script" in text) == ((200, True) if permitted else (421, False))
        assert page.evaluate(CONNECT, [base, f"rebound-{site.ui}-{host}"]) == permitted


@pytest.mark.parametrize("browser", ["current", "without fetch metadata"])
def test_pages_of_other_origins_cannot_show_the_ui_in_a_frame(context, site, origins, browser):
    urls = [f"{site.query}/", f"{site.query}/runs/{site.ids['run']}"]
    permitted = {origins[0]: True, origins[1]: False, renamed(origins[1]): False, urls[0]: True}
    if browser != "current":
        # Then the server learns nothing about the page around the frame: only the policy in its answer protects.
        context.route(lambda url: url in urls, lambda it: it.fulfill(response=it.fetch(headers={"accept": "text/html"})))
    for base, is_permitted in permitted.items():
        page = context.new_page()
        page.goto(base)
        for url in urls:
            if is_permitted:
                ending = page.expect_event("framenavigated", lambda frame, url=url: frame.url == url)
            else:
                ending = page.expect_console_message(lambda message: "frame-ancestors" in message.text)
            with ending:
                page.evaluate(FRAME, [url, ""])
        shown = [frame for frame in page.main_frame.child_frames if frame.url.startswith(site.query)]
        assert len(shown) == (len(urls) if is_permitted else 0), base
        page.close()


@pytest.mark.parametrize("attacker", ["other port", "other site", "sandbox", "admitted"])
def test_pages_of_other_origins_cannot_write(context, site, origins, attacker):
    admitted = attacker == "admitted"
    page = context.new_page()
    page.goto({"admitted": origins[0], "other port": origins[1]}.get(attacker, renamed(origins[1])))
    frame = page.main_frame
    if attacker == "sandbox":
        # The origin of such a frame is `null`.
        with page.expect_event("framenavigated", lambda frame: frame.url.startswith(renamed(origins[1]))):
            page.evaluate(FRAME, [renamed(origins[1]), "allow-scripts allow-forms"])
        [frame] = frame.child_frames
        frame.wait_for_load_state()
    names = [f"{attacker} {way}" for way in ("query", "ingest", "form")]
    for base, name in zip([site.query, site.ingest], names, strict=False):
        frame.evaluate(WRITE, [base, name])
        assert frame.evaluate(CONNECT, [base, name]) == admitted
    with page.expect_response(lambda answer: answer.request.method == "POST") as answer:
        frame.evaluate(SUBMIT, [site.query, names[2]])
    assert answer.value.status == (200 if admitted else 403)
    with httpx.Client(base_url=f"{site.query}/api/v1/rest", timeout=GUARD_MS / 1000) as rest:
        written = [one["name"] for one in rest.get("/experiments/").raise_for_status().json()]
        assert [name in written for name in names] == [admitted] * 3
        if admitted:
            eventually(lambda: all(rest.get(f"/runs/{name}/info/").status_code == 200 for name in names[:2]), "runs are stored")
        assert [rest.get(f"/runs/{name}/info/").status_code for name in names[:2]] == [200 if admitted else 404] * 2
