"""Archives in both directions: the published client replays archives of this server, this server restores archives of the client,
and restores its own archives bit for bit."""

from __future__ import annotations

import io
import json
import math
import os
import random
import shutil
import struct
import subprocess
import tarfile

import httpx
import numpy
import pytest
from conftest import Server, eventually
from matyan_client import Audio, Distribution, Figure, Image, Run, Text
from matyan_client.backup import run_backup
from matyan_client.restore import restore_reingest
from matyan_client.transport.http import HttpTransport, _decode_flat_pairs, _decode_streaming_response

RUNS = ["rich", "plain", "run.with-dots_1"]
CONTEXT = {"subset": "train", "fold": 3, "rate": 0.5}


@pytest.fixture
def fresh(tmp_path_factory):
    """Starts empty servers."""
    running = []

    def started():
        server = Server(tmp_path_factory.mktemp("empty")).start()
        running.append(server)
        return server

    yield started
    for server in running:
        if server.process.poll() is None:
            assert server.stop() == 0, server.said()


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A project with items of every kind."""
    server = Server(tmp_path_factory.mktemp("rich")).start()
    fill(server)
    yield server
    assert server.stop() == 0


def matyan(*words, code=0):
    done = subprocess.run([os.environ["MATYAN_BIN"], *map(str, words)], capture_output=True, text=True)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def backup(server, output, *flags):
    return json.loads(matyan("backup", output, "--server", server.query, "--json", *flags))


def restore(server, archive, *flags):
    return json.loads(matyan("restore", archive, "--server", server.query, "--json", *flags))


def rest(server, method, path, **kwargs):
    answer = httpx.request(method, f"{server.query}/api/v1/rest/{path}", timeout=60, **kwargs)
    answer.raise_for_status()
    return answer


def fill(server):
    run = Run("rich", repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False, experiment="größe")
    run.name = "the rich one"
    run.description = "with\nlines"
    run["hparams"] = {
        "lr": 0.1, "zero": -0.0, "tiny": 5e-324, "big": 12345678901234567890123, "none": None, "list": [1, "a", {"b": []}],
        "text": "größe 模型 🚀 \" \\ \n", "empty": {},
    }
    run["odd"] = {"nan": math.nan, "inf": math.inf, "minus": -math.inf}
    for step, value in enumerate([0.1, math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e300, 1 / 3]):
        run.track(value, name="loss", step=step * 7 - 3, epoch=step // 2, context=CONTEXT)
        run.track(value * 2, name="loss", step=step, context={"subset": "val"})
    for step in range(3000):
        run.track(math.sin(step / 50), name="long", step=step)
    run.track(3, name="whole", step=2**40)
    for step in range(3):
        run.track(Text(f"text {step} ü"), name="texts", step=step, context=CONTEXT)
        run.track(Image(numpy.full((3, 4, 3), step * 50, numpy.uint8), caption=f"c{step}"), name="images", step=step)
        run.track(Audio(numpy.zeros(200), rate=8000, format_="wav", caption="beep"), name="audios", step=step)
        run.track(Distribution(numpy.arange(50.0), bin_count=8), name="distributions", step=step)
        run.track(Figure({"data": [{"x": [1, 2], "y": [3.5, None], "big": "x" * 100_000}], "layout": {}}), name="figures", step=step)
    run.add_tag("best")
    run.add_tag("other")
    run.log_info("learning", rate=0.5)
    run.log_warning("warned")
    folder = server.directory / "artifacts"
    folder.mkdir()
    (folder / "model.bin").write_bytes(random.Random(1).randbytes(3_000_000))
    (folder / "sub").mkdir()
    (folder / "sub" / "notes ü.txt").write_text("artifact")
    run.log_artifact(str(folder / "model.bin"))
    run.log_artifacts(str(folder / "sub"), name="sub")
    run.close()
    for number, name in enumerate(RUNS[1:]):
        other = Run(name, repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False)
        for step in range(10):
            other.track(step * number + 0.5, name="loss", step=step)
        other.archived = number == 1
        other.close()
    doomed = Run("doomed", repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False)
    doomed.track(1.0, name="loss", step=0)
    doomed.close()
    for name in [*RUNS, "doomed"]:
        eventually(lambda name=name: rest(server, "GET", f"runs/{name}/info/").json()["props"]["active"] is False, name)
    lines(server, "rich")
    rest(server, "DELETE", "runs/doomed/")
    experiment = [e for e in rest(server, "GET", "experiments/").json() if e["name"] == "größe"][0]
    rest(server, "PUT", f"experiments/{experiment['id']}/", json={"description": "of size", "archived": True})
    tag = [t for t in rest(server, "GET", "tags/").json() if t["name"] == "best"][0]
    rest(server, "PUT", f"tags/{tag['id']}/", json={"color": "#12ab34", "description": "the best"})
    rest(server, "POST", "tags/", json={"name": "unused"})
    rest(server, "POST", "runs/rich/note/", json={"content": "a note ü"})
    rest(server, "POST", f"experiments/{experiment['id']}/note/", json={"content": "of an experiment"})
    app = rest(server, "POST", "apps/", json={"type": "metrics", "state": {"a": [1, 2.5, None, {"b": -0.0}]}}).json()
    rest(server, "POST", "dashboards/", json={"name": "board", "description": "d", "app_id": app["id"]})
    rest(server, "POST", "reports/", json={"name": "report", "code": "# ü\n", "description": "d"})
    rest(server, "POST", "projects/pinned-sequences/", json={"sequences": [{"name": "loss", "context": CONTEXT}]})


def lines(server, run):
    """Sends terminal lines, one of which replaces another."""
    from websockets.sync.client import connect
    frames = [{"type": "log_terminal_line", "run_id": run, "line": f"line {n} \u001b[1mü", "step": n} for n in [0, 1, 2, 1]]
    address = server.ingest.replace("http", "ws")
    with connect(f"{address}/api/v1/ws/runs/{run}") as socket:
        for frame in frames:
            socket.send(json.dumps(frame))
            assert json.loads(socket.recv())["status"] == "ok"
    eventually(lambda: len(flat(rest(server, "GET", f"runs/{run}/logs/"))) >= 3, "the lines are applied")


def flat(answer):
    return list(_decode_flat_pairs(answer.content))


def exact(value):
    """Replaces floats by their bits, so that NaN equals itself and 0.0 differs from -0.0."""
    if isinstance(value, float):
        return ("float", struct.pack("<d", value).hex())
    if isinstance(value, dict):
        return {key: exact(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [exact(inner) for inner in value]
    return value


def state(server, runs=RUNS):
    """Everything that the API returns for a project."""
    found = {"project": rest(server, "GET", "projects/").json(), "pinned": rest(server, "GET", "projects/pinned-sequences/").json()}
    found["listed"] = [run["hash"] for run in _decode_streaming_response(rest(server, "GET", "runs/search/run/", params={"q": "run.archived or not run.archived", "report_progress": "false"}).content)]
    for kind in ("experiments", "tags", "dashboards", "apps", "reports"):
        listed = rest(server, "GET", f"{kind}/").json()
        found[kind] = sorted(listed, key=lambda one: one["id"])
        for one in listed:
            found[kind, one["id"]] = rest(server, "GET", f"{kind}/{one['id']}/").json()
            if kind == "experiments":
                found["notes", one["id"]] = rest(server, "GET", f"experiments/{one['id']}/note/").json()
            if kind in ("experiments", "tags"):
                found["runs", one["id"]] = rest(server, "GET", f"{kind}/{one['id']}/runs/").json()
    for run in runs:
        found["run", run] = run_state(server, run)
    return exact(found)


def run_state(server, run):
    info = rest(server, "GET", f"runs/{run}/info/", params=[("sequence", kind) for kind in ("metric", "images", "texts", "audios", "distributions", "figures")]).json()
    found = {"info": info, "notes": rest(server, "GET", f"runs/{run}/note/").json()}
    search = rest(server, "GET", "runs/search/run/", params={"q": f"run.hash == {run!r}", "report_progress": "false"})
    found["search"] = list(_decode_streaming_response(search.content))
    for kind, traces in info["traces"].items():
        if kind == "metric":
            asked = [{"name": trace["name"], "context": trace["context"]} for trace in traces]
            points = rest(server, "POST", f"runs/{run}/metric/get-batch/", json=asked, params={"record_density": 0}).json()
            found["points"] = sorted(points, key=lambda one: (one["name"], str(one["context"])))
            aligned = rest(server, "GET", "runs/search/metric/", params={"q": f"run.hash == {run!r}", "p": 1_000_000, "report_progress": "false"})
            found["columns"] = [[path, value] for path, value in flat(aligned) if "blob" in map(str, path) or "epochs" in map(str, path)]
        else:
            for trace in traces:
                asked = [{"name": trace["name"], "context": trace["context"]}]
                pairs = flat(rest(server, "POST", f"runs/{run}/{kind}/get-batch/", json=asked, params={"record_density": 0, "index_density": 0}))
                uris = [value for path, value in pairs if path[-1] == "blob_uri"]
                found[kind, trace["name"]] = [[path, value] for path, value in pairs if path[-1] != "blob_uri"]
                if uris:
                    transport = HttpTransport(server.query)
                    found["payloads", kind] = sorted(bytes(it).hex() for it in transport.get_blob_batch(kind, uris).values())
                    transport.close()
    found["lines"] = flat(rest(server, "GET", f"runs/{run}/logs/"))
    found["records"] = flat(rest(server, "GET", f"runs/{run}/log-records/"))
    artifacts = info.get("artifacts") or []
    found["artifacts"] = {
        one["path"]: httpx.get(f"{server.query}/api/v1/rest/runs/{run}/artifacts/download/", params={"path": one["path"]}).content.hex()
        for one in artifacts
    }
    return found


def differing(left, right, path=""):
    if isinstance(left, dict) and isinstance(right, dict):
        for key in {**left, **right}:
            yield from differing(left.get(key), right.get(key), f"{path}/{key}")
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for at, (one, other) in enumerate(zip(left, right)):
            yield from differing(one, other, f"{path}[{at}]")
    elif left != right:
        yield f"{path}: {str(left)[:300]} / {str(right)[:300]}"


def assert_same(left, right):
    differences = list(differing(left, right))
    assert not differences, "\n".join(differences[:20])


def test_a_restored_project_is_bit_for_bit_the_same(rich, fresh, tmp_path):
    before = state(rich)
    whole = before["run", "rich"]
    assert whole["artifacts"] and whole["payloads", "images"] and whole["records"] and whole["lines"], "the project has items of every kind"
    assert any(struct.pack("<d", math.inf) in value for _, value in whole["columns"] if isinstance(value, bytes))
    made = backup(rich, tmp_path)
    assert made["runs"] == 3 and made["blobs"] == 8 and made["entities"]["note"] == 2
    server = fresh()
    result = restore(server, made["archive"])
    assert result["runs_restored"] == 3 and result["links_lost"] == result["notes_lost"] == 0 and not result["runs_kept"]
    assert_same(before, state(server))
    # A second restore duplicates nothing.
    again = restore(server, made["archive"])
    assert (again["runs_restored"], again["runs_restored_before"], again["entities_made"]) == (0, 3, 0)
    assert_same(before, state(server))
    # A restored run continues like any other run.
    run = Run("plain", repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False)
    run.track(1.0, name="loss", step=10)
    run.close()
    asked = [{"name": "loss", "context": {}}]

    def next_step():
        [points] = rest(server, "POST", "runs/plain/metric/get-batch/", json=asked, params={"record_density": 0}).json()
        assert points["iters"] == [*range(11)] and points["values"][-1] == 1.0, points
        return True

    eventually(next_step, "the next step follows the restored ones")


def kept(found):
    """The parts of a run that a replay by the published client keeps: without times, tags and other entities."""
    info = found["info"]
    props = {key: value for key, value in info["props"].items() if key in ("name", "description", "archived", "active")}
    props["experiment"] = (info["props"].get("experiment") or {}).get("name")
    traces = {
        kind: [{key: trace[key] for key in ("name", "context")} for trace in listed] for kind, listed in info["traces"].items()
    }
    points = [{key: series[key] for key in ("name", "context", "iters", "values")} for series in found.get("points", [])]
    objects = {
        key: [pair for pair in value if "time" not in str(pair[0][-1]) and "_us" not in str(pair[0])]
        for key, value in found.items() if isinstance(key, tuple) and key[0] in ("texts", "distributions", "figures")
    }
    return {
        "props": props, "params": info["params"], "traces": traces, "points": points, "objects": objects,
        "payloads": {key: value for key, value in found.items() if isinstance(key, tuple) and key[0] == "payloads"},
        "lines": found["lines"], "records": found["records"], "artifacts": found["artifacts"],
    }


def test_the_published_client_replays_archives_of_this_server(rich, fresh, tmp_path):
    made = backup(rich, tmp_path, "--compress")
    assert made["archive"].endswith(".tar.gz") and os.listdir(tmp_path) == [os.path.basename(made["archive"])]
    server = fresh()
    result = restore_reingest(made["archive"], backend_url=server.query, frontier_url=server.ingest)
    assert not result.errors, result.errors
    before = state(rich)
    after = state(server)
    for run in RUNS:
        assert_same(kept(before["run", run]), kept(after["run", run]))
    names = lambda found, kind: sorted(one["name"] for one in found[kind])
    assert names(before, "experiments") == names(after, "experiments") and names(before, "tags") == names(after, "tags")


def test_archives_of_the_published_client_can_be_restored(rich, fresh, tmp_path):
    written = run_backup(str(tmp_path), backend_url=rich.query)
    server = fresh()
    result = restore(server, written.backup_path)
    # The client omits archived runs, and writes references instead of images and other objects.
    assert result["runs_restored"] == 2 and result["objects_lost"] == 15 and not result["links_lost"]
    before = state(rich, RUNS[:2])
    after = state(server, RUNS[:2])
    names = lambda found, kind: sorted(one["name"] for one in found[kind])
    assert names(before, "experiments") == names(after, "experiments") and names(before, "tags") == names(after, "tags")
    for run in RUNS[:2]:
        old = before["run", run]
        new = after["run", run]
        props = ("name", "description", "active", "archived", "creation_time", "end_time", "experiment")
        assert_same(*({key: found["info"]["props"][key] for key in props} for found in (old, new)))
        assert_same(*([{key: one[key] for key in ("name", "context", "iters", "values")} for one in found["points"]] for found in (old, new)))
        assert_same(old["lines"], new["lines"])
        of_records = ("message", "log_level", "timestamp")
        assert_same(*([pair for pair in found["records"] if pair[0][-1] in of_records] for found in (old, new)))
    assert restore(server, written.backup_path)["runs_restored_before"] == 2


def test_an_archive_of_tensorboard_files_restores(fresh, tmp_path):
    """Files as the published client's converter writes them: histograms as hexadecimal text, no contexts, a generated run id."""
    archive = tmp_path / "matyan-tb-import-20260131-120000"
    run = archive / "runs" / "0123456789abcdef"
    (run / "blobs" / "seq" / "img").mkdir(parents=True)
    (run / "blobs" / "seq" / "img" / "3.png").write_bytes(b"PNG")
    weights = struct.pack("<3d", 1.0, 2.5, 0.0).hex()
    key = f"{run.name}/seq/img/3.png"
    lines = [
        {"ctx_id": 0, "name": "loss", "step": 0, "value": 0.5, "time": 1700000000.25},
        {"ctx_id": 0, "name": "loss", "step": 10, "value": math.nan, "time": 1700000001.25},
        {"ctx_id": 0, "name": "hist", "step": 1, "time": 1700000002.0, "value": {
            "type": "distribution", "bin_count": 3, "range": [-1.0, 2.0], "dtype": "float64", "data": weights}},
        {"ctx_id": 0, "name": "img", "step": 3, "time": 1700000003.0, "value": {
            "type": "image", "format": "png", "width": 4, "height": 5, "caption": "img step 3", "s3_key": key}},
        {"ctx_id": 0, "name": "words", "step": 0, "value": {"type": "text", "data": "hello"}, "time": 1700000004.0},
    ]
    kinds = {"loss": "float", "hist": "distribution", "img": "image", "words": "text"}
    files = {
        "runs/0123456789abcdef/run.json": {
            "name": "train", "description": "Imported from TensorBoard", "created_at": 1700000000.25,
            "client_start_ts": 1700000000.25, "finalized_at": 1700000004.0, "updated_at": 1700000004.0, "duration": 3.75,
            "active": False, "is_archived": False, "experiment_id": "ab12cd34"},
        "runs/0123456789abcdef/attrs.json": {"hparams": {"lr": 0.1}},
        "runs/0123456789abcdef/traces.json": [{"name": name, "context_id": 0, "dtype": kind} for name, kind in kinds.items()],
        "runs/0123456789abcdef/contexts.json": {"0": {}},
        "manifest.json": {
            "format_version": 1, "created_at": "2026-01-31T12:00:00+00:00", "run_count": 1, "run_hashes": [run.name],
            "entity_counts": {"experiment": 1}, "blob_count": 1, "blob_bytes": 3,
            "filters": {"source": "tensorboard", "input_dir": "/x"}, "include_blobs": True},
    }
    for name, content in files.items():
        (archive / name).write_text(json.dumps(content))
    (run / "sequences.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    entity = {"entity_type": "experiment", "data": {"id": "ab12cd34", "name": "imported", "created_at": 1.5}}
    (archive / "entities.jsonl").write_text(json.dumps(entity) + "\n")
    server = fresh()
    assert restore(server, archive)["runs_restored"] == 1
    found = run_state(server, run.name)
    props = found["info"]["props"]
    assert (props["creation_time"], props["end_time"], props["experiment"]["id"]) == (1700000000.25, 1700000004.0, "ab12cd34")
    [points] = found["points"]
    assert points["iters"] == [0, 10] and points["values"] == [0.5, None]
    assert found["payloads", "images"] == [b"PNG".hex()]
    values = dict((tuple(path), value) for path, value in found["distributions", "hist"])
    assert bytes.fromhex(weights) in [value for value in values.values() if isinstance(value, bytes)], values
