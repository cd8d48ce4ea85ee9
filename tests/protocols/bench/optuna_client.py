"""The costs of Optuna's client on this server, and on Optuna's own storage proxy over SQLite."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

sys.path.append(str(Path(__file__).parents[2] / "peers" / "python"))

import optuna  # noqa: E402
from figures import print_table, seconds  # noqa: E402
from optuna.storages import GrpcStorageProxy, RDBStorage, run_grpc_proxy_server  # noqa: E402
from server import Server, free_port  # noqa: E402

TRIALS = 500
READS = 50


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -10, 10)
    for step in range(5):
        trial.report(x, step)
    return x**2


def figures(host: str, port: int) -> dict[str, float]:
    """Everything that is measured on one server."""
    storage = GrpcStorageProxy(host=host, port=port)
    storage.wait_server_ready(timeout=60)
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(storage=storage, study_name=f"bench {time.time_ns()}", sampler=sampler)
    optimized = seconds(lambda: study.optimize(objective, n_trials=TRIALS))

    def read_all() -> None:
        # A client of its own, which has read nothing yet.
        fresh = GrpcStorageProxy(host=host, port=port)
        assert len(optuna.load_study(storage=fresh, study_name=study.study_name).trials) == TRIALS

    return {
        "trials with 5 reports each, trials/s": TRIALS / optimized,
        f"{TRIALS} trials read by a new client, trials/s": TRIALS / seconds(read_all),
        "trials again, nothing new, calls/s": READS / seconds(lambda: [study.trials for _ in range(READS)]),
    }


@contextlib.contextmanager
def this_server() -> Iterator[tuple[str, int]]:
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory)).start()
        url = urlsplit(server.query)
        try:
            yield url.hostname, url.port
        finally:
            server.stop()


def serve(path: str, port: int) -> None:
    run_grpc_proxy_server(RDBStorage(f"sqlite:///{path}"), host="127.0.0.1", port=port)


@contextlib.contextmanager
def own_server() -> Iterator[tuple[str, int]]:
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        arguments = (f"{directory}/optuna.db", port)
        process = multiprocessing.get_context("spawn").Process(target=serve, args=arguments)
        process.start()
        try:
            yield "127.0.0.1", port
        finally:
            process.terminate()
            process.join()


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = {}
    with this_server() as (host, port):
        found["this server"] = figures(host, port)
    with own_server() as (host, port):
        found["Optuna, SQLite"] = figures(host, port)
    print_table(f"Optuna's client {optuna.__version__}", found)


if __name__ == "__main__":
    main()
