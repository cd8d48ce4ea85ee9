"""A real server for tests, the binary `MATYAN_BIN`, and their own spool."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from peers import peers_module

from matyan_client.config import SETTINGS

# Directories that the spools of the user may be in. They are read before the environment changes.
USER_SPOOLS = (
    Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "matyan" / "spool",
    Path(tempfile.gettempdir()) / f"matyan-spool-{os.getuid()}",
    Path("/dev/shm") / f"matyan-spool-{os.getuid()}",
)


def pytest_configure(config):
    directory = tempfile.mkdtemp(prefix="matyan-tests-")
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
    # A spool goes to one of the other directories if the first directory cannot take it.
    os.environ["MATYAN_SPOOL_DIR"] = f"{directory}/spool"
    os.environ["XDG_STATE_HOME"] = f"{directory}/state"
    # No token that the user of this machine has kept is sent.
    os.environ["XDG_CONFIG_HOME"] = f"{directory}/config"
    os.environ["TMPDIR"] = directory
    os.environ["MATYAN_QUIET"] = "1"
    # Otherwise they would be read in a test that changes the environment.
    SETTINGS.take_warnings()
    # Shells ignore it in jobs that run in the background, and scripts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Server:
    """A process of `matyan up` on free ports, which a test may stop and start again."""

    def __init__(self, directory):
        self.directory = directory
        self.process = None
        self.has_access = False
        self.addresses = {"query": None, "ingest": None}

    @property
    def url(self):
        return self.addresses["query"]

    @property
    def gateway(self):
        return self.addresses["ingest"]

    def start(self):
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        ports = [(self.addresses[side] or ":0").rpartition(":")[2] for side in ("query", "ingest")]
        command = [os.environ["MATYAN_BIN"], "up", "--port", ports[0], "--frontier-port", ports[1]]
        files = ["--data-dir", str(self.directory / "data"), "--ready-file", str(ready)]
        self.has_access = os.environ.get("MATYAN_ACCESS") == "on"
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen([*command, *files], stdout=log, stderr=log)
        end = time.monotonic() + 60
        while not ready.exists() or not ready.read_text().strip():
            assert self.process.poll() is None, (self.directory / "server.log").read_text()
            assert time.monotonic() < end, "the server does not become ready"
            time.sleep(0.02)
        self.addresses = json.loads(ready.read_text())
        return self

    def stop(self, signal_number=signal.SIGTERM):
        if self.process is not None:
            self.process.send_signal(signal_number)
            self.process.wait(30)
            self.process = None
            if self.has_access:
                search = peers_module("secrets_at_rest")
                search.assert_none(self.directory / "server.log", self.directory / "data")


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    if "MATYAN_BIN" not in os.environ:
        pytest.skip("MATYAN_BIN does not name the server")
    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.stop()


@pytest.fixture
def network(shared_server):
    """Another address of the server, whose connections break when a test says so."""
    with peers_module("network").Network(shared_server.url) as network:
        yield network


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory):
    """A frontier and `matyan up` in two processes, over a real broker."""
    kafka = peers_module("kafka")
    if reason := kafka.lacking():
        pytest.skip(reason)
    system = kafka.System(tmp_path_factory.mktemp("kafka")).start()
    yield SimpleNamespace(url=system.query, gateway=system.ingest)
    assert system.stop() == 0, system.said()


@pytest.fixture
def own_kafka_server(tmp_path):
    """`matyan up` over a real broker, which a test may kill and restart."""
    kafka = peers_module("kafka")
    if reason := kafka.lacking():
        pytest.skip(reason)
    directory = tmp_path / "system"
    directory.mkdir()
    system = kafka.RestartedSystem(directory)
    yield system
    assert system.stop() == 0, system.said()


@pytest.fixture
def own_server(tmp_path):
    if "MATYAN_BIN" not in os.environ:
        pytest.skip("MATYAN_BIN does not name the server")
    directory = tmp_path / "server"
    directory.mkdir()
    server = Server(directory).start()
    yield server
    with contextlib.suppress(ProcessLookupError):
        server.stop(signal.SIGKILL)


@pytest.fixture
def closed_server(own_server, monkeypatch):
    """A server with access control, and the token of its operator."""
    own_server.stop()
    monkeypatch.setenv("MATYAN_ACCESS", "on")
    own_server.start()
    monkeypatch.delenv("MATYAN_ACCESS")
    return own_server, (own_server.directory / "data" / "operator-token").read_text().strip()


def is_of_tests(owner):
    """Reports whether the owner of a spool is this process, a child, or unknown."""
    if not owner.exists():
        return True
    process = json.loads(owner.read_text())["process"]
    return os.getpid() in (process["pid"], process["parent_pid"])


def spools_of_tests():
    """Returns the spools of the user that were made by tests, and not by a training."""
    owners = (path / "owner" for root in USER_SPOOLS if root.is_dir() for path in root.iterdir())
    return {owner for owner in owners if is_of_tests(owner)}


@pytest.fixture(scope="session", autouse=True)
def _spools_of_the_user():
    before = spools_of_tests()
    yield
    assert spools_of_tests() <= before, "a test has left spools among the spools of the user"


@pytest.fixture(autouse=True)
def spool(tmp_path, monkeypatch):
    monkeypatch.setenv("MATYAN_SPOOL_DIR", str(tmp_path / "spool"))
    return tmp_path / "spool"
