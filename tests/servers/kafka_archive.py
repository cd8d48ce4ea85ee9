"""Writes the classes that a Kafka broker loads into an archive, with which each broker of the tests starts in two thirds
of the processor time.

Usage: kafka_archive.py JARS ARCHIVE
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"
STARTED = "Kafka Server started"

# Seconds after which a broker that has not started, or not ended, hangs.
LIMIT = 120


def free_ports(count: int) -> list[int]:
    """Ports that are free and differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]


def settings(folder: Path) -> str:
    broker, controller = free_ports(2)
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/data
"""


def main(jars: Path, archive: Path) -> None:
    java = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    # The virtual machine uses an archive only for the class path that it was made with.
    classes = ["-Dlog4j2.level=INFO", "-cp", f"{jars}/*"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        properties = folder / "settings"
        properties.write_text(settings(folder))
        format_disk = ["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(properties)]
        subprocess.run([*java, *classes, *format_disk], check=True, stdout=subprocess.DEVNULL)
        part = folder / "archive"
        log = folder / "log"
        with log.open("wb") as output:
            broker = subprocess.Popen(
                [*java, f"-XX:ArchiveClassesAtExit={part}", *classes, "kafka.Kafka", str(properties)],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            deadline = time.monotonic() + LIMIT
            while STARTED not in log.read_text(errors="replace"):
                if broker.poll() is not None:
                    sys.exit(f"the broker has exited:\n{log.read_text(errors='replace')}")
                if time.monotonic() > deadline:
                    sys.exit(f"the broker has not started in {LIMIT} s:\n{log.read_text(errors='replace')}")
                time.sleep(0.2)
            broker.terminate()
            broker.wait(LIMIT)
        finally:
            broker.kill()
            broker.wait()
        archive.write_bytes(part.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
