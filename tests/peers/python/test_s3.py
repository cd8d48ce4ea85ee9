"""Blobs in S3: the published client uploads directly to the bucket, all content can be read through the server, and deletes remove
it from the bucket. The S3 server is real; it stores blobs as files, which the tests inspect."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import uuid

import httpx
import numpy
import pytest
from matyan_client import Image, Run, Text
from matyan_client.transport.http import HttpTransport
from server import Server, eventually
from test_published_client import batch

BUCKET = "artifacts"
KEYS = {"S3_ACCESS_KEY": "matyan", "S3_SECRET_KEY": "matyan-secret", "S3_BUCKET": BUCKET}
LARGE_MB = 96


def s3_jars():
    jars = os.environ.get("MATYAN_S3PROXY", "")
    if os.path.isdir(jars):
        return jars
    reason = "no S3 server is installed: `make system` installs one, with Java and Maven"
    if "s3" in os.environ.get("REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """Address of the S3 server, and the directory in which its buckets are directories."""
    jars = s3_jars()
    directory = tmp_path_factory.mktemp("s3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (directory / "data").mkdir()
    (directory / "logback.xml").write_text('<configuration><root level="ERROR"/></configuration>')
    (directory / "s3.properties").write_text(
        f"s3proxy.endpoint=http://127.0.0.1:{port}\ns3proxy.authorization=aws-v4\n"
        f"s3proxy.identity={KEYS['S3_ACCESS_KEY']}\ns3proxy.credential={KEYS['S3_SECRET_KEY']}\n"
        "jclouds.provider=filesystem-nio2\njclouds.identity=none\njclouds.credential=none\n"
        f"jclouds.filesystem.basedir={directory / 'data'}\n"
    )
    with (directory / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "java", "-XX:TieredStopAtLevel=1", f"-Dlogback.configurationFile={directory / 'logback.xml'}",
                "-cp", f"{jars}/*", "org.gaul.s3proxy.Main", "--properties", str(directory / "s3.properties"),
            ],
            stdout=log, stderr=log,
        )

    def answers():
        assert process.poll() is None, (directory / "s3.log").read_text()
        return httpx.get(f"http://127.0.0.1:{port}/").status_code > 0

    eventually(answers, "the S3 server answers")
    yield f"http://127.0.0.1:{port}", directory / "data"
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def server(s3, tmp_path_factory):
    settings = pytest.MonkeyPatch()
    for name, value in {**KEYS, "S3_ENDPOINT": s3[0]}.items():
        settings.setenv(name, value)
    running = Server(tmp_path_factory.mktemp("server")).start("--blobs", "s3:")
    yield running
    assert running.stop() == 0, running.said()
    settings.undo()


def readiness(server):
    answer = httpx.get(f"{server.ingest}/health/ready/")
    return answer.status_code, answer.json()["checks"]["blob"]


def bucket_create():
    return subprocess.run(
        [os.environ["MATYAN_BIN"], "bucket", "create", "--blobs", "s3:"], capture_output=True, text=True, check=True,
    ).stdout


def below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_missing_bucket_is_reported_and_created(server):
    assert readiness(server) == (200, "failed")
    assert bucket_create() == f"created s3://{BUCKET}\n"
    assert bucket_create() == f"s3://{BUCKET} already exists\n"
    eventually(lambda: readiness(server) == (200, "ok"), "the bucket is found")


def test_uploads_are_stored_in_the_bucket_and_deletes_remove_them(server, s3, tmp_path):
    bucket_create()
    endpoint, data = s3
    http = HttpTransport(server.query)
    large = tmp_path / "large.bin"
    odd = tmp_path / "ünusual name #1.txt"
    block = os.urandom(1 << 20)
    with large.open("wb") as file:
        for _ in range(LARGE_MB):
            file.write(block)
    odd.write_text("odd")
    runs = [Run(uuid.uuid4().hex, repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False) for _ in "ab"]
    image = Image(numpy.arange(16 * 16 * 3, dtype=numpy.uint8).reshape(16, 16, 3), caption="gradient")
    for run in runs:
        run.log_artifact(str(odd))
        run.track(image, name="samples", step=4)
    runs[0].log_artifact(str(large))
    for run in runs:
        run.close()
        eventually(lambda run=run: http.get_run_info(run.hash)["props"]["active"] is False, "the run is finished")

    folder = data / BUCKET / runs[0].hash
    assert below(folder) == sorted(["large.bin", "seq/samples/4.png", "ünusual name #1.txt"])
    assert digest(folder / "large.bin") == digest(large), "the client uploaded it directly"
    uris = {one["path"]: one["uri"] for one in http.get_run_info(runs[0].hash)["artifacts"]}
    assert uris["large.bin"] == f"s3://{BUCKET}/{runs[0].hash}/large.bin"

    reader = Run(runs[0].hash, repo=server.query, read_only=True)
    assert reader.get_artifact("ünusual name #1.txt") == b"odd"
    reader.download_artifact("large.bin", tmp_path / "copy.bin")
    assert digest(tmp_path / "copy.bin") == digest(large)
    [found] = batch(server, runs[0].hash, "images", "samples")
    [content] = http.get_blob_batch("images", [found["values"][0][0]["blob_uri"]]).values()
    assert content == (folder / "seq/samples/4.png").read_bytes()

    httpx.delete(f"{server.query}/api/v1/rest/runs/{runs[0].hash}/").raise_for_status()
    eventually(lambda: not folder.exists() or not below(folder), "the blobs of the deleted run are deleted")
    assert below(data / BUCKET / runs[1].hash) == sorted(["seq/samples/4.png", "ünusual name #1.txt"])
    presigned = httpx.post(
        f"{server.ingest}/api/v1/rest/artifacts/presign", json={"run_id": "r", "artifact_path": "a b.png"},
    ).json()
    assert presigned["upload_url"].startswith(f"{endpoint}/{BUCKET}/r/a%20b.png?"), presigned
    http.close()


def matyan(*words, server=None, code=0):
    address = ["--server", server.query] if server else []
    done = subprocess.run([os.environ["MATYAN_BIN"], *words, *address, "--json"], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_credentials_are_found_by_the_aws_default_chain(server, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_ACCESS", "S3_SECRET"))}
    # Without credential files of the user, and without a role of the machine.
    environment |= {"S3_CREDENTIALS": "aws", "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    create = [os.environ["MATYAN_BIN"], "bucket", "create", "--blobs", "s3://by-role"]
    done = subprocess.run(create, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "no Amazon credentials found" in done.stderr, done.stderr
    found = {"AWS_ACCESS_KEY_ID": KEYS["S3_ACCESS_KEY"], "AWS_SECRET_ACCESS_KEY": KEYS["S3_SECRET_KEY"]}
    done = subprocess.run(create, env=environment | found, capture_output=True, text=True)
    assert done.stdout == "created s3://by-role\n", done.stderr


def test_a_backup_from_one_bucket_is_restored_into_another(server, s3, tmp_path, monkeypatch):
    bucket_create()
    _, data = s3
    run = Run(uuid.uuid4().hex, repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False)
    (tmp_path / "model.bin").write_bytes(os.urandom(20 << 20))
    run.log_artifact(str(tmp_path / "model.bin"))
    run.track(Image(numpy.zeros((8, 8, 3), dtype=numpy.uint8)), name="samples", step=0)
    # Too large for a row, so it is stored as a blob.
    run.track(Text("x" * 200_000), name="notes", step=0)
    run.close()
    http = HttpTransport(server.query)
    eventually(lambda: http.get_run_info(run.hash)["props"]["active"] is False, "the run is finished")
    folder = data / BUCKET / run.hash
    [payload] = [path for path in below(folder) if path.startswith(".matyan/")]

    result = matyan("backup", str(tmp_path / "whole"), "--runs", run.hash, server=server)
    assert (result["runs"], result["blobs"], result["blobs_lost"]) == (1, 2, 0), result
    monkeypatch.setenv("S3_BUCKET", "copies")
    assert subprocess.run([os.environ["MATYAN_BIN"], "bucket", "create", "--blobs", "s3:"]).returncode == 0
    (tmp_path / "copy").mkdir()
    copy = Server(tmp_path / "copy").start("--blobs", "s3:")
    assert matyan("restore", result["archive"], server=copy)["blobs"] == 2
    copied = data / "copies" / run.hash
    # A payload is named after its content, in which the order of keys may differ.
    assert below(copied)[1:] == below(folder)[1:] == ["model.bin", "seq/samples/0.png"]
    for path in below(folder)[1:]:
        assert digest(copied / path) == digest(folder / path), path
    [found] = batch(copy, run.hash, "texts", "notes")
    assert found["values"][0][0]["data"] == "x" * 200_000
    assert copy.stop() == 0

    (folder / payload).unlink()
    (folder / "model.bin").unlink()
    result = matyan("backup", str(tmp_path / "poor"), "--runs", run.hash, server=server, code=3)
    assert (result["runs"], result["blobs"], result["blobs_lost"]) == (1, 1, 2), result
    http.close()
