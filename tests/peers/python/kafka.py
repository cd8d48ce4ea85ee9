"""The system in two processes over a real Apache Kafka: a separate frontier, and `matyan up`, which applies the log."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from server import Server, free_port

SECRET = {"BLOB_URI_SECRET": "a shared secret"}


def lacking() -> str | None:
    """The reason why no broker can be started here, if any; a failure with `REQUIRE=kafka`."""
    reason = None
    jars = os.environ.get("MATYAN_KAFKA_JARS")
    if not jars or not Path(jars).is_dir():
        reason = "the Apache Kafka jars are not installed; see `make kafka`"
    elif shutil.which("java") is None:
        reason = "java is not installed"
    assert reason is None or "kafka" not in os.environ.get("REQUIRE", "").split(","), f"REQUIRE=kafka, but {reason}"
    return reason


def broker_start(partitions: int) -> tuple[subprocess.Popen, str]:
    """Starts a broker, which exits when its standard input is closed, and creates the topics. Returns it with the URI of the log."""
    program = Path(os.environ["MATYAN_BIN"]).with_name("kafka-broker")
    broker = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    log = f"kafka://{broker.stdout.readline().strip()}"
    create = [os.environ["MATYAN_BIN"], "topics", "create", "--log", log, "--partitions", str(partitions)]
    subprocess.run(create, check=True)
    return broker, log


class RestartedSystem:
    """`matyan up` over a broker, which may be killed and started again at the same address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.broker, self.log = broker_start(partitions=3)
        self.server = Server(directory)
        self.start()

    def start(self) -> None:
        self.query = self.server.start("--log", self.log, query_port=self.port).query

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> int:
        ended = self.server.stop()
        self.broker.stdin.close()
        return max(abs(code) for code in (ended, self.broker.wait(timeout=60)))

    def said(self) -> str:
        return self.server.said()


class System:
    """Has the interface of `Server`: queries go to one process, ingestion to the other."""

    has_both_sides = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.worker = Server(directory, variables=SECRET)
        self.frontier = Server(directory, role="frontier", variables=SECRET)

    def start(self) -> "System":
        self.broker, log = broker_start(partitions=3)
        flags = ["--log", log, "--blobs", f"file://{self.directory / 'blobs'}"]
        self.query = self.worker.start(*flags).query
        self.ingest = self.frontier.start(*flags).ingest
        return self

    def stop(self) -> int:
        ended = [self.frontier.stop(), self.worker.stop()]
        self.broker.stdin.close()
        return max(abs(code) for code in [*ended, self.broker.wait(timeout=60)])

    def said(self) -> str:
        return self.worker.said()
