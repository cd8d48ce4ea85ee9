"""Damaged sources: every reader reads a source or says why it cannot, whatever its files contain.

Files and records of the fixtures are changed at random, for one second for each format, or as long
as `MATYAN_FUZZ_SECONDS` says. The duration decides how much is tried, never whether a test passes.
A reader may raise any exception for a damaged run, which the import reports; what it must not do is
end the process, as a panic of the Rust core does, or read a file outside of its source.
"""

import contextlib
import os
import random
import shutil
import sqlite3
import sys
import time

import pytest
from event_records import CONTENT, framed, records_of
from imported import FIXTURES

from matyan_client.importing import SourceError, open_source, wandb
from matyan_client.importing.model import Artifact

TOKENS = (
    b"\0",
    b"\xff\xff\xff\xff\x0f",
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"null",
    b"{}",
    b"[[[[[[[[",
    b'"',
    b"'",
    b"\\ud800",
    b"../../",
    b"file:///etc/",
    b": ",
    b"\n",
    b"18446744073709551616",
)


def seconds():
    return float(os.environ.get("MATYAN_FUZZ_SECONDS", "1"))


def mutated(rng, content):
    """Returns bytes with a few changes."""
    content = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(content) + 1)
        end = min(len(content), at + rng.randrange(1, 64))
        change = rng.randrange(5)
        if change == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            del content[at:end]
        elif change == 2:
            content[at:at] = rng.choice(TOKENS)
        elif change == 3:
            content[at:at] = content[at:end]
        elif change == 4 and rng.randrange(8) == 0:
            del content[at:]
    return bytes(content)


def read_all(kind, source):
    """Reads all data of all runs of a source. Returns the number of items that were read."""
    try:
        opened = open_source(kind, source)
    except SourceError:
        return 0
    count = 0
    for run in opened.runs:
        # As the import does, which reports the run and continues with the next one.
        with contextlib.suppress(Exception):
            for item in run.items():
                count += 1
                if kind != "wandb" and isinstance(item, Artifact):
                    assert_inside(opened.files, item.file)
    return count


def assert_inside(files, file):
    if not files.contains(file):
        # Not suppressed with the errors of readers.
        raise SystemExit(f"{file} is outside of the source")


def mutate_and_read(kind, source):
    """Changes one file at a time, and reads the source. Returns the number of attempts."""
    seed = random.SystemRandom().getrandbits(64)
    rng = random.Random(seed)
    found = [source] if source.is_file() else sorted(source.rglob("*"))
    originals = {file: file.read_bytes() for file in found if file.is_file()}
    assert read_all(kind, source) > 0, "the source is readable as it is"
    end = time.monotonic() + seconds()
    attempts = 0
    while time.monotonic() < end:
        file = rng.choice(list(originals))
        changed = mutated(rng, originals[file])
        file.write_bytes(changed)
        try:
            read_all(kind, source)
        except BaseException:
            print(f"{kind}: {file.name} with seed {seed}: {changed!r}", file=sys.stderr)
            raise
        finally:
            file.write_bytes(originals[file])
        attempts += 1
    return attempts


def copied(name, tmp_path):
    target = tmp_path / name
    shutil.copytree(FIXTURES / name, target)
    return target


def test_damaged_event_files_of_tensorboard(tmp_path):
    assert mutate_and_read("tensorboard", copied("tensorboard", tmp_path) / "logs")


def test_damaged_files_of_wandb(tmp_path):
    assert mutate_and_read("wandb", copied("wandb", tmp_path) / "wandb")


def test_damaged_files_of_mlflow(tmp_path):
    assert mutate_and_read("mlflow", copied("mlflow", tmp_path) / "store")


def mlflow_database(directory):
    source = directory / "mlflow.db"
    with contextlib.closing(sqlite3.connect(source)) as database:
        database.executescript((FIXTURES / "mlflow" / "mlflow.sql").read_text())
    return source


def test_damaged_database_of_mlflow(tmp_path):
    assert mutate_and_read("mlflow", mlflow_database(tmp_path))


def test_a_database_of_mlflow_with_damaged_text_is_named(tmp_path):
    source = mlflow_database(tmp_path)
    with contextlib.closing(sqlite3.connect(source)) as database:
        database.execute("UPDATE runs SET name = CAST(X'ff' AS TEXT)")
        database.commit()
    with pytest.raises(SourceError, match=r"mlflow\.db' is not a database of MLflow"):
        open_source("mlflow", source)


def test_damaged_events_with_right_checksums(tmp_path):
    """The checksums of records hide most changes of a file from what reads their content."""
    source = copied("tensorboard", tmp_path) / "logs"
    seed = random.SystemRandom().getrandbits(64)
    rng = random.Random(seed)
    originals = {file: contents_of(file) for file in sorted(source.rglob("*tfevents*"))}
    end = time.monotonic() + seconds()
    while time.monotonic() < end:
        file = rng.choice(list(originals))
        changed = [
            mutated(rng, content) if rng.randrange(4) == 0 else content
            for content in originals[file]
        ]
        file.write_bytes(b"".join(map(framed, changed)))
        try:
            read_all("tensorboard", source)
        except BaseException:
            print(f"tensorboard: {file.name} with seed {seed}: {changed!r}", file=sys.stderr)
            raise


def contents_of(file):
    """Returns the contents of the records of an event file."""
    records = [record[CONTENT] for record in records_of(file.read_bytes())]
    assert records
    return records


def test_damaged_records_of_wandb_with_right_checksums(tmp_path, monkeypatch):
    source = copied("wandb", tmp_path) / "wandb"
    seed = random.SystemRandom().getrandbits(64)
    rng = random.Random(seed)
    records = wandb.leveldb_records
    shown = []

    def changed(record):
        content = mutated(rng, record) if rng.randrange(4) == 0 else record
        shown[:] = [content]
        return content

    def changed_records(*arguments):
        return map(changed, records(*arguments))

    assert read_all("wandb", source) > 0
    monkeypatch.setattr(wandb, "leveldb_records", changed_records)
    end = time.monotonic() + seconds()
    while time.monotonic() < end:
        try:
            read_all("wandb", source)
        except BaseException:
            print(f"wandb: record with seed {seed}: {shown!r}", file=sys.stderr)
            raise
