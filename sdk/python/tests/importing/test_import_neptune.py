"""Import of exports of Neptune. Its exporter needs an account, so files of its documented schema
are made here.
"""

import datetime
import struct
import sys
from decimal import Decimal

import pytest
from imported import import_source, objects, points

from matyan_client import Run, cli
from matyan_client.objects._media import Pixels, encoded

_START = datetime.datetime(2025, 11, 1, 12, 0, 0, tzinfo=datetime.timezone.utc)


def row(path, kind, step=None, seconds=None, **values):
    time = None if seconds is None else _START + datetime.timedelta(seconds=seconds)
    step = None if step is None else Decimal(step).quantize(Decimal("0.000001"))
    return {
        "attribute_path": path,
        "attribute_type": kind,
        "step": step,
        "timestamp": time,
    } | values


def write(directory, run_id, parts):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    time = pa.timestamp("ms", tz="UTC")
    schema = pa.schema(
        {
            "project_id": pa.string(),
            "run_id": pa.string(),
            "attribute_path": pa.string(),
            "attribute_type": pa.string(),
            "step": pa.decimal128(18, 6),
            "timestamp": time,
            "int_value": pa.int64(),
            "float_value": pa.float64(),
            "string_value": pa.string(),
            "bool_value": pa.bool_(),
            "datetime_value": time,
            "string_set_value": pa.list_(pa.string()),
            "file_value": pa.struct({"path": pa.string()}),
            "histogram_value": pa.struct(
                {
                    "type": pa.string(),
                    "edges": pa.list_(pa.float64()),
                    "values": pa.list_(pa.float64()),
                }
            ),
        }
    )
    target = directory / "data" / "team_project_1a2b"
    target.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(parts):
        described = [{"project_id": "team/project", "run_id": run_id} | one for one in rows]
        table = pa.Table.from_pylist(described, schema)
        pq.write_table(table, target / f"{run_id}_part_{number}.parquet", compression="snappy")


@pytest.fixture
def export(tmp_path):
    files = tmp_path / "files" / "team_project_1a2b"
    files.mkdir(parents=True)
    (files / "weights.bin").write_bytes(b"content")
    (files / "image.png").write_bytes(encoded(Pixels(bytes(12), 2, 2, 3)).data)
    (files / "source").mkdir()
    (files / "source" / "train.py").write_text("pass")
    facts = [
        row("sys/name", "string", string_value="first"),
        row("sys/tags", "string_set", string_set_value=["b", "a"]),
        row("sys/creation_time", "datetime", datetime_value=_START),
        row("sys/failed", "bool", bool_value=True),
        row("parameters/lr", "float", float_value=0.1),
        row("parameters/layers", "int", int_value=3),
        row("parameters", "string", string_value="also a value"),
    ]
    series = [
        row("train/loss", "float_series", step, step / 8, float_value=1 / (step + 1))
        for step in range(40)
    ]
    series += [
        row("log", "string_series", 1, 1, string_value="ä"),
        row(
            "weights",
            "histogram_series",
            2,
            1,
            histogram_value={"type": "COUNTING", "edges": [0, 1, 2], "values": [5, 7]},
        ),
        row("model/weights", "file", file_value={"path": "team_project_1a2b/weights.bin"}),
        row("code", "file", file_value={"path": "team_project_1a2b/source"}),
        row("samples", "file_series", 4, 1, file_value={"path": "team_project_1a2b/image.png"}),
        row("lost", "file", file_value={"path": "../../etc/passwd"}),
    ]
    write(tmp_path, "RUN-1", [facts + series[:20], series[20:]])
    halves = [
        row("loss", "float_series", str(step / 4), step, float_value=float(step))
        for step in range(5)
    ]
    write(tmp_path, "RUN-2", [halves])
    return tmp_path


@pytest.mark.parametrize("part", ["", "data"])
def test_everything_is_imported_exactly(shared_server, export, capsys, part):
    reports = import_source(capsys, "neptune", export / part, shared_server)
    assert set(reports) == {"team/project/RUN-1", "team/project/RUN-2"}
    first = Run(reports["team/project/RUN-1"]["run"], repo=shared_server.url, read_only=True)
    start = _START.timestamp()
    assert points(first) == {
        ("train/loss", "{}"): [[at, repr(1 / (at + 1)), start + at / 8] for at in range(40)]
    }
    assert (first.name, first.experiment) == ("first", "team/project")
    assert sorted(first.tags) == ["a", "b"]
    assert first["parameters"] == {"lr": 0.1, "layers": 3, "": "also a value"}
    assert (first["__import.state"], first["__import.created"]) == ("failed", start)
    ((step, text),) = objects(shared_server, first.hash, "texts")["log"]
    assert (step, text["data"]) == (1, "ä")
    ((step, bins),) = objects(shared_server, first.hash, "distributions")["weights"]
    assert (step, struct.unpack("<2d", bins["data"]["blob"])) == (2, (5, 7))
    image = (export / "files" / "team_project_1a2b" / "image.png").read_bytes().hex()
    assert objects(shared_server, first.hash, "images") == {"samples": [[4, image]]}
    assert first.get_artifact("model/weights") == b"content"
    assert first.get_artifact("code/train.py") == b"pass"
    notes = reports["team/project/RUN-1"]["notes"]
    if reports["team/project/RUN-1"]["state"] == "imported":
        assert notes == ["left out: 1 file not in the export"]
    again = import_source(capsys, "neptune", export / part, shared_server)
    assert {report["state"] for report in again.values()} == {"unchanged"}


def test_steps_that_are_not_whole_keep_their_distance(shared_server, export, capsys):
    report = import_source(capsys, "neptune", export, shared_server)["team/project/RUN-2"]
    run = Run(report["run"], repo=shared_server.url, read_only=True)
    assert run.series("loss").steps.tolist() == [0, 25, 50, 75, 100]


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert cli.main(["import", "neptune", str(tmp_path), "--dry-run"]) == 2
    assert "pip install pyarrow" in capsys.readouterr().err
