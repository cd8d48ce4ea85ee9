"""Requests that are answered before their body was read, by a client that keeps its connections and goes on."""

from __future__ import annotations

import httpx
import pytest

# Bodies that the server reads and drops, bodies that are too large for that, and one larger than the system's buffers.
SIZES = [2_000, 60_000, 300_000, 5_000_000]

EARLY = {
    403: ("POST", "runs/search/metric/align/", {"origin": "http://elsewhere.example"}),
    404: ("POST", "nothing/", {}),
    405: ("PUT", "runs/search/metric/align/", {}),
    413: ("POST", "artifacts/presign/", {}),
    421: ("POST", "runs/search/metric/align/", {"host": "elsewhere.example"}),
}

ROUNDS = 20


@pytest.mark.parametrize("status", EARLY)
def test_rule_92_a_pooled_client_goes_on_after_an_early_answer(server, status):
    method, path, headers = EARLY[status]
    base = server.ingest if status == 413 else server.query
    with httpx.Client(timeout=60) as client:
        for size in SIZES:
            if status == 413 and size < 65_536:
                continue
            for _ in range(ROUNDS):
                answer = client.request(method, f"{base}/api/v1/rest/{path}", content=b" " * size, headers=headers)
                assert answer.status_code == status, answer.text
                assert client.get(f"{base}/health/live/").status_code == 200
