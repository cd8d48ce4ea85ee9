"""Files that an import may read: the files of its source, wherever links and paths lead."""

import json
import os
import shutil
import sqlite3
import sys
from types import SimpleNamespace

import pytest
from imported import FIXTURES, run_import
from test_import_neptune import row, write

from matyan_client import cli
from matyan_client.importing import SourceError, SourceFiles, open_source

NO_SERVER = SimpleNamespace(url="http://127.0.0.1:1")
_REFUSAL = "leads outside of the source"


def read(capsys, kind, source, *options):
    """Returns the report of a dry run by label of the run."""
    return run_import(capsys, kind, source, NO_SERVER, "--dry-run", *options)


@pytest.fixture
def secret(tmp_path):
    """A file that belongs to no source, in its own directory."""
    (tmp_path / "home").mkdir()
    file = tmp_path / "home" / "id_rsa"
    file.write_text("secret")
    return file


@pytest.fixture
def store(tmp_path):
    """A file store of MLflow, named as scripts name it, with its largest run."""
    shutil.copytree(FIXTURES / "mlflow" / "store", tmp_path / "mlruns")
    (meta,) = (tmp_path / "mlruns").glob("*/1dc72af2222541e58ef253483987edf9/meta.yaml")
    return tmp_path / "mlruns", meta.parent


def replaced_by_link(place, target):
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.symlink_to(target)


@pytest.mark.parametrize(
    ("place", "is_directory"),
    [
        ("params/lr", False),
        ("params", True),
        ("tags/team", False),
        ("tags", True),
        ("metrics/odd", False),
        ("metrics", True),
        ("meta.yaml", False),
        (".", True),
    ],
)
def test_rule_72_a_link_in_a_mlflow_run_fails_the_run(capsys, store, secret, place, is_directory):
    source, run = store
    target = secret
    if is_directory:
        shutil.move(run / place, secret.parent / "moved")
        target = secret.parent / "moved"
    elif place == "meta.yaml":
        shutil.move(run / place, secret)
    replaced_by_link(run / place, target)
    reports = read(capsys, "mlflow", source)
    (failed,) = [report for report in reports.values() if report["state"] == "failed"]
    assert _REFUSAL in failed["notes"][0]
    assert "`--outside-files` follows it" in failed["notes"][0]
    assert "secret" not in json.dumps(reports).replace(str(secret), "")
    assert len(reports) == 2, "the other run is imported"
    trusted = read(capsys, "mlflow", source, "--outside-files")
    assert not any(_REFUSAL in note for report in trusted.values() for note in report["notes"])


def test_rule_72_a_link_in_place_of_an_experiment_is_refused(capsys, store, secret):
    source, run = store
    shutil.move(run.parent, secret.parent / "experiment")
    replaced_by_link(run.parent, secret.parent / "experiment")
    assert cli.main(["import", "mlflow", str(source), "--dry-run"]) == 2
    assert _REFUSAL in capsys.readouterr().err


def test_rule_72_artifacts_of_mlflow_are_those_of_its_store(capsys, store, secret):
    source, run = store
    meta = run / "meta.yaml"
    lines = meta.read_text().splitlines()
    lines = [line for line in lines if not line.startswith("artifact_uri")]
    # Next to the store: a source with this name must not open its directory.
    meta.write_text("\n".join([*lines, f"artifact_uri: {secret.parent.as_uri()}", ""]))
    shutil.rmtree(run / "artifacts")

    def artifacts(*options):
        reports = read(capsys, "mlflow", source, *options).values()
        return [(report["artifacts"], report["notes"]) for report in reports if report["artifacts"]]

    assert artifacts() == []
    assert artifacts("--outside-files")[0][0] == 1
    note = f"left out: artifacts at {secret.parent.as_uri()}, outside of the source; "
    noted = [note for report in read(capsys, "mlflow", source).values() for note in report["notes"]]
    assert any(found.startswith(note) for found in noted)
    (run / "artifacts").symlink_to(secret.parent)
    assert artifacts() == []
    (run / "artifacts").unlink()
    (run / "artifacts").mkdir()
    (run / "artifacts" / "own").write_text("own")
    (run / "artifacts" / "link").symlink_to(secret)
    ((count, notes),) = artifacts()
    assert count == 1
    assert "left out: 1 file outside of the source; `--outside-files` uploads them" in notes


def test_rule_72_artifacts_of_a_database_are_in_its_own_directories(capsys, tmp_path, secret):
    shutil.copytree(FIXTURES / "mlflow", tmp_path / "mlflow")
    database = sqlite3.connect(tmp_path / "mlflow" / "mlflow.db")
    database.executescript((FIXTURES / "mlflow" / "mlflow.sql").read_text())
    database.close()
    source = tmp_path / "mlflow" / "mlflow.db"

    def artifacts():
        return sum(report["artifacts"] for report in read(capsys, "mlflow", source).values())

    assert artifacts() == 2
    database = sqlite3.connect(source)
    with database:
        database.execute("UPDATE runs SET artifact_uri = ?", (source.parent.as_uri(),))
    database.close()
    assert artifacts() == 2, "the directory with the database is not all its own"
    moved = secret.parent / "moved"
    shutil.move(source.parent / "mlruns", moved)
    (source.parent / "mlruns").symlink_to(moved)
    assert artifacts() == 0


def test_rule_72_a_link_that_takes_the_place_of_a_file_is_not_followed(store, secret, monkeypatch):
    source, run = store
    files = SourceFiles(source.resolve())
    file = run / "params" / "lr"
    assert files.read_bytes(file) == file.read_bytes()
    secret.with_name("params").mkdir()
    shutil.copy(secret, secret.with_name("params") / "lr")
    inside = SourceFiles.inside
    for place, target in ((file, secret), (file.parent, secret.with_name("params"))):

        def replaced(self, found, place=place, target=target):
            # After the check, and before the file is opened.
            resolved = inside(self, found)
            replaced_by_link(place, target)
            return resolved

        with monkeypatch.context() as patch:
            patch.setattr(SourceFiles, "inside", replaced)
            with pytest.raises(SourceError, match="replaced by a link while it was read"):
                files.read_text(file)
        place.unlink()
        file.parent.mkdir(exist_ok=True)
        file.write_text("0.1")


def test_a_source_that_is_one_file_is_opened_without_links(tmp_path, secret):
    file = tmp_path / "run-a.wandb"
    file.write_bytes(b"records")
    files = SourceFiles(file.resolve())
    assert files.read_bytes(file) == b"records"
    replaced_by_link(file, secret)
    with pytest.raises(SourceError, match=_REFUSAL):
        files.read_bytes(file)


def test_a_named_pipe_in_a_source_is_not_waited_for(tmp_path):
    files = SourceFiles(tmp_path.resolve())
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(OSError, match="it is not a file"):
            files.open(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="directories have to be readable")
def test_directories_of_a_source_need_only_be_searchable(tmp_path):
    # Says nothing where it runs as root, who may read every directory.
    files = SourceFiles(tmp_path.resolve())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run").write_bytes(b"run")
    (tmp_path / "runs").chmod(0o111)
    try:
        assert files.read_bytes(tmp_path / "runs" / "run") == b"run"
    finally:
        (tmp_path / "runs").chmod(0o700)


@pytest.fixture
def offline_run(tmp_path):
    shutil.copytree(FIXTURES / "wandb" / "wandb", tmp_path / "wandb")
    (directory,) = (tmp_path / "wandb").glob("*-first")
    return directory


def test_rule_72_media_of_wandb_are_those_of_its_directory(capsys, offline_run, secret):
    source = offline_run.parent
    whole = read(capsys, "wandb", source)["proj/first"]
    (image,) = offline_run.glob("files/media/images/image_*.png")
    shutil.move(image, secret)
    image.symlink_to(secret)
    report = read(capsys, "wandb", source)["proj/first"]
    assert report["objects"] == whole["objects"] - 1
    assert "not on this machine: 1 file of media" in report["notes"]
    assert (
        "left out: 1 file outside of the source; `--outside-files` uploads them" in report["notes"]
    )
    trusted = read(capsys, "wandb", source, "--outside-files")["proj/first"]
    assert trusted["objects"] == whole["objects"]


@pytest.mark.parametrize("place", ["files", "run-first.wandb", "."])
def test_rule_72_a_link_in_a_run_of_wandb_fails_the_run(capsys, offline_run, secret, place):
    target = secret.parent / "moved"
    shutil.move(offline_run / place, target)
    (offline_run / place).symlink_to(target)
    reports = read(capsys, "wandb", offline_run.parent)
    assert reports.pop("proj/second")["state"] == "counted"
    for report in reports.values():
        assert report["state"] == "failed"
        assert _REFUSAL in report["notes"][0]


def test_a_link_to_another_run_of_the_source_is_followed(capsys, offline_run):
    (offline_run.parent / "latest-run").symlink_to(offline_run.name)
    assert {report["state"] for report in read(capsys, "wandb", offline_run.parent).values()} == {
        "counted"
    }


def test_a_source_may_be_named_by_a_link(capsys, store, tmp_path):
    source, _ = store
    (tmp_path / "link").symlink_to(source)
    states = {report["state"] for report in read(capsys, "mlflow", tmp_path / "link").values()}
    assert states == {"counted"}


def test_rule_72_a_link_among_event_files_fails_its_run(capsys, tmp_path, secret):
    logs = tmp_path / "logs"
    shutil.copytree(FIXTURES / "tensorboard" / "logs", logs)
    (file,) = (logs / "x").iterdir()
    shutil.move(file, secret)
    file.symlink_to(secret)
    states = {label: report["state"] for label, report in read(capsys, "tensorboard", logs).items()}
    assert list(states.values()).count("failed") == 1


@pytest.mark.parametrize("linked", ["files", "files/team_project_1a2b", "image", "data"])
def test_rule_72_files_of_neptune_are_those_of_its_export(capsys, tmp_path, secret, linked):
    export = tmp_path / "export"
    files = export / "files" / "team_project_1a2b"
    files.mkdir(parents=True)
    (files / "image.png").write_bytes(b"image")
    rows = [
        row("samples", "file_series", 4, 2, file_value={"path": "image.png"}),
        row("model", "file", file_value={"path": "image.png"}),
    ]
    write(export, "RUN-1", [rows])
    assert read(capsys, "neptune", export)["team/project/RUN-1"]["artifacts"] == 1
    place = files / "image.png" if linked == "image" else export / linked
    if linked == "data":
        place = next((export / "data").rglob("*.parquet"))
    shutil.move(place, secret.parent / "moved")
    place.symlink_to(secret.parent / "moved")
    (report,) = read(capsys, "neptune", export).values()
    assert (report["objects"], report["artifacts"]) == (0, 0)
    if linked == "data":
        assert report["state"] == "failed"
    else:
        assert report["notes"] == ["left out: 2 files not in the export"]


def test_rule_72_a_link_in_a_repository_of_aim_is_refused(tmp_path, secret, monkeypatch):
    (tmp_path / "repository" / ".aim" / "meta").mkdir(parents=True)
    (tmp_path / "repository" / ".aim" / "run_metadata.sqlite").symlink_to(secret)
    monkeypatch.setitem(sys.modules, "aim", SimpleNamespace())
    with pytest.raises(SourceError, match=_REFUSAL):
        open_source("aim", tmp_path / "repository")


def test_links_in_a_circle_are_refused(capsys, store):
    source, run = store
    (run / "artifacts" / "circle").symlink_to("circle")
    (run / "params" / "again").symlink_to(run)
    states = {report["state"] for report in read(capsys, "mlflow", source).values()}
    assert states == {"counted"}
