"""Replaces a running Matyan 0.3 as described in docs/operating/replacing-matyan-0.3.md: data before the backup position comes from the
archive, data after it from the log, and nothing from both. This server replaces the old one in the test, with an archive reduced to what the
old one writes. The server assigns the steps, so that anything applied twice is detected."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import kafka
import pytest
from conftest import Server, eventually
from websockets.sync.client import connect

PARTITIONS = 3
RUNS = [f"run-{number}" for number in range(6)]
# Parts of an archive that Matyan 0.3 does not write.
OURS = ["checksums.sha256", "project.json", "tombstones.jsonl"]
OURS_OF_A_RUN = ["attrs.cbor", "producers.jsonl", "blobs.jsonl"]
OURS_IN_A_HEAD = ["experiment_name", "tags", "parent", "first_start_ts", "last_data_at", "is_given_up", "reopened_at", "cursor"]


def matyan(*words):
    done = subprocess.run([os.environ["MATYAN_BIN"], *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def log():
    """The URI of a broker's log, with topics as in the old system."""
    if reason := kafka.lacking():
        pytest.skip(reason)
    program = Path(os.environ["MATYAN_BIN"]).with_name("kafka-broker")
    broker = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    log = f"kafka://{broker.stdout.readline().strip()}"
    matyan("topics", "create", "--log", log, "--partitions", PARTITIONS)
    yield log
    broker.stdin.close()
    assert broker.wait(timeout=60) == 0


@pytest.fixture
def process(tmp_path, log):
    """Starts processes with this log and a shared blob directory."""
    running = []

    def started(name, role, *flags, **variables):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        server = Server(folder, role, {"BLOB_URI_SECRET": "a shared secret", **variables})
        running.append(server)
        return server.start("--log", log, "--blobs", f"file://{tmp_path / 'blobs'}", *flags)

    yield started
    for server in running:
        if server.process.poll() is None:
            assert server.stop() == 0, server.said()


def send(frontier, run, values):
    """Sends points without steps."""
    with connect(f"{frontier.ingest.replace('http', 'ws')}/api/v1/ws/runs/{run}") as socket:
        time = "2026-01-02T03:04:05Z"
        frames = [{"type": "create_run", "run_id": run, "client_datetime": time, "force_resume": True}]
        points = {"type": "log_metric", "run_id": run, "name": "loss", "step": None, "epoch": None, "context": None,
                  "dtype": "float", "client_datetime": time}
        for frame in [*frames, *({**points, "value": value} for value in values)]:
            socket.send(json.dumps(frame))
            answer = json.loads(socket.recv())
            assert answer["status"] == "ok", answer


def points(server, run):
    result = matyan("metrics", run, "loss", "--points", 0, "--json", "--server", server.query)
    series = json.loads(result)
    return list(zip(series["steps"], series["values"], strict=True))


def has_all(server, runs):
    def check():
        found = {run: points(server, run) for run in runs}
        expected = {run: list(enumerate(values)) for run, values in runs.items()}
        assert found == expected, found
        return True

    eventually(check, "every point is stored once")


def reduce_to_old_format(archive):
    for name in OURS:
        (archive / name).unlink(missing_ok=True)
    for run in (archive / "runs").iterdir():
        for name in OURS_OF_A_RUN:
            (run / name).unlink(missing_ok=True)
        head = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({key: value for key, value in head.items() if key not in OURS_IN_A_HEAD}))
    manifest = json.loads((archive / "manifest.json").read_text())
    return manifest, manifest.pop("log")


def test_older_runs_come_from_the_archive_and_the_rest_from_the_log(tmp_path, process):
    old = process("old", "up", KAFKA_CONSUMER_GROUP="old")
    frontier = process("frontier", "frontier", KAFKA_MESSAGE_FORMAT="json")
    written = {run: [] for run in RUNS}

    def write(runs, values):
        for run in runs:
            send(frontier, run, values)
            written.setdefault(run, []).extend(values)
        has_all(old, written)

    write(RUNS, [0.5, 1.5, 2.5])

    # The frontier is stopped during the backup.
    assert frontier.stop() == 0
    matyan("backup", tmp_path / "archives", "--server", old.query)
    archive = next((tmp_path / "archives").iterdir())
    manifest, cut = reduce_to_old_format(archive)
    ends = {applied["partition"]: applied["next"] for applied in cut["applied"]}
    positions = [{"partition": number, "log": 0, "next": ends.get(number, 0)} for number in range(PARTITIONS)]
    manifest["log"] = {"number": 0, "identity": "", "partitions": PARTITIONS, "applied": positions}
    (archive / "manifest.json").write_text(json.dumps(manifest))

    frontier = process("frontier", "frontier", KAFKA_MESSAGE_FORMAT="json")
    write([*RUNS[:3], "new"], [3.5, 4.5])

    # On the embedded store, which the process below uses afterwards.
    place = ["--store", "embedded:", "--data-dir", str(tmp_path / "new" / "data")]
    backend = process("backend", "backend", *place, KAFKA_MESSAGE_FORMAT="json")
    assert "the log continues from the backup position" in matyan("restore", archive, "--server", backend.query)
    assert backend.stop() == 0

    # Ingestion workers, next to the old ones, and the backend again: in one process, because both
    # need the embedded store.
    new = process("new", "up", KAFKA_MESSAGE_FORMAT="json")
    has_all(new, written)
    write([*RUNS, "newer"], [5.5])
    has_all(new, written)
    kept = json.loads(matyan("restore", archive, "--json", "--server", new.query))
    assert (kept["runs_restored"], kept["runs_restored_before"]) == (0, len(RUNS))

    # A run that is deleted in the new system is deleted in both.
    matyan("runs", "purge", RUNS[0], "--yes", "--server", new.query)
    for server in (new, old):
        listed = lambda: matyan("runs", "ls", "--json", "--server", server.query)
        eventually(lambda: RUNS[0] not in listed(), f"the run is deleted in {server.directory.name}")
