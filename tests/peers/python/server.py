"""A real server for tests: the `matyan` binary on free ports and a directory of its own. The binary is `MATYAN_BIN`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path


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
