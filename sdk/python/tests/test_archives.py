"""Archives: backup, restore, conversion, and what the server's own commands make of them."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from matyan_client import (
    Distribution,
    Figure,
    Html,
    Image,
    PointCloud,
    Repo,
    Run,
    Text,
    backup,
    cli,
    restore,
)
from matyan_client._core import run_folder, singular_dtype
from matyan_client.archives import ArchiveWriter, open_archive
from matyan_client.archives.reading import archived_runs
from matyan_client.convert.tensorboard import convert_tensorboard
from matyan_client.importing import SourceError
from matyan_client.importing.model import ImportedRun, RunFacts

FIXTURES = Path(__file__).parent / "importing" / "fixtures"


@pytest.fixture
def stored(own_server):
    """A run with something of everything."""
    np = pytest.importorskip("numpy")
    with Run(repo=own_server.url, experiment="E", capture_terminal_logs=False) as run:
        run.name = "named"
        run.archived = True
        run.add_tag("tag")
        run["hparams"] = {"lr": 0.1, "layers": [1, 2]}
        for step in range(120):
            run.track(step / 2, name="loss", step=step, epoch=step // 10, context={"subset": "val"})
            run.track(Text(f"text {step}"), name="texts", step=step)
        run.track(1.0, name="epochs", step=0)
        run.track(2.0, name="epochs", step=1, epoch=3)
        run.track(float("nan"), name="odd", step=-3)
        run.track(Distribution([1, 2, 3], bin_count=3), name="weights", step=3)
        run.track(Figure({"data": [], "layout": {"x": [1, 2]}}), name="figure")
        run.track(Image(np.zeros((2, 3, 3), dtype=np.uint8), caption="black"), name="image", step=5)
        run.track(Html("<b>page</b>", caption="bold"), name="page", step=6)
        run.track(PointCloud(np.zeros((4, 3)), "four"), name="cloud", step=7)
        run.log_info("hello", key=1)
        run._append_terminal_line("a line", 0)
        run.log_artifact(__file__, name="sub/file.py")
        # No file system takes all of these names.
        for name in ("a", "a/b", "A", "con<>.txt", "x" * 250):
            run.log_artifact(__file__, name=name)
    return run


def snapshot(run):
    """Returns all data of a run, without what depends on its import."""
    reader = Run(run.hash, repo=run._backend_url, read_only=True)
    http = Repo(run._backend_url).http
    objects = {}
    for kind in ("texts", "images", "distributions", "figures", "htmls", "point_clouds"):
        query = f"run.hash == {run.hash!r} and run.archived in (True, False)"
        for trace in http.search_sequence(kind, query, record_density=1000)[0]["traces"].values():
            values = [
                {k: v for k, v in (value.get(0) or value).items() if k not in ("blob_uri", "index")}
                for value in trace["values"].values()
            ]
            columns = [trace[name] for name in ("iters", "epochs", "timestamps")]
            objects[kind] = [values, columns]
    return {
        "series": [
            [
                series.name,
                series.context_json,
                series.steps.tolist(),
                repr(series.values.tolist()),
                None if series.epochs is None else repr(series.epochs.tolist()),
                series.times_us.tolist(),
            ]
            for series in http.series(run.hash, [])
        ],
        "objects": objects,
        "params": {key: value for key, value in reader[...].items() if key != "__import"},
        "facts": [reader.name, reader.experiment, reader.tags, reader.archived, reader.active],
        "records": reader.get_log_records(),
        "lines": reader.get_terminal_logs(),
        "artifacts": {item["path"]: reader.get_artifact(item["path"]) for item in reader.artifacts},
    }


def archive_of(directory):
    (archive,) = directory.iterdir()
    return archive


def test_a_backup_of_what_the_server_does_not_have_writes_nothing(shared_server, tmp_path, capsys):
    with Run(repo=shared_server.url, experiment="known", capture_terminal_logs=False) as run:
        run.archived = True
    url = ["--backend-url", shared_server.url]
    out = tmp_path / "out"
    for options, text in (
        (["--experiment", "unknown"], f"no experiment 'unknown'; the server at {url[1]} has '"),
        (["--runs", "unknown"], f"the server at {url[1]} has no run unknown: check the hash"),
    ):
        assert cli.main(["backup", str(out), *url, *options]) == 1
        assert text in capsys.readouterr().err
        assert not out.exists()
    for options in (["--experiment", "known"], ["--runs", f"{run.hash},unknown"]):
        assert cli.main(["backup", str(out / options[0]), *url, *options]) == 0
        shown = capsys.readouterr()
        assert shown.out.startswith("1 run, ")
    assert "left out, as the server does not have them: runs unknown" in shown.err


def test_the_error_of_a_failed_run_is_in_its_archive(own_server, tmp_path):
    def fail():
        with Run(repo=own_server.url, capture_terminal_logs=False) as run:
            hashes.append(run.hash)
            raise MemoryError("no memory left")

    hashes = []
    with pytest.raises(MemoryError):
        fail()
    url = ["--backend-url", own_server.url]
    assert cli.main(["backup", str(tmp_path / "out"), *url]) == 0
    repo = Repo(own_server.url)
    text = repo.get_run(hashes[0]).props["outcome_message"]
    assert "no memory left" in text
    repo.delete_run(hashes[0])
    repo.http.clear_run_tombstone(hashes[0])
    assert cli.main(["restore-reingest", str(archive_of(tmp_path / "out")), *url]) == 0
    restored = repo.get_run(hashes[0]).props
    assert (restored["outcome"], restored["outcome_message"]) == ("failed", text)


def test_a_copy_is_active_if_its_run_was_and_has_its_times(own_server, tmp_path):
    np = pytest.importorskip("numpy")
    active = Run(repo=own_server.url, capture_terminal_logs=False)
    # Times go back and forth by less than a millisecond, like the times of several threads.
    times = [1_700_000_000_000_000 + jump for jump in (0, 900, 100, -500, 2, 1)]
    active._track_columns(("loss", None, "float"), [0.0] * 6, list(range(6)), None, times)
    assert active.flush(20)
    url = ["--backend-url", own_server.url]
    # Two archives of the same second have different names.
    for _ in range(2):
        assert cli.main(["backup", str(tmp_path / "out"), *url]) == 0
    first, second = sorted((tmp_path / "out").iterdir(), key=lambda path: path.stat().st_ctime_ns)
    assert second.name.startswith(first.name[:-6])
    repo = Repo(own_server.url)
    repo.delete_run(active.hash)
    repo.http.clear_run_tombstone(active.hash)
    assert cli.main(["restore-reingest", str(second), *url]) == 0
    copy = repo.get_run(active.hash)
    assert (copy.active, copy.end_time, copy.props["outcome"]) == (True, None, None)
    assert np.asarray(copy.series("loss").times_us).tolist() == times


@pytest.mark.parametrize("options", [[], ["--compress"]])
def test_a_backup_is_restored_exactly(stored, own_server, tmp_path, capsys, options):
    before = snapshot(stored)
    url = ["--backend-url", own_server.url]
    assert cli.main(["backup", str(tmp_path / "out"), *url, *options]) == 0
    archive = archive_of(tmp_path / "out")
    assert str(archive) in capsys.readouterr().out
    assert archive.name.endswith(".tar.gz") == bool(options)
    Repo(own_server.url).delete_run(stored.hash)
    Repo(own_server.url).http.clear_run_tombstone(stored.hash)
    assert cli.main(["restore-reingest", str(archive), *url, "--dry-run"]) == 0
    assert not Repo(own_server.url).run_exists(stored.hash)
    assert cli.main(["restore-reingest", str(archive), *url]) == 0
    assert snapshot(stored) == before
    reader = Repo(own_server.url).get_run(stored.hash)
    assert reader.props["outcome"] == "finished"
    assert reader["__import.created"] == pytest.approx(stored.creation_time, abs=30)
    assert reader.creation_time == reader["__import.created"]
    assert reader.end_time == pytest.approx(reader["__import.ended"])
    assert cli.main(["restore-reingest", str(archive), *url]) == 0
    assert "1 unchanged" in capsys.readouterr().out


def test_a_backup_is_restored_by_the_server_as_well(stored, own_server, tmp_path):
    before = snapshot(stored)
    result = backup.run_backup(tmp_path / "out", backend_url=own_server.url)
    assert (result.run_count, result.blob_count) == (1, 9)
    Repo(own_server.url).delete_run(stored.hash)
    Repo(own_server.url).http.clear_run_tombstone(stored.hash)
    command = [os.environ["MATYAN_BIN"], "restore", str(result.path), "--server", own_server.url]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    assert snapshot(stored) == before


def test_an_archive_of_the_server_is_replayed(stored, own_server, tmp_path):
    before = snapshot(stored)
    command = [os.environ["MATYAN_BIN"], "backup", str(tmp_path), "--server", own_server.url]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    (archive,) = tmp_path.glob("matyan-backup-*")
    Repo(own_server.url).delete_run(stored.hash)
    Repo(own_server.url).http.clear_run_tombstone(stored.hash)
    result = restore.restore_reingest(archive, backend_url=own_server.url)
    assert result.report.is_complete
    assert snapshot(stored) == before


def test_runs_are_selected(stored, own_server, tmp_path, capsys):
    with Run(repo=own_server.url, capture_terminal_logs=False) as other:
        other.track(1.0, name="m")
    cases = {
        stored.hash: ["--experiment", "E", "--no-blobs"],
        other.hash: ["--runs", f"{other.hash},missing"],
        None: ["--since", "2100-01-01"],
    }
    for number, (run_hash, options) in enumerate(cases.items()):
        output = tmp_path / str(number)
        command = ["backup", str(output), "--backend-url", own_server.url, *options]
        assert cli.main(command) == 0
        manifest = json.loads((archive_of(output) / "manifest.json").read_text())
        assert manifest["run_hashes"] == ([run_hash] if run_hash else [])
        assert (manifest["blob_count"], manifest["include_blobs"]) == (
            0,
            "--no-blobs" not in options,
        )
        with open_archive(archive_of(output)) as root:
            assert len(archived_runs(root)) == len(manifest["run_hashes"])


def test_event_files_become_an_archive(own_server, tmp_path, capsys):
    logs = FIXTURES / "tensorboard" / "logs"
    arguments = ["convert", "tensorboard", str(logs), str(tmp_path / "out"), "--experiment", "TB"]
    assert cli.main(arguments) == 0
    archive = archive_of(tmp_path / "out")
    assert archive.name.startswith("matyan-tb-import-")
    url = ["--backend-url", own_server.url]
    assert cli.main(["restore-reingest", str(archive), *url]) == 0
    runs = list(Repo(own_server.url).iter_runs())
    assert {run.experiment for run in runs} == {"TB"}
    expected = {run["run"]: run for run in dry_run(capsys, logs)["runs"]}
    assert {run.hash for run in runs} == set(expected)
    for run in runs:
        points = sum(len(series) for series in run._http.series(run.hash, []))
        assert points == expected[run.hash]["points"] - expected[run.hash]["replaced"]


def dry_run(capsys, logs):
    capsys.readouterr()
    assert cli.main(["import", "tensorboard", str(logs), "--dry-run", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_is_not_an_archive_is_refused(tmp_path, capsys):
    archive = tmp_path / "archive"
    run = archive / "runs" / "r"
    run.mkdir(parents=True)
    for name in ("run.json", "attrs.json", "contexts.json"):
        (run / name).write_text("{}")

    def refusal(**manifest):
        if manifest:
            (archive / "manifest.json").write_text(json.dumps(manifest))
        assert cli.main(["restore-reingest", str(archive)]) == 2
        return capsys.readouterr().err

    assert "has no manifest.json" in refusal()
    for content in (b"text", gzip.compress(b"text"), gzip.compress(os.urandom(9_999))[:5_000]):
        (tmp_path / "archive.tar.gz").write_bytes(content)
        assert cli.main(["restore-reingest", str(tmp_path / "archive.tar.gz")]) == 2
        assert "archive.tar.gz: failed to unpack" in capsys.readouterr().err
    assert "unsupported format 2: this version reads only format 1" in refusal(format_version=2)
    assert "runs/r: is not in the manifest" in refusal(format_version=1, run_hashes=[])
    assert "runs/r/traces.json: is missing" in refusal(format_version=1, run_hashes=["r"])
    assert cli.main(["restore-reingest", str(tmp_path / "missing")]) == 2
    with pytest.raises(SourceError, match="contains no runs: name a directory"):
        convert_tensorboard(run, tmp_path / "out")


def refusal_of_packed(path):
    """Returns the refusal, and checks that nothing stays unpacked."""
    with pytest.raises(ValueError) as refused, open_archive(path):
        pass
    assert list(path.parent.iterdir()) == [path]
    return str(refused.value)


def test_rule_72_a_packed_archive_does_not_lead_outside(tmp_path):
    packed = tmp_path / "archive.tar.gz"
    for name, kind, refusal in (
        ("../outside", tarfile.REGTYPE, "leads outside the archive"),
        ("link", tarfile.SYMTYPE, "is neither a file nor a folder"),
        ("link", tarfile.LNKTYPE, "is neither a file nor a folder"),
        ("link", tarfile.FIFOTYPE, "is neither a file nor a folder"),
        ("link", tarfile.GNUTYPE_SPARSE, "failed to unpack"),
    ):
        with tarfile.open(packed, "w:gz") as archive:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd"
            archive.addfile(member)
        assert refusal in refusal_of_packed(packed)


@pytest.mark.parametrize("compression", ["", "bz2", "xz"])
def test_a_packed_archive_is_compressed_with_gzip(tmp_path, compression):
    packed = tmp_path / "archive.tar.gz"
    with tarfile.open(packed, f"w:{compression}") as archive:
        archive.addfile(tarfile.TarInfo("top"))
    assert "failed to unpack" in refusal_of_packed(packed)


class Zeros(io.RawIOBase):
    """Any number of zeros, which compress to a thousandth."""

    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = bytes(len(buffer))
        return len(buffer)


def test_rule_72_a_packed_archive_that_grows_too_much_is_not_unpacked(tmp_path):
    packed = tmp_path / "archive.tar.gz"
    member = tarfile.TarInfo("top/bomb")
    # The size is refused before the content is read.
    member.size = 1 << 40
    packed.write_bytes(gzip.compress(member.tobuf()))
    assert "makes the archive far larger than its file" in refusal_of_packed(packed)


@pytest.mark.parametrize(
    ("kind", "refusal"),
    [
        (tarfile.XHDTYPE, "too much metadata between two files"),
        (tarfile.XGLTYPE, "is outside the top folder of the archive"),
        (tarfile.GNUTYPE_LONGNAME, "too much metadata between two files"),
    ],
)
def test_rule_72_metadata_of_a_packed_archive_is_limited(tmp_path, kind, refusal):
    packed = tmp_path / "archive.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        large = tarfile.TarInfo("top/large")
        large.size = 3 << 20
        archive.addfile(large, Zeros())
        header = tarfile.TarInfo("name")
        header.type = kind
        header.size = 3 << 20
        archive.addfile(header, Zeros())
    assert refusal in refusal_of_packed(packed)


@pytest.mark.parametrize(
    "place",
    ["runs/r/attrs.json", "runs/r/run.json", "runs/r/blobs", "runs/r", "entities.jsonl", "runs"],
)
def test_rule_72_an_archive_with_a_link_that_leads_outside_is_refused(tmp_path, capsys, place):
    archive = plain_archive(tmp_path / "archive", {"hash": "r"})
    (archive / "runs" / "r" / "blobs").mkdir()
    (archive / "entities.jsonl").write_text("")
    assert cli.main(["restore-reingest", str(archive), "--dry-run"]) == 0
    (archive / place).rename(tmp_path / "moved")
    (archive / place).symlink_to(tmp_path / "moved")
    assert cli.main(["restore-reingest", str(archive), "--dry-run"]) == 2
    assert "leads outside of the source" in capsys.readouterr().err


def test_a_run_of_an_archive_is_the_run_of_its_folder(tmp_path, capsys):
    archive = plain_archive(tmp_path / "archive", {"hash": "another"})
    assert cli.main(["restore-reingest", str(archive), "--dry-run"]) == 1
    shown = capsys.readouterr().out
    assert "run.json: the run `another` is in the folder of another run" in shown


def test_a_run_has_the_folder_that_the_server_gives_it():
    # Only control characters are left out, not all that cannot be printed.
    for plain in ("3fd1c0", "a b", "ü", "run.1", "a\u00a0b", "a\u200db"):
        assert run_folder(plain) == plain
    for odd in ("", ".", "..", "../x", "a/b", "a\\b", "~x", "\n", "\u0085", "x" * 201):
        assert run_folder(odd) == "~" + hashlib.sha256(odd.encode()).hexdigest()


def test_types_of_objects_have_several_names():
    for name, dtype in (("images", "image"), ("point_clouds", "point_cloud"), ("class", "class")):
        assert singular_dtype(name) == dtype


@pytest.mark.parametrize("listed", ["~x", run_folder("~x")])
def test_an_archive_lists_hashes_or_folders(tmp_path, listed):
    archive = plain_archive(tmp_path / "archive", {"hash": "~x"})
    (archive / "runs" / "r").rename(archive / "runs" / run_folder("~x"))
    manifest = {"format_version": 1, "run_hashes": [listed]}
    (archive / "manifest.json").write_text(json.dumps(manifest))
    with open_archive(archive) as root:
        (run,) = archived_runs(root)
    assert run.run_hash == "~x"


def test_steps_without_their_objects_are_left_out_and_counted(tmp_path):
    archive = plain_archive(tmp_path / "archive", {"hash": "r"})
    run = archive / "runs" / "r"
    (run / "traces.json").write_text('[{"name": "i", "context_id": 0, "dtype": "image"}]')
    # Archives of Matyan 0.3 have the index of an object in a list.
    (run / "sequences.jsonl").write_text('{"name": "i", "step": 0, "value": 0}\n')
    (found,) = archived_runs(archive)
    assert (list(found.items()), found.facts.notes) == ([], ["left out: 1 object without files"])


def test_a_state_that_is_no_outcome_is_left_out_of_an_archive(tmp_path):
    for state, outcome in (("failed", "failed"), ("running", None)):
        run = ImportedRun("r", "r", "", lambda: iter(()), RunFacts(state=state))
        with ArchiveWriter(tmp_path / state, "test", filters={}, blobs=True) as writer:
            writer.add_run(run)
        described = json.loads((writer.path / "runs" / "r" / "run.json").read_text())
        assert described.get("outcome") == outcome


def test_damage_in_an_archive_is_named_by_file_and_line(tmp_path, capsys):
    archive = plain_archive(tmp_path / "archive", {"hash": "r"})
    lines = [{"name": "m", "step": step, "value": value} for step, value in enumerate((1.0, "x"))]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (archive / "runs" / "r" / "sequences.jsonl").write_text(text)
    assert cli.main(["restore-reingest", str(archive), "--dry-run"]) == 1
    shown = capsys.readouterr().out
    assert "sequences.jsonl: line 2: `value` is neither a number nor an object" in shown


def test_a_run_in_the_bin_is_not_replayed(tmp_path):
    for name, binned in (("visible", None), ("binned", 1_700_000_000.0)):
        archive = plain_archive(tmp_path / name, {"hash": "r", "binned_at": binned})
        assert len(archived_runs(archive)) == (binned is None)


def plain_archive(directory, described):
    """Writes an archive of a run `r` without data."""
    run = directory / "runs" / "r"
    run.mkdir(parents=True)
    for name in ("attrs.json", "contexts.json"):
        (run / name).write_text("{}")
    (run / "traces.json").write_text("[]")
    (run / "run.json").write_text(json.dumps(described))
    manifest = {"format_version": 1, "run_hashes": ["r"]}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def test_rule_72_an_archive_does_not_lead_outside(stored, own_server, tmp_path):
    result = backup.run_backup(tmp_path / "out", backend_url=own_server.url)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    attrs = result.path / "runs" / stored.hash / "attrs.json"
    params = json.loads(attrs.read_text())
    params["__blobs__"] = {"../../../../secret": {}}
    attrs.write_text(json.dumps(params))
    report = restore.restore_reingest(result.path, backend_url=own_server.url, dry_run=True).report
    assert (report.runs[0].artifacts, report.runs[0].notes) == (
        0,
        ["not in the archive: 1 artifact"],
    )
