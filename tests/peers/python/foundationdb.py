"""All services in separate processes: frontier, backend, two ingestion workers and a control worker, over a real Apache Kafka and a
real FoundationDB. `MATYAN_FDBSERVER` and `MATYAN_FDBCLI` are the programs of the latter; `make fdb` finds them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import kafka
from server import Server, eventually, free_port

PROGRAMS = ("MATYAN_FDBSERVER", "MATYAN_FDBCLI")


def lacking() -> str | None:
    """The reason why no cluster can be started here, if any; a failure with `REQUIRE=fdb`."""
    missing = [name for name in PROGRAMS if not Path(os.environ.get(name, "-")).is_file()]
    reason = f"{' and '.join(missing)} not set to a FoundationDB program; see `make fdb`" if missing else None
    assert reason is None or "fdb" not in os.environ.get("REQUIRE", "").split(","), f"REQUIRE=fdb, but {reason}"
    return reason or kafka.lacking()


class Cluster:
    """FoundationDB in one process, with its data in a folder."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        server, self.cli = (os.environ[name] for name in PROGRAMS)
        address = f"127.0.0.1:{free_port()}"
        self.file = directory / "fdb.cluster"
        self.file.write_text(f"matyan:tests@{address}")
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    server, "--public-address", address, "--listen-address", "public", "--cluster-file", self.file,
                    "--datadir", directory / "data", "--logdir", directory,
                ],
                stdout=log, stderr=log,
            )
        eventually(lambda: self.ask("configure new single ssd"), "the database is created")
        eventually(lambda: "available" in self.ask("status minimal"), "the database is available")

    def ask(self, command: str) -> str:
        asked = [self.cli, "-C", self.file, "--timeout", "20", "--exec", command]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class System:
    """Has the interface of `Server`: queries go to the backend, ingestion to the frontier."""

    has_both_sides = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        roles = ["frontier", "backend", "ingest-worker", "ingest-worker", "control-worker"]
        folders = [directory / f"{number}-{role}" for number, role in enumerate(roles)]
        self.services = [Server(folder, role, kafka.SECRET) for folder, role in zip(folders, roles, strict=True)]

    def start(self) -> "System":
        self.cluster = Cluster(self.directory / "cluster")
        self.broker, log = kafka.broker_start(partitions=3)
        flags = ["--log", log, "--blobs", f"file://{self.directory / 'blobs'}"]
        for service in self.services:
            service.directory.mkdir()
            state = [] if service.role == "frontier" else ["--store", f"fdb://{self.cluster.file}"]
            service.start(*flags, *state)
        self.ingest = self.services[0].ingest
        self.query = self.services[1].query
        return self

    def stop(self) -> int:
        ended = [service.stop() for service in self.services]
        self.broker.stdin.close()
        ended.append(self.broker.wait(timeout=60))
        self.cluster.stop()
        return max(abs(code) for code in ended)

    def said(self) -> str:
        return "\n".join(f"{service.role}:\n{service.said()}" for service in self.services)
