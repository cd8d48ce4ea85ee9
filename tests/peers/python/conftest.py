"""A real server for the published Python client: the `matyan` binary on free ports and a directory of its own.

The binary is `MATYAN_BIN`; nothing of the client is replaced or patched.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROTO_ROOT = Path(__file__).resolve().parents[3] / "proto" / "proto"


def eventually(check, what, guard=60.0):
    """Waits until `check` gives something; `guard` only keeps a broken run from hanging."""
    end = time.monotonic() + guard
    last = None
    while time.monotonic() < end:
        try:
            last = check()
        except Exception as error:  # the last state seen is what the failure shows
            last = error
        else:
            if last:
                return last
        time.sleep(0.02)
    raise AssertionError(f"never happened: {what}; last state: {last!r}")


class Server:
    """`matyan up`, with what a test needs to stop, kill and start it again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen | None = None
        self.query = ""
        self.ingest = ""

    def start(self, *flags: str) -> "Server":
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        log = (self.directory / "server.log").open("ab")
        self.process = subprocess.Popen(
            [
                os.environ["MATYAN_BIN"], "up",
                "--data-dir", str(self.directory / "data"),
                "--port", "0", "--frontier-port", "0", "--ready-file", str(ready), *flags,
            ],
            stdout=log, stderr=log,
        )
        log.close()

        def is_ready():
            assert self.process.poll() is None, (self.directory / "server.log").read_text()
            return ready.exists() and ready.read_text().strip()

        addresses = json.loads(eventually(is_ready, "the server announces its addresses"))
        self.query, self.ingest = addresses["query"], addresses["ingest"]
        return self

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server")).start()
    yield running
    assert running.stop() == 0, (running.directory / "server.log").read_text()


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    """The API as any Python user of gRPC generates it."""
    import grpc_tools
    from grpc_tools import protoc

    out = tmp_path_factory.mktemp("stubs")
    files = sorted(str(path) for path in PROTO_ROOT.rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).with_name("_proto")
    include = [f"-I{PROTO_ROOT}", f"-I{well_known}"]
    assert protoc.main(["protoc", *include, f"--python_out={out}", f"--grpc_python_out={out}", *files]) == 0
    sys.path.insert(0, str(out))
    yield out
    sys.path.remove(str(out))
