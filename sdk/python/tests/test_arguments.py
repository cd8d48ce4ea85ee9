"""Arguments of wrong types and empty names, which errors name, and writes to runs that are read."""

import json
import logging
import os
import warnings
from pathlib import Path

import pytest

from matyan_client import Repo, Run, Text, _console, errors
from matyan_client.log_handler import RunLogHandler

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def run():
    run = Run(repo=NOWHERE, offline=True, capture_terminal_logs=False)
    yield run
    run.close()


@pytest.mark.parametrize(
    "argument",
    [
        "run_hash",
        "repo",
        "frontier_url",
        "experiment",
        "read_only",
        "force_resume",
        "log_system_params",
        "capture_terminal_logs",
        "system_tracking_interval",
        "offline",
    ],
)
def test_an_argument_of_the_constructor_of_a_wrong_type_is_named(spool, argument):
    with pytest.raises(TypeError, match=f"^`{argument}`: expected .*, not list"):
        Run(**{"repo": NOWHERE, argument: ["x"]})
    assert not spool.exists()


def test_text_is_no_flag(spool):
    with pytest.raises(TypeError, match="`offline`: expected a bool, not str"):
        Run(repo=NOWHERE, offline="x")
    assert not spool.exists()


def test_flags_of_other_kinds_are_accepted():
    np = pytest.importorskip("numpy")
    with Run(repo=NOWHERE, offline=np.True_, force_resume=None, capture_terminal_logs=0) as run:
        run.archived = 1
        assert run.archived is True


def test_an_interval_that_is_not_used_is_reported():
    with (
        pytest.warns(RuntimeWarning, match="`system_tracking_interval`: expected 0.1 to") as shown,
        Run(repo=NOWHERE, offline=True, system_tracking_interval=0.01),
    ):
        pass
    assert shown[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Run(repo=NOWHERE, offline=True, system_tracking_interval=0) as run:
            assert run.hash


# Method, positional arguments, keywords, error, and the argument that it names.
CALLS = [
    ("add_tag", (5,), {}, TypeError, "value"),
    ("add_tag", ("",), {}, ValueError, "value"),
    ("remove_tag", (None,), {}, TypeError, "tag_name"),
    ("remove_tag", ("",), {}, ValueError, "tag_name"),
    ("log_artifact", (5,), {}, TypeError, "path"),
    ("log_artifact", (b"file",), {}, TypeError, "path"),
    ("log_artifact", ("",), {}, ValueError, "path"),
    ("log_artifact", (__file__,), {"name": 5}, TypeError, "name"),
    ("log_artifact", (__file__,), {"block": "x"}, TypeError, "block"),
    ("log_artifacts", (None,), {}, TypeError, "path"),
    ("log_artifacts", (Path(__file__).parent,), {"name": 5}, TypeError, "name"),
    ("log_artifacts", (Path(__file__).parent,), {"block": "x"}, TypeError, "block"),
    ("__setitem__", ("", 1), {}, ValueError, "key"),
    # With the hash of the run, it would be too long for the name of an object in a blob store.
    ("log_artifact", (__file__,), {"name": "x" * 1000}, ValueError, "name"),
    ("track_many", ([1.0],), {"name": None}, TypeError, "name"),
    ("track_many", ([1.0],), {"name": ""}, ValueError, "name"),
    ("track_many", ("1",), {"name": "m"}, TypeError, "values"),
    ("track_many", (b"12345678",), {"name": "m"}, TypeError, "values"),
    ("track_many", (5,), {"name": "m"}, TypeError, "values"),
    ("track_many", ({1: 2},), {"name": "m"}, TypeError, "values"),
    ("track_many", ([1.0],), {"name": "m", "steps": 5}, TypeError, "steps"),
    ("track_many", ([1.0],), {"name": "m", "epochs": "1"}, TypeError, "epochs"),
    ("track_many", ([1.0],), {"name": "m", "context": [1]}, TypeError, "context"),
    ("flush", ("a",), {}, TypeError, "timeout"),
    ("series", (5,), {}, TypeError, "name"),
    ("series", ("m", "train"), {}, TypeError, "context"),
    ("series", ("m",), {"first_step": "0"}, TypeError, "first_step"),
    ("series", ("m",), {"end_step": 1.5}, TypeError, "end_step"),
    ("get_metric", (5,), {}, TypeError, "name"),
    ("get_metric", ("m", []), {}, TypeError, "context"),
    ("get_image_sequence", (5,), {}, TypeError, "name"),
    ("get_text_sequence", ("m", "train"), {}, TypeError, "context"),
    ("collect_sequence_info", (5,), {}, TypeError, "sequence_types"),
    ("collect_sequence_info", ((5,),), {}, TypeError, "sequence_types"),
    ("get_artifact", (5,), {}, TypeError, "name"),
    ("get_artifact", ("",), {}, ValueError, "name"),
    ("download_artifact", (5, "file"), {}, TypeError, "name"),
    ("download_artifact", ("a", 5), {}, TypeError, "dest"),
    ("download_artifacts", (5,), {}, TypeError, "dest_dir"),
]


@pytest.mark.parametrize(("method", "positional", "keywords", "error", "argument"), CALLS)
def test_an_argument_of_a_method_is_named(run, method, positional, keywords, error, argument):
    before = run.health
    with pytest.raises(error, match=f"^`{argument}`: expected "):
        getattr(run, method)(*positional, **keywords)
    health = run.health
    assert (health.pending, health.pending_uploads) == (before.pending, before.pending_uploads)


def test_a_key_that_is_no_name_is_refused(run):
    with pytest.raises(TypeError, match=r"^`value`: the keys of a dict are names .*, not int"):
        run.track({1: 2.0})


@pytest.mark.parametrize("name", ["name", "description", "experiment", "archived"])
def test_a_property_of_a_wrong_type_is_named(run, name):
    with pytest.raises(TypeError, match=f"^`{name}`: expected a .*, not list"):
        setattr(run, name, [1])


def test_empty_and_absent_values_of_scripts_for_matyan_03_are_defaults(run):
    run.experiment = ""
    assert run.experiment is None
    before = run.health.pending_uploads
    run.log_artifact(__file__, name="")
    assert run.health.pending_uploads == before + 1
    repo = Repo.from_path("")
    assert repo.url == Repo.from_path(None).url == Repo().url
    assert (repo.run_exists(None), repo.get_run(None), repo.get_run("")) == (False, None, None)


def test_columns_of_arrays(run):
    np = pytest.importorskip("numpy")
    before = run.health.pending
    for wrong, text in (
        ({"values": np.zeros((2, 2))}, "`values`: expected one dimension"),
        ({"values": np.array(["a", "b"])}, "`values`: "),
        ({"steps": np.array([0.5, 1.0])}, "`steps`: expected integers"),
        ({"steps": np.array([0, np.nan])}, "`steps`: expected integers"),
        ({"steps": [0.5, 1.0]}, "`steps`: expected integers, found a fraction"),
        ({"values": np.array([1j, 2j])}, "`values`: expected numbers, not complex128"),
        ({"values": np.array([1, 2], "M8[s]")}, "`values`: expected numbers, not datetime64"),
        ({"values": np.array(["1", "2"])}, "`values`: expected numbers, not <U1"),
        ({"values": np.ma.array([1, 2], mask=[0, 1])}, "`values`: .*, found masked elements"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            run.track_many(**{"values": [1.0, 2.0], "name": "m", **wrong})
    with pytest.raises(OverflowError, match="`steps`: 18446744073709551615 does not fit"):
        run.track_many([1.0], steps=np.array([2**64 - 1], "u8"), name="m")
    assert run.health.pending == before
    run.track_many([1.0, 2.0], steps=[1.0, 2.0], epochs=[0.5, 1], name="m")
    run.track_many(np.ma.array([1, 2]), steps=np.array([1, 2], "u8"), name="m")
    assert run.health.pending == before + 4
    run.track_many(np.arange(2), steps=np.array([1.0, 2.0]), epochs=np.array([0.5, 1.5]), name="m")
    assert run.health.pending == before + 6


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ([1, 2], "`track_many` tracks several values"),
        ([], "it is empty"),
        ([1, Text("a")], "a list must have only objects, such as images"),
        ({"a": 1}, "without `name`, each member of a dict is tracked under its key"),
    ],
)
def test_an_error_of_track_says_how_to_track_a_container(run, value, hint):
    with pytest.raises(TypeError, match=f"^`value`: cannot track .* as 'm'; {hint}$"):
        run.track(value, name="m")


def test_an_error_of_track_says_how_to_track_an_array(run):
    np = pytest.importorskip("numpy")
    with pytest.raises(
        TypeError, match=r"^`value`: cannot convert ndarray .*; `track_many` tracks"
    ):
        run.track(np.zeros(3), name="m")
    before = run.health.pending
    run.track(np.array([1.5]), name="m")
    assert run.health.pending == before + 1


def test_names_that_utf_8_cannot_express():
    with Run(repo=NOWHERE, offline=True, experiment="e\ud800") as run:
        assert run.experiment == "e\ufffd"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("e\ud800", "expected no surrogates"),
        ("a/b", "expected text without `/`"),
        ("a\n", "expected text without `/` and control characters"),
        ("..", "expected text without `/`"),
        ("x" * 257, "expected at most 256 bytes, found 257"),
    ],
)
def test_a_hash_that_no_server_accepts_is_refused(spool, name, reason):
    for read_only in (True, False):
        with pytest.raises(ValueError, match=f"^`run_hash`: {reason}"):
            Run(name, repo=NOWHERE, read_only=read_only)
    assert not spool.exists()


def test_a_file_that_cannot_be_stored_costs_no_other(run, tmp_path, monkeypatch):
    directory = tmp_path / "directory"
    directory.mkdir()
    for name in (b"a", b"b\xff", b"c", b"d"):
        (directory / os.fsdecode(name)).write_text("x")
    before = run.health.pending_uploads
    store = type(run)._log_artifact

    def fail(run, path, name):
        if name.endswith("c"):
            raise PermissionError("`path`: not readable")
        store(run, path, name)

    monkeypatch.setattr(Run, "_log_artifact", fail)
    with pytest.raises(PermissionError, match="not readable"):
        run.log_artifacts(directory, "files")
    assert run.health.pending_uploads == before + 3
    names = [json.loads(file.read_bytes())["path"] for file in _console.uploads_of(run.hash)]
    assert sorted(names) == ["files/a", "files/b%FF", "files/d"]


REPO_CALLS = [
    ("from_path", (5,), {}, TypeError, "path"),
    ("is_remote_path", (Path("a"),), {}, TypeError, "path"),
    ("get_run", (5,), {}, TypeError, "run_hash"),
    ("run_exists", (5,), {}, TypeError, "run_hash"),
    ("query_runs", (5,), {}, TypeError, "query"),
    ("query_runs", ("",), {"paginated": "x"}, TypeError, "paginated"),
    ("query_runs", ("",), {"paginated": True, "limit": "x"}, TypeError, "limit"),
    ("query_runs", ("",), {"paginated": True, "limit": 0}, ValueError, "limit"),
    ("query_runs", ("",), {"offset": 5}, TypeError, "offset"),
    ("query_metrics", (5,), {}, TypeError, "query"),
    ("query_images", (None,), {}, TypeError, "query"),
    ("delete_run", (5,), {}, TypeError, "run_hash"),
    ("delete_run", ("",), {}, ValueError, "run_hash"),
    ("delete_runs", ("abc",), {}, TypeError, "run_hashes"),
    ("delete_runs", ([5],), {}, TypeError, "run_hashes"),
    ("delete_experiment", ("",), {}, ValueError, "exp_id"),
    ("collect_sequence_info", (5,), {}, TypeError, "sequence_types"),
]


@pytest.mark.parametrize(("method", "positional", "keywords", "error", "argument"), REPO_CALLS)
def test_an_argument_of_a_repo_is_named(method, positional, keywords, error, argument):
    with pytest.raises(error, match=f"^`{argument}`: expected "):
        getattr(Repo(NOWHERE), method)(*positional, **keywords)


def test_a_url_of_a_repo_of_a_wrong_type_is_named():
    with pytest.raises(TypeError, match="`url`: expected a str, not int"):
        Repo(5)


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("get_run", "x"),
        ("run_exists", "x"),
        ("delete_run", "x"),
        ("delete_runs", ["x"]),
        ("delete_experiment", "x"),
    ],
)
def test_only_what_does_not_exist_is_reported_by_the_result(shared_server, method, argument):
    with pytest.raises(errors.TransportError):
        getattr(Repo(NOWHERE), method)(argument)
    absent = getattr(Repo(shared_server.url), method)(argument)
    assert absent in (None, False, (False, ["x"]))


@pytest.mark.parametrize(
    "read",
    [
        lambda run: run["x"],
        lambda run: run[...],
        lambda run: run.get("x"),
        lambda run: run.active,
        lambda run: run.tags,
        lambda run: run.metrics(),
        lambda run: run.get_image_sequence("samples"),
    ],
)
def test_a_run_that_does_not_exist_is_named(shared_server, read):
    url = shared_server.url
    with pytest.raises(errors.RunNotFoundError, match=f"^there is no run 'mistyped' on {url}$"):
        read(Run("mistyped", repo=url, read_only=True))


@pytest.fixture
def reader():
    return Run("some", repo=NOWHERE, read_only=True)


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.track(1.0, name="m"),
        lambda run: run.track({"m": 1.0}),
        lambda run: run.track_many([1.0], name="m"),
        lambda run: run.log_artifact(__file__),
        lambda run: run.log_artifacts(Path(__file__).parent / "adapters" / "requirements"),
        lambda run: setattr(run, "name", "n"),
        lambda run: setattr(run, "description", "d"),
        lambda run: setattr(run, "experiment", "e"),
        lambda run: setattr(run, "experiment", None),
        lambda run: setattr(run, "archived", True),
        lambda run: run.__delitem__("a"),
        lambda run: run.__setitem__(..., {}),
    ],
)
def test_a_write_to_a_run_that_is_read_is_refused(reader, write):
    with pytest.raises(RuntimeError, match="read-only"):
        write(reader)


def test_uploads_are_refused_in_words_that_scripts_know(reader, run):
    known = "^Artifact upload requires an active WebSocket connection: the run is "
    with pytest.raises(RuntimeError, match=rf"{known}read-only, open it with Run\('some'\)"):
        reader.log_artifact(__file__)
    run.close()
    with pytest.raises(RuntimeError, match=f"{known}closed"):
        run.log_artifacts("no directory")


def log_through_a_handler(run):
    RunLogHandler(run).handle(logging.makeLogRecord({"name": "train", "msg": "text"}))


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda run: run.add_tag("x"), "tags are not changed"),
        (lambda run: run.remove_tag("x"), "tags are not changed"),
        (lambda run: run.log_warning("x"), "log records are not stored"),
        (log_through_a_handler, "log records are not stored"),
        (lambda run: run.set("a", 1), "params are not stored"),
    ],
)
def test_a_write_that_has_no_effect_warns_once(reader, capfd, write, text):
    with pytest.warns(RuntimeWarning, match="run some is read-only") as shown:
        write(reader)
        write(reader)
    assert shown[0].filename == (logging.__file__ if write is log_through_a_handler else __file__)
    assert [text in str(warning.message) for warning in shown] == [True]
    assert "Traceback" not in capfd.readouterr().err


def test_an_experiment_for_a_run_that_is_read_warns():
    with pytest.warns(RuntimeWarning, match="run some is read-only, so `experiment` is not set"):
        Run("some", repo=NOWHERE, read_only=True, experiment="x")


@pytest.mark.parametrize("step", [2**63 - 1, -(2**63)])
def test_a_step_without_a_next_one_is_refused(run, step):
    with pytest.raises(ValueError, match="`step`"):
        run.track(1.0, name="loss", step=step)


def test_a_bad_member_does_not_cost_the_others(shared_server):
    run = Run(repo=shared_server.url, capture_terminal_logs=False)
    with (
        run,
        pytest.raises(ValueError, match=r"^member 'bad': `value`: cannot convert str to float"),
    ):
        run.track({"bad": "x", "good": 1.0})
    found = Run(run.hash, repo=shared_server.url, read_only=True)
    assert list(found.series("good").values) == [1.0]


def test_warnings_about_a_query_are_shown_at_the_line_of_the_caller(shared_server):
    with pytest.warns(UserWarning, match="lr") as shown:
        Repo(shared_server.url).query_runs("lr < 1")
    assert [warning.filename for warning in shown] == [__file__]


def test_what_is_no_real_or_whole_number_is_refused(run):
    np = pytest.importorskip("numpy")
    with pytest.raises(TypeError, match="`value`: expected a real number, not complex64"):
        run.track(np.complex64(1), name="m")
    with pytest.raises(TypeError, match=r"`step`: expected an integer, found 3\.5"):
        run.track(1.0, name="m", step=3.5)
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="`timeout`: expected at least 0 seconds"):
            run.flush(timeout)
    with pytest.raises(ValueError, match="`sequence_types`: unknown type 'nope'"):
        run.collect_sequence_info("nope")
    with pytest.raises(ValueError, match="`value`"):
        run.add_tag("x" * 100_000)
    with pytest.raises(ValueError, match="`msg`"):
        run.log_info("x" * 20_000_000)


def test_a_context_that_contains_itself_is_refused(run):
    context = {"a": [{"b": 1}]}
    run.track(0.5, name="m", context=context)
    context["a"].append({"again": context})
    with pytest.raises(ValueError, match="`context`: it contains itself"):
        run.track(0.5, name="m", context=context)
