"""One measurement of one tracker, in its own process; prints the figures as JSON.

Usage: measure.py TRACKER MEASUREMENT [COUNT]. The tracker is `matyan`, `trackio` or `wandb`; which
`matyan_client` is measured depends on the environment of the interpreter. The server's addresses
are read from `MATYAN_BACKEND_URL` and `MATYAN_FRONTIER_URL`.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

CONTEXT = {"subset": "train"}
KEYS = [f"metric {number}" for number in range(20)]

clock = time.perf_counter_ns


class Matyan:
    """The two clients of Matyan: the published client, and the client of this directory."""

    def __init__(self) -> None:
        from matyan_client import Run

        self._run = Run(experiment="bench", log_system_params=False, capture_terminal_logs=False)
        self.track = self._run.track

    def one(self, value: Any, step: int) -> None:
        """The call as the documentation shows it."""
        self.track(value, name="loss", step=step, context={"subset": "train"})

    def many(self, values: dict[str, Any], step: int) -> None:
        """A dict of metrics."""
        self.track(values, step=step, context=CONTEXT)

    def close(self) -> None:
        """Ends the run."""
        self._run.close()


class Trackio:
    """Trackio, which stores in SQLite."""

    def __init__(self) -> None:
        import trackio

        trackio.init(project="bench", embed=False)
        self._trackio = trackio

    def one(self, value: Any, step: int) -> None:
        """The call as its documentation shows it."""
        self._trackio.log({"loss": value}, step=step)

    def many(self, values: dict[str, Any], step: int) -> None:
        """A dict of metrics."""
        self._trackio.log(values, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._trackio.finish()


class Wandb:
    """Weights & Biases in offline mode."""

    def __init__(self) -> None:
        import wandb

        self._run = wandb.init(project="bench", mode="offline")

    def one(self, value: Any, step: int) -> None:
        """The call as its documentation shows it."""
        self._run.log({"loss": value}, step=step)

    def many(self, values: dict[str, Any], step: int) -> None:
        """A dict of metrics."""
        self._run.log(values, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


TRACKERS: dict[str, type[Matyan | Trackio | Wandb]] = {
    "matyan": Matyan,
    "trackio": Trackio,
    "wandb": Wandb,
}


def call_times(call: Callable[[int], None], count: int) -> dict[str, float]:
    """Median, p99.9 and maximum of `count` calls in microseconds, each timed alone.

    The time of a call that does nothing, and thus of reading the clock, is subtracted.
    """
    empty = sorted_times(lambda _: None, 10_000)[5_000]
    times = sorted_times(call, count)
    return {
        "median": (times[count // 2] - empty) / 1e3,
        "p99.9": (times[count * 999 // 1000] - empty) / 1e3,
        "slowest": (times[-1] - empty) / 1e3,
    }


def sorted_times(call: Callable[[int], None], count: int) -> list[int]:
    """The nanoseconds of `count` calls after the first 1,000, the shortest first."""
    for step in range(1000):
        call(step)
    times = [0] * count
    for number in range(count):
        start = clock()
        call(1000 + number)
        times[number] = clock() - start
    times.sort()
    return times


def calls(tracker: Any, kind: str) -> Callable[[int], None]:
    """The call to measure."""
    if kind == "documented":
        return lambda step: tracker.one(0.5, step)
    if kind == "dict":
        return lambda step: tracker.many(dict.fromkeys(KEYS, 0.5), step)
    if kind == "numpy":
        import numpy as np

        value = np.float32(0.5)
        return lambda step: tracker.one(value, step)
    if kind in {"cuda", "cuda-dict"}:
        import torch

        tensors = {key: torch.full((), 0.5, device="cuda") for key in KEYS[:10]}
        if kind == "cuda-dict":
            return lambda step: tracker.many(tensors, step)
        tensor = tensors[KEYS[0]]
        return lambda step: tracker.one(tensor, step)
    message = f"unknown kind of call `{kind}`"
    raise SystemExit(message)


def life(name: str) -> dict[str, float]:
    """Milliseconds of import, first run, and end of a run that has stored 1,000 points."""
    start = clock()
    __import__({"matyan": "matyan_client"}.get(name, name))
    imported = clock()
    tracker = TRACKERS[name]()
    opened = clock()
    for step in range(1000):
        tracker.one(0.5, step)
    tracked = clock()
    tracker.close()
    closed = clock()
    return {
        "import": (imported - start) / 1e6,
        "Run()": (opened - imported) / 1e6,
        "close()": (closed - tracked) / 1e6,
    }


def throughput(name: str, count: int) -> dict[str, float]:
    """Seconds from the first of `count` points until all are acknowledged."""
    tracker = TRACKERS[name]()
    start = clock()
    for step in range(count):
        tracker.one(0.5, step)
    tracked = clock()
    tracker.close()
    return {"tracked": (tracked - start) / 1e9, "closed": (clock() - start) / 1e9}


def read(count: int) -> dict[str, float]:
    """Seconds to read a series of `count` points into numpy, after writing it in columns."""
    import numpy as np

    from matyan_client import Run

    with Run(experiment="bench", capture_terminal_logs=False) as run:
        for start in range(0, count, 1_000_000):
            steps = np.arange(start, min(start + 1_000_000, count))
            run.track_many(np.sin(steps / 1e5), steps=steps, name="loss", context=CONTEXT)
    reader = Run(run.hash, read_only=True)
    start = clock()
    values = np.asarray(reader.series("loss", CONTEXT).values)
    if len(values) != count:
        message = f"{len(values)} of {count} points were read"
        raise SystemExit(message)
    return {"seconds": (clock() - start) / 1e9}


def main() -> None:
    """Measures and prints."""
    name, measurement, *rest = sys.argv[1:]
    count = int(rest[0]) if rest else 0
    # Some trackers print to the standard output.
    report = os.dup(1)
    os.dup2(2, 1)
    if measurement == "life":
        figures = life(name)
    elif measurement == "throughput":
        figures = throughput(name, count)
    elif measurement == "read":
        figures = read(count)
    else:
        figures = call_times(calls(TRACKERS[name](), measurement), count)
    os.write(report, json.dumps(figures).encode())
    # Without the exit hooks: what is left to send is not a part of the measurement.
    os._exit(0)


main()
