"""Makes stores of MLflow with its own client, and reads them with it:
`python make_mlflow.py DIRECTORY`.

Needs mlflow-skinny, sqlalchemy, and alembic.
"""

import json
import os
import sqlite3
import sys
import time
from pathlib import Path

# The file store of new versions must be asked for.
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"

import mlflow
from mlflow.entities import Metric

_START_MS = 1_700_000_000_000
# The tables that the importer reads, so that a committed copy of the database stays small.
_TABLES = ("experiments", "runs", "metrics", "params", "tags")


def make(directory):
    """Writes the same runs to a file store and to a database, and what MLflow reads from them."""
    directory = directory.resolve()
    stores = {
        "store": (directory / "store").as_uri(),
        "database": f"sqlite:///{directory}/mlflow.db",
    }
    expected = {}
    os.chdir(directory)
    for store, uri in stores.items():
        mlflow.set_tracking_uri(uri)
        _write()
        expected[store] = _read()
    (directory / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
    _dump(directory / "mlflow.db", directory / "mlflow.sql")


def _write():
    client = mlflow.MlflowClient()
    experiment = client.create_experiment('tuning: "first" # try')
    odd = 'long name: with "quotes", umlauts (ä€) and more words than fit into one line of a file'
    with mlflow.start_run(experiment_id=experiment, run_name=odd) as run:
        mlflow.log_params({"lr": 0.01, "layers": [64, 32], "optimizer": "adam", "data/x.y": "007"})
        mlflow.set_tags({"team": "vision", "mlflow.note.content": "A *note*\nwith two lines"})
        mlflow.log_text("hello", "notes/a.txt")
        mlflow.log_dict({"a": 1}, "config.json")
        metrics = [
            Metric("loss/train", 1 / (step + 1), _START_MS + 7 * step, 10 * step)
            for step in range(30)
        ]
        metrics += [
            Metric("odd", value, _START_MS + step, step)
            for step, value in enumerate([float("nan"), float("inf"), float("-inf"), 1e-300])
        ]
        # A metric without steps, and a metric with a step that occurs twice.
        metrics += [Metric("stepless", value, _START_MS + value, 0) for value in range(5)]
        metrics += [Metric("twice", step % 3, _START_MS + step, step % 3) for step in range(4)]
        client.log_batch(run.info.run_id, metrics)
    failed = client.create_run(experiment, start_time=_START_MS, run_name="failed")
    client.log_metric(failed.info.run_id, "loss", 2.5, timestamp=_START_MS, step=-1)
    client.set_terminated(failed.info.run_id, "FAILED", end_time=_START_MS + 5000)
    deleted = client.create_run("0", start_time=int(time.time() * 1000), run_name="deleted")
    client.delete_run(deleted.info.run_id)


def _read():
    client = mlflow.MlflowClient()
    experiments = {found.experiment_id: found.name for found in client.search_experiments()}
    return {
        run.info.run_id: {
            "name": run.info.run_name,
            "experiment": experiments[run.info.experiment_id],
            "status": run.info.status.lower(),
            "created": run.info.start_time / 1000,
            "ended": run.info.end_time / 1000,
            "params": run.data.params,
            "tags": run.data.tags,
            "metrics": {
                name: [
                    [metric.step, repr(float(metric.value)), metric.timestamp / 1000]
                    for metric in client.get_metric_history(run.info.run_id, name)
                ]
                for name in run.data.metrics
            },
            "artifacts": _artifacts(client, run.info.run_id, ""),
        }
        for run in client.search_runs(list(experiments))
    }


def _artifacts(client, run_id, path):
    found = {}
    for entry in client.list_artifacts(run_id, path or None):
        if entry.is_dir:
            found.update(_artifacts(client, run_id, entry.path))
        else:
            file = client.download_artifacts(run_id, entry.path)
            found[entry.path] = Path(file).read_bytes().hex()
    return found


def _dump(database, target):
    connection = sqlite3.connect(database)
    names = tuple(f"CREATE TABLE {quote}{table}{quote}" for table in _TABLES for quote in ('"', ""))
    rows = tuple(f'INSERT INTO "{table}"' for table in _TABLES)
    lines = [line for line in connection.iterdump() if line.startswith((*names, *rows))]
    connection.close()
    target.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
