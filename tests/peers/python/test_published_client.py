"""Everything that the published client can log is logged with it and read back exactly."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import struct
import subprocess
import sys
import textwrap
import uuid

import httpx
import numpy
import pytest
from conftest import eventually
from matyan_client import Audio, Distribution, Figure, Image, Repo, Run, Text
from matyan_client.transport.http import (
    HttpTransport,
    _decode_flat_pairs,
    _decode_streaming_response,
    _set_nested,
)


@pytest.fixture
def open_run(server):
    runs = []

    def opened(run_hash=None, **options):
        options.setdefault("capture_terminal_logs", False)
        run = Run(run_hash or uuid.uuid4().hex, repo=server.query, frontier_url=server.ingest, **options)
        runs.append(run)
        return run

    yield opened
    for run in runs:
        run.close()


@pytest.fixture
def http(server):
    transport = HttpTransport(server.query)
    yield transport
    transport.close()


def stored(server, run_hash):
    return Run(run_hash, repo=server.query, read_only=True)


def finished(http, run_hash):
    """Waits until the client's last message, `finish_run`, has been applied."""
    return eventually(lambda: http.get_run_info(run_hash)["props"]["active"] is False, f"run {run_hash} is finished")


def searched(server, kind, run_hash, **parameters):
    answer = httpx.get(
        f"{server.query}/api/v1/rest/runs/search/{kind}/",
        params={"report_progress": "false", **parameters}, timeout=120,
    )
    answer.raise_for_status()
    return [run for run in _decode_streaming_response(answer.content) if run["hash"] == run_hash]


def batch(server, run_hash, kind, name, context=None, **parameters):
    answer = httpx.post(
        f"{server.query}/api/v1/rest/runs/{run_hash}/{kind}/get-batch/",
        json=[{"name": name, "context": context or {}}],
        params={"record_density": 0, "index_density": 0, **parameters}, timeout=120,
    )
    answer.raise_for_status()
    return answer.json() if kind == "metric" else sequences(answer.content)


def sequences(body):
    """The trees of a batch of objects: they have no outer key, and each starts with its `name`."""
    found = []
    for path, value in _decode_flat_pairs(body):
        if path == ["name"]:
            found.append({})
        _set_nested(found[-1], path, value)
    return found


PARAMS = {
    "none": None,
    "flag": True,
    "off": False,
    "int": 42,
    "negative": -7,
    "big": 12345678901234567890123,
    "least": -(2**63),
    "float": 0.1,
    "whole": 1.0,
    "minus_zero": -0.0,
    "tiny": 5e-324,
    "huge": 1.7976931348623157e308,
    "text": "größe 模型 🚀 \" \\ \n\t",
    "empty_text": "",
    "empty_map": {},
    "empty_list": [],
    "list": [1, 2.5, "three", None, [True, {"deep": [4]}]],
    "nested": {"a": {"b": {"c": 1, "d": 2}}, "e": 3},
}


def same(left, right):
    """Equal in value, type and sign of zero."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("<d", left) == struct.pack("<d", right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def test_params_of_every_type(server, http, open_run):
    run = open_run()
    run["hparams"] = PARAMS
    run["a.dotted.key"] = 7
    run["infinite"] = {"up": math.inf, "down": -math.inf, "none": math.nan, "list": [math.nan]}
    run.close()
    finished(http, run.hash)
    params = http.get_run_info(run.hash)["params"]
    for key, value in PARAMS.items():
        assert same(params["hparams"][key], value), key
    assert params["a"] == {"dotted": {"key": 7}}
    [found] = searched(server, "run", run.hash)
    infinite = found["params"]["infinite"]
    assert infinite["up"] == math.inf and infinite["down"] == -math.inf and math.isnan(infinite["none"])
    assert stored(server, run.hash)["hparams.nested.a.b.d"] == 2


def test_100_000_points_bit_for_bit(server, http, open_run, stubs):
    """Several series with contexts, epochs, gaps in the steps and every special value."""
    random = numpy.random.default_rng(7)
    special = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 1 / 3]
    series = [("loss", {"subset": "train"}), ("loss", {"subset": "val"}), ("loss", None), ("acc/top-1", {"k": 1.0})]
    expected = {index: {} for index in range(len(series))}
    run = open_run()
    for number in range(25_000):
        for index, (name, context) in enumerate(series):
            value = special[number % 8] if number < 64 else float(random.standard_normal())
            step = number * (index + 1) + (1000 if number > 500 else 0)
            epoch = number // 1000 if index % 2 == 0 else None
            run.track(value, name=name, step=step, epoch=epoch, context=context)
            expected[index][step] = (struct.pack("<d", value), epoch)
    assert run._ws.wait_for_flush(timeout=300), "the client has sent everything"
    run.close()
    finished(http, run.hash)
    for index, (name, context) in enumerate(series):
        points = list(read_series(server, run.hash, name, context or {}))
        assert len(points) == 25_000
        assert {step: (struct.pack("<d", value), epoch) for step, value, epoch in points} == expected[index]
        assert [step for step, _, _ in points] == sorted(expected[index])
    [answer] = batch(server, run.hash, "metric", "loss", {"subset": "train"})
    assert len(answer["values"]) == 25_000 and answer["values"][0] is None and answer["iters"][1] == 1
    assert http.get_run_info(run.hash)["traces"]["metric"]


def read_series(server, run_hash, name, context):
    from grpc_reading import series_points

    return series_points(server.query, run_hash, name, context)


def test_automatic_steps_and_types_of_numbers(server, http, open_run):
    run = open_run()
    for value in (1, True, numpy.float32(0.1), numpy.int64(3), "2.5"):
        run.track(value, name="auto")
    run.track({"x": 1.0, "y": 2.0}, step=5)
    run.close()
    finished(http, run.hash)
    [auto] = batch(server, run.hash, "metric", "auto")
    assert auto["iters"] == [0, 1, 2, 3, 4]
    assert auto["values"] == [1.0, 1.0, float(numpy.float32(0.1)), 3.0, 2.5]
    [x] = batch(server, run.hash, "metric", "x")
    assert (x["iters"], x["values"]) == ([5], [1.0])


def test_same_step_again_replaces(server, http, open_run, stubs):
    run = open_run()
    run.track(1.0, name="m", step=3, epoch=9)
    run.track(2.0, name="m", step=3)
    run.close()
    finished(http, run.hash)
    assert [(step, value, epoch) for step, value, epoch in read_series(server, run.hash, "m", {})] == [(3, 2.0, 9)]


def test_tags_and_properties(server, http, open_run):
    run = open_run(experiment="first experiment")
    run.name = "A näme"
    run.description = "what it does"
    run.add_tag("good"), run.add_tag("to remove"), run.add_tag("good"), run.remove_tag("to remove")
    run.experiment = "second experiment"
    run.archived = True
    run.close()
    finished(http, run.hash)
    props = http.get_run_info(run.hash)["props"]
    assert (props["name"], props["description"], props["archived"]) == ("A näme", "what it does", True)
    assert props["experiment"]["name"] == "second experiment"
    assert [tag["name"] for tag in props["tags"]] == ["good"]
    assert stored(server, run.hash).tags == ["good"]
    assert props["end_time"] >= props["creation_time"]
    counts = {one["name"]: one["run_count"] for one in http.list_experiments()}
    assert (counts["first experiment"], counts["second experiment"]) == (0, 1)


def test_texts_distributions_figures(server, http, open_run):
    run = open_run()
    for step, text in enumerate(["", "größe 🚀", "line\nline", "x" * 200_000]):
        run.track(Text(text), name="answers", step=step, context={"subset": "val"})
    samples = numpy.linspace(-3, 3, 1000)
    distribution = Distribution(samples, bin_count=32)
    run.track(distribution, name="weights", step=1, epoch=2)
    figure = Figure({"data": [{"type": "bar", "x": ["a"], "y": [1.5]}], "layout": {"title": {"text": "t"}}})
    run.track(figure, name="chart", step=0)
    run.close()
    finished(http, run.hash)
    [texts] = batch(server, run.hash, "texts", "answers", {"subset": "val"})
    found = [texts["values"][position][0]["data"] for position in sorted(texts["values"])]
    assert found == ["", "größe 🚀", "line\nline", "x" * 200_000]
    [weights] = batch(server, run.hash, "distributions", "weights")
    value = weights["values"][0]
    assert value["bin_count"] == 32
    assert numpy.array_equal(numpy.frombuffer(value["data"]["blob"], "<f8"), numpy.asarray(distribution.weights, float))
    assert [value["range"][0], value["range"][1]] == list(distribution.range)
    [chart] = batch(server, run.hash, "figures", "chart")
    assert '"bar"' in chart["values"][0]["data"] and "layout" in chart["values"][0]["data"]


def test_images_and_audios(server, http, open_run):
    run = open_run()
    pixels = numpy.arange(16 * 16 * 3, dtype=numpy.uint8).reshape(16, 16, 3)
    image = Image(pixels, caption="gradient")
    sound = Audio(numpy.sin(numpy.linspace(0, 100, 2000)), rate=8000, caption="hum", format_="wav")
    run.track(image, name="samples", step=4, context={"subset": "val"})
    run.track(sound, name="voice", step=0)
    run.close()
    finished(http, run.hash)
    for kind, name, context, original in (
        ("images", "samples", {"subset": "val"}, image), ("audios", "voice", {}, sound),
    ):
        [found] = batch(server, run.hash, kind, name, context)
        item = found["values"][0][0]
        assert item["caption"] == original.caption and item["format"] == original.format
        [content] = http.get_blob_batch(kind, [item["blob_uri"]]).values()
        import base64

        assert content == base64.b64decode(original.json()["data"]), kind


def test_artifacts_of_0_bytes_and_200_MB(server, http, open_run, tmp_path):
    run = open_run()
    empty = tmp_path / "empty.bin"
    odd = tmp_path / "ünusual name #1.txt"
    large = tmp_path / "large.bin"
    empty.write_bytes(b"")
    odd.write_text("odd")
    block = os.urandom(1 << 20)
    with large.open("wb") as file:
        for _ in range(200):
            file.write(block)
    for path in (empty, odd, large):
        run.log_artifact(str(path))
    run.log_artifact(str(odd), name="folder/renamed.txt")
    run.close()
    finished(http, run.hash)
    paths = sorted(one["path"] for one in http.get_run_info(run.hash)["artifacts"])
    assert paths == sorted(["empty.bin", "ünusual name #1.txt", "large.bin", "folder/renamed.txt"])
    reader = stored(server, run.hash)
    assert reader.get_artifact("empty.bin") == b""
    assert reader.get_artifact("ünusual name #1.txt") == b"odd"
    reader.download_artifact("large.bin", tmp_path / "copy.bin")
    digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest(tmp_path / "copy.bin") == digest(large)


def test_log_records(server, http, open_run):
    run = open_run()
    run.log_debug("one"), run.log_info("two", epoch=3, loss=math.inf), run.log_warning("drei ä"), run.log_error("four")
    run.close()
    finished(http, run.hash)
    total, records = http.get_run_log_records(run.hash, "0:")
    assert total == 4
    messages = [(record["message"], record["log_level"]) for _, record in records if "message" in record]
    assert messages == [("one", "DEBUG"), ("two", "INFO"), ("drei ä", "WARNING"), ("four", "ERROR")]


def test_terminal_capture(server):
    """In a separate process, because the capture replaces the process's output streams."""
    run_hash = uuid.uuid4().hex
    script = textwrap.dedent(f"""
        import sys
        from matyan_client import Run
        run = Run({run_hash!r}, repo={server.query!r}, frontier_url={server.ingest!r})
        print("first line")
        print("10%\\r50%\\r100%")
        print("\\x1b[31mred\\x1b[0m", file=sys.stderr)
        print("last ä")
        run.close()
    """)
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=120)
    http = HttpTransport(server.query)
    finished(http, run_hash)
    lines = [line for _, line in http.get_run_logs(run_hash, "0:")]
    for wanted in ("first line", "100%", "\x1b[31mred\x1b[0m", "last ä"):
        assert wanted in lines, lines


def test_resume_keeps_everything(server, http, open_run):
    first = open_run(experiment="kept")
    first.name = "kept name"
    first["hparams"] = {"lr": 1, "bs": 2}
    first.track(1.0, name="m", step=0)
    first.close()
    finished(http, first.hash)
    created = http.get_run_info(first.hash)["props"]["creation_time"]
    second = open_run(first.hash)
    eventually(lambda: http.get_run_info(first.hash)["props"]["active"], "the run is active again")
    second.track(2.0, name="m", step=1)
    second.close()
    finished(http, first.hash)
    info = http.get_run_info(first.hash)
    assert (info["props"]["name"], info["props"]["experiment"]["name"]) == ("kept name", "kept")
    assert info["props"]["creation_time"] == created
    assert info["params"]["hparams"] == {"lr": 1, "bs": 2}
    [m] = batch(server, first.hash, "metric", "m")
    assert (m["iters"], m["values"]) == ([0, 1], [1.0, 2.0])


def test_two_processes_write_one_run(server, http):
    run_hash = uuid.uuid4().hex
    script = textwrap.dedent("""
        import sys
        from matyan_client import Run
        run_hash, query, ingest, rank = sys.argv[1:]
        run = Run(run_hash, repo=query, frontier_url=ingest, capture_terminal_logs=False)
        for step in range(int(rank), 2000, 2):
            run.track(float(step), name="shared", step=step)
            run.track(float(step), name="own", step=step, context={"rank": int(rank)})
        run.close()
    """)
    processes = [
        subprocess.Popen([sys.executable, "-c", script, run_hash, server.query, server.ingest, str(rank)])
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]

    def complete():
        found = batch(server, run_hash, "metric", "shared")
        return found and found[0]["iters"] == list(range(2000)) and found

    [shared] = eventually(complete, "the points of both writers are stored")
    assert shared["values"] == [float(step) for step in range(2000)]
    for rank in range(2):
        [own] = batch(server, run_hash, "metric", "own", {"rank": rank})
        assert own["iters"] == list(range(rank, 2000, 2))


def test_one_url_is_enough(server, http):
    """`repo=` alone sends ingestion to the query port, which works if the process has both sides."""
    if not server.has_both_sides:
        pytest.skip("a separate backend accepts no ingestion")
    run = Run(repo=server.query, capture_terminal_logs=False)
    run["answer"] = 42
    run.track(Image(numpy.zeros((2, 2, 3), numpy.uint8)), name="black", step=0)
    run.close()
    finished(http, run.hash)
    assert http.get_run_info(run.hash)["params"] == {"answer": 42}


def test_a_deleted_run_can_be_created_again(server, http, open_run, tmp_path):
    run = open_run()
    run["x"] = 1
    (tmp_path / "file").write_text("content")
    run.log_artifact(str(tmp_path / "file"))
    run.close()
    finished(http, run.hash)
    repo = Repo(server.query)
    assert run.hash in repo.list_all_runs()
    assert repo.delete_run(run.hash)
    assert run.hash not in repo.list_all_runs()
    with pytest.raises(httpx.HTTPStatusError):
        http.get_run_info(run.hash)
    late = open_run(run.hash)
    late["x"] = 2
    late.close()
    assert not repo.run_exists(run.hash)
    eventually(lambda: http.clear_run_tombstone(run.hash) is None, "the tombstone can be cleared")
    again = open_run(run.hash)
    again["y"] = 3
    again.close()
    finished(http, run.hash)
    assert http.get_run_info(run.hash)["params"] == {"y": 3}


def test_restart_keeps_everything(tmp_path):
    """SIGTERM drains and exits 0; the same directory serves the same data."""
    from conftest import Server

    logging.getLogger("httpx").setLevel(logging.WARNING)
    server = Server(tmp_path).start()
    run = Run(repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False)
    for step in range(1000):
        run.track(float(step), name="m", step=step)
    run.close()
    assert server.stop() == 0
    server.start()
    http = HttpTransport(server.query)
    finished(http, run.hash)
    [m] = batch(server, run.hash, "metric", "m")
    assert m["iters"] == list(range(1000))
    assert server.stop() == 0


def test_status_command(server):
    answer = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "matyan-client"), "status",
         "--backend-url", server.query, "--frontier-url", server.ingest],
        capture_output=True, text=True, timeout=60,
    )
    assert "unreachable" not in answer.stdout and answer.stdout.count("OK") == 2, answer.stdout + answer.stderr
