"""A real server for tests: the `matyan` binary, on free ports and with its own directory. The binary is `MATYAN_BIN`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import secrets_at_rest


def eventually(check, what, guard=60.0):
    """Waits until `check` returns something true. `guard` only keeps a broken run from hanging."""
    end = time.monotonic() + guard
    last = None
    while time.monotonic() < end:
        try:
            last = check()
        except Exception as error:  # reported if the wait times out
            last = error
        else:
            if last:
                return last
        time.sleep(0.02)
    raise AssertionError(f"timed out waiting: {what}; last state: {last!r}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A process of the binary, `matyan up` or a single service, which a test may stop, kill and restart."""

    has_both_sides = True

    def __init__(self, directory: Path, role: str = "up", variables: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.role = role
        self.variables = variables or {}
        self.process: subprocess.Popen | None = None
        self.has_access = False
        self.query = ""
        self.ingest = ""

    def start(self, *flags: str, query_port: int = 0) -> "Server":
        ready = self.directory / f"{self.role}.json"
        ready.unlink(missing_ok=True)
        ports = ["--port", str(query_port)]
        if self.role == "up":
            ports += ["--frontier-port", "0"]
        elif self.role.endswith("-worker"):
            ports = ["--metrics-port", str(free_port())]
        place = ["--data-dir", str(self.directory / "data")] if self.role == "up" else []
        log = (self.directory / "server.log").open("ab")
        variables = {**os.environ, **self.variables}
        self.has_access = "--access on" in " ".join(flags) or variables.get("MATYAN_ACCESS") == "on"
        self.process = subprocess.Popen(
            [
                os.environ["MATYAN_BIN"], self.role, "--host", "127.0.0.1", *ports, *place,
                "--ready-file", str(ready), *flags,
            ],
            stdout=log, stderr=log, env=variables,
        )
        log.close()

        def has_started_or_ended():
            return self.process.poll() is not None or (ready.exists() and ready.read_text().strip())

        eventually(has_started_or_ended, "the server announces its addresses")
        assert self.process.poll() is None, f"the server ended at its start: {self.said()}"
        addresses = json.loads(ready.read_text())
        self.query = addresses.get("query")
        self.ingest = addresses.get("ingest")
        return self

    def said(self) -> str:
        return (self.directory / "server.log").read_text()

    def matyan(self, *words: str) -> str:
        """Runs a command as the operator of a server with access control."""
        operator = (self.directory / "data" / "operator-token").read_text().strip()
        variables = {**os.environ, "MATYAN_BACKEND_URL": self.query, "MATYAN_TOKEN": operator}
        program = [os.environ["MATYAN_BIN"], *words]
        done = subprocess.run(program, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.search_secrets()
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.search_secrets()

    def search_secrets(self) -> None:
        """Fails if a server with access control has left a secret."""
        if self.has_access:
            secrets_at_rest.assert_none(self.directory / "server.log", self.directory / "data")
