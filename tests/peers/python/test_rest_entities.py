"""Experiments, tags, notes, dashboards, apps, reports and the project over REST, with every form of their paths."""

from __future__ import annotations

import re
import uuid

import httpx
import pytest
from conftest import eventually
from matyan_client import Run

UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$")
ISO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
FORMS = [("/api/v1/rest", "/"), ("/api/v1/rest", ""), ("/api", "/"), ("/api", "")]


class Api:
    """Calls with a path prefix, with or without a trailing slash."""

    def __init__(self, base, prefix, slash):
        self.prefix = prefix
        self.slash = slash
        self.client = httpx.Client(base_url=base, timeout=60)

    def call(self, method, path, status=200, **options):
        answer = self.client.request(method, f"{self.prefix}{path}{self.slash}", **options)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        if status == 204:
            assert "content-type" not in answer.headers and answer.content == b""
            return None
        return answer.json()

    def refused(self, method, path, status, code, message=None, **options):
        body = self.call(method, path, status, **options)
        if self.prefix == "/api":
            assert body["message"] and "detail" in body
        else:
            assert body["error"]["code"] == code and body["detail"] == body["error"]["message"] == body["message"]
            assert message is None or body["detail"] == message, body
        return body


@pytest.fixture(params=FORMS, ids=[f"{prefix}…{slash}" for prefix, slash in FORMS])
def api(server, request):
    api = Api(server.query, *request.param)
    yield api
    api.client.close()


@pytest.fixture
def word():
    return "w" + uuid.uuid4().hex[:10]


@pytest.fixture
def run(server):
    run = Run(repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False)
    run["h"] = {"x": 1, "y": None}
    run.track(1.0, name="loss", step=0, context={"subset": "train"})
    # The client sends asynchronously.
    info = f"{server.query}/api/v1/rest/runs/{run.hash}/info/"
    eventually(lambda: httpx.get(info).status_code == 200, "the run is stored")
    yield run
    run.close()


def test_experiments(api, word, run):
    made = api.call("POST", "/experiments", json={"name": f"  {word} "})
    assert set(made) == {"id", "status"} and made["status"] == "OK" and UUID.match(made["id"])
    path = f"/experiments/{made['id']}"
    shown = api.call("GET", path)
    assert list(shown) == ["id", "name", "description", "run_count", "archived", "creation_time"]
    assert (shown["name"], shown["description"], shown["run_count"], shown["archived"]) == (word, "", 0, False)
    assert isinstance(shown["creation_time"], float) and shown in api.call("GET", "/experiments")
    assert api.call("GET", "/experiments/search", params={"q": f" {word.upper()} "}) == [shown]
    api.refused("POST", "/experiments", 409, "conflict", f"Experiment with name '{word}' already exists", json={"name": word})
    api.refused("POST", "/experiments", 422, "validation_error", json={"name": "  "})
    api.refused("POST", "/experiments", 422, "validation_error", json={})
    api.refused("POST", "/experiments", 422, "validation_error", json={"name": 5})
    for method in ("GET", "PUT", "DELETE"):
        api.refused(method, f"/experiments/{uuid.uuid4()}", 404, "not_found", "Not Found", **({"json": {}} if method == "PUT" else {}))
    assert api.call("PUT", path, json={"description": "d"}) == {"id": made["id"], "status": "OK"}
    api.call("PUT", path, json={"archived": True, "name": ""})
    shown = api.call("GET", path)
    assert (shown["name"], shown["description"], shown["archived"]) == (word, "d", True)
    other = api.call("POST", "/experiments", json={"name": f"{word}-other"})["id"]
    api.refused("PUT", f"/experiments/{other}", 409, "conflict", f"Experiment with name '{word}' already exists", json={"name": word})

    assert api.call("PUT", f"/runs/{run.hash}", json={"experiment": word}) == {"id": run.hash, "status": "OK"}
    runs = api.call("GET", f"{path}/runs", params={"limit": 10})
    assert runs["id"] == made["id"]
    [one] = runs["runs"]
    assert list(one) == ["run_id", "name", "creation_time", "end_time", "archived"]
    assert (one["run_id"], one["end_time"], one["archived"]) == (run.hash, None, False)
    assert api.call("GET", f"{path}/runs", params={"offset": run.hash})["runs"] == []
    activity = api.call("GET", f"{path}/activity", headers={"X-Timezone-Offset": "-240"})
    assert list(activity) == ["num_runs", "num_archived_runs", "num_active_runs", "activity_map"]
    assert (activity["num_runs"], activity["num_active_runs"]) == (1, 1)
    [(hour, count)] = activity["activity_map"].items()
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:00:00$", hour) and count == 1
    api.refused("GET", f"{path}/activity", 422, "validation_error", headers={"X-Timezone-Offset": "x"})
    assert api.call("GET", path)["run_count"] == 1
    assert api.call("DELETE", path) == {"status": "OK"}
    props = api.call("GET", f"/runs/{run.hash}/info")["props"]
    assert props["experiment"] == {"id": None, "name": None, "description": None}


def test_tags(api, word, run):
    made = api.call("POST", "/tags", json={"name": f" {word} ", "color": " #123 "})
    assert UUID.match(made["id"]) and made["status"] == "OK"
    path = f"/tags/{made['id']}"
    shown = api.call("GET", path)
    assert shown == {
        "id": made["id"], "name": word, "color": "#123", "description": "", "run_count": 0, "archived": False,
    }
    assert shown in api.call("GET", "/tags") and api.call("GET", "/tags/search", params={"q": word}) == [shown]
    api.refused("POST", "/tags", 409, "conflict", f"Tag with name '{word}' already exists", json={"name": word})
    for _ in range(2):
        added = api.call("POST", f"/runs/{run.hash}/tags/new", json={"tag_name": f" {word} "})
        assert added == {"id": run.hash, "tag_id": made["id"], "status": "OK"}
    assert api.call("GET", path)["run_count"] == 1
    api.refused("POST", "/runs/no-such-run/tags/new", 404, "not_found", json={"tag_name": word})
    assert api.call("PUT", path, json={"name": f"{word}2", "archived": True}) == {"id": made["id"], "status": "OK"}
    [tag] = api.call("GET", f"/runs/{run.hash}/info")["props"]["tags"]
    assert tag == {"id": made["id"], "name": f"{word}2", "color": "#123", "description": ""}
    runs = api.call("GET", f"{path}/runs")
    assert runs["id"] == made["id"] and list(runs["runs"][0]) == ["run_id", "name", "experiment", "creation_time", "end_time"]
    remove = f"/runs/{run.hash}/tags/{made['id']}"
    assert api.call("DELETE", remove) == {"id": run.hash, "removed": True, "status": "OK"}
    assert api.call("DELETE", remove) == {"id": run.hash, "removed": False, "status": "OK"}
    api.refused("DELETE", f"/runs/{run.hash}/tags/{uuid.uuid4()}", 404, "not_found")
    assert api.call("DELETE", path) is None
    api.refused("GET", path, 404, "not_found")
    api.refused("DELETE", path, 404, "not_found")


def test_notes(api, word, run):
    eventually(lambda: api.call("GET", f"/runs/{run.hash}/info"), "the run is stored")
    experiment = api.call("POST", "/experiments", json={"name": word})["id"]
    for owner, key, own in (("runs", "run_hash", run.hash), ("experiments", "experiment_id", experiment)):
        base = f"/{owner}/{own}/note"
        assert api.call("GET", base) == []
        made = api.call("POST", base, 201, json={"content": "  first "})
        assert list(made) == ["id", "created_at"] and ISO.match(made["created_at"])
        api.call("POST", base, 201, json={"content": "second"})
        notes = api.call("GET", base)
        assert [note["content"] for note in notes] == ["first", "second"] and notes[0][key] == own
        assert list(notes[0]) == ["id", "content", "created_at", key, "updated_at"]
        note = f"{base}/{made['id']}"
        assert list(api.call("GET", note)) == ["id", "content", "updated_at"]
        assert api.call("PUT", note, json={"content": "new"})["content"] == "new"
        api.refused("PUT", note, 422, "validation_error", json={"content": None})
        other = f"/{'experiments' if owner == 'runs' else 'runs'}/{experiment if owner == 'runs' else run.hash}/note"
        api.refused("GET", f"{other}/{made['id']}", 404, "not_found")
        assert api.call("DELETE", note) == {"status": "OK"}
        api.refused("DELETE", note, 404, "not_found")
    assert api.call("GET", "/runs/no-such-run/note") == []
    api.refused("POST", "/runs/no-such-run/note", 404, "not_found", json={"content": "x"})
    api.refused("GET", f"/experiments/{uuid.uuid4()}/note", 404, "not_found")
    if api.prefix == "/api":
        assert api.call("GET", f"/runs/{run.hash}/info")["props"]["notes"] == 1


def test_dashboards_apps_and_reports(api, word):
    is_aim = api.prefix == "/api"
    gone = (200, None) if is_aim else (204, None)
    state = {"a": None, "b": [1, 1.0, {"c": 2**70}], "d": {}, "text": "größe"}
    app = api.call("POST", "/apps", 201, json={"type": "metrics", "state": state})
    assert list(app) == ["id", "type", "updated_at", "created_at", "state"] and app["state"] == state
    assert type(app["state"]["b"][0]) is int and type(app["state"]["b"][1]) is float
    dashboard = api.call("POST", "/dashboards", 201, json={"name": word, "app_id": app["id"]})
    assert list(dashboard) == ["id", "name", "description", "app_id", "app_type", "updated_at", "created_at"]
    assert (dashboard["app_type"], dashboard["description"]) == ("metrics", "")
    assert ISO.match(dashboard["created_at"]) and ISO.match(app["updated_at"])
    assert dashboard in api.call("GET", "/dashboards") and app in api.call("GET", "/apps")
    assert api.call("PUT", f"/apps/{app['id']}", json={"state": {"x": 1}, "type": None})["state"] == {"x": 1}
    assert api.call("GET", f"/apps/{app['id']}")["type"] == "metrics"
    api.refused("POST", "/apps", 422, "validation_error", json={"type": "metrics"})
    api.refused("POST", "/dashboards", 422, "validation_error", json={"description": "x"})
    assert api.call("PUT", f"/dashboards/{dashboard['id']}", json={"name": "new"})["name"] == "new"
    for _ in range(2):
        assert api.call("DELETE", f"/dashboards/{dashboard['id']}", gone[0]) is gone[1]
    assert dashboard["id"] not in [one["id"] for one in api.call("GET", "/dashboards")]
    assert api.call("GET", f"/dashboards/{dashboard['id']}")["name"] == "new"
    assert api.call("DELETE", f"/apps/{app['id']}", gone[0]) is None
    assert api.call("GET", f"/dashboards/{dashboard['id']}")["app_type"] is None
    report = api.call("POST", "/reports", 201, json={"name": word, "code": "# x"})
    assert list(report) == ["id", "name", "code", "description", "updated_at", "created_at"]
    assert report in api.call("GET", "/reports")
    assert api.call("PUT", f"/reports/{report['id']}", json={"code": "# y"})["code"] == "# y"
    assert api.call("DELETE", f"/reports/{report['id']}", gone[0]) is None
    for path in (f"/apps/{app['id']}", f"/reports/{report['id']}", f"/dashboards/{uuid.uuid4()}"):
        api.refused("GET", path, 404, "not_found", "Not Found")
        api.refused("DELETE", path, 404, "not_found", "Not Found")
    api.refused("GET", "/boards", 404, "not_found")


def test_project(api, run):
    eventually(lambda: api.call("GET", f"/runs/{run.hash}/info")["traces"]["metric"], "the run is applied")
    assert api.call("GET", "/projects") == {
        "name": "My project", "path": "", "description": "", "telemetry_enabled": 0, "warn_index": False,
        "warn_runs": False,
    }
    activity = api.call("GET", "/projects/activity", headers={"X-Timezone-Offset": "0"})
    assert list(activity) == ["num_experiments", "num_runs", "num_archived_runs", "num_active_runs", "activity_map"]
    assert activity["num_runs"] >= 1 and sum(activity["activity_map"].values()) == activity["num_runs"]
    key = r"^\d{4}-\d\d-\d\dT\d\d:00:00$" if api.prefix == "/api" else r"^\d{4}-\d\d-\d\dT00:00:00$"
    assert all(re.match(key, day) for day in activity["activity_map"])
    everything = api.call("GET", "/projects/params")
    types = ["metric", "images", "texts", "distributions", "audios", "figures"]
    assert list(everything) == ["params", *types] and "__system_params" not in everything["params"]
    only = api.call("GET", "/projects/params", params={"sequence": ["metric", "texts"], "exclude_params": "true"})
    assert list(only) == ["metric", "texts"]
    api.refused("GET", "/projects/params", 400, "bad_request", params={"sequence": "logs"})
    pinned = {"sequences": [{"name": "loss", "context": {"subset": "train"}}, {"name": "acc", "context": {}}]}
    assert api.call("POST", "/projects/pinned-sequences", json=pinned) == pinned
    assert api.call("GET", "/projects/pinned-sequences") == pinned
    api.refused("POST", "/projects/pinned-sequences", 422, "validation_error", json={"sequences": [{"name": "x"}]})
    assert api.call("POST", "/projects/pinned-sequences", json={"sequences": {}}) == {"sequences": []}
    assert api.call("GET", "/projects/status") == "up-to-date"


def test_batches_ignore_unknown_ids(api, run):
    eventually(lambda: api.call("GET", f"/runs/{run.hash}/info"), "the run is stored")
    ids = [run.hash, "no such run"]
    assert api.call("POST", "/runs/archive-batch", json=ids) == {"status": "OK"}
    assert api.call("GET", f"/runs/{run.hash}/info")["props"]["archived"] is True
    assert api.call("POST", "/runs/archive-batch", params={"archive": "false"}, json=ids) == {"status": "OK"}
    assert api.call("POST", "/runs/finish-batch", json=ids) == {"status": "OK"}
    props = api.call("GET", f"/runs/{run.hash}/info")["props"]
    assert props["archived"] is False and props["active"] is False and props["end_time"] >= props["creation_time"]
    assert api.call("POST", "/runs/delete-batch", json={}) == {"status": "OK"}
    assert api.call("POST", "/runs/delete-batch", json=ids) == {"status": "OK"}
    api.refused("GET", f"/runs/{run.hash}/info", 404, "not_found")
    api.refused("PUT", f"/runs/{run.hash}", 404, "not_found", json={"name": "x"})
    assert api.call("DELETE", f"/runs/{run.hash}") == {"id": run.hash, "status": "OK"}
