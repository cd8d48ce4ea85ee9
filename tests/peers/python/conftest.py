"""A real server for the published Python client, which is used unmodified."""

from __future__ import annotations

import foundationdb
import kafka
import pytest
from grpc_stubs import generated
from server import Server, eventually

__all__ = ["Server", "eventually"]

# Tests of the published client run on all systems; the others do not depend on the system.
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
    yield from generated(tmp_path_factory.mktemp("stubs"))
