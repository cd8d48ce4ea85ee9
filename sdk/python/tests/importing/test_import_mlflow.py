"""Import of stores of MLflow, compared with what its own client reads."""

import importlib
import json
import math
import shutil
import sqlite3

import pytest
from imported import FIXTURES, import_source, last_of_each_step, points

from matyan_client import Run, cli
from matyan_client.importing import flat_yaml, literals

MADE = FIXTURES / "mlflow"


@pytest.fixture(params=["committed", "made now"])
def stores(request, tmp_path):
    """Stores of the real package. The committed stores were written to another directory."""
    if request.param == "committed":
        shutil.copytree(MADE, tmp_path / "mlflow")
        database = sqlite3.connect(tmp_path / "mlflow" / "mlflow.db")
        database.executescript((MADE / "mlflow.sql").read_text())
        database.close()
        return tmp_path / "mlflow"
    for package in ("mlflow", "sqlalchemy"):
        pytest.importorskip(package)
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.chdir(tmp_path)
    importlib.import_module("make_mlflow").make(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("kind", "path"), [("store", "store"), ("database", "mlflow.db")])
def test_everything_is_imported_exactly(shared_server, stores, capsys, kind, path):
    expected = json.loads((stores / "expected.json").read_text())[kind]
    reports = import_source(capsys, "mlflow", stores / path, shared_server)
    reports = {report["run"]: report for report in reports.values()}
    assert set(reports) == {run_id for run_id, run in expected.items() if run["name"] != "deleted"}
    for run_id in reports:
        check_run(Run(run_id, repo=shared_server.url, read_only=True), expected[run_id])
    first = next(report for report in reports.values() if report["label"] != "failed")
    assert first["replaced"] == 1
    assert first["notes"] == ["stepless: without steps, numbered by time"]
    again = import_source(capsys, "mlflow", stores / path, shared_server)
    assert {report["state"] for report in again.values()} == {"unchanged"}


def check_run(run, expected):
    assert (run.name, run.experiment, run.active) == (
        expected["name"],
        expected["experiment"],
        False,
    )
    assert run.description == expected["tags"].get("mlflow.note.content", "")
    stored = run[...]
    assert {name: str(value) for name, value in stored.get("hparams", {}).items()} == expected[
        "params"
    ]
    if expected["params"]:
        assert stored["hparams"] == {
            "lr": 0.01,
            "layers": [64, 32],
            "optimizer": "adam",
            "data/x.y": "007",
        }
    assert stored["mlflow"]["tags"] == expected["tags"]
    record = stored["__import"]
    assert (record["created"], record["ended"], record["state"]) == (
        expected["created"],
        expected["ended"],
        expected["status"],
    )
    metrics = {(name, "{}"): found for name, found in expected["metrics"].items()}
    for (name, _), found in metrics.items():
        if name == "stepless":
            found[:] = [[at, value, time] for at, (_, value, time) in enumerate(found)]
        # In a database, MLflow stores the largest number for an infinity.
        largest = {"1.7976931348623157e+308": repr(math.inf), "-1.7976931348623157e+308": "-inf"}
        found[:] = [[step, largest.get(value, value), time] for step, value, time in found]
    assert points(run) == {key: last_of_each_step(found) for key, found in metrics.items()}
    assert {
        artifact["path"]: run.get_artifact(artifact["path"]).hex() for artifact in run.artifacts
    } == expected["artifacts"]


def test_what_is_no_store(tmp_path, capsys):
    assert cli.main(["import", "mlflow", str(tmp_path), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert f"{str(tmp_path)!r} is a directory without runs of MLflow: name the directory" in said
    assert "such as `mlflow.db`" in said
    assert cli.main(["import", "mlflow", str(tmp_path / "absent"), "--dry-run"]) == 2
    assert "/absent" in capsys.readouterr().err
    (tmp_path / "file.db").write_text("x" * 5000)
    assert cli.main(["import", "mlflow", str(tmp_path / "file.db"), "--dry-run"]) == 2
    assert "is not a database of MLflow" in capsys.readouterr().err


def test_only_literals_that_keep_their_text_are_values():
    values = {"1": 1, "0.1": 0.1, "True": True, "None": None, "[1, 2]": [1, 2]}
    for text, value in values.items():
        assert literals.literal(text) == value
        assert type(literals.literal(text)) is type(value)
    for text in ("1e-1", "007", "'quoted'", "adam", "", "[1,2]", "nan", "b'x'", "(" * 500):
        assert literals.literal(text) == text


def test_a_text_of_any_length_stays_text():
    text = str([1] * 30_000)
    assert len(text) > 64 * 1024
    assert literals.literal(text) == text
    assert flat_yaml.flat_yaml(f'a: "{text}"') == {"a": text}


def test_flat_yaml():
    text = (
        "a: plain\nb: 'it''s'\nc: \"tab\\there, \\xE4\"\nlong: first\n  second\n"
        "none: null\nt: 'x: y'\n"
    )
    assert flat_yaml.flat_yaml(text) == {
        "a": "plain",
        "b": "it's",
        "c": "tab\there, ä",
        "long": "first second",
        "none": "",
        "t": "x: y",
    }
