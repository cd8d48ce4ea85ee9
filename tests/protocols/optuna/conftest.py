"""A real server for Optuna's own client of its storage service, which is used unmodified."""

from __future__ import annotations

import json
import os
import subprocess
from urllib.parse import urlsplit

import optuna
import pytest
from network import Network
from optuna.storages import GrpcStorageProxy
from server import Server, eventually

__all__ = ["Network", "Server", "address", "address_of", "command", "eventually", "found_runs", "storage_of"]

optuna.logging.set_verbosity(optuna.logging.WARNING)


def address(server):
    """The host and the port that people give to the client."""
    return address_of(server.query)


def address_of(url):
    parts = urlsplit(url)
    return parts.hostname, parts.port


def storage_of(server):
    host, port = address(server)
    return GrpcStorageProxy(host=host, port=port)


def command(server, *words, token=None):
    """The output of a command of the program."""
    variables = {**os.environ, "MATYAN_BACKEND_URL": server.query}
    if token is not None:
        variables["MATYAN_TOKEN"] = token
    done = subprocess.run(
        [os.environ["MATYAN_BIN"], *words], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def found_runs(server, query, *words):
    """The runs that a search finds."""
    found = command(server, "runs", "search", query, "--limit", "0", "--json", *words)
    return [json.loads(line) for line in found.splitlines()]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server")).start()
    yield running
    assert running.stop() == 0, running.said()


@pytest.fixture
def own_server(tmp_path):
    """A server that has done nothing before, and that a test may kill."""
    running = Server(tmp_path).start()
    yield running
    assert running.stop() == 0, running.said()


@pytest.fixture
def storage(server):
    """A storage without studies."""
    proxy = storage_of(server)
    proxy.wait_server_ready(timeout=60)
    for study in proxy.get_all_studies():
        proxy.delete_study(study._study_id)
    yield proxy
    proxy.close()
