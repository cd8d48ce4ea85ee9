"""What MLflow's client costs on this server, and on MLflow's own with SQLite and PostgreSQL.

PostgreSQL is left out unless its programs are in the path, the package psycopg2 is there, and the user is not root, as whom
it does not run.

Usage: mlflow_client.py [RUNS], the number of runs that are searched.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "peers" / "python"))

import mlflow  # noqa: E402
from figures import per_second, print_table, seconds  # noqa: E402
from mlflow.entities import Metric, Param  # noqa: E402
from server import Server, eventually, free_port  # noqa: E402

CALLS = 200
BATCHES = 40
BATCH = 1_000
SEARCHES = 20


def figures(uri: str, runs: int) -> dict[str, float]:
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

    def create_runs() -> None:
        for number in range(runs):
            created = client.create_run(experiment).info.run_id
            metrics = [Metric("acc", number / runs, 1_000, 0)]
            client.log_batch(created, metrics=metrics, params=[Param("number", str(number))])

    def search() -> None:
        for _ in range(SEARCHES):
            found = client.search_runs([experiment], "metrics.acc >= 0.5 and params.number != '7'", max_results=100)
            assert found

    return {
        "log_metric, calls/s": per_second(CALLS, log_metrics),
        f"log_batch of {BATCH:,}, points/s until readable": per_second(BATCHES * BATCH, log_batches),
        f"create_run and log_batch, runs/s of {runs:,}": runs / seconds(create_runs),
        f"search_runs among {runs:,} runs, calls/s": per_second(SEARCHES, search),
    }


@contextlib.contextmanager
def this_server() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory)).start()
        try:
            yield server.query
        finally:
            server.stop()


@contextlib.contextmanager
def own_server(store: str) -> Iterator[str]:
    """MLflow's server with a database."""
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        uri = f"http://127.0.0.1:{port}"
        options = ["--backend-store-uri", store.format(directory=directory), "--port", str(port)]
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
        found["this server"] = figures(uri, runs)
    with own_server("sqlite:///{directory}/mlflow.db") as uri:
        found["MLflow, SQLite"] = figures(uri, runs)
    if has_postgres():
        with postgres() as store, own_server(store) as uri:
            found["MLflow, PostgreSQL"] = figures(uri, runs)
    print_table(f"MLflow's client {mlflow.__version__}", found)


if __name__ == "__main__":
    main()
