"""`matyan follow` on files of TensorBoard's own packages, compared with what TensorBoard reads."""

import json
import os
import shutil
import signal
import struct
import subprocess
import time
from types import SimpleNamespace

import pytest
from event_records import field, framed
from imported import import_source, last_of_each_step, objects, points
from test_import_tensorboard import EXPECTED, LOGS, check_histograms

from matyan_client import Run

# Only keeps a follower that never stores what a test waits for from blocking the test forever.
GUARD_SECONDS = 300


@pytest.fixture
def logs(tmp_path):
    """A copy of the logs with other names, so that no two tests write the same runs."""
    target = tmp_path / f"logs-{os.urandom(4).hex()}"
    shutil.copytree(LOGS, target)
    for file in [*target.rglob("*tfevents*")]:
        file.rename(file.with_name(f"{file.name}.{os.urandom(4).hex()}"))
    return target


def command(server, *words):
    environment = {"PATH": os.environ["PATH"], "MATYAN_BACKEND_URL": server.url}
    return subprocess.Popen(
        [os.environ["MATYAN_BIN"], "follow", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def follow_once(server, logs):
    process = command(server, str(logs), "--once", "--json")
    said, problems = process.communicate()
    assert process.returncode == 0, problems
    return json.loads(said), problems


def line_with(process, text):
    """The next line of the messages that contains a text."""
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"the follower has ended without `{text}`")


def wait_for(condition, process):
    end = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert process.poll() is None, "the follower has ended"
        assert time.monotonic() < end, "the follower does not get there"
        time.sleep(0.1)


def stored_run(server, run_hash):
    # A call for one run waits until everything of it is applied.
    return Run(run_hash, repo=server.url, read_only=True)


def runs_of(server, logs):
    """The ids of all runs of a directory."""
    query = f"run.experiment == {logs.name!r}"
    words = [os.environ["MATYAN_BIN"], "runs", "search", query, "--json", "--server", server.url]
    found = subprocess.run(words, check=True, capture_output=True, text=True)
    return [json.loads(line)["run_id"] for line in found.stdout.splitlines()]


@pytest.fixture(params=["shared_server", "kafka_server"])
def server(request):
    """A server with its own log, and one over Kafka."""
    return request.getfixturevalue(request.param)


def test_everything_is_stored_exactly(server, logs):
    result, problems = follow_once(server, logs)
    assert "left out: tensors with several elements, such as PR curves (1)" in problems
    check_stored(server, logs, result["runs_begun"])


def check_stored(server, logs, begun):
    runs = {stored_run(server, run_hash).name: run_hash for run_hash in begun}
    assert set(runs) == set(EXPECTED)
    for label, expected in EXPECTED.items():
        run_hash = runs[label]
        run = stored_run(server, run_hash)
        assert run.experiment == logs.name
        scalars = {
            (name, "{}"): last_of_each_step(found) for name, found in expected["scalars"].items()
        }
        assert points(run) == scalars
        for kind, name in (("images", "images"), ("audios", "audio")):
            wanted = {tag: sorted(found, key=repr) for tag, found in expected[name].items()}
            assert objects(server, run_hash, kind) == wanted
        texts = objects(server, run_hash, "texts")
        assert {
            tag: [[step, text["data"]] for step, text in found] for tag, found in texts.items()
        } == expected["texts"]
        check_histograms(objects(server, run_hash, "distributions"), expected["histograms"])
    assert stored_run(server, runs["x"])["hparams"] == {
        "bias": True,
        "layers": 3,
        "lr": 0.01,
        "model": {"name": "net"},
        "sizes": [1, 2],
    }


def test_an_import_stores_the_same_as_a_follower(shared_server, own_server, logs, capsys):
    file = logs / "unusual" / f"events.out.tfevents.1.{os.urandom(4).hex()}"
    file.parent.mkdir()
    file.write_bytes(unusual_events())
    begun = follow_once(own_server, logs)[0]["runs_begun"]
    imported = import_source(capsys, "tensorboard", logs, shared_server)
    assert sorted(run["run"] for run in imported.values()) == sorted(begun)
    for run_hash in begun:
        assert stored(shared_server, run_hash) == stored(own_server, run_hash)
    run_hash = imported["unusual"]["run"]
    assert stored_run(shared_server, run_hash)["hparams"] == {
        "large": 1e18,
        "layers": 3,
        "pair": "(1, 2)",
        "sizes": {"in": [1, None]},
        "text": "3",
    }
    assert len(points(stored_run(shared_server, run_hash))) == 2
    assert objects(shared_server, run_hash, "texts")["answers"][0][1]["data"] == "yes"
    assert imported["unusual"]["notes"] == [
        "left out: values of mesh (1)",
        "left out: graphs and layouts (1)",
    ]


def stored(server, run_hash):
    """Everything of a run that its event files contain."""
    run = stored_run(server, run_hash)
    params = {key: run[key] for key in ("hparams", "tensorboard") if key in run[...]}
    kinds = ("images", "audios", "texts", "distributions")
    return (
        run.name,
        params,
        points(run),
        {kind: objects(server, run_hash, kind) for kind in kinds},
    )


def unusual_events():
    """An event file with values that few writers write."""

    def number(number):
        return b"\x11" + struct.pack("<d", number)

    def plugin_value(tag, plugin, content=b"", tensor=None):
        value = b"" if tensor is None else field(8, tensor)
        plugin_data = field(1, field(1, plugin) + field(2, content))
        return field(1, tag) + value + field(9, plugin_data)

    def scalar(tag):
        return field(1, tag) + b"\x15" + struct.pack("<f", 0.5)

    hparams = {
        b"large": number(1e18),
        b"layers": number(3.0),
        b"pair": field(3, b"(1, 2)"),
        b"sizes": field(3, b'{"in": [1, null]}'),
        b"text": field(3, b"3"),
    }
    entries = [field(1, field(1, name) + field(2, value)) for name, value in hparams.items()]
    text = b"\x08\x07" + field(8, b"yes")
    values = [
        scalar("é".encode() * 1_000),
        scalar(b"loss"),
        plugin_value(b"_hparams_/session_start_info", b"hparams", field(3, b"".join(entries))),
        plugin_value(b"answers", b"chat", tensor=text),
        plugin_value(b"graph", b"graph_run_metadata_graph", tensor=text),
        plugin_value(b"mesh", b"mesh"),
    ]
    time = b"\x09" + struct.pack("<d", 1_700_000_000.0)
    return framed(time + field(5, b"".join(field(1, value) for value in values)))


def test_two_followers_at_once_store_everything_once(server, logs):
    followers = [command(server, str(logs), "--once", "--json") for _ in range(2)]
    answers = [follower.communicate() for follower in followers]
    assert [follower.returncode for follower in followers] == [0, 0], answers
    begun = {run_hash for said, _ in answers for run_hash in json.loads(said)["runs_begun"]}
    assert set(runs_of(server, logs)) == begun
    check_stored(server, logs, begun)


@pytest.fixture
def project(own_server):
    """A project of a server."""
    words = [os.environ["MATYAN_BIN"], "projects", "create", "team", "--server", own_server.url]
    subprocess.run(words, check=True, capture_output=True)
    return SimpleNamespace(url=f"{own_server.url}/p/team")


def test_the_url_of_a_server_names_a_project(own_server, project, logs):
    result, _ = follow_once(project, logs)
    check_stored(project, logs, result["runs_begun"])
    assert runs_of(own_server, logs) == []


def test_a_server_follows_a_directory_into_a_project(own_server, project, logs, monkeypatch):
    own_server.stop()
    monkeypatch.setenv("MATYAN_LOGDIR", str(logs))
    monkeypatch.setenv("MATYAN_LOGDIR_PROJECT", "team")
    own_server.start()
    found = []

    def are_found():
        found[:] = runs_of(project, logs) + runs_of(own_server, logs)
        return len(found) == len(EXPECTED)

    wait_for(are_found, own_server.process)
    check_stored(project, logs, found)
    assert runs_of(own_server, logs) == []


def test_nothing_is_sent_again(shared_server, logs):
    follow_once(shared_server, logs)
    result, _ = follow_once(shared_server, logs)
    assert (result["runs_begun"], result["points"], result["objects"]) == ([], 0, 0)


def test_a_server_that_is_killed_is_waited_for(own_server, tmp_path):
    [source] = (LOGS / "x").iterdir()
    content = source.read_bytes()
    file = tmp_path / "logs" / "x" / source.name
    file.parent.mkdir(parents=True)
    # The middle of a record.
    half = len(content) // 2
    file.write_bytes(content[:half])
    process = command(own_server, str(tmp_path / "logs"))
    try:
        told = line_with(process, "new run ")
        own_server.stop(signal.SIGKILL)
        with file.open("ab") as grown:
            grown.write(content[half:])
        line_with(process, "waiting for the server")
        own_server.start()
        expected = {
            (name, "{}"): last_of_each_step(found)
            for name, found in EXPECTED["x"]["scalars"].items()
        }
        while points(stored_run(own_server, told.split()[-1])) != expected:
            assert process.poll() is None, "the follower has ended before everything was stored"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_rule_125_a_cut_network_loses_and_doubles_nothing(shared_server, network, tmp_path):
    [source] = (LOGS / "x").iterdir()
    content = source.read_bytes()
    file = tmp_path / f"logs-{os.urandom(4).hex()}" / "x" / f"{source.name}.{os.urandom(4).hex()}"
    file.parent.mkdir(parents=True)
    half = len(content) // 2
    most = len(content) * 3 // 4
    file.write_bytes(content[:half])
    process = command(network, str(file.parent.parent))
    try:
        told = line_with(process, "new run ")
        # What is sent next is stored, and the follower does not learn that.
        network.lose_answers(1)
        with file.open("ab") as grown:
            grown.write(content[half:most])
        wait_for(lambda: network.lost_answers, process)
        network.cut()
        with file.open("ab") as grown:
            grown.write(content[most:])
        wait_for(lambda: network.refused, process)
        network.restore()
        expected = {
            (name, "{}"): last_of_each_step(found)
            for name, found in EXPECTED["x"]["scalars"].items()
        }
        while points(stored_run(shared_server, told.split()[-1])) != expected:
            assert process.poll() is None, "the follower has ended before everything was stored"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_a_live_writer_is_followed(server, tmp_path):
    tensorboard_x = pytest.importorskip("tensorboardX")
    logs = tmp_path / f"logs-{os.urandom(4).hex()}"
    logs.mkdir()
    process = command(server, str(logs))
    try:
        writer = tensorboard_x.SummaryWriter(str(logs / "first"), flush_secs=1)
        for step in range(1_000):
            writer.add_scalar("loss", 1 / (step + 1), step)
        writer.close()
        # The follower reports a run once it is durable.
        told = line_with(process, "new run ")
        process.send_signal(signal.SIGINT)
        said, problems = process.communicate()
        assert process.returncode == 0, problems
        assert "1 new runs" in said
    finally:
        process.kill()
        process.wait()
    follow_once(server, logs)
    [series] = points(stored_run(server, told.split()[-1])).values()
    assert [step for step, *_ in series] == list(range(1_000))


def in_32_bits(number):
    """The text of a number, which is the form that most writers store."""
    [stored] = struct.unpack("<f", struct.pack("<f", number))
    return repr(stored)


def losses(server, run_hash):
    series = points(stored_run(server, run_hash)).get(("loss", "{}"), [])
    return [[step, value] for step, value, _ in series]


def test_two_followers_of_two_live_writers_store_each_point_once(server, tmp_path):
    tensorboard_x = pytest.importorskip("tensorboardX")
    logs = tmp_path / f"logs-{os.urandom(4).hex()}"
    logs.mkdir()
    folder = logs / "first"
    followers = [command(server, str(logs), "--json") for _ in range(2)]
    try:
        writers = [
            tensorboard_x.SummaryWriter(str(folder), flush_secs=1, filename_suffix=suffix)
            for suffix in (".a", ".b")
        ]
        for step in range(2_000):
            writers[step % 2].add_scalar("loss", 1 / (step + 1), step)
            if step % 200 < 2:
                # Files that grow in several parts.
                writers[step % 2].flush()
        wait_for(lambda: runs_of(server, logs), followers[0])
        for writer in writers:
            writer.close()
        [run_hash] = runs_of(server, logs)
        expected = [[step, in_32_bits(1 / (step + 1))] for step in range(2_000)]
        for follower in followers:
            wait_for(lambda: losses(server, run_hash) == expected, follower)
        for follower in followers:
            follower.send_signal(signal.SIGINT)
            _, problems = follower.communicate()
            assert follower.returncode == 0, problems
    finally:
        for follower in followers:
            follower.kill()
            follower.wait()
    follow_once(server, logs)
    assert runs_of(server, logs) == [run_hash]
    assert losses(server, run_hash) == expected
