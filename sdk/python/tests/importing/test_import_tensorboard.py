"""Import of event files, compared with what TensorBoard reads from them."""

import importlib
import json
import os
import shutil
import struct
import subprocess
import sys

import pytest
from event_records import field, framed
from imported import FIXTURES, import_source, last_of_each_step, objects, points, run_import

from matyan_client import Repo, Run, cli
from matyan_client._core import EventReader
from matyan_client.importing import histograms

LOGS = FIXTURES / "tensorboard" / "logs"
EXPECTED = json.loads((FIXTURES / "tensorboard" / "expected.json").read_text())


@pytest.fixture
def logs(tmp_path):
    """A copy of the logs, whose event files have other names, so that it is a separate source."""
    target = tmp_path / "logs"
    shutil.copytree(LOGS, target)
    for file in [*target.rglob("*tfevents*")]:
        file.rename(file.with_name(f"{file.name}.{os.urandom(4).hex()}"))
    return target


def test_everything_is_imported_exactly(shared_server, capsys):
    runs = import_source(capsys, "tensorboard", LOGS, shared_server)
    assert set(runs) == set(EXPECTED) == {"x", "nested/tensors"}
    for label, expected in EXPECTED.items():
        assert runs[label]["state"] == "imported"
        run_hash = runs[label]["run"]
        run = Run(run_hash, repo=shared_server.url, read_only=True)
        assert (run.name, run.active) == (label, False)
        scalars = {
            (name, "{}"): last_of_each_step(found) for name, found in expected["scalars"].items()
        }
        assert points(run) == scalars
        for kind, name in (("images", "images"), ("audios", "audio")):
            wanted = {tag: sorted(found, key=repr) for tag, found in expected[name].items()}
            assert objects(shared_server, run_hash, kind) == wanted
        texts = objects(shared_server, run_hash, "texts")
        assert {
            tag: [[step, text["data"]] for step, text in found] for tag, found in texts.items()
        } == expected["texts"]
        check_histograms(objects(shared_server, run_hash, "distributions"), expected["histograms"])
    assert runs["x"]["replaced"] == 1
    assert runs["nested/tensors"]["notes"] == [
        "left out: tensors with several elements, such as PR curves (1)"
    ]
    assert Run(runs["x"]["run"], repo=shared_server.url, read_only=True)["hparams"] == {
        "bias": True,
        "layers": 3,
        "lr": 0.01,
        "model": {"name": "net"},
        "sizes": [1, 2],
    }


def check_histograms(stored, expected):
    assert set(stored) == set(expected)
    for tag, found in expected.items():
        for (step, low, high, total), (stored_step, stored_one) in zip(
            found, stored[tag], strict=True
        ):
            weights = [weight for (weight,) in struct.iter_unpack("<d", stored_one["data"]["blob"])]
            assert step == stored_step
            assert list(stored_one["range"].values()) == pytest.approx([low, high])
            assert sum(weights) == pytest.approx(total)


def test_a_repeated_import_changes_nothing(shared_server, logs, capsys):
    first = import_source(capsys, "tensorboard", logs, shared_server)
    run = Run(first["x"]["run"], repo=shared_server.url, read_only=True)
    before = (points(run), run.props)
    moved = logs.rename(logs.with_name("moved"))
    second = import_source(capsys, "tensorboard", moved, shared_server)
    assert {label: entry["run"] for label, entry in first.items()} == {
        label: entry["run"] for label, entry in second.items()
    }
    assert {entry["state"] for entry in second.values()} == {"unchanged"}
    assert (points(run), run.props) == before


def test_logs_that_have_grown_are_imported_again(shared_server, logs, capsys):
    (file,) = (logs / "x").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 8])
    first = import_source(capsys, "tensorboard", logs, shared_server)["x"]
    run = Run(first["run"], repo=shared_server.url)
    run.name = "renamed by its owner"
    run.close()
    assert any("ends within a record" in note for note in first["notes"])
    file.write_bytes(whole)
    second = import_source(capsys, "tensorboard", logs, shared_server)["x"]
    assert (second["run"], second["state"]) == (first["run"], "imported")
    assert second["points"] > first["points"]
    reader = Run(first["run"], repo=shared_server.url, read_only=True)
    assert reader.name == "renamed by its owner"
    wanted = {
        (name, "{}"): last_of_each_step(found) for name, found in EXPECTED["x"]["scalars"].items()
    }
    assert points(reader) == wanted


def test_a_dry_run_counts_and_stores_nothing(shared_server, logs, capsys):
    runs = run_import(capsys, "tensorboard", logs, shared_server, "--dry-run")
    counts = {label: (run["points"], run["objects"], run["state"]) for label, run in runs.items()}
    assert counts == {"x": (83, 5, "counted"), "nested/tensors": (20, 5, "counted")}
    assert not Repo(shared_server.url).run_exists(runs["x"]["run"])


def test_an_interrupted_import_is_completed_by_the_next_one(own_server, logs, capsys):
    program = """
import os, signal, sys
from matyan_client import cli
from matyan_client.importing import frame
written = frame._write_item
count = 0
def write_and_die(run, item):
    global count
    written(run, item)
    count += 1
    if count == 8:
        os.kill(os.getpid(), signal.SIGKILL)
frame._write_item = write_and_die
cli.main(["import", "tensorboard", sys.argv[1], "--repo", sys.argv[2]])
"""
    command = [sys.executable, "-c", program, str(logs), own_server.url]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    runs = import_source(capsys, "tensorboard", logs, own_server)
    assert {run["state"] for run in runs.values()} == {"imported"}
    for label, expected in EXPECTED.items():
        run = Run(runs[label]["run"], repo=own_server.url, read_only=True)
        assert points(run) == {
            (name, "{}"): last_of_each_step(found) for name, found in expected["scalars"].items()
        }


def test_a_run_that_was_deleted_stays_deleted(shared_server, logs, capsys):
    first = import_source(capsys, "tensorboard", logs, shared_server)["x"]
    assert Repo(shared_server.url).delete_run(first["run"])
    runs = import_source(capsys, "tensorboard", logs, shared_server)
    assert (runs["x"]["state"], runs["nested/tensors"]["state"]) == ("failed", "unchanged")
    assert runs["x"]["notes"][-1].startswith("the run was deleted on the server")


def test_runs_go_into_the_experiment_of_the_command(shared_server, logs, capsys):
    options = ("--experiment", "moved in")
    runs = import_source(capsys, "tensorboard", logs, shared_server, *options)
    run = Run(runs["x"]["run"], repo=shared_server.url, read_only=True)
    assert run.experiment == "moved in"


def test_what_is_not_an_event_file_is_refused(shared_server, tmp_path, capsys):
    for file in (tmp_path / "notes.txt", tmp_path / "logs" / "events.out.tfevents.1"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("this is not an event file")
        (run,) = run_import(capsys, "tensorboard", file, shared_server).values()
        assert run["state"] == "failed"
        assert run["notes"][-1].startswith("no event can be read: not an event file of TensorBoard")
        assert not Repo(shared_server.url).run_exists(run["run"])
        assert cli.main(["convert", "tensorboard", str(file), str(tmp_path / "out")]) == 2


def read_file(file, descriptor=None):
    """Reads an event file. Returns its reader and the damage that was reported."""
    notes = []
    reader = EventReader(notes.append)
    reader.open(file, descriptor)
    while reader.read() is not None:
        pass
    return reader, notes


def series_of(reader):
    """Returns the points of each series that were not handed over yet: steps and values."""
    return {
        name: list(zip(memoryview(steps).cast("q"), memoryview(values).cast("d"), strict=True))
        for name, values, steps, _ in reader.rest()
    }


def test_damage_costs_only_what_is_damaged(tmp_path):
    (original,) = (LOGS / "x").iterdir()
    content = bytearray(original.read_bytes())
    file = tmp_path / "events.out.tfevents.1.host"

    def read(damaged):
        file.write_bytes(damaged)
        reader, notes = read_file(file)
        return reader.record_count, notes

    whole, notes = read(content)
    assert notes == []
    (first_length,) = struct.unpack_from("<Q", content)
    body = first_length + 16 + 20
    content[body] ^= 1
    count, (note,) = read(content)
    assert (count, note.endswith(f"left out a damaged record at byte {first_length + 16}")) == (
        whole - 1,
        True,
    )
    content[first_length + 16] ^= 1
    count, (note,) = read(content)
    assert (count, "the rest was not read" in note) == (1, True)


def test_checksums(tmp_path):
    def masked(crc):
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282_EAD8) & 0xFFFF_FFFF)

    file = tmp_path / "events"
    header = struct.pack("<Q", 32) + masked(0x8128_D713)
    # From RFC 3720, B.4.
    for content, crc in ((bytes(32), 0x8A91_36AA), (bytes(range(32)), 0x46DD_794E)):
        file.write_bytes(header + content + masked(crc))
        reader, notes = read_file(file)
        assert (reader.record_count, notes) == (1, [])


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed")
def test_an_open_file_is_read_from_its_start_wherever_its_path_leads(tmp_path):
    file = tmp_path / "events"
    shutil.copy(next(found for found in sorted(LOGS.rglob("*")) if found.is_file()), file)
    expected = series_of(read_file(file)[0])
    with file.open("rb") as opened:
        opened.read()
        file.unlink()
        reader, _ = read_file(file, opened.fileno())
    assert series_of(reader) == expected != {}
    for missing in (-1, 1 << 20):
        with pytest.raises(OSError):
            reader.open(file, missing)


def test_bins_of_any_width_keep_their_weight():
    uneven = histograms.distribution([(0.0, 1.0, 4.0), (1.0, 4.0, 6.0)])
    assert uneven.range == (0.0, 4.0)
    assert sum(uneven.weights) == pytest.approx(10)
    assert sum(uneven.weights[:16]) == pytest.approx(4)
    single = histograms.distribution([(2.0, 2.0, 3.0)])
    assert (single.range, single.weights) == ((1.5, 2.5), [3.0])
    assert histograms.distribution([]) is None
    assert histograms.distribution([(0.0, float("inf"), 1.0)]) is None


def test_errors_are_shown_without_a_traceback(tmp_path, capsys):
    assert cli.main(["import", "tensorboard", str(tmp_path / "missing")]) == 2
    assert "no file or directory" in capsys.readouterr().err
    url = "http://127.0.0.1:1"
    assert cli.main(["import", "tensorboard", str(LOGS), "--repo", url]) == 2
    assert f"cannot reach {url}" in capsys.readouterr().err


def test_logs_of_the_real_packages(shared_server, tmp_path, capsys):
    for package in ("tensorboardX", "tensorboard", "soundfile"):
        pytest.importorskip(package)
    importlib.import_module("make_tensorboard").make(tmp_path)
    expected = json.loads((tmp_path / "expected.json").read_text())
    runs = import_source(capsys, "tensorboard", tmp_path / "logs", shared_server)
    for label in expected:
        run = Run(runs[label]["run"], repo=shared_server.url, read_only=True)
        assert points(run) == {
            (name, "{}"): last_of_each_step(found)
            for name, found in expected[label]["scalars"].items()
        }


def tensor(sides):
    """Returns a tensor of floats with one element, which stands for all of them."""
    shape = b"".join(field(2, b"\x08" + side) for side in sides)
    return b"\x08\x01" + field(2, shape) + field(5, struct.pack("<f", 0.5))


# 2^20 and 2^20.
LARGE = tensor([b"\x80\x80\x40", b"\x80\x80\x40"])


def test_a_value_that_cannot_be_stored_costs_only_itself(tmp_path):
    # The largest sample and the only bound of a bin.
    nan = struct.pack("<d", float("nan"))
    histogram = b"\x11" + nan + field(6, nan) + field(7, struct.pack("<d", 1.0))
    values = [
        field(1, b"large") + field(8, LARGE),
        field(1, b"nan") + field(5, histogram),
        field(1, b"loss") + b"\x15" + struct.pack("<f", 0.5),
    ]
    file = tmp_path / "events.out.tfevents.1.host"
    file.write_bytes(framed(field(5, b"".join(field(1, value) for value in values))))
    reader, notes = read_file(file)
    assert (series_of(reader), notes) == ({"loss": [(0, 0.5)]}, [])
    assert reader.left_out == {
        "histograms with numbers that are not finite": 1,
        "tensors of more than a million elements": 1,
    }
