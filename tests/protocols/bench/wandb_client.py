"""The costs of W&B's client on this server, and without a server: W&B's own cannot be started here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "peers" / "python"))

import wandb  # noqa: E402
from figures import print_table, seconds  # noqa: E402
from server import Server  # noqa: E402

ROWS = 20_000
METRICS = 5
PROJECT = "bench"


def measure(is_online: bool) -> dict[str, float]:
    """Everything that is measured in one process."""
    run = wandb.init(project=PROJECT, id="r")

    def log() -> None:
        for step in range(ROWS):
            run.log({f"metric{number}": step / 3 for number in range(METRICS)})

    logged = seconds(log)
    ended = seconds(run.finish)
    found = {f"log of {METRICS} metrics, calls/s": ROWS / logged}
    if is_online:
        stored = wandb.Api().run(f"matyan/{PROJECT}/r")

        def scan() -> None:
            # All rows are readable once `finish` has returned.
            assert sum(1 for _ in stored.scan_history()) == ROWS

        found["points/s until readable"] = ROWS * METRICS / (logged + ended)
        found["scan_history, points/s"] = ROWS * METRICS / seconds(scan)
    return found


def figures(variables: dict[str, str], role: str) -> dict[str, float]:
    """The figures of a process with these variables and its own directory."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": directory,
            "WANDB_API_KEY": "a" * 40,
            "WANDB_DIR": directory,
            "WANDB_SILENT": "true",
            **variables,
        }
        command = [sys.executable, str(Path(__file__).resolve()), role]
        done = subprocess.run(command, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory)).start()
        try:
            found["this server"] = figures({"WANDB_BASE_URL": server.query}, "online")
        finally:
            server.stop()
    found["offline"] = figures({"WANDB_MODE": "offline"}, "offline")
    print_table(f"W&B's client {wandb.__version__}", found)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1] == "online")))
    else:
        main()
