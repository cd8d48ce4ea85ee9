"""gRPC from a page: a browser calls the API itself, from the server's own page and from another origin that is let in."""

from __future__ import annotations

import pytest
from playwright.sync_api import Error

CALL = """
async ([base, method]) => {
    const frame = new Uint8Array(5);  // an empty message
    const headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"};
    const answer = await fetch(base + method, {method: "POST", headers, body: frame});
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const length = new DataView(bytes.buffer).getUint32(1);
    const text = (part) => new TextDecoder().decode(part);
    return {status: answer.status, message: text(bytes.slice(5, 5 + length)), trailers: text(bytes.slice(10 + length))};
}
"""


def call(visit, server, page):
    visit.page.goto(page)
    return visit.page.evaluate(CALL, [server.query, "/matyan.system.v1.SystemService/Version"])


@pytest.mark.parametrize("from_elsewhere", [False, True])
def test_a_page_calls_by_grpc_web(visit, server, origins, from_elsewhere):
    answer = call(visit, server, origins[0] if from_elsewhere else f"{server.query}/docs")
    assert answer["status"] == 200
    assert "backend" in answer["message"]
    assert answer["trailers"].replace(" ", "").startswith("grpc-status:0")


def test_a_page_that_is_not_let_in_reads_nothing(visit, server, origins):
    with pytest.raises(Error, match="Failed to fetch"):
        call(visit, server, origins[1])
    assert any("CORS" in error for error in visit.errors)
    visit.errors.clear()
