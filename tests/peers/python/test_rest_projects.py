"""Every REST operation in two projects of a real server, which have the same ids and names, and a canary in every text.

No answer in one project has the canary of the other one, and every answer has its own if it should. The operations
come from the description, so that a new one is included by itself: it has to succeed, or to be listed.
"""

from __future__ import annotations

import io
import itertools
import secrets
import zipfile

import httpx
import numpy
from conftest import Server, eventually
from matyan_client import Audio, Distribution, Figure, Image, Run, Text
from matyan_client.transport.http import _decode_flat_pairs

RUN = "r"

# About the server.
OF_NO_PROJECT = {"/version/", "/health/live/", "/health/ready/", "/metrics/", "/docs/", "/openapi.json/"}
# Made while the projects are filled, and at the end of the test.
MADE_ELSEWHERE = {"put /blobs/{key}", "post /projects/", "delete /projects/"}
# Refused without access control, which has its own tests.
NEEDS_ACCESS = {"get /access/audit/"}
# Shows the names of all projects.
OF_ALL_PROJECTS = {"get /projects/list/"}
# Operations whose answers have no text of the project: numbers, pixels, acknowledgments, and ids of new or changed rows.
SHOWS_NOTHING = {
    *("post /runs/images/get-batch/", "get /payloads/{uri}/thumbnail/"),
    # The published client logs no such objects.
    *(f"get /runs/search/{kind}/" for kind in ("htmls", "point_clouds")),
    *(f"post /runs/{{id}}/{kind}/{call}/" for kind in ("htmls", "point_clouds") for call in ("get-batch", "get-step")),
    *("get /experiments/{id}/activity/", "get /projects/activity/", "get /projects/status/", "get /projects/usage/"),
    *("post /artifacts/presign/", "post /artifacts/uploads/part/"),
    *("post /artifacts/uploads/complete/", "post /artifacts/uploads/abort/"),
    *("put /runs/{id}/", "post /runs/archive-batch/", "post /runs/finish-batch/", "post /runs/delete-batch/"),
    *("delete /runs/{id}/", "post /runs/{id}/clear-tombstone/"),
    *("post /runs/{id}/tags/new/", "delete /runs/{id}/tags/{tag_id}/"),
    *("post /runs/{id}/series/rename/", "post /runs/{id}/series/delete/"),
    *("post /runs/{id}/note/", "delete /runs/{id}/note/{note_id}/"),
    *("post /experiments/{id}/note/", "delete /experiments/{id}/note/{note_id}/"),
    *("post /experiments/", "put /experiments/{id}/", "delete /experiments/{id}/"),
    *("post /tags/", "put /tags/{id}/", "delete /tags/{id}/"),
    *("delete /apps/{id}/", "delete /dashboards/{id}/", "delete /reports/{id}/"),
}

# Runs to delete, and series to rename. Each is named by one call, in one of the projects.
DELETED = [f"deleted{number}" for number in range(16)]
RENAMED = [f"renamed{number}" for number in range(4)]


class Side:
    """A project, and what it contains."""

    def __init__(self, server, project, directory):
        prefix = f"/p/{project}" if project else ""
        self.url = server.query + prefix
        self.ingest = server.ingest + prefix
        self.canary = f"canary{secrets.token_hex(8)}"
        self.http = httpx.Client(timeout=120)
        self.numbers = itertools.count()
        (directory / self.canary).write_text(self.canary)
        self.file = directory / self.canary
        self.active = self.log(RUN)
        self.log("finished").close()
        self.rest("put", "/projects/", {"display_name": self.canary, "description": self.canary})
        self.rest("post", "/projects/pinned-sequences/", {"sequences": [{"name": self.canary, "context": {}}]})
        self.rest("put", "/projects/metric-goals/", {"name": self.canary, "primary": True})
        [self.tag] = [tag["id"] for tag in self.rest("get", "/tags/") if tag["name"] == "t"]
        self.rest("put", f"/tags/{self.tag}/", {"description": self.canary})
        [self.experiment] = [one["id"] for one in self.rest("get", "/experiments/") if one["name"] == "e"]
        self.rest("put", f"/experiments/{self.experiment}/", {"description": self.canary})
        self.uris = {kind: self.uri(kind) for kind in ("images", "audios")}
        for path in ("/apps/", "/dashboards/", "/reports/"):
            self.new(path)
        for path in (f"/runs/{RUN}/note/", f"/experiments/{self.experiment}/note/"):
            self.rest("post", path, {"content": self.canary})
        for run_hash in DELETED:
            Run(run_hash, repo=self.url, frontier_url=self.ingest, capture_terminal_logs=False).close()
        eventually(lambda: all(self.has(run_hash) for run_hash in DELETED), "the runs to delete are applied")

    def send(self, method, path, body=None):
        """Returns the status of an answer and its content, also of the files in an archive."""
        answer = self.http.request(method, self.url + path, json=body)
        content = answer.content
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content += b"".join(archive.read(name) for name in archive.namelist())
        return answer, content

    def has(self, run_hash):
        return self.http.get(f"{self.url}/api/v1/rest/runs/{run_hash}/info/").status_code == 200

    def rest(self, method, path, body=None):
        answer, _ = self.send(method, f"/api/v1/rest{path}", body)
        assert answer.is_success, (method, path, answer.text)
        return answer.json()

    def log(self, run_hash):
        """Logs a run with the canary in everything that has a text."""
        canary = self.canary
        run = Run(run_hash, repo=self.url, frontier_url=self.ingest, experiment="e", capture_terminal_logs=False)
        run.name = run.description = canary
        run["hparams"] = {"text": canary, canary: 1}
        for name in ("t", canary):
            run.add_tag(name)
        of = {"of": canary}
        for step in range(3):
            run.track(float(step), name="m", step=step, context={})
            run.track(float(step), name="m", step=step, context=of)
        for context in ({}, of):
            run.track(Text(canary), name="texts", step=0, context=context)
            image = Image(numpy.zeros((20, 20, 3), numpy.uint8), caption=canary)
            run.track(image, name="images", step=0, context=context)
            audio = Audio(canary.encode(), format_="wav", caption=canary)
            run.track(audio, name="audios", step=0, context=context)
            figure = Figure({"data": [], "layout": {"title": canary}})
            run.track(figure, name="figures", step=0, context=context)
            run.track(Distribution([1.0, 2.0, 3.0], bin_count=4), name="distributions", step=0, context=context)
        run.log_info(canary)
        run._send_terminal_line(canary, 0)
        run.log_artifact(str(self.file))
        run.log_artifact(str(self.file), "a.txt")
        for name in (*RENAMED, "last"):
            run.track(1.0, name=name, step=0)
        query = {"q": f"run.hash == '{run_hash}' and metric.name == 'last'"}
        search = f"{self.url}/api/v1/rest/runs/search/metric/"
        known = lambda: run_hash.encode() in self.http.get(search, params=query).content
        eventually(known, f"run {run_hash} is applied")
        return run

    def uri(self, kind):
        _, content = self.send("post", f"/api/v1/rest/runs/{RUN}/{kind}/get-batch/", [{"name": kind, "context": {}}])
        return next(value for path, value in _decode_flat_pairs(content) if path[-1] == "blob_uri")

    def new(self, path):
        """Makes an entity with the canary in its texts, and returns its id."""
        name = f"{self.canary} {next(self.numbers)}"
        if path == "/apps/":
            return self.rest("post", path, {"type": name, "state": {"text": self.canary}})["id"]
        return self.rest("post", path, {"name": name, "description": self.canary})["id"]

    def upload(self):
        """Begins an upload in one part, and returns what its calls contain."""
        upload = {"run_id": RUN, "artifact_path": f"part {next(self.numbers)}", "content_type": "", "size": 3}
        begun = self.rest("post", "/artifacts/uploads/", upload)
        return {**upload, "upload_id": begun["upload_id"]}

    def put_part(self, upload):
        part = self.rest("post", "/artifacts/uploads/part/", {**upload, "part_number": 1})
        sent = self.http.put(httpx.URL(self.url).join(part["upload_url"]), content=b"abc")
        assert sent.is_success, sent.text
        return sent.headers.get("etag", "")


def ids(side, method, path, deleted):
    """The ids in the path of a call, of entities that exist in this project."""
    is_deleted = method == "delete"
    match path.split("/")[1:]:
        case ["runs", "{id}", "note", *rest]:
            note = side.rest("post", f"/runs/{RUN}/note/", {"content": side.canary})["id"] if rest[0] else ""
            return {"id": RUN, "note_id": note}
        case ["runs", "{id}", "clear-tombstone", *_]:
            return {"id": "gone"}
        case ["runs", "{id}", *_]:
            return {"id": next(deleted) if is_deleted and path == "/runs/{id}/" else RUN, "tag_id": side.tag}
        case ["experiments", "{id}", "note", *rest]:
            path = f"/experiments/{side.experiment}/note/"
            note = side.rest("post", path, {"content": side.canary})["id"] if rest[0] else ""
            return {"id": side.experiment, "note_id": note}
        case ["experiments", *_]:
            return {"id": side.new("/experiments/") if is_deleted else side.experiment}
        case ["tags", *_]:
            return {"id": side.new("/tags/") if is_deleted else side.tag}
        case ["apps", "{id}", *_]:
            return {"id": side.new("/apps/")}
        case [("dashboards" | "reports") as kind, "{id}", *_]:
            return {"id": side.new(f"/{kind}/")}
        case ["payloads", *_]:
            return {"uri": side.uris["images" if "thumbnail" in path else "audios"]}
    return {}


def body(side, path, deleted, renamed):
    """The body of a call. Names are unique, and have the canary."""
    new = f"{side.canary} {next(side.numbers)}"
    keys = [{"name": "m", "context": {}}, {"name": "m", "context": {"of": side.canary}}]
    match path.split("/")[1:]:
        case ["artifacts", "presign", *_]:
            return {"run_id": RUN, "artifact_path": "new"}
        case ["artifacts", "uploads", "part", *_]:
            return {**side.upload(), "part_number": 1}
        case ["artifacts", "uploads", "complete", *_]:
            upload = side.upload()
            return {**upload, "etags": [side.put_part(upload)]}
        case ["artifacts", "uploads", "abort", *_]:
            return side.upload()
        case ["artifacts", "uploads", *_]:
            return {"run_id": RUN, "artifact_path": new, "size": 3}
        case ["runs", "search", "metric", "align", *_]:
            trace = {"name": "m", "context": {"of": side.canary}, "slice": [0, 3, 1]}
            return {"align_by": "m", "runs": [{"run_id": RUN, "traces": [trace]}]}
        case ["runs", ("images" | "audios") as kind, "get-batch", *_]:
            return [side.uris[kind]]
        case ["runs", ("htmls" | "point_clouds"), "get-batch", *_]:
            return [side.uris["audios"]]
        case ["runs", "{id}", "metric", "get-batch", *_]:
            return keys
        case ["runs", "{id}", kind, ("get-batch" | "get-step"), *_]:
            return [{"name": kind, "context": {}}, {"name": kind, "context": {"of": side.canary}}]
        case ["runs", "delete-batch", *_]:
            return [next(deleted)]
        case ["runs", ("archive-batch" | "finish-batch"), *_]:
            return ["finished"]
        case ["runs", "{id}", "tags", "new", *_]:
            return {"tag_name": new}
        case ["runs", "{id}", "series", "rename", *_]:
            return {"type": "metric", "name": next(renamed), "new_name": new}
        case ["runs", "{id}", "series", "delete", *_]:
            return {"type": "metric", "name": "m", "start": 2}
        case ["runs", "{id}", "note", *_] | ["experiments", "{id}", "note", *_]:
            return {"content": new}
        case ["projects", "pinned-sequences", *_]:
            return {"sequences": [{"name": side.canary, "context": {}}]}
        case ["projects", "metric-goals", *_]:
            return {"name": side.canary, "direction": "lower"}
        case ["projects", *_]:
            return {"display_name": side.canary}
        case ["apps", *_]:
            return {"type": new, "state": {"text": side.canary}}
        case ["runs", "{id}", ""]:
            return {"description": side.canary}
    return {"name": new, "description": side.canary}


QUERIES = {
    "/runs/{id}/artifacts/download/": "path=a.txt",
    "/export/metrics/": "format=csv",
    "/export/runs/": "format=csv",
    "/export/objects/": "format=csv&sequence=texts",
    "/runs/{id}/info/": "sequence=metric&sequence=texts",
    "/payloads/{uri}/thumbnail/": "size=16",
}


def operations(server):
    """Method, prefix and path of every operation: first operations that read, and at the end operations that delete."""
    paths = httpx.get(f"{server.query}/openapi.json", timeout=60).json()["paths"]
    found = []
    for whole, methods in paths.items():
        prefix = next((one for one in ("/api/v1/rest", "/api") if whole.startswith(f"{one}/")), "")
        path = whole.removeprefix(prefix)
        for method in methods:
            is_read = method == "get" or "get-" in path or path.endswith("/align/")
            rank = 0 if is_read else 2 if method == "delete" or "delete" in path or "clear-" in path else 1
            found.append((rank, method, prefix, path))
    return [operation[1:] for operation in sorted(found, key=lambda one: one[0])]


def test_no_operation_shows_or_changes_another_project(tmp_path):
    server = Server(tmp_path).start()
    made = httpx.post(f"{server.query}/api/v1/rest/projects/", json={"name": "team"}, timeout=60)
    made.raise_for_status()
    sides = [Side(server, "", tmp_path), Side(server, "team", tmp_path)]
    remaining = {side: set(DELETED) for side in sides}
    deleted = iter(DELETED)
    renamed = iter(RENAMED)
    failures = []

    for (method, prefix, path), (own, other) in itertools.product(operations(server), (sides, sides[::-1])):
        name = f"{method} {path}"
        if name in MADE_ELSEWHERE | NEEDS_ACCESS:
            continue
        # What only the other project has must not be found, or changed: its own call would fail.
        for side in (other, own):
            url = prefix + path.format(**ids(side, method, path, deleted))
            url += f"?{QUERIES[path]}" if path in QUERIES else ""
            sent = body(side, path, deleted, renamed) if method in ("post", "put") else None
            answer, content = own.send(method, url, sent)
            remaining[own] -= {run for run in DELETED if run in url.split("/") or run in (sent or [])}
            at = f"{name} in {own.url} with ids of {side.url}"
            is_told = sent is not None and side is other
            if name not in OF_ALL_PROJECTS and not is_told and other.canary.encode() in content:
                failures.append(f"{at} shows the canary of the other project")
            if side is own:
                if not answer.is_success:
                    failures.append(f"{at}: {answer.status_code} {answer.text[:200]}")
                is_shown = own.canary.encode() in content
                if path not in OF_NO_PROJECT and is_shown == (name in SHOWS_NOTHING):
                    failures.append(f"{at} {'shows' if is_shown else 'lacks'} its canary: {content[:100]!r}")
    assert not failures, "\n".join(failures)

    # Each of these runs was deleted in one project.
    for side, runs in remaining.items():
        assert {run for run in DELETED if side.has(run)} == runs and len(runs) == len(DELETED) // 2
        side.active.close()
    team = sides[1]
    assert team.rest("delete", "/projects/")["state"] == "deleting"
    assert team.http.get(f"{team.url}/api/v1/rest/projects/").status_code == 404
    assert sides[0].rest("get", "/projects/")["name"] == sides[0].canary
    assert server.stop() == 0
