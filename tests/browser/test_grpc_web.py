"""gRPC from a page: a browser calls the API directly, from the server's own page and from another allowed origin."""

from __future__ import annotations

import base64
import uuid

import pytest
from playwright.sync_api import Error
from server import eventually

CALL = """
([url, message]) => {
    window.call = {messages: [], trailers: null, ended: null, control: new AbortController()};
    const headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"};
    const body = new Uint8Array(5 + message.length);
    new DataView(body.buffer).setUint32(1, message.length);
    body.set(message, 5);
    const read = async () => {
        const answer = await fetch(url, {method: "POST", headers, body, signal: call.control.signal});
        call.status = answer.status;
        call.refused = answer.headers.get("grpc-status");
        const reader = answer.body.getReader();
        let rest = new Uint8Array();
        for (;;) {
            const {done, value} = await reader.read();
            if (done) return rest.length ? "cut within a frame" : "closed";
            const bytes = new Uint8Array(rest.length + value.length);
            bytes.set(rest);
            bytes.set(value, rest.length);
            rest = bytes;
            while (rest.length >= 5) {
                const length = new DataView(rest.buffer, rest.byteOffset).getUint32(1);
                if (rest.length < 5 + length) break;
                const frame = rest.slice(5, 5 + length);
                if (rest[0] & 0x80) call.trailers = new TextDecoder().decode(frame);
                else call.messages.push(btoa(String.fromCharCode(...frame)));
                rest = rest.slice(5 + length);
            }
        }
    };
    call.done = read().then((end) => call.ended = end, (error) => { call.ended = String(error); throw error; });
    call.done.catch(() => {});
}
"""


class Call:
    """A call that a page makes with `fetch`, and its state."""

    def __init__(self, visit, server, page, method, request=b""):
        self.page = visit.page
        self.page.goto(page)
        self.page.evaluate(CALL, [server.query + method, list(request)])

    def messages(self, kind):
        return [kind.FromString(base64.b64decode(one)) for one in self.page.evaluate("call.messages")]

    def ended(self):
        return self.page.evaluate("call.ended")

    def end(self):
        """Waits for the end of the call. Returns its status, and its trailers without spaces."""
        self.page.evaluate("call.done")
        return self.page.evaluate("call.status"), self.page.evaluate("call.trailers").replace(" ", "")

    def cancel(self):
        self.page.evaluate("call.control.abort()")
        return eventually(self.ended, "the call is canceled")


@pytest.fixture(params=[False, True], ids=["own", "elsewhere"])
def page(request, server, origins):
    """The URL of a page that may call the API."""
    return origins[0] if request.param else f"{server.query}/docs"


@pytest.mark.usefixtures("stubs")
def test_a_page_calls_by_grpc_web(visit, server, page):
    from matyan.system.v1 import system_pb2

    call = Call(visit, server, page, "/matyan.system.v1.SystemService/Version")
    assert call.end() == (200, "grpc-status:0\r\n")
    [answer] = call.messages(system_pb2.VersionResponse)
    assert "backend" in str(answer)


@pytest.mark.usefixtures("stubs")
def test_a_page_watches_by_grpc_web(visit, server, rest, another, page):
    """Changes arrive immediately while the call is open, one message for each."""
    from matyan.runs.v1 import run_pb2, runs_pb2

    run = another("watched")
    ask = runs_pb2.WatchRequest(
        run_ids=[run.hash], parts=run_pb2.RunParts(props=True), snapshot=True, settle_ms=0
    ).SerializeToString()
    call = Call(visit, server, page, "/matyan.runs.v1.RunService/Watch", ask)

    def changes():
        return [change for one in call.messages(runs_pb2.WatchResponse) for change in one.changes]

    eventually(lambda: any(one.snapshot_done for one in call.messages(runs_pb2.WatchResponse)), "the snapshot is complete")
    assert [change.run.props.name for change in changes()] == ["watched"]
    for number in range(1, 4):
        name = f"changed {number} {uuid.uuid4().hex}"
        rest.put(f"/runs/{run.hash}/", json={"name": name}).raise_for_status()
        eventually(lambda: len(changes()) > number, "the change arrives")
        assert [(one.run_id, one.run.props.name) for one in changes()[number:]] == [(run.hash, name)]
        assert call.ended() is None, "the call is still open"
    rest.delete(f"/runs/{run.hash}/").raise_for_status()
    eventually(lambda: changes()[-1].left, "the delete arrives")
    assert call.ended() is None
    assert "AbortError" in call.cancel()


@pytest.mark.usefixtures("stubs")
def test_a_page_reads_a_stream_to_its_end(visit, server, project):
    from matyan.runs.v1 import run_pb2
    from matyan.search.v1 import search_pb2

    method = "/matyan.search.v1.SearchService/Runs"
    page = f"{server.query}/docs"
    query = search_pb2.Query(text="run.name.startswith('run ')", report_progress=True)
    ask = search_pb2.RunsRequest(query=query, parts=run_pb2.RunParts(props=True, params=True))
    call = Call(visit, server, page, method, ask.SerializeToString())
    assert call.end() == (200, "grpc-status:0\r\n")
    answers = call.messages(search_pb2.RunsResponse)
    # Earlier tests may have deleted or archived some runs.
    found = [run.props.name for one in answers for run in one.runs]
    assert found == sorted(found, reverse=True) and {"run 00", "run 10", "run 49"} <= set(found)
    assert [one.done for one in answers] == [False] * (len(answers) - 1) + [True]



@pytest.mark.usefixtures("stubs")
def test_a_page_gets_the_error_of_a_call(visit, server, page):
    """A call that fails before the first message has its status in the headers."""
    from matyan.search.v1 import search_pb2

    ask = search_pb2.RunsRequest(query=search_pb2.Query(text="run.name =="))
    call = Call(visit, server, page, "/matyan.search.v1.SearchService/Runs", ask.SerializeToString())
    assert eventually(call.ended, "the call is rejected") == "closed"
    assert visit.page.evaluate("[call.status, call.refused, call.messages]") == [200, "3", []]


def test_a_page_from_another_origin_cannot_read(visit, server, origins):
    call = Call(visit, server, origins[1], "/matyan.system.v1.SystemService/Version")
    with pytest.raises(Error, match="Failed to fetch"):
        call.end()
    assert any("CORS" in error for error in visit.errors)
    visit.errors.clear()
