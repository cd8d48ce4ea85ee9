"""A real server for the published Python client; nothing of the client is replaced or patched."""

from __future__ import annotations

import sys
from pathlib import Path

import foundationdb
import kafka
import pytest
from server import Server, eventually

__all__ = ["Server", "eventually"]

PROTO_ROOT = Path(__file__).resolve().parents[3] / "proto" / "proto"


# What the published client does is done over all of them; the rest does not see what there is.
SYSTEMS = {"embedded": None, "kafka": kafka, "foundationdb": foundationdb}
OVER_ALL = {"test_published_client", "test_published_client_reading", "test_published_client_calls", "test_rest_entities"}


def pytest_generate_tests(metafunc):
    if "server" in metafunc.fixturenames and not hasattr(metafunc.module, "server"):
        systems = list(SYSTEMS) if metafunc.module.__name__ in OVER_ALL else ["embedded"]
        metafunc.parametrize("server", systems, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"server-{request.param}")
    apart = SYSTEMS[request.param]
    if apart and (reason := apart.lacking()):
        pytest.skip(reason)
    running = (apart.System(folder) if apart else Server(folder)).start()
    yield running
    assert running.stop() == 0, running.said()


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
