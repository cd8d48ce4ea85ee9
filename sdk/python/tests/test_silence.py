"""Reads from a server that accepts connections and never answers."""

import socket
import threading

import pytest

from matyan_client import Run, errors
from matyan_client import run as run_module
from matyan_client.transport import http


@pytest.fixture
def silent():
    """The URL of a silent server, and its connections."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                try:
                    connections.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", connections
        listener.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()


def test_a_silent_server_is_asked_once(silent, monkeypatch):
    monkeypatch.setattr(http, "_SMALL_LIMIT", 0.3)
    url, connections = silent
    run = Run("some", repo=url, read_only=True)
    assert (run.tags, run.props, run.metrics()) == ([], {}, [])
    asked = len(connections)
    assert asked >= 1
    with pytest.raises(errors.ParamsUnavailableError, match=r"no answer from http.* within 0.3 s"):
        run["x"]
    assert len(connections) == asked
    monkeypatch.setattr(http, "_SILENCE", 0.0)
    run._http._small._silence = None
    assert (run.tags, run.tags) == ([], [])
    assert len(connections) >= asked + 2


def test_a_silent_server_is_not_waited_for_again(silent, monkeypatch):
    monkeypatch.setattr(http, "_SMALL_LIMIT", 0.3)
    monkeypatch.setattr(run_module, "_OWN_WRITES_LIMIT", 0.1)
    monkeypatch.setattr(run_module, "_UNREACHABLE_LIMIT", 0.1)
    monkeypatch.setattr(run_module, "_REACHABLE_LIMIT", 0.1)
    waits = []
    monkeypatch.setattr(Run, "_flush", lambda *arguments: waits.append(arguments) or False)
    url, _ = silent
    with Run(repo=url, capture_terminal_logs=False) as run:
        run.track(1.0, name="m")
        assert (run.get("b"), len(waits)) == (None, 1)
        assert (run.get("b"), run.tags, len(waits)) == (None, [], 1)
