"""Files whose upload takes longer than the run."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import pytest

import matyan_client.wandb as wandb
from matyan_client import Run, config, errors
from matyan_client import run as run_module


class SlowUploads:
    """A proxy of a server whose uploads begin when a test says so."""

    def __init__(self, server):
        address = urlsplit(server.url)
        self._server = (address.hostname, address.port)
        self.may_upload = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                # A PUT, or the beginning of an upload in parts.
                if data.startswith(b"PUT ") or b"/artifacts/presign" in data[:200]:
                    self.may_upload.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self.may_upload.set()
        self._listener.close()


class RefusedUploads(SlowUploads):
    """A proxy of a server that refuses uploads until a test says so."""

    REASON = "the disk for uploads has 1 bytes left: free some space"

    def _copy(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if b"/artifacts/presign" in data[:200] and not self.may_upload.is_set():
                    body = json.dumps({"error": {"code": "UNAVAILABLE", "message": self.REASON}})
                    head = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n"
                    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                    source.sendall((head + body).encode())
                    source.shutdown(socket.SHUT_WR)
                    break
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def refused(shared_server):
    refused = RefusedUploads(shared_server)
    yield refused
    refused.close()


@pytest.fixture
def slow(shared_server):
    slow = SlowUploads(shared_server)
    yield slow
    slow.close()


def test_files_that_are_left_are_named(tmp_path):
    program = """
import sys
from matyan_client import Run
run = Run(repo="http://127.0.0.1:1", offline=True, capture_terminal_logs=False)
for name in ("weights.bin", "b", "c", "d"):
    run.log_artifact(__file__, name=f"ckpts/{name}")
"""
    script = tmp_path / "script.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "MATYAN_QUIET": "0"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    _, line = done.stderr.splitlines()
    assert "4 files (ckpts/weights.bin, ckpts/b, ckpts/c, ...)" in line
    directory = os.environ["MATYAN_SPOOL_DIR"]
    assert "; reason: the run is offline; " in line
    # Another shell does not have the variable.
    assert f"`MATYAN_SPOOL_DIR={directory} matyan-client sync` sends it" in line


FILES_AT_EXIT = """
import sys, threading, time
from matyan_client import Run

def work():
    step = 0
    while True:
        run.track(step, name="thread", step=step)
        has_recorded.set()
        step += 1
        time.sleep(0.001)

run = Run(repo=sys.argv[1], capture_terminal_logs=False)
print(run.hash, flush=True)
if sys.argv[2] == "recording":
    has_recorded = threading.Event()
    threading.Thread(target=work, daemon=True).start()
    has_recorded.wait()
# Last, so that files are left at the end of the script.
for number in range(40):
    run.log_artifact(__file__, f"file-{number}")
"""


@pytest.mark.parametrize("others", ["quiet", "recording"])
def test_the_end_of_a_script_waits_for_its_files(shared_server, tmp_path, others):
    script = tmp_path / "script.py"
    script.write_text(FILES_AT_EXIT)
    done = subprocess.run(
        [sys.executable, script, shared_server.url, others],
        env={**os.environ, "MATYAN_QUIET": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    run = Run(done.stdout.strip(), repo=shared_server.url, read_only=True)
    assert len(run.artifacts) == 40
    *_, last = done.stderr.splitlines()
    assert (
        last.startswith("matyan: run ")
        if others == "quiet"
        else "; reason: it was recorded after the end of the script; " in last
    )


def test_the_reason_is_named_with_what_is_left(capfd, monkeypatch):
    monkeypatch.setattr(config.SETTINGS, "quiet", False)
    monkeypatch.setattr(run_module, "_UNREACHABLE_LIMIT", 0.3)
    run = Run(repo="http://127.0.0.1:1", capture_terminal_logs=False)
    run.track(1.0, name="m")
    run.close()
    first, last = capfd.readouterr().err.splitlines()
    assert first == f"matyan: run {run.hash} http://127.0.0.1:1/runs/{run.hash}"
    assert last.startswith(f"matyan: not stored yet: 3 values of run {run.hash}, in ")
    assert "; reason: " in last
    assert "onnection refused" in last


def test_a_pending_upload_is_announced_when_all_values_are_stored(
    slow, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(config.SETTINGS, "quiet", False)
    monkeypatch.setattr(run_module, "_REACHABLE_LIMIT", 2.0)
    (tmp_path / "model.bin").write_bytes(b"x" * 100_000)
    run = Run(repo=slow.url, capture_terminal_logs=False)
    run.log_artifact(tmp_path / "model.bin")
    run.close()
    assert run.health.pending == 0
    _, line = capfd.readouterr().err.splitlines()
    assert line.startswith(f"matyan: not stored yet: 1 file (model.bin) of run {run.hash}, in ")
    assert "; reason: the wait ended after 2 seconds; " in line
    slow.may_upload.set()
    run_module.Run._flush(run, 30.0, False)
    assert run.get_artifact("model.bin") == b"x" * 100_000


def test_an_unknown_artifact_is_named_with_those_that_exist(shared_server, tmp_path):
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        run.flush()
        with pytest.raises(errors.NotFoundError, match=r"'model'; it has none$"):
            run.get_artifact("model")
        for number in range(7):
            run.log_artifact(__file__, f"model-{number}")
    reader = Run(run.hash, repo=shared_server.url, read_only=True)
    for read in (
        lambda: reader.get_artifact("model"),
        lambda: reader.download_artifact("model", tmp_path / "model"),
    ):
        with pytest.raises(errors.NotFoundError) as failure:
            read()
        text = str(failure.value)
        assert text.startswith(f"run {run.hash} has no artifact 'model'; it has 'model-")
        assert text.endswith(", and 2 more")
        assert failure.value.status == 404
    assert not (tmp_path / "model").exists()
    with pytest.raises(errors.NotFoundError, match="nowhere"):
        Run("nowhere", repo=shared_server.url, read_only=True).get_artifact("model")


@pytest.mark.parametrize("name", ["log_artifact", "log_artifacts"])
def test_a_blocking_call_waits_until_files_are_stored(slow, tmp_path, caplog, monkeypatch, name):
    directory = tmp_path / "models"
    directory.mkdir()
    (directory / "model.bin").write_bytes(b"x" * 100_000)
    path = directory / "model.bin" if name == "log_artifact" else directory
    with Run(repo=slow.url, capture_terminal_logs=False) as run:
        with monkeypatch.context() as limited:
            limited.setattr(run_module, "_REACHABLE_LIMIT", 0.3)
            getattr(run, name)(path, "kept", block=True)
        assert run.health.pending_uploads == 1
        assert f"{str(path)!r} is not stored yet" in caplog.text
        slow.may_upload.set()
        getattr(run, name)(path, "kept", block=True)
        assert run.health.pending_uploads == 0
        assert len(run.artifacts) == 1


def test_copies_for_uploads_are_kept_until_they_are_sent(slow, tmp_path, monkeypatch):
    monkeypatch.setattr(config.SETTINGS, "backend_url", slow.url)
    monkeypatch.setattr(config.SETTINGS, "frontier_url", slow.url)
    monkeypatch.setattr(run_module, "_REACHABLE_LIMIT", 2.0)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.chdir(tmp_path)
    # Larger than what the spool copies.
    content = os.urandom(1 << 20) * 20
    (tmp_path / "model.bin").write_bytes(content)
    options = {"x_disable_stats": True, "x_disable_meta": True, "console": "off"}
    run = wandb.init(project="p", settings=options)
    wandb.save("model.bin")
    wandb.finish()
    assert run.matyan_run.health.pending == 0
    slow.may_upload.set()
    run_module.Run._flush(run.matyan_run, 60.0, False)
    assert run.matyan_run.get_artifact("files/model.bin") == content


def test_the_reason_of_a_refused_upload_is_named(refused, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(config.SETTINGS, "quiet", False)
    monkeypatch.setattr(run_module, "_REACHABLE_LIMIT", 2.0)
    run = Run(repo=refused.url, capture_terminal_logs=False)
    run.log_artifact(__file__, "model.bin")
    run.close()
    assert refused.REASON in run.health.last_error
    _, line = capfd.readouterr().err.splitlines()
    assert "; reason: failed to upload model.bin: " in line
    assert refused.REASON in line
    refused.may_upload.set()
    run_module.Run._flush(run, 30.0, False)
    assert run.health.pending_uploads == 0
    assert run.health.last_error is None


def test_sync_names_the_reason_of_a_refused_upload(refused):
    program = """
import sys
from matyan_client import Run
run = Run(repo=sys.argv[1], offline=True, capture_terminal_logs=False)
run.log_artifact(sys.argv[2], "model.bin")
print(run.hash, flush=True)
"""

    def execute(*words):
        return subprocess.run([sys.executable, *words], check=False, capture_output=True, text=True)

    run = execute("-c", program, refused.url, __file__).stdout.strip()
    sync = ("-m", "matyan_client", "sync", run)
    done = execute(*sync)
    shown = done.stderr
    assert done.returncode == 1, shown
    assert refused.REASON in shown
    assert "the server has refused files" in shown
    assert "does not answer" not in shown
    assert "no server was reached" not in shown
    refused.may_upload.set()
    done = execute(*sync)
    assert done.returncode == 0, done.stderr
