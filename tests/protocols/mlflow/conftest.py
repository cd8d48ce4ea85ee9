"""A real server for MLflow's own package, which is used unmodified."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "peers" / "python"))

import memory  # noqa: E402
from network import Network  # noqa: E402
from server import Server, eventually, free_port  # noqa: E402

__all__ = ["Network", "Server", "eventually", "free_port", "memory", "pages"]

# A test that waits for the client's own pauses would take minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_TRUNCATE_LONG_VALUES", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def pages(search, **arguments):
    """All pages of a search."""
    token = None
    for _ in range(100):
        page = search(page_token=token, **arguments)
        yield list(page)
        if not (token := page.token):
            return
    raise AssertionError("the search has no last page")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server")).start()
    yield running
    assert running.stop() == 0, running.said()


@pytest.fixture
def mlflow(server, request):
    """The package, pointed at the server, with an experiment of the test."""
    import mlflow

    mlflow.set_tracking_uri(server.query)
    mlflow.set_registry_uri(server.query)
    mlflow.set_experiment(request.node.name)
    yield mlflow
    while mlflow.active_run():
        mlflow.end_run()
