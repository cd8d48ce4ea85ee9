"""The memory of a server, which does not grow with the points of a run."""

from __future__ import annotations

import pytest
from conftest import Server, memory

# The pages of a history have 25,000 points.
FEW = 25_000
MANY = 10 * FEW
# How much larger the peak with ten times the points may be.
FACTOR = 1.6


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

    def write(run, count):
        # Each step has two points: the last one is stored apart from earlier ones.
        for start in range(0, count, 1_000):
            points = [Metric("loss", at / 7, at + 1, at // 2) for at in range(start, start + 1_000)]
            client.log_batch(run, metrics=points)

    def read(run, count):
        history = client.get_metric_history(run, "loss")
        assert sorted(point.timestamp for point in history) == list(range(1, count + 1))

    def peak_of(action, *arguments):
        memory.reset_peak(own_server.process)
        action(*arguments)
        return memory.peak(own_server.process)

    peaks = []
    for count in (FEW, MANY):
        run = client.create_run("0").info.run_id
        peaks.append((peak_of(write, run, count), peak_of(read, run, count)))
    (few_written, few_read), (many_written, many_read) = peaks
    assert many_written <= FACTOR * few_written, peaks
    assert many_read <= FACTOR * few_read, peaks
