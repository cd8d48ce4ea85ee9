"""The part that all importers have in common."""

import logging
import struct
import subprocess
import sys
from array import array

import pytest

from matyan_client import Repo, Run, Text, errors
from matyan_client.importing import (
    Artifact,
    ImportedRun,
    Points,
    SourceFiles,
    Target,
    TrackedObject,
    frame,
    import_runs,
    progress,
)
from matyan_client.importing.model import LoggingRecord, TerminalLine, attempted, derived_hash


def imported(label, items):
    return ImportedRun(derived_hash("test", label), label, "1", items)


def points(name, count):
    column = Points(name)
    for step in range(count):
        column.add(step / 2, step, 1_700_000_000 + step)
    return column


def test_a_value_that_no_server_accepts_is_left_out(shared_server):
    def items():
        yield points("before", 3)
        yield TrackedObject(Text("x"), "n" * 100_000, 1)
        yield points("after", 4)

    (outcome,) = import_runs("test", [imported("long", items)], Target(shared_server.url)).runs
    assert outcome.state == "imported"
    (note,) = outcome.notes
    assert note.startswith("left out 'nnn")
    run = Run(outcome.run, repo=shared_server.url, read_only=True)
    assert sorted(metric["name"] for metric in run.metrics()) == ["after", "before"]


def test_what_the_server_refuses_is_a_failure_of_its_run_only(shared_server):
    def refused():
        yield points("m", 1)
        # As the SDK reports data that the server has rejected.
        logging.getLogger("matyan_client").error("1 value was rejected")

    runs = [
        imported("refused", refused),
        imported("good", lambda: iter([points("m", 2)])),
    ]
    report = import_runs("test", runs, Target(shared_server.url))
    assert [outcome.state for outcome in report.runs] == ["failed", "imported"]
    assert "1 value was rejected" in report.runs[0].notes
    assert not report.is_complete
    runs[0].items = lambda: iter([points("m", 1)])
    again = import_runs("test", runs, Target(shared_server.url))
    assert [outcome.state for outcome in again.runs] == ["imported", "unchanged"]


def test_a_loss_that_is_not_logged_yet_is_a_failure_of_its_run_only(shared_server, monkeypatch):
    def fail(_import, run, *_arguments, **_options):
        # The server has rejected a value since the last call that logs notices.
        health = run.health._replace(dropped=1, rejected=1)
        monkeypatch.setattr(Run, "health", property(lambda _run: health))
        raise errors.TransportError("1 values or files were not stored")

    monkeypatch.setattr(frame._RunImport, "_write", fail)
    items = imported("lost", lambda: iter([points("m", 1)]))
    (outcome,) = import_runs("test", [items], Target(shared_server.url)).runs
    assert outcome.state == "failed"
    assert any("has not stored all of the run" in note for note in outcome.notes)


def test_the_next_run_of_a_source_is_read_after_an_error(shared_server):
    def broken():
        yield points("m", 1)
        raise ValueError("line 7 has no value")

    runs = [imported("broken", broken), imported("whole", lambda: iter([points("m", 2)]))]
    report = import_runs("test", runs, Target(shared_server.url))
    assert [outcome.state for outcome in report.runs] == ["failed", "imported"]
    assert report.runs[0].notes == ["line 7 has no value"]


def test_any_damage_is_a_failure_of_its_run_only(shared_server):
    def damaged():
        yield points("m", 1)
        raise struct.error("unpack requires 8 bytes")

    def unreadable():
        raise KeyError("name")

    runs = [
        attempted("no facts", unreadable),
        imported("damaged", damaged),
        imported("whole again", lambda: iter([points("m", 2)])),
    ]
    report = import_runs("test", runs, Target(shared_server.url))
    assert [outcome.state for outcome in report.runs] == ["failed", "failed", "imported"]
    assert [outcome.notes for outcome in report.runs[:2]] == [
        ["cannot be read: KeyError: 'name'"],
        ["error: unpack requires 8 bytes"],
    ]


def test_an_import_does_not_wait_for_ever_for_what_was_left(shared_server, monkeypatch):
    run = imported("left", lambda: iter([points("m", 1)]))
    program = f"""
from matyan_client import Run
Run({run.run_hash!r}, repo="http://127.0.0.1:1", capture_terminal_logs=False).track(1.0, name="m")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    monkeypatch.setattr(progress, "PATIENCE", 0.5)
    with pytest.raises(errors.TransportError, match="matyan-client sync"):
        import_runs("test", [run], Target(shared_server.url))


def test_only_files_below_the_source_are_uploaded(shared_server, tmp_path):
    source = tmp_path / "source"
    outside = tmp_path / "outside"
    source.mkdir()
    outside.write_text("secret")
    (source / "own").write_text("own")
    (source / "link").symlink_to(outside)

    def items():
        for file in (source / "own", source / "link", outside, source / ".." / "outside"):
            yield Artifact(file, f"{file.parent.name}-{file.name}")

    for allowed, count in ((False, 1), (True, 4)):
        run = imported(f"outside files {allowed}", items)
        files = SourceFiles(source, is_trusted=allowed)
        (outcome,) = import_runs("test", [run], Target(shared_server.url), files).runs
        assert (outcome.state, outcome.artifacts) == ("imported", count)
        notes = ["left out: 3 files outside of the source; `--outside-files` uploads them"]
        assert outcome.notes == ([] if allowed else notes)
        stored = Run(outcome.run, repo=shared_server.url, read_only=True).artifacts
        assert len(stored) == count


@pytest.mark.parametrize(
    ("pieces", "repeated"),
    [
        ([], 0),
        ([[0, 1, 2], [3, 4], [5]], 0),
        ([[0, 10, 20], [30, 40]], 0),
        ([[0, 5, 7], [9, 100]], 0),
        ([[0, 1, 2], [2, 3]], 1),
        ([[5, 4, 5], [4]], 2),
        ([[0, 10], [5], [10, 0]], 2),
        ([[7, 7, 7]], 2),
    ],
)
def test_steps_that_occur_again_are_counted(pieces, repeated):
    seen = frame._SeenSteps()
    for piece in pieces:
        seen.add(array("q", piece))
    assert seen.repeated() == repeated


def test_regular_steps_take_no_memory():
    seen = frame._SeenSteps()
    for start in range(0, 1_000_000, 1_000):
        seen.add(array("q", range(start, start + 1_000)))
    assert seen._pieces == [range(1_000_000)]


def test_lines_and_records_are_stored_once(shared_server):
    def source(fingerprint, count):
        def items():
            for number in range(count):
                yield TerminalLine(f"line {number}", number)
                yield LoggingRecord(logging.INFO, f"record {number}", 1_700_000_000.0, {})

        return ImportedRun(derived_hash("test", "lines"), "lines", fingerprint, items)

    for fingerprint, count in (("1", 2), ("2", 5), ("3", 5)):
        target = Target(shared_server.url)
        (outcome,) = import_runs("test", [source(fingerprint, count)], target).runs
        assert (outcome.state, outcome.lines) == ("imported", 2 * count)
        run = Run(outcome.run, repo=shared_server.url, read_only=True)
        assert run.get_terminal_logs() == [f"line {number}" for number in range(count)]
        messages = [str(record) for record in run.get_log_records()]
        assert len(messages) == count
        for number in range(count):
            assert any(f"record {number}" in message for message in messages)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("finished", "finished"),
        ("crashed", "failed"),
        ("killed", "interrupted"),
        ("running", None),
        (None, None),
    ],
)
def test_times_and_outcome_are_those_of_the_source(shared_server, state, outcome):
    def items():
        # As in formats that mix data and facts, the creation is known with the first item.
        run.facts.created = 1_700_000_000.25
        yield TrackedObject([Text("a"), Text("b")], "texts", 3, time=1_700_000_001.5, epoch=2)
        run.facts.ended = 1_700_000_060.5
        run.facts.state = state

    run = imported(f"times {state}", items)
    (found,) = import_runs("test", [run], Target(shared_server.url)).runs
    assert (found.state, found.objects) == ("imported", 2)
    reader = Run(found.run, repo=shared_server.url, read_only=True)
    assert (reader.creation_time, reader.end_time) == (1_700_000_000.25, 1_700_000_060.5)
    assert reader.props.get("outcome") == outcome
    (stored,) = Repo(shared_server.url).query_texts(f"run.hash == {found.run!r}")
    (trace,) = stored["traces"].values()
    assert (trace["timestamps"], trace["epochs"]) == ({0: 1_700_000_001.5}, {0: 2})
    assert [text["data"] for text in trace["values"][0].values()] == ["a", "b"]
    # Imported again because the source has changed, the run keeps its creation.
    run.fingerprint = "2"
    assert import_runs("test", [run], Target(shared_server.url)).is_complete
    assert (reader.creation_time, reader.end_time) == (1_700_000_000.25, 1_700_000_060.5)


def test_long_series_arrive_whole(shared_server):
    pieces = [points("m", 0) for _ in range(10)]
    for step in range(700_000):
        pieces[step // 70_000].add(float(step), step, 1_700_000_000.0)
    run = imported("long series", lambda: iter(pieces))
    (outcome,) = import_runs("test", [run], Target(shared_server.url)).runs
    assert (outcome.state, outcome.points, outcome.replaced) == ("imported", 700_000, 0)
    series = Run(outcome.run, repo=shared_server.url, read_only=True).series("m")
    assert series.steps.tolist() == list(range(700_000))
    assert series.values.tolist() == [float(step) for step in range(700_000)]
