"""Runs that are stored by a real server."""

import math
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from matyan_client import Image, Repo, Run, Text, cli, errors
from matyan_client._query_result import FoundRun
from matyan_client.config import SETTINGS
from matyan_client.transport.http import HttpTransport


def eventually(check):
    """Waits for what other processes wrote."""
    end = time.monotonic() + 60
    while not check():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


@pytest.fixture
def run(shared_server):
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        yield run


def test_columns_are_read_without_a_copy(run):
    np = pytest.importorskip("numpy")
    values = np.random.default_rng(1).normal(size=10_000)
    values[5] = np.nan
    values[6] = np.inf
    run.track_many(values, steps=np.arange(10_000) * 3, name="loss", context={"subset": "train"})
    assert run.flush(20)
    series = run.series("loss", {"subset": "train"})
    assert (series.name, series.context_json, len(series)) == ("loss", '{"subset":"train"}', 10_000)
    steps = np.asarray(series.steps)
    assert steps.dtype == np.int64
    assert not steps.flags.writeable
    assert np.shares_memory(steps, np.asarray(series.steps))
    assert (steps == np.arange(10_000) * 3).all()
    assert np.array_equal(np.asarray(series.values), values, equal_nan=True)
    assert (series.epochs, len(series.times_us)) == (None, 10_000)
    assert series.values[:2] == values[:2].tolist()
    assert series.steps[-1] == 29_997
    assert list(series.steps)[:3] == [0, 3, 6]
    with pytest.raises(IndexError):
        series.steps[10_000]
    assert run.series("loss") is None
    tail = run.series("loss", {"subset": "train"}, first_step=29_990)
    assert tail.steps.tolist() == [29_991, 29_994, 29_997]


def test_points_without_an_epoch_among_others(run):
    run.track(1.0, name="m", step=0, epoch=7)
    run.track(2.0, name="m", step=1)
    assert run.flush(20)
    assert list(run.get_metric("m").epochs) == [7, None]


def test_a_run_that_does_not_exist_is_named_by_each_call(shared_server, tmp_path):
    run = Run("nothing", repo=shared_server.url, read_only=True)
    for read in (
        lambda: run.series("m"),
        run.dataframe,
        run.get_terminal_logs,
        run.get_log_records,
        lambda: run.get_artifact("a"),
        lambda: run.download_artifacts(tmp_path),
    ):
        with pytest.raises(errors.RunNotFoundError, match="there is no run 'nothing' on http"):
            read()


def test_params_are_looked_for(run):
    run["lr"] = 0.1
    assert "lr" in run
    assert "epochs" not in run
    with pytest.raises(TypeError, match="not iterable"):
        list(run)


def test_artifacts_whose_paths_are_written_in_other_ways(run, tmp_path):
    files = tmp_path / "files"
    (files / "seq").mkdir(parents=True)
    (files / "seq" / "a").write_text("in seq")
    (files / "b").write_text("b")
    for name in ("./x", "y//z", "d/"):
        run.log_artifact(files / "b", name=name)
    run.log_artifacts(files, "./all")
    with pytest.raises(ValueError, match="outside of `seq/`"):
        run.log_artifacts(files)
    with pytest.raises(FileNotFoundError, match="`log_artifacts` stores the files of a directory"):
        run.log_artifact(files)
    assert run.flush(20)
    paths = {artifact["path"] for artifact in run.artifacts}
    assert paths == {"x", "y/z", "d", "all/b", "all/seq/a", "b"}
    run.log_artifact(files / "b", name="x/below")
    assert run.flush(20)
    with pytest.raises(OSError, match="cannot save the artifact 'x"):
        run.download_artifacts(tmp_path / "saved")
    assert (tmp_path / "saved" / "all" / "b").read_text() == "b"


def test_columns_are_arrow_arrays(run):
    pyarrow = pytest.importorskip("pyarrow")
    run.track_many([1.0, 2.0, 3.0], name="m", epochs=[1, 1, 2])
    assert run.flush(20)
    series = run.series("m")
    assert pyarrow.array(series.values).to_pylist() == [1.0, 2.0, 3.0]
    assert pyarrow.array(series.steps).to_pylist() == [0, 1, 2]
    assert pyarrow.array(series.epochs).type == pyarrow.int64()
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    np = pytest.importorskip("numpy")
    assert pl.Series(series.values).to_list() == [1.0, 2.0, 3.0]
    assert np.shares_memory(np.asarray(series.values), pd.Series(series.values).to_numpy())
    assert np.array(series.steps, dtype=np.int32).tolist() == [0, 1, 2]
    assert repr(series) == 'SeriesColumns(name="m", context={}, length=3)'
    array = pyarrow.array(series.values)
    del series
    assert array.to_pylist() == [1.0, 2.0, 3.0]
    for _ in range(100):
        run.series("m").values.__arrow_c_array__()


def test_a_series_is_an_arrow_table(run):
    pyarrow = pytest.importorskip("pyarrow")
    pl = pytest.importorskip("polars")
    np = pytest.importorskip("numpy")
    run.track_many([1.0, 2.0, 3.0], name="m", epochs=[1, 1, 2])
    run.track(7.0, name="n", step=5)
    assert run.flush(20)
    series = run.series("m")
    table = pyarrow.table(series)
    assert table.schema.names == ["step", "value", "epoch", "time"]
    assert table.schema == pyarrow.schema(series)
    assert table.schema.field("time").type == pyarrow.timestamp("us", tz="UTC")
    assert table.drop_columns(["time"]).to_pydict() == {
        "step": [0, 1, 2],
        "value": [1.0, 2.0, 3.0],
        "epoch": [1, 1, 2],
    }
    assert table["time"].cast(pyarrow.int64()).to_pylist() == series.times_us.tolist()
    values = table["value"].chunk(0).to_numpy(zero_copy_only=True)
    assert np.shares_memory(values, np.asarray(series.values))
    assert pl.DataFrame(series)["value"].to_list() == [1.0, 2.0, 3.0]
    assert pyarrow.table(run.series("n")).schema.names == ["step", "value", "time"]
    expected = table.to_pydict()
    # Tables outlive the series, and what nothing has read is freed.
    streams = [series.__arrow_c_stream__() for _ in range(100)]
    del series, streams
    assert table.to_pydict() == expected


def test_data_frames(run):
    pytest.importorskip("pandas")
    run.track(0.5, name="a", step=3, epoch=1, context={"subset": "val"})
    run.track(1.5, name="b", step=4)
    assert run.flush(20)
    frame = run.dataframe().sort_values("metric.name")
    assert frame["value"].tolist() == [0.5, 1.5]
    assert frame["step"].tolist() == [3, 4]
    assert frame["metric.context"].tolist() == ['{"subset":"val"}', "{}"]
    found = Repo(run._backend_url).query_metrics(f"run.hash == '{run.hash}'")
    assert sorted(found.dataframe()["value"]) == [0.5, 1.5]
    assert [reader.hash for reader in found.iter_runs()] == [run.hash]
    assert sorted(metric.name for metric in found.iter()) == ["a", "b"]
    (reader,) = found.iter_runs()
    assert reader.run.hash == run.hash
    assert sorted((metric.name, metric.context.to_dict()) for metric in reader) == [
        ("a", {"subset": "val"}),
        ("b", {}),
    ]
    assert [list(metric.values) for metric in reader if metric.name == "a"] == [[0.5]]
    # Without series, not all of them.
    assert len(FoundRun({"hash": run.hash}, run._backend_url, "metric").dataframe()) == 0
    run.track(Text("note"), name="notes", step=2)
    assert run.flush(20)
    (texts,) = Repo(run._backend_url).query_texts(f"run.hash == '{run.hash}'").iter()
    assert (texts.name, texts.indices, texts.values[0].data) == ("notes", [2], "note")


def test_properties_of_a_stored_run_are_those_of_the_server(run, shared_server):
    run.name = "n"
    run.description = "d"
    run.experiment = "e"
    run.add_tag("t")
    assert run.flush(20)
    reader = Run(run.hash, repo=shared_server.url, read_only=True)
    eventually(lambda: reader.tags == ["t"])
    assert (reader.name, reader.description, reader.experiment) == ("n", "d", "e")
    assert (reader.tags, reader.active, reader.end_time) == (["t"], True, None)
    assert reader.creation_time == pytest.approx(run.creation_time, abs=30)
    run.close()
    eventually(lambda: not reader.active)
    assert reader.end_time is not None


def test_params_are_merged_replaced_and_deleted(run, shared_server):
    run["h"] = {"lr": 1, "bs": 2}
    run["h"] = {"lr": 3}
    run["big"] = 2**100
    run["a", "b.c"] = 1
    assert run.flush(20)
    reader = Run(run.hash, repo=shared_server.url, read_only=True)
    eventually(lambda: reader[...].get("a") == {"b.c": 1})
    assert reader["h"] == {"lr": 3, "bs": 2}
    assert reader["big"] == 2**100
    del run["h.bs"]
    assert run["h"] == {"lr": 3}
    assert reader["h"] == {"lr": 3}
    run[...] = {"only": 1, "this": 2}
    assert run[...] == {"only": 1, "this": 2}
    run.close()
    eventually(lambda: reader[...] == {"only": 1, "this": 2})


def test_a_resumed_run_continues_its_steps(shared_server):
    with Run(repo=shared_server.url, experiment="kept", capture_terminal_logs=False) as run:
        run.name = "kept"
        for value in range(3):
            run.track(value, name="m")
    with Run(run.hash, repo=shared_server.url, capture_terminal_logs=False) as again:
        assert (again.name, again.experiment) == ("kept", "kept")
        again.track(3, name="m")
    assert again.series("m").steps.tolist() == [0, 1, 2, 3]


def test_a_branch_continues_the_steps_of_its_parent(shared_server):
    with Run(repo=shared_server.url, capture_terminal_logs=False) as trunk:
        for value in range(10):
            trunk.track(value, name="m")
    with Run(
        repo=shared_server.url, fork_from=trunk.hash, fork_step=4, capture_terminal_logs=False
    ) as branch:
        branch.track(50, name="m")
        branch.track(60, name="m")
    assert branch.series("m").steps.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert branch.series("m").values.tolist() == [0, 1, 2, 3, 4, 50, 60]
    assert branch.props["parent"] == {"run_id": trunk.hash, "step": 4}
    found = Repo(shared_server.url).query_runs(f"run.parent == {trunk.hash!r}")
    assert [run["hash"] for run in found] == [branch.hash]
    with Run(repo=shared_server.url, fork_from=trunk.hash, capture_terminal_logs=False) as whole:
        pass
    assert len(whole.series("m").steps) == 10


def test_a_branch_of_no_run_and_a_branch_that_exists_are_refused(shared_server):
    url = shared_server.url
    with Run(repo=url, capture_terminal_logs=False) as trunk:
        trunk.track(1, name="m")
    for wrong in ("nowhere", trunk.hash[:8]):
        with pytest.raises(ValueError, match=rf"`fork_from`: .* has no run '{wrong}'"):
            Run(repo=url, fork_from=wrong, capture_terminal_logs=False)
    with Run(repo=url, capture_terminal_logs=False) as other:
        pass
    with pytest.raises(ValueError, match="exists already"):
        Run(other.hash, repo=url, fork_from=trunk.hash, capture_terminal_logs=False)
    # A script that is started again names the same run and the same parent.
    for _ in range(2):
        with Run("own", repo=url, fork_from=trunk.hash, capture_terminal_logs=False) as branch:
            pass
    assert branch.props["parent"]["run_id"] == trunk.hash


def test_terminal_lines_continue_after_those_of_the_run_before(shared_server, capfd):
    program = """
import sys
from matyan_client import Run
run = Run(sys.argv[2] or None, repo=sys.argv[1])
print("one")
print("two")
sys.__stderr__.write("HASH " + run.hash)
run.close()
"""

    def script(run_hash):
        finished = subprocess.run(
            [sys.executable, "-c", program, shared_server.url, run_hash],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return finished.stderr.rpartition("HASH ")[2]

    run_hash = script("")
    assert script(run_hash) == run_hash
    reader = Run(run_hash, repo=shared_server.url, read_only=True)
    assert [line for line in reader.get_terminal_logs() if "HASH" not in line] == [
        "one",
        "two",
        "one",
        "two",
    ]


def test_system_metrics_and_params(shared_server):
    with Run(
        repo=shared_server.url,
        system_tracking_interval=0.1,
        log_system_params=True,
        capture_terminal_logs=False,
    ) as run:
        wanted = {"__system__cpu", "__system__memory_percent", "__system__disk_percent"}
        eventually(lambda: wanted <= {metric.name for metric in run.metrics()})
    params = run["__system_params"]
    assert params["executable"] == sys.executable
    assert "pytest" in params["packages"]
    assert not any("token" in name.lower() for name in params["env_variables"])


def test_changes_since_the_last_commit_are_an_artifact(shared_server, tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=Jane Doe", "-c", "user.email=jane@example.com"]
    (tmp_path / "train.py").write_text("lr = 0.1\n")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "add training"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    (tmp_path / "train.py").write_text("lr = 0.2\n")
    monkeypatch.chdir(tmp_path)

    def logged(*, git_diff: bool) -> Run:
        monkeypatch.setattr(SETTINGS, "git_diff", git_diff)
        with Run(
            repo=shared_server.url, log_system_params=True, capture_terminal_logs=False
        ) as run:
            return run

    run = logged(git_diff=True)
    assert run["__system_params"]["git_info"]["commit"]["author"] == "Jane Doe"
    assert b"-lr = 0.1\n+lr = 0.2\n" in run.get_artifact("git-diff.patch")
    assert list(logged(git_diff=False).artifacts) == []


def test_images_and_artifacts(run, tmp_path):
    np = pytest.importorskip("numpy")
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    for subset in ("train", "val"):
        run.track(Image(pixels), name="image", step=0, context={"subset": subset})
    run.track(Text("hello"), name="text")
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "weights.bin").write_bytes(b"x" * 3_000_000)
    (source / "config.json").write_text("{}")
    run.log_artifacts(source, name="files")
    assert run.flush(30)
    assert sorted(item["path"] for item in run.artifacts) == [
        "files/config.json",
        "files/sub/weights.bin",
    ]
    assert len(run.get_artifact("files/sub/weights.bin")) == 3_000_000
    paths = run.download_artifacts(tmp_path / "target")
    assert len(paths) == 2
    assert all(path.exists() for path in paths)
    with pytest.raises(errors.NotFoundError):
        run.get_artifact("missing")
    repo = Repo(run._backend_url)
    traces = repo.query_images(f"run.hash == '{run.hash}'")[0]["traces"].values()
    uris = [trace["values"][0][0]["blob_uri"] for trace in traces]
    assert len(set(uris)) == 2
    blobs = repo.http.get_blob_batch("images", uris)
    assert (Image(blobs[uris[0]]).to_numpy() == pixels).all()


def test_a_list_of_objects_is_stored_at_one_step(run):
    np = pytest.importorskip("numpy")
    pixels = [np.full((4, 4, 3), shade, dtype=np.uint8) for shade in (1, 2, 3, 4, 5, 6)]
    images = [Image(shown, caption=str(index)) for index, shown in enumerate(pixels)]
    run.track(images, name="batch", step=7, context={"subset": "val"})
    run.track((Text("a"), Text("b")), name="texts", step=1)
    run.track([Text("alone")], name="texts", step=2)
    assert run.flush(30)
    repo = Repo(run._backend_url)
    query = f"run.hash == '{run.hash}'"
    found = repo.http.search_sequence("images", query, index_density=100)
    (trace,) = found[0]["traces"].values()
    (stored,) = trace["values"].values()
    assert (trace["name"], trace["iters"][0]) == ("batch", 7)
    assert [stored[at]["caption"] for at in range(6)] == ["0", "1", "2", "3", "4", "5"]
    blobs = repo.http.get_blob_batch("images", [stored[at]["blob_uri"] for at in range(6)])
    for at, shown in enumerate(pixels):
        assert (Image(blobs[stored[at]["blob_uri"]]).to_numpy() == shown).all()
    found = repo.http.search_sequence("texts", query, index_density=100)
    (trace,) = found[0]["traces"].values()
    texts = [[item["data"] for item in step.values()] for step in trace["values"].values()]
    assert texts == [["a", "b"], ["alone"]]


def test_a_run_without_an_experiment_has_none(shared_server):
    for experiment in (None, ""):
        run = Run(repo=shared_server.url, experiment=experiment, capture_terminal_logs=False)
        run.close()
        reader = Run(run.hash, repo=shared_server.url, read_only=True)
        assert (run.experiment, reader.experiment) == (None, None)


def test_experiments_are_listed(shared_server):
    Run(repo=shared_server.url, experiment="listed", capture_terminal_logs=False).close()
    found = Repo(shared_server.url).list_experiments()
    assert [experiment["name"] for experiment in found].count("listed") == 1
    assert all(experiment["id"] for experiment in found)


def test_what_is_stored_is_found_at_once(shared_server):
    repo = Repo(shared_server.url)
    for number in range(10):
        with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
            run["number"] = number
            run.track(number, name="m")
        (found,) = repo.query_runs(f"run.hash == '{run.hash}'")
        assert found["params"] == {"number": number}
        assert found["props"]["active"] is False
        assert repo.get_run(run.hash).series("m").values.tolist() == [number]


def test_params_that_are_no_finite_numbers_are_read_as_they_were_set(shared_server):
    params = {"nan": math.nan, "list": [math.inf, -math.inf, 1.0]}
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        run["optimizer"] = params
    read = Repo(shared_server.url).get_run(run.hash)["optimizer"]
    assert math.isnan(read["nan"])
    assert read["list"] == params["list"]


@pytest.mark.parametrize(
    ("end", "outcome", "message"),
    [
        ("run.close()", "finished", ""),
        ("", "finished", ""),
        ("import sys; sys.exit(0)", "finished", ""),
        ("raise ValueError('diverged')", "failed", "ValueError: diverged"),
        ("raise KeyboardInterrupt", "interrupted", ""),
        ("with run: raise SystemExit(3)", "failed", "SystemExit: 3"),
        ("import sys\nwith run: sys.exit(1)", "failed", "SystemExit: 1"),
        ("import sys\nwith run: sys.exit('no data')", "failed", "SystemExit: no data"),
        ("import sys\nwith run: sys.exit(0)", "finished", ""),
        ("import sys\nwith run: sys.exit()", "finished", ""),
        ("import sys; sys.exit(1)", "failed", "SystemExit: 1"),
        ("import sys; sys.exit('no data')", "failed", "SystemExit: no data"),
        (
            "import sys, threading\n"
            "thread = threading.Thread(target=sys.exit, args=(1,))\n"
            "thread.start(); thread.join()",
            "finished",
            "",
        ),
        ("import sys\ntry: sys.exit(2)\nexcept SystemExit: pass", "finished", ""),
        ("import sys\ntry: sys.exit(2)\nfinally: print()", "failed", "SystemExit: 2"),
        (r"with run: raise ValueError('\udcff')", "failed", "ValueError: ?"),
        (
            "class Mute(Exception):\n"
            "    def __str__(self): raise RuntimeError\n"
            "with run: raise Mute",
            "failed",
            "Mute: (without text)",
        ),
    ],
)
def test_the_outcome_of_a_script_is_recorded(shared_server, end, outcome, message):
    script = f"""
from matyan_client import Run
run = Run(repo={shared_server.url!r}, capture_terminal_logs=False)
print(run.hash, flush=True)
{end}
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    run_hash = ended.stdout.strip()
    repo = Repo(shared_server.url)
    query = f"run.hash == {run_hash!r} and run.outcome == {outcome!r}"
    # Data that another process stored becomes visible a moment later.
    eventually(lambda: list(repo.query_runs(query)))
    (found,) = repo.query_runs(query)
    props = found["props"]
    assert (props["active"], props["outcome"], props["outcome_message"]) == (
        False,
        outcome,
        message,
    )


@pytest.mark.parametrize("end", ["raise SystemExit(1)", "exit(1)"])
def test_an_exit_whose_code_is_lost_is_no_outcome(shared_server, end):
    script = f"""
from matyan_client import Run
run = Run(repo={shared_server.url!r}, capture_terminal_logs=False)
print(run.hash, flush=True)
{end}
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    repo = Repo(shared_server.url)
    run_hash = ended.stdout.strip()
    eventually(lambda: (run := repo.get_run(run_hash)) and run.props.get("active") is False)
    assert (ended.returncode, repo.get_run(run_hash).props["outcome"]) == (1, None)


def test_a_run_that_is_dropped_has_no_outcome(shared_server):
    run = Run(repo=shared_server.url, capture_terminal_logs=False)
    run.track(1.0, name="m")
    run_hash = run.hash
    del run
    repo = Repo(shared_server.url)
    eventually(lambda: (run := repo.get_run(run_hash)) and run.props.get("active") is False)
    assert repo.get_run(run_hash).props["outcome"] is None


def test_a_query_that_cannot_be_parsed(shared_server):
    with pytest.raises(ValueError, match="query"):
        Repo(shared_server.url).query_runs("run.")


def runs_of(experiment, url, count):
    """Stores runs, and returns the query that finds them, and their hashes, newest first."""
    hashes = []
    for _ in range(count):
        with Run(repo=url, experiment=experiment, capture_terminal_logs=False) as run:
            hashes.insert(0, run.hash)
    query = f"run.experiment == '{experiment}'"
    eventually(lambda: len(Repo(url).query_runs(query)) == count)
    return query, hashes


def hashes_of(page):
    return [run["hash"] for run in page]


@pytest.mark.parametrize("change", ["archived", "deleted"])
def test_pages_continue_after_a_run_that_is_gone(shared_server, change):
    query, hashes = runs_of(change, shared_server.url, 5)
    repo = Repo(shared_server.url)
    assert hashes_of(next(repo.query_runs(query, True, hashes[2], 1))) == [hashes[3]]
    pages = []
    for page in repo.query_runs(query, paginated=True, limit=2):
        pages.append(hashes_of(page))
        last = pages[-1][-1]
        if change == "archived":
            HttpTransport(shared_server.url).update_run(last, archived=True)
        else:
            assert repo.delete_run(last)
    assert pages == [hashes[:2], hashes[2:4], hashes[4:]]


class WithoutCursors(BaseHTTPRequestHandler):
    """A proxy that withholds cursors, like a server that does not know them."""

    def do_GET(self):
        path = re.sub("&cursor=[^&]*", "", self.path)
        with urllib.request.urlopen(self.server.target + path) as answer:
            content = answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def test_pages_of_a_server_without_cursors_continue_after_a_run(shared_server):
    query, hashes = runs_of("without cursors", shared_server.url, 4)
    with ThreadingHTTPServer(("127.0.0.1", 0), WithoutCursors) as proxy:
        proxy.target = shared_server.url
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        repo = Repo(f"http://127.0.0.1:{proxy.server_port}")
        pages = list(map(hashes_of, repo.query_runs(query, paginated=True, limit=2)))
        proxy.shutdown()
        thread.join()
    assert pages == [hashes[:2], hashes[2:]]


def test_queries_accept_the_report_mode_of_aim(shared_server):
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        run.track(1.0, name="m")
    repo = Repo(shared_server.url)
    query = f"run.hash == '{run.hash}'"
    assert [found["hash"] for found in repo.query_runs(query, report_mode=0)] == [run.hash]
    assert [found["hash"] for found in repo.query_metrics(query, report_mode=1)] == [run.hash]
    for kind in ("images", "audios", "figure_objects", "distributions", "texts"):
        assert getattr(repo, f"query_{kind}")(query, report_mode=None) == []


def test_a_server_that_is_killed_costs_nothing(own_server):
    run = Run(repo=own_server.url, capture_terminal_logs=False)
    for step in range(1000):
        run.track(step, name="m", step=step)
    own_server.stop(signal.SIGKILL)
    for step in range(1000, 2000):
        run.track(step, name="m", step=step)
    assert not run.flush(0.5)
    assert run.health.pending > 0
    own_server.start()
    assert run.flush(30)
    run.close()
    series = run.series("m")
    assert series.steps.tolist() == list(range(2000))
    assert series.values.tolist() == [float(step) for step in range(2000)]


def test_a_script_that_is_killed_loses_nothing(own_server):
    program = """
import os, signal, sys
from matyan_client import Run
run = Run(repo=sys.argv[1], capture_terminal_logs=False)
print(run.hash)
for step in range(5000):
    run.track(step, name="m", step=step)
print("tracked", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    finished = subprocess.run(
        [sys.executable, "-c", program, own_server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    run_hash, tracked = finished.stdout.split()
    assert tracked == "tracked"
    assert cli.main(["sync"]) == 0
    reader = Run(run_hash, repo=own_server.url, read_only=True)
    eventually(lambda: len(reader.metrics()) == 1 and len(reader.series("m")) == 5000)
    assert reader.series("m").steps.tolist() == list(range(5000))


def test_an_offline_run_is_sent_by_sync(own_server, capsys):
    program = """
import sys
from matyan_client import Run
with Run(repo=sys.argv[1], offline=True, capture_terminal_logs=False) as run:
    run.track(1.5, name="m")
print(run.hash)
"""
    command = [sys.executable, "-c", program, own_server.url]
    run_hash = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    reader = Run(run_hash, repo=own_server.url, read_only=True)
    with pytest.raises(errors.RunNotFoundError):
        reader.metrics()
    assert cli.main(["sync", "--json"]) == 0
    assert '"spools": 1, "finished": 1' in capsys.readouterr().out
    eventually(lambda: Repo(own_server.url).run_exists(run_hash) and reader.metrics())
    assert reader.series("m").values.tolist() == [1.5]


def test_status(shared_server, capsys):
    urls = ["--backend-url", shared_server.url, "--frontier-url", shared_server.gateway]
    assert cli.main(["status", *urls]) == 0
    assert capsys.readouterr().out.count(" OK ") == 2
