"""The published client with access control, unmodified: it sends a token that is the password of its URLs."""

from __future__ import annotations

import json
import uuid
from types import SimpleNamespace

import httpx
import pytest
import secrets_at_rest
from conftest import Server
from matyan_client import Repo, Run
from matyan_client.transport.http import HttpTransport
from test_published_client import finished
from test_published_client_projects import expected, log, shown

PROJECT = "speech"
OTHER = "vision"


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server")).start("--access", "on")
    for project in (PROJECT, OTHER):
        running.matyan("projects", "create", project)
    yield running
    assert running.stop() == 0, running.said()


def token(server, principal, role, project=PROJECT):
    server.matyan("access", "grant", principal, role, "--project", project)
    return server.matyan("access", "token", "create", principal, "--project", project)


def urls(server, password, project=PROJECT):
    """The URLs that an owner of the project gives to a colleague."""

    def with_password(url):
        scheme, address = url.split("://")
        return f"{scheme}://_:{password}@{address}/p/{project}"

    return SimpleNamespace(query=with_password(server.query), ingest=with_password(server.ingest))


def opened(server):
    return Run(
        uuid.uuid4().hex, repo=server.query, frontier_url=server.ingest, experiment="ours", capture_terminal_logs=False
    )


def test_a_writer_needs_nothing_but_a_url(closed, tmp_path):
    server = urls(closed, token(closed, "ana", "writer"))
    run = opened(server)
    log(run, "ours", tmp_path / "ours.txt")
    http = HttpTransport(server.query)
    finished(http, run.hash)
    assert shown(server, run.hash) == expected("ours")
    assert Repo(server.query).list_all_runs() == [run.hash]
    http.close()
    # A node that only sends data reads nothing.
    node = urls(closed, token(closed, "node", "ingest"))
    log(opened(node), "theirs", tmp_path / "theirs.txt")
    reading = HttpTransport(node.query)
    with pytest.raises(httpx.HTTPStatusError, match="403 Forbidden"):
        reading.get_run_info(run.hash)
    reading.close()


def wrong_passwords(server):
    revoked = token(server, "bo", "writer")
    listed = server.matyan("access", "token", "ls", "--project", PROJECT, "--json").splitlines()
    [its_id] = [one["id"] for one in map(json.loads, listed) if one["principal"] == "bo"]
    server.matyan("access", "token", "revoke", its_id, "--project", PROJECT)
    unknown = server.matyan("access", "token", "generate")
    return {"revoked": revoked, "unknown": unknown, "mistyped": unknown[:-1], "of another system": "secret"}


def test_a_wrong_token_ends_with_a_message_and_is_not_tried_again(closed):
    for kind, password in wrong_passwords(closed).items():
        server = urls(closed, password)
        # 503 would make the client try again for ever.
        with pytest.raises(ConnectionError, match="rejected WebSocket connection: HTTP 401"):
            opened(server)
        http = HttpTransport(server.query)
        with pytest.raises(httpx.HTTPStatusError, match="401 Unauthorized") as refused:
            http.get_run_info("any")
        http.close()
        said = refused.value.response.json()["message"]
        assert "token" in said and password not in said, f"{kind}: {said}"
        assert refused.value.response.headers["www-authenticate"] == "Bearer", kind


def test_a_token_without_the_right_gets_an_error_that_names_the_missing_role(closed):
    viewer = urls(closed, token(closed, "cy", "viewer"))
    with pytest.raises(ConnectionError, match="rejected WebSocket connection: HTTP 403"):
        opened(viewer)
    http = HttpTransport(viewer.query)
    with pytest.raises(httpx.HTTPStatusError) as refused:
        http.delete("/api/v1/rest/runs/any/")
    http.close()
    said = refused.value.response.json()["message"]
    assert refused.value.response.status_code == 403
    assert "the role editor in the project `speech`" in said and "ask an owner" in said, said


def test_another_project_looks_as_if_it_did_not_exist(closed):
    ana = token(closed, "ana", "writer")
    answers = []
    for project in (OTHER, "nobody"):
        server = urls(closed, ana, project)
        with pytest.raises(ConnectionError, match="rejected WebSocket connection: HTTP 404"):
            opened(server)
        http = HttpTransport(server.query)
        with pytest.raises(httpx.HTTPStatusError) as refused:
            http.get_run_info("any")
        http.close()
        answer = refused.value.response
        answers.append((answer.status_code, answer.text.replace(project, "…")))
    assert answers[0] == answers[1] and answers[0][0] == 404, answers


def test_a_secret_that_a_server_leaves_is_found(closed):
    """Every server with access control is searched like this when it stops."""
    assert secrets_at_rest.checksum(b"abc") == b"0yKviM"
    data = closed.directory / "data"
    token = (data / "operator-token").read_bytes().strip()
    planted = data / "log" / "planted"
    planted.write_bytes(b"token=" + token)
    [place] = secrets_at_rest.in_data_dir(data)
    assert str(planted) in place and token.decode() not in place, place
    planted.write_bytes(b"token=" + token[:-1])
    assert list(secrets_at_rest.in_data_dir(data)) == []
    planted.unlink()
    banner = (closed.directory / "server.log").read_bytes()
    copy = closed.directory / "copied.log"
    copy.write_bytes(banner * 2)
    assert len(secrets_at_rest.in_log(copy)) == 1, "the link of the first start is there twice"
    copy.write_bytes(banner + token)
    assert len(secrets_at_rest.in_log(copy)) == 1
