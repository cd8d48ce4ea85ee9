"""Parts of the published client that the other tests only use indirectly: its times and its HTTP calls. Also checks that every
public name of the client is tested."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
import uuid
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import httpx
import pytest
from matyan_client import Repo, Run
from matyan_client.config import SETTINGS
from matyan_client.transport.http import HttpTransport, _decode_streaming_response
from server import eventually, free_port
from test_published_client import finished, http, open_run, stored  # noqa: F401  (fixtures)

REST = "/api/v1/rest"


def logged(http, open_run, **properties):
    """A finished run with these properties."""
    run = open_run(**properties)
    run["x"] = 1
    run.close()
    finished(http, run.hash)
    return run.hash


def test_the_default_repo_comes_from_the_environment(server, http, open_run):
    """Also in a separate process, because the client reads the environment when it is imported."""
    assert repr(Repo.default_repo()) == repr(Repo(SETTINGS.backend_url))
    own = logged(http, open_run)
    script = "from matyan_client import Repo; repo = Repo.default_repo(); print(repr(repo), *repo.list_all_runs())"
    said = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "MATYAN_BACKEND_URL": server.query},
        check=True, capture_output=True, text=True, timeout=120,
    ).stdout
    assert said.startswith(f"Repo(url={server.query!r}) ") and own in said.split()


def test_properties_of_a_run_match_what_is_stored(server, http, open_run):
    before = time.time()
    run = open_run(experiment=f"e-{uuid.uuid4().hex}")
    run.name = "named"
    run.description = "described"
    run.archived = True
    assert (run.active, run.end_time, run.finalized_at, run.duration) == (True, None, None, None)
    run.close()
    finished(http, run.hash)
    after = time.time()
    props = http.get_run_info(run.hash)["props"]
    assert (run.name, run.description, run.archived, run.active, run.experiment) == (
        props["name"], props["description"], props["archived"], props["active"], props["experiment"]["name"],
    ) == ("named", "described", True, False, run.experiment)
    # The client takes its times before it sends them to the server.
    assert before <= run.creation_time <= props["creation_time"] <= props["end_time"] <= after
    assert run.creation_time <= run.end_time <= props["end_time"]
    assert run.created_at == datetime.fromtimestamp(run.creation_time, tz=timezone.utc)
    assert run.finalized_at == datetime.fromtimestamp(run.end_time, tz=timezone.utc)
    assert run.duration == run.end_time - run.creation_time

    # A read-only run has the time at which it was opened; the stored values are in its `props`.
    reader = stored(server, run.hash)
    assert (reader.name, reader.description, reader.experiment, reader.archived) == (None, None, None, False)
    assert reader.creation_time >= after and (reader.active, reader.end_time, reader.duration) == (True, None, None)
    reader.name = "not sent"
    reader.archived = False
    reader.add_tag("not sent"), reader.remove_tag("not sent"), reader.log_info("not sent")
    for refused in (lambda: reader.track(1.0, name="m"), lambda: reader.log_artifact(__file__)):
        with pytest.raises(RuntimeError):
            refused()
    assert reader.props == props and reader.tags == []
    reader.close()
    assert reader.active is False and reader.finalized_at >= reader.created_at
    assert http.get_run_info(run.hash)["props"] == props


def test_a_resumed_run_keeps_its_creation_time(server, http, open_run):
    """A resumed run is active, and has an end time only when it is finished again."""
    run_hash = logged(http, open_run)
    first = http.get_run_info(run_hash)["props"]
    run = open_run(run_hash)
    eventually(lambda: http.get_run_info(run_hash)["props"]["active"], "the run is active again")
    assert http.get_run_info(run_hash)["props"]["end_time"] is None
    run.close()
    finished(http, run_hash)
    second = http.get_run_info(run_hash)["props"]
    assert second["creation_time"] == first["creation_time"] and second["end_time"] > first["end_time"]


def test_versions(server, http):
    assert http.get_version().keys() >= {"version", "component"} and http.get_version()["component"] == "backend"
    frontier = HttpTransport(server.ingest)
    assert frontier.get_version() == {"version": http.get_version()["version"], "component": "frontier"}
    frontier.close()
    unreachable = HttpTransport(f"http://127.0.0.1:{free_port()}")
    assert unreachable.get_version() is None


def test_runs_are_changed_and_deleted_over_http(server, http, open_run):
    word = uuid.uuid4().hex
    ids = [logged(http, open_run) for _ in range(4)]
    ok = {"id": ids[0], "status": "OK"}
    assert http.update_run(ids[0], name=f"n {word}", description="größe", experiment=f"e {word}", archived=True) == ok
    props = http.get_run_info(ids[0])["props"]
    assert (props["name"], props["description"], props["archived"]) == (f"n {word}", "größe", True)
    assert props["experiment"]["name"] == f"e {word}"
    assert http.update_run(ids[0], archived=False, active=True) == ok
    changed = http.get_run_info(ids[0])["props"]
    assert changed == {**props, "archived": False, "active": True, "end_time": None}
    assert [run["hash"] for run in http.search_runs(f"run.name == 'n {word}' and run.active")] == [ids[0]]

    added = http.add_tag_to_run(ids[0], f"t {word}")
    assert added == {"id": ids[0], "tag_id": added["tag_id"], "status": "OK"}
    assert http.add_tag_to_run(ids[1], f"t {word}")["tag_id"] == added["tag_id"]
    assert stored(server, ids[0]).tags == [f"t {word}"]
    assert [run["hash"] for run in http.search_runs(f"'t {word}' in run.tags")] == [ids[1], ids[0]]
    removed = http.remove_tag_from_run(ids[0], added["tag_id"])
    assert removed == {"id": ids[0], "removed": True, "status": "OK"}
    assert stored(server, ids[0]).tags == [] and stored(server, ids[1]).tags == [f"t {word}"]
    [tag] = [tag for tag in http.list_tags() if tag["id"] == added["tag_id"]]
    assert (tag["name"], tag["run_count"]) == (f"t {word}", 1)

    assert http.delete_runs_batch(ids[:2] + ["no such run"]) == {"status": "OK"}
    assert http.delete_runs_batch([]) == {"status": "OK"}
    assert http.delete_run(ids[2]) == {"id": ids[2], "status": "OK"}
    left = [run["hash"] for run in http.search_runs()]
    assert [run for run in ids if run in left] == ids[3:]
    for call in (http.get_run_info, http.update_run, lambda run: http.add_tag_to_run(run, "x")):
        with pytest.raises(httpx.HTTPStatusError) as refused:
            call(ids[0])
        assert refused.value.response.status_code == 404
    eventually(lambda: http.clear_run_tombstone(ids[0]) is None, "the tombstone is cleared")
    assert logged(http, lambda: open_run(ids[0])) == ids[0], "the id can be used again"


def test_runs_and_series_are_searched_over_http(server, http, open_run):
    word = "w" + uuid.uuid4().hex
    ids = []
    for number in range(3):
        run = open_run()
        run["hparams"] = {"word": word, "number": number}
        for step in range(5):
            run.track(step + number / 2, name="loss", step=step)
        run.close()
        finished(http, run.hash)
        ids.append(run.hash)
    own = f"run.hparams.word == '{word}'"
    assert [run["hash"] for run in http.search_runs(own)] == ids[::-1]
    assert [run["hash"] for run in http.search_runs(own, limit=1, offset=ids[2])] == [ids[1]]
    assert http.search_runs("run.hparams.word ==") == [], "the client only logs that the query is invalid"
    for found in (
        http.search_metrics(f"{own} and metric.name == 'loss'", p=2),
        http.search_sequence("metric", f"{own} and metric.name == 'loss'", p=2),
    ):
        assert {run["hash"]: run["params"]["hparams"]["number"] for run in found} == {own: n for n, own in enumerate(ids)}
        for run in found:
            [trace] = run["traces"].values()
            assert trace["name"] == "loss" and len(trace["values"]["blob"]) == 2 * 8
    assert http.search_sequence("texts", own) == []


def test_an_artifact_is_uploaded_step_by_step(server, http, open_run, tmp_path):
    """The individual steps of an upload: URL, content, reference. The artifact exists only after the reference."""
    run = open_run()
    path = "folder/größe 1.bin"
    content = os.urandom(100_000)
    signed = http.presign_artifact(server.ingest, run.hash, path, content_type="application/x-weights")
    assert signed["s3_key"] == f"{run.hash}/{path}"
    headers = {"content-type": "application/x-weights", **(signed.get("headers") or {})}
    sent = httpx.put(signed["upload_url"], content=content, headers=headers, timeout=60)
    assert sent.is_success, sent.text
    eventually(lambda: http.get_run_info(run.hash), "the run is stored")
    assert run.artifacts == []
    run._ws.send_blob_ref(signed["s3_key"], path, "application/x-weights")
    run.close()
    finished(http, run.hash)
    [artifact] = http.get_run_info(run.hash)["artifacts"]
    assert (artifact["path"], artifact["name"]) == (path, "größe 1.bin")
    assert http.get_artifact(run.hash, path) == content
    http.download_artifact(run.hash, path, tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == content
    http.download_all_artifacts(run.hash, tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {path: content}
    with pytest.raises(httpx.HTTPStatusError):
        http.get_artifact(run.hash, "none")
    with pytest.raises(httpx.HTTPStatusError):
        http.download_artifact(run.hash, "none", tmp_path / "none")


def test_experiments_and_generic_calls(server, http, open_run):
    word = uuid.uuid4().hex
    made = http.create_experiment(word)["id"]
    assert http.get(f"{REST}/experiments/{made}/")["name"] == word
    assert http.put(f"{REST}/experiments/{made}/", {"description": "d"}) == {"id": made, "status": "OK"}
    assert [one["id"] for one in http.get(f"{REST}/experiments/search/", q=word)] == [made]
    assert http.delete_experiment(made) == {"status": "OK"}
    tag = http.post(f"{REST}/tags/", {"name": word})["id"]
    run_hash = logged(http, open_run)
    assert http.post(f"{REST}/runs/{run_hash}/tags/new/", {"tag_name": word})["tag_id"] == tag
    assert http.delete(f"{REST}/runs/{run_hash}/tags/{tag}/")["removed"] is True
    assert http.post_no_content(f"{REST}/runs/{run_hash}/clear-tombstone/") is None, "a missing tombstone is not an error"
    with http.get_stream(f"{REST}/runs/search/run/", q=f"run.hash == '{run_hash}'", report_progress=False) as answer:
        assert answer.headers["content-type"] == "application/octet-stream"
        [found] = _decode_streaming_response(b"".join(answer.iter_bytes()))
    assert found["hash"] == run_hash and found["params"] == {"x": 1}
    for gone in (http.delete_experiment, lambda one: http.get(f"{REST}/experiments/{one}/")):
        with pytest.raises(httpx.HTTPStatusError):
            gone(made)
    repo = Repo(server.query)
    repo.close()
    with pytest.raises(RuntimeError, match="closed"):
        repo.total_runs_count()


# Names of variables in these files that hold objects of a class.
OBJECTS = {
    HttpTransport: {"http", "frontier"},
    Repo: {"repo", "Repo"},
    Run: {"run", "runs", "reader", "first", "second", "late", "again"},
}


@pytest.mark.parametrize("called", OBJECTS, ids=lambda called: called.__name__)
def test_every_public_name_is_tested(called):
    """Fails for a new public name of the client until it is tested."""
    used = set()
    for path in Path(__file__).parent.glob("test_published_client*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = node.value
                while isinstance(owner, ast.Subscript):
                    owner = owner.value
                if isinstance(owner, ast.Name) and owner.id in OBJECTS[called]:
                    used.add(node.attr)
    assert {name for name in dir(called) if not name.startswith("_")} - used == set()
