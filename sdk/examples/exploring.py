"""The output of the examples that show runs, as programs and as a page."""

from __future__ import annotations

import csv
import math
import os
import re
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import fmean
from threading import Thread

import pyarrow as pa
import pytest
from generated_runs import GeneratedRun
from playwright.sync_api import Page
from pyarrow import parquet

FRAME = re.compile(r"^(\d+) runs, (\d+) points\n((?:[0-9a-f]{32} .*\n)+)", re.MULTILINE)


def same(value: float, other: float) -> bool:
    return value == other or (math.isnan(value) and math.isnan(other))


def assert_same_points(found: list[tuple[int, float]], logged: list[tuple[int, float]]) -> None:
    assert [step for step, _ in found] == [step for step, _ in logged]
    assert all(same(value, other) for (_, value), (_, other) in zip(found, logged, strict=True)), found


def assert_table(rows: list[list[str]], runs: list[GeneratedRun], expanded: int) -> None:
    """Checks a table by optimizer and depth, in ascending order of means, with the runs of a group after its row."""
    groups = defaultdict(list)
    for run in runs:
        groups[run.optimizer, str(run.depth)].append(run)
    ordered = sorted(groups.items(), key=lambda group: fmean(run.losses[-1] for run in group[1]))
    listed = sorted((run.losses[-1], run.run_id) for run in ordered[expanded - 1][1])
    assert rows.pop(0) == ["hparams.optimizer", "hparams.depth", "runs", "mean", "min"]
    inner = [rows.pop(expanded) for _ in listed]
    assert [(float(last), run_id) for _, run_id, last in inner] == listed
    assert [(*values, int(count)) for *values, count, _, _ in rows] == [(*key, len(group)) for key, group in ordered]
    for (*_, mean, lowest), (_, group) in zip(rows, ordered, strict=True):
        lasts = [run.losses[-1] for run in group]
        assert float(lowest) == min(lasts)
        assert float(mean) == pytest.approx(fmean(lasts), rel=1e-14)


def exported_rows(path: Path) -> Iterator[tuple[str, str, str, str, int, float]]:
    """The rows of an export of points, as its format's reader for Python finds them."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                key = (row["run"], row["experiment"], row["name"], row["context"])
                yield (*key, int(row["step"]), float(row["value"]))
        return
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
    else:
        with pa.ipc.open_stream(path) as stream:
            table = stream.read_all()
    columns = ["run", "experiment", "name", "context", "step", "value"]
    yield from zip(*(table[column].to_pylist() for column in columns), strict=True)


def assert_exported(path: Path, runs: list[GeneratedRun]) -> None:
    found = defaultdict(list)
    for *key, step, value in exported_rows(path):
        found[tuple(key)].append((step, value))
    assert len(found) == len(runs)
    for run in runs:
        assert_same_points(found[run.run_id, run.experiment, "loss", run.context], run.points)


class TerminalChart:
    """A chart that a program prints again and again."""

    def __init__(self, command: str, directory: Path, query: str, output: Path) -> None:
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                ["sh", "-c", command],
                cwd=directory,
                env={**os.environ, "MATYAN_BACKEND_URL": query},
                stdout=file,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )

    def shows(self, runs: list[GeneratedRun], counts: dict[str, int]) -> bool:
        """Checks that the last frame has this number of points of each run, and their last values."""
        frames = FRAME.findall(self.output.read_text())
        if not frames:
            assert self.process.poll() is None, self.process.stderr.read()
            return False
        drawn, points, lines = frames[-1]
        last = {words[0]: words[-2:] for words in map(str.split, lines.splitlines())}
        assert int(drawn) == len(runs)
        return int(points) == sum(counts.values()) and all(
            (int(last[run.run_id][0]), float(last[run.run_id][1])) == run.points[counts[run.run_id] - 1] for run in runs
        )

    def close(self) -> str:
        """Interrupts the program, and returns what it has reported."""
        os.killpg(self.process.pid, signal.SIGINT)
        _, said = self.process.communicate(timeout=60)
        assert self.process.returncode != 0 and "Traceback" not in said, said
        return said


class PageChart:
    """A chart on the canvas of a page."""

    POINTS = """() => Object.fromEntries(globalThis.chart?.points.map(
        ({ steps, values }, index) => [chart.runIds[index], [Array.from(steps), Array.from(values)]]) ?? [])"""
    COLORS = """() => {
        const canvas = document.querySelector("canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(data.buffer).filter((pixel) => pixel >>> 24 === 255)).size;
    }"""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.get_by_role("button", name="Chart").click()

    def shows(self, runs: list[GeneratedRun], counts: dict[str, int]) -> bool:
        """Checks that there is this number of points of each run, and if so, that they are exact."""
        found = self.page.evaluate(self.POINTS)
        if {run_id: len(steps) for run_id, (steps, _) in found.items()} != counts:
            return False
        for run in runs:
            assert_same_points(list(zip(*found[run.run_id], strict=True)), run.points[: counts[run.run_id]])
        return self.page.locator("output").inner_text() == f"{len(runs)} runs, {sum(counts.values())} points"


def assert_drawn(chart: PageChart, runs: list[GeneratedRun]) -> None:
    """Checks that the canvas has opaque pixels in the colors of the runs, apart from some that are covered."""
    assert chart.page.evaluate(chart.COLORS) > len(runs) // 2


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serves the files of a directory, and yields their origin."""
    pages = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=directory))
    Thread(target=pages.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{pages.server_port}"
    finally:
        pages.shutdown()
        pages.server_close()
