"""Wrong requests on every route: the protocol's error, no failure of the server, and nothing stored."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import requests

ROUTES = Path(__file__).parents[3] / "edge" / "mlflow" / "src" / "route.rs"
ROW = re.compile(r'\(\s*Method::(\w+),\s*"([^"]+)",\s*Operation::(\w+),?\s*\)')

# Routes that need no field.
OPEN = {"ServerInfo", "SearchExperiments", "SearchRegisteredModels", "SearchVersions", "SearchRuns", "SearchDatasets"}
OPEN |= {"SearchLoggedModels"}

HOSTILE = ["../../etc/passwd", "\u0000", "a/../b", "'; DROP TABLE runs; --", "x" * 2_000, "{{7*7}}", "\ud7ff", "%00"]


def routes():
    found = ROW.findall(ROUTES.read_text())
    assert len(found) > 60, "the table of routes has another form"
    return found


def url(server, path, value="x"):
    return f"{server.query}/api/2.0/" + re.sub(r"\{[^}]+\}", value, path)


def check(response, what):
    assert response.status_code < 500, (what, response.status_code, response.text[:300])
    if response.status_code >= 400:
        error = response.json()
        assert error["error_code"].isupper() and error["message"], (what, error)


@pytest.fixture
def unchanged(server):
    """Checks that a test stores nothing."""

    def state():
        client = requests.Session()
        experiments = client.get(f"{server.query}/api/2.0/mlflow/experiments/search?view_type=ALL").json()
        models = client.get(f"{server.query}/api/2.0/mlflow/registered-models/search").json()
        ids = [it["experiment_id"] for it in experiments["experiments"]]
        body = {"experiment_ids": ids, "run_view_type": "ALL"}
        runs = client.post(f"{server.query}/api/2.0/mlflow/runs/search", json=body).json()
        return experiments, models, runs

    before = state()
    yield
    assert state() == before


@pytest.mark.parametrize(("method", "path", "operation"), routes())
def test_broken_bodies_are_refused(server, unchanged, method, path, operation):
    for body in (b"{", b"[]", b"7", b"\xff\xfe", b'{"a": ', b"[" * 5_000, b"null"):
        response = requests.request(method, url(server, path), data=body)
        check(response, (path, body[:20]))
        if method != "GET" and operation not in OPEN | {"UploadArtifact"}:
            assert response.status_code >= 400, (path, body[:20])


@pytest.mark.parametrize(("method", "path", "operation"), routes())
def test_absent_and_wrong_fields_are_refused(server, unchanged, method, path, operation):
    if operation == "CreateRun":
        pytest.skip("needs no field")
    names = ["run_id", "experiment_id", "name", "key", "value", "version", "metric_key", "model_id", "path", "filter"]
    bodies = [{}, *({name: value for name in names} for value in (7, [], {}, True, None, ""))]
    for body in bodies:
        response = requests.request(method, url(server, path), json=body)
        check(response, (path, body))
        if operation not in OPEN:
            assert response.status_code >= 400, (path, body, response.text[:200])


@pytest.mark.parametrize(("method", "path", "operation"), routes())
def test_hostile_names_lead_nowhere(server, unchanged, method, path, operation):
    creates = operation in {"CreateExperiment", "CreateRun", "CreateRegisteredModel", "CreateLoggedModel"}
    for value in HOSTILE:
        names = ["run_id", "experiment_id", "key", "value", "version", "metric_key", "model_id", "path", "experiment_name"]
        body = {name: value for name in names} | ({} if creates else {"name": value})
        check(requests.request(method, url(server, path), json=body), (path, value[:20]))
        check(requests.get(url(server, path), params=body | {"filter": value}), (path, value[:20]))


@pytest.mark.parametrize(("method", "path", "operation"), routes())
def test_huge_bodies_are_refused(server, unchanged, method, path, operation):
    if operation == "UploadArtifact":
        pytest.skip("files may be large")
    body = b'{"run_id": "' + b"x" * (5 << 20) + b'"}'
    response = None
    for _ in range(5):
        try:
            response = requests.request(method, url(server, path), data=body)
        except requests.ConnectionError:
            # The answer came while this client was still sending, and was lost with the connection.
            continue
        break
    assert response is not None, path
    check(response, path)
    assert response.status_code >= 400


def test_wrong_filters_and_tokens_are_refused(server):
    post = lambda path, body: requests.post(f"{server.query}/api/2.0/mlflow/{path}", json=body)  # noqa: E731
    for body in (
        {"filter": "metrics.a"},
        {"filter": "metrics.a < 'x' OR b = 'c'"},
        {"filter": "nothing.a = 'x'"},
        {"order_by": ["nothing.a"]},
        {"max_results": 0},
        {"max_results": 50_001},
        {"page_token": "forged"},
        {"run_view_type": "NONE"},
    ):
        response = post("runs/search", {"experiment_ids": ["0"], **body})
        assert response.status_code == 400, (body, response.text)
        assert response.json()["error_code"] == "INVALID_PARAMETER_VALUE", body


def test_a_wrong_batch_stores_nothing(server):
    post = lambda path, body: requests.post(f"{server.query}/api/2.0/mlflow/{path}", json=body)  # noqa: E731
    run = post("runs/create", {"experiment_id": "0"}).json()["run"]["info"]["run_id"]
    metric = {"key": "loss", "value": 1, "timestamp": 1}
    param = {"key": "lr", "value": "1"}
    for body in (
        {"metrics": [metric] * 1_001},
        {"params": [{"key": f"p{at}", "value": "1"} for at in range(101)]},
        {"tags": [{"key": f"t{at}", "value": "1"} for at in range(101)]},
        {"metrics": [metric, {"key": "loss"}]},
        {"metrics": [metric], "params": [param, {"key": "lr", "value": "2"}]},
        {"metrics": [metric], "params": [{"key": "../lr", "value": "2"}]},
        {"metrics": [metric | {"value": "x"}]},
        {"metrics": [metric | {"timestamp": -1}]},
        {"metrics": [metric], "params": [param], "tags": [{"key": "mlflow.runName", "value": "x" * 2_000}]},
    ):
        response = post("runs/log-batch", {"run_id": run, **body})
        assert response.status_code == 400, (str(body)[:100], response.text)
        assert response.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    data = requests.get(f"{server.query}/api/2.0/mlflow/runs/get?run_id={run}").json()["run"]["data"]
    assert data["metrics"] == [] and data["params"] == []
    response = post("runs/set-tag", {"run_id": run, "key": "mlflow.runName", "value": "x" * 2_000})
    assert (response.status_code, response.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_operations_that_the_server_lacks_are_answered_and_counted(server):
    for method, path, status, code in (
        ("POST", "3.0/mlflow/traces", 501, "NOT_IMPLEMENTED"),
        ("POST", "2.0/mlflow/webhooks", 501, "NOT_IMPLEMENTED"),
        ("GET", "2.0/mlflow-artifacts/presigned/0/r/artifacts/a", 501, "NOT_IMPLEMENTED"),
        ("GET", "2.0/mlflow/no/such/operation", 404, "ENDPOINT_NOT_FOUND"),
        ("DELETE", "2.0/mlflow/runs/get", 404, "ENDPOINT_NOT_FOUND"),
    ):
        response = requests.request(method, f"{server.query}/api/{path}", json={})
        assert (response.status_code, response.json()["error_code"]) == (status, code), path
    metrics = requests.get(f"{server.query}/metrics/").text
    for operation in ("mlflow/traces", "mlflow/unknown"):
        series = f'matyan_unanswered_operations_total{{operation="{operation}",protocol="mlflow"}} '
        counts = [line.removeprefix(series) for line in metrics.splitlines() if line.startswith(series)]
        assert counts and float(counts[0]) > 0, operation


def test_ranges_and_aliases_of_artifacts(server):
    base = f"{server.query}/api/2.0/mlflow"
    run = requests.post(f"{base}/runs/create", json={}).json()["run"]["info"]["run_id"]
    file = f"{server.query}/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/a/b.bin"
    content = bytes(range(256)) * 8_192
    requests.put(file, data=iter([content[:1_000], content[1_000:]])).raise_for_status()
    assert requests.get(file).content == content
    part = requests.get(file, headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, content[1_000:2_000])
    assert requests.get(file.replace("/api/", "/ajax-api/")).content == content
    listed = requests.get(f"{server.query}/api/2.0/mlflow-artifacts/artifacts?path=0/{run}/artifacts/a").json()
    assert listed["files"] == [{"path": "b.bin", "is_dir": False, "file_size": len(content)}]
    for _ in range(2):
        assert requests.delete(file).status_code == 200, "a repeated request succeeds"
    for method, path in (("get", file), ("delete", file.replace(run, "unknown"))):
        missing = requests.request(method, path)
        assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_all_artifacts_of_a_run_are_deleted_at_once(server):
    run = requests.post(f"{server.query}/api/2.0/mlflow/runs/create", json={}).json()["run"]["info"]["run_id"]
    root = f"{server.query}/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts"
    for path in ("a", "b/c", "b/d/e"):
        requests.put(f"{root}/{path}", data=b"x").raise_for_status()
    # As `mlflow gc` does.
    for _ in range(2):
        assert requests.delete(root).status_code == 200
    listed = requests.get(f"{server.query}/api/2.0/mlflow/artifacts/list?run_id={run}").json()
    assert listed["files"] == []
