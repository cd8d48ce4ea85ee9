"""The costs of a directory of event files: `matyan follow --once` on this server, and TensorBoard's own reader.

Usage: tensorboard_files.py [FILES], each with 20,000 points.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "peers" / "python"))

from figures import print_table, seconds  # noqa: E402
from server import Server  # noqa: E402
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer  # noqa: E402
from tensorboardX import SummaryWriter  # noqa: E402

POINTS = 20_000
ALL = {"scalars": 0, "tensors": 0, "images": 0, "audio": 0, "histograms": 0, "compressedHistograms": 0}


def write(directory: Path, files: int) -> None:
    for number in range(files):
        with SummaryWriter(str(directory / f"run{number}"), flush_secs=600) as writer:
            for step in range(POINTS):
                writer.add_scalar("loss", 1 / (step + 1), step)


def follow(directory: Path, place: Path) -> float:
    server = Server(place).start()
    command = [os.environ["MATYAN_BIN"], "follow", str(directory), "--once", "--json", "--server", server.query]

    def work() -> None:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert json.loads(done.stdout)["points"] % POINTS == 0

    try:
        return seconds(work)
    finally:
        server.stop()


def load(directory: Path) -> float:
    """TensorBoard's reader without its reservoir, which would drop points."""
    return seconds(lambda: EventMultiplexer(size_guidance=ALL).AddRunsFromDirectory(str(directory)).Reload())


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as logs, tempfile.TemporaryDirectory() as place:
        write(Path(logs), files)
        count = files * POINTS
        figure = f"{files:,} files of {POINTS:,} points, points/s"
        found = {
            "this server": {figure: count / follow(Path(logs), Path(place))},
            "TensorBoard": {figure: count / load(Path(logs))},
        }
    print_table("Event files, stored durably here and read into memory by TensorBoard", found)


if __name__ == "__main__":
    main()
