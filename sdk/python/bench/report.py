"""The cost of tracking: our SDK next to the published client, trackio, and W&B offline.

Every figure is measured in its own process, all trackers in turns, so that their ratios hold
on a noisy machine. Prints medians over the turns. Environment: `MATYAN_BIN` is the server,
`MATYAN_SDK_PYTHON`, `MATYAN_PUBLISHED_PYTHON` and `MATYAN_PEERS_PYTHON` are interpreters with our
package, the published one, and the others. `MATYAN_CUDA_PYTHON` has our package and PyTorch, for
values on a device; without it, the first one is asked for a device.
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import chart

MEASURE = pathlib.Path(__file__).with_name("measure.py")
# Name in the table, tracker, variable with the interpreter, and share of the calls. The others
# take minutes for a million.
TRACKERS = [
    ("matyan", "matyan", "MATYAN_SDK_PYTHON", 1),
    ("published 0.3.0", "matyan", "MATYAN_PUBLISHED_PYTHON", 50),
    ("trackio", "trackio", "MATYAN_PEERS_PYTHON", 50),
    ("wandb offline", "wandb", "MATYAN_PEERS_PYTHON", 50),
]
CALLS = {"documented": "the documented call", "dict": "a dict of 20", "numpy": "a numpy scalar"}
# Kinds of calls with values on an idle device.
CUDA_CALLS = {"cuda": "a CUDA tensor", "cuda-dict": "a dict of 10 CUDA tensors"}
# Interpreters with our package and perhaps PyTorch: the first one that is named is used.
CUDA_PYTHONS = ("MATYAN_CUDA_PYTHON", "MATYAN_SDK_PYTHON")
# Limits of our figures, by measurement and figure. A figure over its limit is marked.
BUDGETS = {
    ("life", "import"): 30,
    ("life", "Run()"): 5,
    ("documented", "median"): 0.3,
    ("cuda", "median"): 15,
    ("cuda-dict", "median"): 40,
}
THROUGHPUT_BUDGET = 1_000_000
WHEEL_BUDGET = 5_000_000
# Seconds after which a tracker is given up. The published client waits for its server.
PATIENCE = 300


@contextmanager
def server(directory: pathlib.Path) -> Iterator[str]:
    """The URL of a server with its data in `directory`."""
    ready = directory / "ready.json"
    command = [os.environ["MATYAN_BIN"], "up", "--port", "0", "--frontier-port", "0"]
    files = ["--data-dir", str(directory / "data"), "--ready-file", str(ready)]
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, *files], stdout=log, stderr=log)
    try:
        while not ready.exists() or not ready.read_text().strip():
            if process.poll() is not None:
                raise SystemExit((directory / "server.log").read_text())
            time.sleep(0.02)
        yield json.loads(ready.read_text())["query"]
    finally:
        process.terminate()
        process.wait()


def delay(source: socket.socket, target: socket.socket, seconds: float) -> None:
    """Copies bytes, each piece late by `seconds`."""
    try:
        while piece := source.recv(65536):
            time.sleep(seconds)
            target.sendall(piece)
    except OSError:
        pass
    finally:
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def slow(url: str, seconds: float = 0.2) -> Iterator[str]:
    """The URL of a proxy in front of `url` that delays everything."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
                target = socket.create_connection((host, int(port)))
            except OSError:
                return
            for ends in ((client, target), (target, client)):
                threading.Thread(target=delay, args=(*ends, seconds), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def absent() -> str:
    """A URL at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def start(
    tracker: str, python: str, url: str, measurement: str, count: int = 0
) -> subprocess.Popen[bytes] | None:
    """A measurement in a new process and an empty directory, or None without the interpreter."""
    if python not in os.environ:
        return None
    directory = tempfile.mkdtemp(prefix="matyan-bench-")
    environment = os.environ | {
        "MATYAN_BACKEND_URL": url,
        "MATYAN_FRONTIER_URL": url,
        "MATYAN_SPOOL_DIR": f"{directory}/spool",
        "MATYAN_QUIET": "1",
        "LOGURU_LEVEL": "ERROR",
        "TRACKIO_DIR": f"{directory}/trackio",
        "WANDB_SILENT": "true",
        "WANDB_DIR": directory,
    }
    return subprocess.Popen(
        [os.environ[python], str(MEASURE), tracker, measurement, str(count)],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def figures_of(process: subprocess.Popen[bytes] | None) -> dict[str, float] | None:
    """The figures that a measurement has printed, or None if it failed."""
    if process is None:
        return None
    try:
        printed, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return None
    return json.loads(printed) if process.returncode == 0 and printed else None


def cuda_python() -> str | None:
    """The variable of an interpreter with PyTorch and a CUDA device, or None."""
    python = next((variable for variable in CUDA_PYTHONS if variable in os.environ), None)
    if python is None:
        return None
    command = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    answer = subprocess.run(
        [os.environ[python], "-c", command], stderr=subprocess.DEVNULL, check=False
    )
    return python if answer.returncode == 0 else None


def judged(figure: float, limit: float | None) -> str:
    """The limit of a figure, and whether it is kept. Negative ones are minima."""
    if limit is None:
        return ""
    sign = "≤" if limit > 0 else "≥"
    return f" ({sign} {abs(limit):,}{'' if figure <= limit else ': MISSED'})"


def limits_of(measurement: str) -> dict[str, float]:
    """The limits of our figures of a measurement."""
    return {key: limit for (kind, key), limit in BUDGETS.items() if kind == measurement}


def medians(measured: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over the turns."""
    return {key: statistics.median(turn[key] for turn in measured) for key in measured[0]}


class Report:
    """Measures rows of the table, and prints them."""

    def __init__(self, runs: int, scale: int) -> None:
        self.runs = runs
        self.scale = scale

    def row(
        self, work: str, url: str, measurement: str, count: int = 0
    ) -> dict[str, dict[str, float]]:
        """A row for each tracker, measured in turns. Returns the medians by tracker."""
        turns: dict[str, list[dict[str, float]]] = {name: [] for name, *_ in TRACKERS}
        for _ in range(self.runs):
            for name, tracker, python, share in TRACKERS:
                process = start(tracker, python, url, measurement, count // share // self.scale)
                figures = figures_of(process)
                if figures is not None:
                    turns[name].append(figures)
        for name, measured in turns.items():
            limits = limits_of(measurement) if name == "matyan" else {}
            print(f"{work:<44} {name:<16} {self.text(measured, limits)}", flush=True)
        return {name: medians(measured) for name, measured in turns.items() if measured}

    def cuda(self, url: str) -> None:
        """Rows for values on a device, of our client alone, if there is one."""
        python = cuda_python()
        if python is None:
            work = "µs of CUDA values"
            print(f"{work:<44} {'matyan':<16} no device, or no PyTorch", flush=True)
            return
        for kind, work in CUDA_CALLS.items():
            measured = []
            for _ in range(self.runs):
                figures = figures_of(start("matyan", python, url, kind, 20_000 // self.scale))
                if figures is not None:
                    measured.append(figures)
            text = self.text(measured, limits_of(kind))
            print(f"µs of {work:<38} {'matyan':<16} {text}", flush=True)

    @staticmethod
    def text(measured: list[dict[str, float]], limits: dict[str, float]) -> str:
        """Medians of each figure, and their limits."""
        if not measured:
            return "failed, or not installed"
        return "   ".join(
            f"{key} {figure:,.3g}{judged(figure, limits.get(key))}"
            for key, figure in medians(measured).items()
        )

    def throughput(self, url: str, processes: int, count: int) -> dict[str, float]:
        """Points per second until everything is acknowledged, from some processes at once."""
        found = {}
        for name, tracker, python, share in TRACKERS:
            each = count // share // self.scale // processes
            rates = []
            for _ in range(self.runs):
                began = time.perf_counter()
                started = [
                    start(tracker, python, url, "throughput", each) for _ in range(processes)
                ]
                measured = [figures_of(process) for process in started]
                if processes == 1 and measured[0] is not None:
                    rates.append(each / measured[0]["closed"])
                elif all(figures is not None for figures in measured):
                    rates.append(each * processes / (time.perf_counter() - began))
            work = f"points per second until stored, {processes} processes"
            rate = f"{statistics.median(rates):,.0f}" if rates else "failed, or not installed"
            if rates and name == "matyan" and processes == 1:
                rate += judged(-statistics.median(rates), -THROUGHPUT_BUDGET)
            print(f"{work:<44} {name:<16} {rate}", flush=True)
            if rates:
                found[name] = statistics.median(rates)
        return found

    def chart(self, url: str, path: pathlib.Path) -> None:
        """Measures what the picture of the README shows, and writes the picture."""
        calls = self.row("µs of the documented call", url, "documented", 1_000_000)
        rates = self.throughput(url, 1, 5_000_000)
        costs = {name: figures["median"] for name, figures in calls.items()}
        groups = [
            chart.Group(
                "Microseconds of a call that tracks a value: less is better", costs, "{:,.3g}"
            ),
            chart.Group(
                "Points per second until they are stored: more is better", rates, "{:,.0f}"
            ),
        ]
        chart.write(path, groups, TRACKERS[0][0])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="turns; their median is printed")
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls")
    parser.add_argument("--wheel", type=pathlib.Path, help="our wheel, whose size is printed")
    parser.add_argument(
        "--chart",
        type=pathlib.Path,
        help="measures the figures of this picture only, and writes it",
    )
    options = parser.parse_args()
    if options.wheel is not None:
        size = options.wheel.stat().st_size
        print(f"{'bytes of the wheel':<44} {'matyan':<16} {size:,}{judged(size, WHEEL_BUDGET)}")
    report = Report(options.runs, 10 if options.quick else 1)
    with tempfile.TemporaryDirectory() as directory, server(pathlib.Path(directory)) as url:
        if options.chart is not None:
            report.chart(url, options.chart)
            return
        report.row("milliseconds, 1,000 points", url, "life")
        with slow(url) as slow_url:
            for state, target in (("present", url), ("slow", slow_url), ("absent", absent())):
                for kind, work in CALLS.items():
                    count = 50_000 if kind == "dict" else 1_000_000
                    report.row(f"µs of {work}, server {state}", target, kind, count)
        report.cuda(url)
        report.throughput(url, 1, 5_000_000)
        report.throughput(url, 8, 8_000_000)
        count = 10_000_000 // report.scale
        figures = figures_of(start("matyan", "MATYAN_SDK_PYTHON", url, "read", count))
        seconds = "failed" if figures is None else f"{figures['seconds']:.3g} s"
        print(f"{count:,} points into numpy{'':<22} matyan{'':<10} {seconds}")


if __name__ == "__main__":
    main()
