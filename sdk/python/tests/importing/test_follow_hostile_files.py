"""`matyan follow` on files that are broken, and on names that nobody expects."""

import os
import struct
import sys

import pytest
from event_records import checksum, field, framed
from imported import points
from test_follow_tensorboard import follow_once, runs_of, stored_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs names of any characters")

NAME_BYTES = 1_024
FOLDERS = (
    " ",
    "-rf",
    "..a",
    "<script>",
    "a'b\"c",
    "a\nb",
    "a\x1b[2Jb",
    "a\\b",
    "x" * 255,
    "é" * 100,
)
TAGS = (b"", b"a\nb", b"a\0b", b"..", b"/", b"a/../b", b"\xe2\x80\xae", b"\xff")


def event(tag=b"loss"):
    """Returns a record with the point 0.5 at step 3."""
    value = field(1, tag) + b"\x15" + struct.pack("<f", 0.5)
    return framed(b"\x09" + struct.pack("<d", 1e9) + b"\x10\x03" + field(5, field(1, value)))


@pytest.fixture
def logs(tmp_path):
    """A directory with one run that is in order."""
    logs = tmp_path / f"logs-{os.urandom(4).hex()}"
    write(logs / "good", event())
    return logs


def write(folder, content):
    folder.mkdir(parents=True)
    (folder / f"events.out.tfevents.1.{os.urandom(4).hex()}").write_bytes(content)


def names_of(server, logs):
    """The runs by name. Each run has the point of `event`."""
    runs = [stored_run(server, run_hash) for run_hash in runs_of(server, logs)]
    for run in runs:
        assert points(run) == {("loss", "{}"): [[3, "0.5", 1e9]]}
    return sorted(run.name for run in runs)


def test_broken_files_cost_only_themselves(shared_server, logs):
    lengths = {}
    for length in (1 << 63, (1 << 64) - 1):
        header = struct.pack("<Q", length)
        lengths[f"length{length}"] = event() + header + checksum(header) + bytes(100)
    # A record with a wrong checksum, before the last one.
    damaged = bytearray(event())
    damaged[-1] ^= 1
    for name, content in lengths.items():
        write(logs / name, content)
    write(logs / "damaged", bytes(damaged) + event())
    write(logs / "unreadable", framed(b"\xff\xff") + event())
    write(logs / "text", b"this is not an event file" * 100)
    write(logs / "empty", b"")
    pipe = logs / "pipe" / "events.out.tfevents.1.host"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    (logs / "folder" / "events.out.tfevents.1.host").mkdir(parents=True)
    _, problems = follow_once(shared_server, logs)
    expected = sorted([*lengths, "damaged", "unreadable", "good"])
    assert names_of(shared_server, logs) == expected
    for name in ("text", *lengths):
        assert f"{logs}/{name}/events" in problems
    assert "left out 1 damaged records, the first at byte 0" in problems
    assert "unreadable: left out: events that cannot be read (1)" in problems


def test_hostile_names_of_folders_are_names_of_runs(shared_server, logs):
    for folder in FOLDERS:
        write(logs / folder, event() + b"this is no record")
    # A name that is not UTF-8, and more folders in each other than are read.
    write(logs / os.fsdecode(b"\xff"), event())
    write(logs / "/".join("d" * 70), event())
    _, problems = follow_once(shared_server, logs)
    assert names_of(shared_server, logs) == sorted([*FOLDERS, "good"])
    assert "[2Jb" in problems
    assert "\x1b" not in problems


def test_hostile_tags_are_names_of_series(shared_server, logs):
    long = [b"x" * 5_000 + last for last in (b"1", b"2")]
    write(logs / "tags", b"".join(event(tag) for tag in (*TAGS, *long)))
    follow_once(shared_server, logs)
    [run] = (
        run
        for run in (stored_run(shared_server, found) for found in runs_of(shared_server, logs))
        if run.name == "tags"
    )
    names = {name for name, _ in points(run)}
    shortened = {name for name in names if name.startswith("x")}
    assert names - shortened == {tag.decode("utf-8", "replace") for tag in TAGS}
    assert len(shortened) == 2
    assert all(len(name) == NAME_BYTES for name in shortened)
