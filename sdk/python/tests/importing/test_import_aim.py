"""Import of repositories of Aim, compared with what was logged."""

import importlib
import struct
import sys

import pytest
from imported import import_source, objects, points

from matyan_client import Run, cli


def test_everything_is_imported_exactly(shared_server, tmp_path, capsys):
    for package in ("aim", "plotly"):
        pytest.importorskip(package)
    expected = importlib.import_module("make_aim").make(tmp_path)
    capsys.readouterr()
    reports = import_source(capsys, "aim", tmp_path, shared_server)
    assert {report["run"] for report in reports.values()} == set(expected)
    for run_hash, logged in expected.items():
        run = Run(run_hash, repo=shared_server.url, read_only=True)
        found = {
            f"{name} {context}": [point[:2] for point in column]
            for (name, context), column in points(run).items()
        }
        assert found == logged["points"]
        assert not run.active
        if "content" in logged:
            check_first(shared_server, run, logged)
        else:
            assert (run.archived, run.series("epoch_only").epochs.tolist()) == (True, [7])
            assert "a line of the script" in run.get_terminal_logs()
    again = import_source(capsys, "aim", tmp_path / ".aim", shared_server)
    assert {report["state"] for report in again.values()} == {"unchanged"}


def check_first(server, run, logged):
    assert (run.name, run.description, run.experiment) == ("first", "A description", "tuning")
    assert run.tags == ["good one"]
    params = run[...]
    record = params.pop("__import")
    assert (record["created"], record["state"]) == (logged["created"], "finished")
    assert params == {
        "hparams": {"lr": 0.1, "net": {"sizes": [1, 2]}, "none": None, "text": "ä"},
        "dotted.key": True,
    }
    train = run.series("loss", {"subset": "train"})
    assert train.epochs.tolist() == [step // 10 for step in range(50)]
    assert all(record["created"] <= time / 1e6 <= record["ended"] for time in train.times_us)
    assert objects(server, run.hash, "images") == {"image": [[3, logged["content"]["image"]]]}
    assert objects(server, run.hash, "audios") == {"tone": [[4, logged["content"]["tone"]]]}
    texts = objects(server, run.hash, "texts")["texts"]
    assert sorted((step, text["data"]) for step, text in texts) == [(1, "a"), (1, "b ä")]
    ((step, bins),) = objects(server, run.hash, "distributions")["weights"]
    assert (step, list(bins["range"].values())) == (2, [0.0, 9.0])
    assert struct.unpack("<5d", bins["data"]["blob"]) == (2, 2, 2, 2, 2)
    ((step, figure),) = objects(server, run.hash, "figures")["figure"]
    assert step == 5
    assert '"scatter"' in figure["data"]
    (logged_record,) = run.get_log_records()
    assert "be careful" in str(logged_record)
    assert run.get_artifact("sub/weights.txt") == b"content"


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "aim", None)
    assert cli.main(["import", "aim", str(tmp_path), "--dry-run"]) == 2
    assert "pip install aim" in capsys.readouterr().err
