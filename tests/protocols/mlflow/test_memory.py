"""The memory of a server, which does not grow with the points of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Server

# The pages of a history have 25,000 points.
FEW = 25_000
MANY = 10 * FEW
# How much larger the peak with ten times the points may be.
FACTOR = 1.6


class Memory:
    """The memory of a server's process, in bytes."""

    def __init__(self, server):
        self.directory = Path(f"/proc/{server.process.pid}")

    def peak_of(self, action):
        """The largest memory while an action runs."""
        (self.directory / "clear_refs").write_text("5")
        action()
        lines = (self.directory / "status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return int(peak) << 10


@pytest.fixture
def own_server(tmp_path):
    """A server that has done nothing before."""
    running = Server(tmp_path).start()
    yield running
    assert running.stop() == 0, running.said()


def test_batches_and_histories_of_long_metrics_take_bounded_memory(own_server):
    import mlflow
    from mlflow.entities import Metric

    client = mlflow.MlflowClient(tracking_uri=own_server.query, registry_uri=own_server.query)
    memory = Memory(own_server)

    def write(run, count):
        # Each step has two points: the last one is stored apart from earlier ones.
        for start in range(0, count, 1_000):
            points = [Metric("loss", at / 7, at + 1, at // 2) for at in range(start, start + 1_000)]
            client.log_batch(run, metrics=points)

    def read(run, count):
        history = client.get_metric_history(run, "loss")
        assert sorted(point.timestamp for point in history) == list(range(1, count + 1))

    peaks = []
    for count in (FEW, MANY):
        run = client.create_run("0").info.run_id
        written = memory.peak_of(lambda: write(run, count))  # noqa: B023
        peaks.append((written, memory.peak_of(lambda: read(run, count))))  # noqa: B023
    (few_written, few_read), (many_written, many_read) = peaks
    assert many_written <= FACTOR * few_written, peaks
    assert many_read <= FACTOR * few_read, peaks
