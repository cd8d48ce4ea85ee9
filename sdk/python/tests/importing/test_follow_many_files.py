"""Memory and open files of a follower, for many files and for a large file."""

import json
import os
import subprocess
import sys

import pytest
from event_records import framed, records_of
from imported import last_of_each_step, points
from test_follow_tensorboard import stored_run
from test_import_tensorboard import EXPECTED, LOGS

FOLDERS = 1_000
FILES_PER_FOLDER = 10
SCALARS = 80

# A debug build has 60 MiB with 10,000 files in 1,000 folders.
MAX_MEMORY = 160 << 20

# Runs a command with at most 64 open files, and prints the most memory that it needed, in bytes.
# The system also counts the memory of the process that starts a command: the memory of tests is
# large.
LIMITED = """
import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)
"""


@pytest.fixture
def place(tmp_path):
    """A directory whose files do not stay, since they are large."""
    place = tmp_path / f"logs-{os.urandom(4).hex()}"
    place.mkdir()
    yield place
    subprocess.run(["rm", "-r", str(place)], check=True)


def follow_with_few_files(server, logs):
    """Follows with at most 64 open files. Returns the result, and the most memory in bytes."""
    words = ["follow", str(logs), "--once", "--json", "--server", server.url]
    limited = [sys.executable, "-c", LIMITED, os.environ["MATYAN_BIN"], *words]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result, memory = done.stdout.rstrip().rsplit("\n", 1)
    return json.loads(result), int(memory)


def test_ten_thousand_files_need_few_descriptors_and_little_memory(own_server, place):
    [source] = (LOGS / "x").iterdir()
    first, *records = records_of(source.read_bytes())
    parts = [records[at:SCALARS:FILES_PER_FOLDER] for at in range(FILES_PER_FOLDER)]
    for number in range(FOLDERS):
        folder = place / f"run{number}"
        folder.mkdir()
        for begun, part in enumerate(parts):
            content = b"".join((first, *part))
            (folder / f"events.out.tfevents.{1_000 + begun}.{number}").write_bytes(content)
    result, memory = follow_with_few_files(own_server, place)
    assert (len(result["runs_begun"]), result["points"]) == (FOLDERS, SCALARS * FOLDERS)
    assert memory < MAX_MEMORY
    expected = {
        (name, "{}"): last_of_each_step(EXPECTED["x"]["scalars"][name])
        for name in ("accuracy", "loss/train")
    }
    for run_hash in result["runs_begun"][:: FOLDERS // 10]:
        assert points(stored_run(own_server, run_hash)) == expected
    repeated, _ = follow_with_few_files(own_server, place)
    assert (repeated["runs_begun"], repeated["points"]) == ([], 0)


def test_a_large_file_needs_little_memory(shared_server, place):
    [source] = (LOGS / "x").iterdir()
    first, *records = records_of(source.read_bytes())
    # An event with a field that readers do not know.
    filler = framed(b"\xfa\x01\x80\x80\x40" + bytes(1 << 20))
    with (place / source.name).open("wb") as file:
        file.write(first)
        for _ in range(256):
            file.write(filler)
        file.writelines(records[:SCALARS])
    result, memory = follow_with_few_files(shared_server, place)
    assert (len(result["runs_begun"]), result["points"]) == (1, SCALARS)
    assert memory < MAX_MEMORY
