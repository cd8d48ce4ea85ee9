"""Import of offline runs of W&B, compared with what was logged."""

import importlib
import json
import shutil
import struct

import pytest
from imported import FIXTURES, import_source, objects, points, run_import

from matyan_client import Run
from matyan_client._core import leveldb_records
from matyan_client.importing import wandb

MADE = FIXTURES / "wandb"


@pytest.fixture(params=["committed", "made now"])
def made(request, tmp_path):
    """Runs of the real package, and whether all of their files are on this machine."""
    if request.param == "committed":
        return MADE
    for package in ("wandb", "plotly", "soundfile"):
        pytest.importorskip(package)
    importlib.import_module("make_wandb").make(tmp_path)
    return tmp_path


def test_everything_is_imported_exactly(shared_server, made, capsys):
    expected = json.loads((made / "expected.json").read_text())
    # W&B has its artifacts in the user's data directory.
    options = [] if made == MADE else ["--outside-files"]
    reports = import_source(capsys, "wandb", made / "wandb", shared_server, *options)
    assert set(reports) == {"proj/first", "proj/second"}
    runs = {}
    for label, report in reports.items():
        name = label.removeprefix("proj/")
        run = runs[name] = Run(report["run"], repo=shared_server.url, read_only=True)
        assert (run.experiment, run.active) == ("proj", False)
        # W&B adds the times, and here nothing else knows them.
        found = {
            series: [point[:2] for point in column]
            for (series, context), column in points(run).items()
        }
        assert found == expected[name]["points"]
    assert runs["second"]["__import.state"] == "failed"
    assert runs["second"].get_terminal_logs() == ["first line", "100%", "last ä"]
    check_facts(runs["first"])
    check_objects(shared_server, runs["first"], expected["first"]["files"])
    paths = {artifact["path"]: artifact["path"] for artifact in runs["first"].artifacts}
    assert runs["first"].get_artifact(paths["weights.txt"]) == b"content"
    if made == MADE:
        assert reports["proj/first"]["notes"] == [
            "not on this machine: 1 file of artifacts",
            "stored as files only: 1 value of table-file",
        ]
    else:
        assert runs["first"].get_artifact(paths["model/sub/weights.txt"]) == b"content"
    (table,) = (path for path in paths if path.startswith("media/table/"))
    assert json.loads(runs["first"].get_artifact(table))["data"] == [[1, "x"], [2, "y"]]
    again = import_source(capsys, "wandb", made / "wandb", shared_server, *options)
    assert {report["state"] for report in again.values()} == {"unchanged"}


def check_facts(run):
    assert (run.name, run.description, sorted(run.tags)) == ("näme", "some notes", ["a", "b c"])
    params = run[...]
    assert params["hparams"] == {
        "lr": 0.1,
        "net": {"depth": 3, "sizes": [1, 2]},
        "dotted.key": "x",
        "later": 5,
    }
    assert params["wandb"] == {"group": "g", "job_type": "train", "id": "first"}
    assert params["summary"]["best"] == 0.25
    assert params["summary"]["nested"] == {"a": 1.5, "deep": {"b": 2}}
    assert params["__import"]["state"] == "finished"
    times = [time for column in points(run).values() for _, _, time in column]
    assert min(times) >= params["__import"]["created"]
    assert max(times) <= params["__import"]["ended"]


def check_objects(server, run, files):
    images = objects(server, run.hash, "images")
    assert images["image"] == [[304, files["image"]]]
    assert [step for step, _ in images["pair"]] == [304, 304]
    assert files["image"] in [content for _, content in images["pair"]]
    assert objects(server, run.hash, "audios")["tone"] == [[306, files["tone"]]]
    ((step, text),) = objects(server, run.hash, "texts")["note"]
    assert (step, text["data"]) == (303, "ein Text ä€")
    ((step, figure),) = objects(server, run.hash, "figures")["figure"]
    assert (step, json.loads(figure["data"])) == (307, json.loads(bytes.fromhex(files["figure"])))
    ((step, bins),) = objects(server, run.hash, "distributions")["weights"]
    assert (step, list(bins["range"].values())) == (305, [0.0, 9.0])
    assert struct.unpack("<5d", bins["data"]["blob"]) == (2, 2, 2, 2, 2)


def test_parts_of_a_resumed_run_become_one_run(shared_server, tmp_path, capsys):
    shutil.copytree(MADE / "wandb", tmp_path / "wandb")
    (second,) = (tmp_path / "wandb").glob("*-second")
    shutil.copytree(second, second.with_name("offline-run-20990101_000000-second"))
    reports = run_import(capsys, "wandb", tmp_path / "wandb", shared_server, "--dry-run")
    assert (len(reports), reports["proj/second"]["points"]) == (2, 2)


def test_the_number_of_bins_is_not_trusted():
    packed = {"min": 1.0, "size": 0.5, "count": 2**60}
    bins = wandb._histogram_bins({"values": [3, 4], "packedBins": packed})
    assert bins == [(1.0, 1.5, 3.0), (1.5, 2.0, 4.0)]


def test_damage_costs_only_its_block(tmp_path):
    (original,) = MADE.rglob("run-first.wandb")
    content = bytearray(original.read_bytes())
    assert len(content) > 32_768
    file = tmp_path / "run-first.wandb"

    def read(damaged):
        file.write_bytes(damaged)
        notes = []
        return list(leveldb_records(file, notes.append)), notes

    whole, notes = read(content)
    assert notes == []
    cut, (note,) = read(content[:-20])
    assert (cut, "ends within a record" in note) == (whole[:-1], True)
    content[20_000] ^= 1
    rest, (note,) = read(content)
    assert "left out a damaged block" in note
    assert rest[-1] == whole[-1]
    assert all(record in whole for record in rest)
    assert read(b"something else")[1] == ["run-first.wandb: not a file of W&B"]
