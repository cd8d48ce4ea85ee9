"""A real server for the published Python client; nothing of the client is replaced or patched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from server import Server, eventually

__all__ = ["Server", "eventually"]

PROTO_ROOT = Path(__file__).resolve().parents[3] / "proto" / "proto"


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
