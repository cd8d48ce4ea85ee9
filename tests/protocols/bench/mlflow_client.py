"""The costs of MLflow's client on this server, and on MLflow's own with SQLite and PostgreSQL.

PostgreSQL is left out unless its programs are in the path, the package psycopg2 is there, and the user is not root:
PostgreSQL does not run as root.

Usage: mlflow_client.py [RUNS], the number of runs that are searched. The client creates the first thousand; the others are
written in ways that take less time, into the database of MLflow's own server and with requests of many threads into this one.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import http.client
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "peers" / "python"))

import mlflow  # noqa: E402
import sqlalchemy  # noqa: E402
from figures import per_second, print_table, seconds  # noqa: E402
from mlflow.entities import Metric, Param  # noqa: E402
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag  # noqa: E402
from server import Server, eventually, free_port  # noqa: E402

CALLS = 200
BATCHES = 40
BATCH = 1_000
SEARCHES = 5
# The number of runs that the client creates.
CREATED = 1_000
THREADS = 16
ROWS = 5_000
# Milliseconds.
STARTED = 1_750_000_000_000

# Writes the runs of a range of numbers into an experiment.
Filler = Callable[[str, range], None]


def accuracy(number: int, runs: int) -> float:
    """The metric of a run. Half of the runs have one that the search finds."""
    return number * 7_919 % runs / runs


def figures(uri: str, runs: int, fill: Filler) -> dict[str, float]:
    """Everything that is measured on one server."""
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment(f"bench {time.time_ns()}")
    run = client.create_run(experiment).info.run_id
    step = iter(range(10**9))

    def log_metrics() -> None:
        for _ in range(CALLS):
            client.log_metric(run, "loss", 0.5, step=next(step))

    def log_batches() -> None:
        for _ in range(BATCHES):
            points = [Metric("batch", 0.5, 1_000, next(step)) for _ in range(BATCH)]
            client.log_batch(run, metrics=points)
        # All points are readable.
        assert len(client.get_metric_history(run, "batch")) % (BATCHES * BATCH) == 0

    created = min(runs, CREATED)

    def create_runs() -> None:
        for number in range(created):
            run = client.create_run(experiment).info.run_id
            metrics = [Metric("acc", accuracy(number, runs), 1_000, 0)]
            client.log_batch(run, metrics=metrics, params=[Param("number", str(number))])

    def search() -> None:
        for _ in range(SEARCHES):
            found = client.search_runs([experiment], "metrics.acc >= 0.5 and params.number != '7'", max_results=100)
            assert found

    measured = {
        "log_metric, calls/s": per_second(CALLS, log_metrics),
        f"log_batch of {BATCH:,}, points/s until readable": per_second(BATCHES * BATCH, log_batches),
        f"create_run and log_batch, runs/s of {created:,}": created / seconds(create_runs),
    }
    fill(experiment, range(created, runs))
    measured[f"search_runs among {runs:,} runs, calls/s"] = per_second(SEARCHES, search)
    return measured


def fill_by_requests(uri: str, runs: int, experiment: str, numbers: range) -> None:
    """Creates runs with the requests of MLflow's client, from many threads."""

    def create(numbers: range) -> None:
        server = http.client.HTTPConnection(urllib.parse.urlsplit(uri).netloc)

        def post(path: str, body: dict) -> dict:
            server.request("POST", f"/api/2.0/mlflow/{path}", json.dumps(body), {"content-type": "application/json"})
            answer = server.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return json.loads(text)

        for number in numbers:
            run = post("runs/create", {"experiment_id": experiment, "start_time": STARTED + number})["run"]["info"]["run_id"]
            metrics = [{"key": "acc", "value": accuracy(number, runs), "timestamp": 1_000, "step": 0}]
            post("runs/log-batch", {"run_id": run, "metrics": metrics, "params": [{"key": "number", "value": str(number)}]})
        server.close()

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(create, (numbers[thread::THREADS] for thread in range(THREADS))))


def fill_by_sql(store: str, runs: int, experiment: str, numbers: range) -> None:
    """Writes runs into the database of MLflow's server, with the rows that its own creation of a run writes."""
    engine = sqlalchemy.create_engine(store)
    for start in range(0, len(numbers), ROWS):
        part = [(uuid.uuid4().hex, number) for number in numbers[start : start + ROWS]]
        info = {"status": "RUNNING", "lifecycle_stage": "active", "experiment_id": int(experiment), "user_id": "bench"}
        point = {"key": "acc", "timestamp": 1_000, "step": 0, "is_nan": False}
        points = [{**point, "run_uuid": run, "value": accuracy(number, runs)} for run, number in part]
        with engine.begin() as transaction:
            rows = [{**info, "run_uuid": run, "name": run, "start_time": STARTED + number} for run, number in part]
            transaction.execute(sqlalchemy.insert(SqlRun), rows)
            transaction.execute(sqlalchemy.insert(SqlMetric), points)
            transaction.execute(sqlalchemy.insert(SqlLatestMetric), points)
            params = [{"run_uuid": run, "key": "number", "value": str(number)} for run, number in part]
            transaction.execute(sqlalchemy.insert(SqlParam), params)
            tags = [{"run_uuid": run, "key": "mlflow.runName", "value": run} for run, _ in part]
            transaction.execute(sqlalchemy.insert(SqlTag), tags)
    engine.dispose()


@contextlib.contextmanager
def this_server() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory)).start()
        try:
            yield server.query
        finally:
            server.stop()


@contextlib.contextmanager
def sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        yield f"sqlite:///{directory}/mlflow.db"


@contextlib.contextmanager
def own_server(store: str) -> Iterator[str]:
    """MLflow's server with a database."""
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        uri = f"http://127.0.0.1:{port}"
        options = ["--backend-store-uri", store, "--port", str(port)]
        options += ["--artifacts-destination", f"{directory}/artifacts"]
        log = Path(directory, "log").open("wb")
        process = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *options], stdout=log, stderr=log)
        try:
            eventually(lambda: urllib.request.urlopen(f"{uri}/health").status == 200, "MLflow's server is up")
            yield uri
        finally:
            process.terminate()
            process.wait()
            log.close()


def has_postgres() -> bool:
    has_programs = all(map(shutil.which, ("initdb", "pg_ctl")))
    return has_programs and importlib.util.find_spec("psycopg2") is not None and os.geteuid() != 0


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """An empty PostgreSQL, whose programs are in the path."""
    with tempfile.TemporaryDirectory() as directory:
        data = f"{directory}/data"
        subprocess.run(["initdb", "--pgdata", data, "--auth", "trust", "--username", "bench"], check=True, capture_output=True)
        port = free_port()
        options = ["--log", f"{directory}/log", "--options", f"-p {port} -k {directory} -h 127.0.0.1"]
        # A pipe would never end: the server keeps it open.
        subprocess.run(["pg_ctl", "--pgdata", data, "--wait", *options, "start"], check=True, stdout=subprocess.DEVNULL)
        try:
            yield f"postgresql+psycopg2://bench@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run(["pg_ctl", "--pgdata", data, "stop"], check=True, capture_output=True)


def main() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    found = {}
    with this_server() as uri:
        found["this server"] = figures(uri, runs, functools.partial(fill_by_requests, uri, runs))
    with sqlite() as store, own_server(store) as uri:
        found["MLflow, SQLite"] = figures(uri, runs, functools.partial(fill_by_sql, store, runs))
    if has_postgres():
        with postgres() as store, own_server(store) as uri:
            found["MLflow, PostgreSQL"] = figures(uri, runs, functools.partial(fill_by_sql, store, runs))
    print_table(f"MLflow's client {mlflow.__version__}", found)


if __name__ == "__main__":
    main()
