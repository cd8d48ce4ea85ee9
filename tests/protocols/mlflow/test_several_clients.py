"""Clients that write to one run at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

CLIENTS = 8


def at_the_same_time(mlflow, write, rounds=1):
    """Calls `write` with a client, its number and the round, in a thread for each client. All clients begin each round
    together. Returns what the calls of each round returned."""
    start = threading.Barrier(CLIENTS)

    def work(number):
        client = mlflow.MlflowClient()
        results = []
        try:
            for turn in range(rounds):
                start.wait()
                results.append(write(client, number, turn))
        except BaseException:
            # The other clients would wait for this one.
            start.abort()
            raise
        return results

    with ThreadPoolExecutor(CLIENTS) as pool:
        working = [pool.submit(work, number) for number in range(CLIENTS)]
    errors = [error for it in working if (error := it.exception())]
    assert not errors, [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    return list(zip(*(it.result() for it in working), strict=True))


@pytest.fixture
def run(mlflow):
    return mlflow.MlflowClient().create_run("0").info.run_id


def history(mlflow, run, key):
    points = mlflow.MlflowClient().get_metric_history(run, key)
    return sorted((point.timestamp, point.step, point.value) for point in points)


def test_points_of_one_metric_are_all_kept_and_each_once(mlflow, run):
    from mlflow.entities import Metric

    # The points of a step have different times. Every client also sends the point of time 999.
    def points(number, turn):
        own = [Metric("loss", number / 8, 1_000 + number * 100 + at, turn * 10 + at) for at in range(10)]
        return [*own, Metric("loss", turn / 4, 999, turn * 10)]

    def write(client, number, turn):
        client.log_batch(run, metrics=points(number, turn))
        client.log_metric(run, "loss", number, timestamp=5_000 + number, step=turn)

    at_the_same_time(mlflow, write, rounds=10)
    expected = set()
    for turn in range(10):
        for number in range(CLIENTS):
            expected |= {(point.timestamp, point.step, point.value) for point in points(number, turn)}
            expected.add((5_000 + number, turn, float(number)))
    assert len(expected) == 10 * (CLIENTS * 11 + 1)
    assert history(mlflow, run, "loss") == sorted(expected)
    last = mlflow.MlflowClient().get_run(run).data.metrics["loss"]
    assert last == (CLIENTS - 1) / 8, "the greatest step, then the latest time"


def test_points_of_different_metrics_are_kept_apart(mlflow, run):
    def write(client, number, turn):
        for step in range(turn * 5, turn * 5 + 5):
            client.log_metric(run, f"loss {number}", number + step / 8, timestamp=step + 1, step=step)

    at_the_same_time(mlflow, write, rounds=4)
    for number in range(CLIENTS):
        expected = [(step + 1, step, number + step / 8) for step in range(20)]
        assert history(mlflow, run, f"loss {number}") == expected
    assert len(mlflow.MlflowClient().get_run(run).data.metrics) == CLIENTS


def test_a_batch_of_all_clients_is_stored_once(mlflow, run):
    from mlflow.entities import Metric

    points = [Metric("loss", at / 8, at + 1, at % 7) for at in range(200)]
    at_the_same_time(mlflow, lambda client, *_: client.log_batch(run, metrics=points))
    assert history(mlflow, run, "loss") == sorted((at + 1, at % 7, at / 8) for at in range(200))


@pytest.mark.parametrize("is_batch", [False, True])
def test_one_client_sets_a_param_and_others_are_refused(mlflow, run, is_batch):
    from mlflow.entities import Param
    from mlflow.exceptions import MlflowException

    def write(client, number, turn):
        client.log_param(run, f"own {number} {turn}", number)
        client.log_param(run, f"same {turn}", "value")
        try:
            if is_batch:
                client.log_batch(run, params=[Param(f"lr {turn}", str(number)), Param(f"size {turn}", str(number))])
            else:
                client.log_param(run, f"lr {turn}", number)
        except MlflowException as error:
            assert error.error_code == "INVALID_PARAMETER_VALUE", error
            return None
        return str(number)

    expected = {}
    for turn, results in enumerate(at_the_same_time(mlflow, write, rounds=6)):
        (winner,) = [number for number in results if number is not None]
        expected |= {f"own {number} {turn}": str(number) for number in range(CLIENTS)}
        expected |= {f"same {turn}": "value", f"lr {turn}": winner}
        if is_batch:
            expected[f"size {turn}"] = winner
    assert mlflow.MlflowClient().get_run(run).data.params == expected


def test_tags_are_all_set_and_a_common_one_has_a_last_value(mlflow, run):
    def write(client, number, turn):
        client.set_tag(run, f"own {number} {turn}", f"{number} {turn}")
        client.set_tag(run, "common", f"{number} {turn}")

    at_the_same_time(mlflow, write, rounds=8)
    tags = dict(mlflow.MlflowClient().get_run(run).data.tags)
    assert tags.pop("common") in {f"{number} 7" for number in range(CLIENTS)}
    own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
    assert own == {f"own {number} {turn}": f"{number} {turn}" for number in range(CLIENTS) for turn in range(8)}


def test_metrics_params_and_tags_do_not_hinder_each_other(mlflow, run):
    from mlflow.entities import Metric, Param, RunTag

    def write(client, number, turn):
        key = f"{number} {turn}"
        kind = number % 4
        if kind == 0:
            client.log_batch(run, [Metric("loss", turn, 1 + number, turn)], [Param(key, "p")], [RunTag(key, "t")])
        elif kind == 1:
            client.log_metric(run, "loss", turn, timestamp=1 + number, step=turn)
        elif kind == 2:
            client.log_param(run, key, "p")
        else:
            client.set_tag(run, key, "t")

    at_the_same_time(mlflow, write, rounds=8)
    names = [(number, turn) for number in range(CLIENTS) for turn in range(8)]
    expected = [(1 + number, turn, float(turn)) for number, turn in names if number % 4 in (0, 1)]
    assert history(mlflow, run, "loss") == sorted(expected)
    data = mlflow.MlflowClient().get_run(run).data
    assert data.params == {f"{number} {turn}": "p" for number, turn in names if number % 4 in (0, 2)}
    tags = {key: value for key, value in data.tags.items() if not key.startswith("mlflow.")}
    assert tags == {f"{number} {turn}": "t" for number, turn in names if number % 4 in (0, 3)}
