"""Exports, read by pyarrow, polars and pandas, equal what was logged, bit by bit."""

import datetime
import itertools
import json
import math
import os
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pandas
import polars
import pyarrow
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest
from peers import peers_module

from matyan_client import Distribution, Run, Text

ODD = [0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 2.2250738585072014e-308 / 3]
ODD += [1e308, -1.7976931348623157e308, 0.1 + 0.2, 1e-7, 2**63 - 1, -(2**63), 2**53 + 1, True]

CONTEXTS = [{}, {"subset": "val"}, {"a": {"b": [1, {"c": 'x,"y"'}]}, "z": -0.0}, {"ключ": "値\n"}]


def bits(value):
    return struct.pack("<d", float(value))


def log(run):
    """Logs values of all kinds, and returns the points by name and context, without their times."""
    logged = {}
    for name, context in itertools.product(["loss", "größe, 損失", ' "quoted" '], CONTEXTS):
        points = {}
        # Steps out of order, with gaps, and few epochs.
        for at, value in reversed(list(enumerate(ODD))):
            step = at * at * 1_000_003
            epoch = at if at % 4 == 1 else None
            run.track(value, name=name, step=step, epoch=epoch, context=context)
            points[step] = (epoch, bits(value))
        logged[name, json.dumps(context, sort_keys=True)] = points
    run.track(1.0, name="largest step", step=2**53)
    logged["largest step", "{}"] = {2**53: (None, bits(1.0))}
    return logged


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def microseconds(moment):
    """Returns a time as it was logged. Readers of CSV may leave it a text."""
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return (moment - EPOCH) // datetime.timedelta(microseconds=1)


def canonical(context):
    return json.dumps(json.loads(context), sort_keys=True)


def points(rows, run):
    """Groups rows of an export of one run like the points that were logged, and their times."""
    found = {}
    times = {}
    last = {}
    for run_hash, experiment, name, context, step, epoch, moment, value in rows:
        assert (run_hash, experiment) == (run.hash, "exp, 1")
        key = (name, canonical(context))
        assert last.get(key, -1) < step, "steps ascend"
        last[key] = step
        found.setdefault(key, {})[step] = (epoch, bits(value))
        times[(*key, step)] = microseconds(moment)
    return found, times


def times_of(run, logged):
    """Returns the times of all points as the client reads them, by series and step."""
    found = {}
    for name, context in logged:
        columns = run.series(name, json.loads(context))
        for step, moment in zip(columns.steps, columns.times_us, strict=True):
            found[name, context, step] = moment
    return found


COLUMNS = ["run", "experiment", "name", "context", "step", "epoch", "time"]
POINT_COLUMNS = [*COLUMNS, "value"]


def rows_of_arrow(table, columns):
    return zip(*(table[column].to_pylist() for column in columns), strict=True)


def rows_of_pandas(frame, columns):
    epochs = [None if pandas.isna(epoch) else int(epoch) for epoch in frame["epoch"]]
    return zip(*(epochs if one == "epoch" else frame[one] for one in columns), strict=True)


def read_arrow(path, columns):
    with pyarrow.ipc.open_stream(path) as reader:
        table = reader.read_all()
    yield rows_of_arrow(table, columns)
    yield rows_of_pandas(table.to_pandas(), columns)
    yield polars.read_ipc_stream(path).select(columns).iter_rows()


def read_parquet(path, columns):
    yield rows_of_arrow(pyarrow.parquet.read_table(path), columns)
    yield rows_of_pandas(pandas.read_parquet(path), columns)
    yield polars.read_parquet(path).select(columns).iter_rows()


def read_csv(path, columns):
    options = pyarrow.csv.ConvertOptions(
        null_values=[""], column_types=dict.fromkeys(["value", "low", "high"], pyarrow.float64())
    )
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = pyarrow.csv.read_csv(path, convert_options=options, parse_options=parse)
    yield rows_of_arrow(table, columns)
    missing = {"epoch": [""], "value": ["NaN"]}
    frame = pandas.read_csv(
        path,
        dtype={"epoch": "Int64"},
        keep_default_na=False,
        na_values=missing,
    )
    yield rows_of_pandas(frame, columns)
    yield polars.read_csv(path, infer_schema_length=None).select(columns).iter_rows()


READERS = {"arrow": read_arrow, "parquet": read_parquet, "csv": read_csv}


def export(server, *words, check=True):
    command = [os.environ["MATYAN_BIN"], "export", *words, "--server", server.url]
    return subprocess.run(command, check=check, capture_output=True, timeout=300)


def get(server, table, **parameters):
    query = urllib.parse.urlencode(parameters, doseq=True)
    with urllib.request.urlopen(
        f"{server.url}/api/v1/rest/export/{table}/?{query}", timeout=300
    ) as answer:
        return answer.headers, answer.read()


@pytest.mark.parametrize("file_format", READERS)
def test_points_equal_what_was_logged(shared_server, tmp_path, file_format):
    with Run(repo=shared_server.url, experiment="exp, 1", capture_terminal_logs=False) as run:
        logged = log(run)
    path = tmp_path / f"points.{file_format}"
    export(shared_server, "metrics", "--runs", run.hash, "--output", str(path))
    times = times_of(run, logged)
    assert len(times) == sum(map(len, logged.values()))
    for rows in READERS[file_format](path, POINT_COLUMNS):
        assert points(rows, run) == (logged, times)
    headers, content = get(shared_server, "metrics", format=file_format, run=run.hash)
    assert content == path.read_bytes()
    extension = "arrows" if file_format == "arrow" else file_format
    assert headers["Content-Disposition"] == f'attachment; filename="metrics.{extension}"'


TEXTS = ["", " ", "größe, 損失", '"quoted", \n and \r\n', "x" * 100_000, "NaN", "1e3"]


@pytest.mark.parametrize("file_format", READERS)
def test_objects_equal_what_was_logged(shared_server, tmp_path, file_format):
    begin = time.time_ns() // 1000
    bounds = [(5e-324, 0.1 + 0.2), (-0.0, 1.7976931348623157e308), (-1e-7, 2.0**53)]
    weights = [[0.1 + 0.2, 5e-324, 3], [2**53, 0.0], [1e308]]
    with Run(repo=shared_server.url, experiment="exp, 1", capture_terminal_logs=False) as run:
        for step, text in enumerate(TEXTS):
            epoch = 7 if step % 2 else None
            run.track(Text(text), name="größe, 損失", step=step, epoch=epoch, context=CONTEXTS[2])
        for step, (bound, heights) in enumerate(zip(bounds, weights, strict=True)):
            run.track(Distribution.from_histogram(heights, bound), name="d", step=step)
    end = time.time_ns() // 1000
    path = tmp_path / f"texts.{file_format}"
    export(shared_server, "objects", "texts", "--runs", run.hash, "--output", str(path))
    context = canonical(json.dumps(CONTEXTS[2]))
    for rows in READERS[file_format](path, [*COLUMNS, "index", "text"]):
        found = [(*row[:3], canonical(row[3]), *row[4:6], *row[7:]) for row in rows]
        assert found == [
            (run.hash, "exp, 1", "größe, 損失", context, step, 7 if step % 2 else None, 0, text)
            for step, text in enumerate(TEXTS)
        ]
    times = [[microseconds(row[6]) for row in rows] for rows in READERS[file_format](path, COLUMNS)]
    assert all(begin <= moment <= end for moment in times[0])
    assert times.count(times[0]) == len(times), times

    path = tmp_path / f"distributions.{file_format}"
    export(shared_server, "objects", "distributions", "--runs", run.hash, "--output", str(path))
    for rows in READERS[file_format](path, [*COLUMNS, "low", "high", "weights"]):
        found = [
            (row[4], bits(row[7]), bits(row[8]), [bits(one) for one in json.loads(row[9])])
            for row in rows
        ]
        assert found == [
            (step, bits(low), bits(high), [bits(one) for one in heights])
            for step, ((low, high), heights) in enumerate(zip(bounds, weights, strict=True))
        ]


def test_runs_equal_what_was_logged(shared_server, tmp_path):
    with Run(
        repo=shared_server.url, experiment="exports of runs", capture_terminal_logs=False
    ) as one:
        one["hparams"] = {"lr": 5e-324, "n": 2**63 - 1, "on": True, "name": "", "a.b": 1}
        one["hparams", "list"] = [1, math.inf]
        one.track(-0.0, name="loss", step=1, context={"subset": "val"})
        one.add_tag("tag, 1")
    with Run(
        repo=shared_server.url, experiment="exports of runs", capture_terminal_logs=False
    ) as two:
        two["hparams"] = {"lr": 3, "name": "x", "big": 2**80}
    words = ["runs", "--query", "run.experiment == 'exports of runs'", "--params", "hparams"]
    words += ["--metric", 'loss={"subset":"val"}']
    for file_format in READERS:
        path = tmp_path / f"runs.{file_format}"
        export(shared_server, *words, "--output", str(path))
    with pyarrow.ipc.open_stream(tmp_path / "runs.arrow") as reader:
        arrow = reader.read_all()
    parquet = pyarrow.parquet.read_table(tmp_path / "runs.parquet")
    assert arrow.schema.names == parquet.schema.names
    for table in (arrow, parquet):
        newest, oldest = table.to_pylist()
        assert (newest["run"], oldest["run"], oldest["tags"]) == (two.hash, one.hash, ["tag, 1"])
        assert bits(oldest["params.hparams.lr"]) == bits(5e-324)
        assert bits(newest["params.hparams.lr"]) == bits(3)
        assert (oldest["params.hparams.n"], newest["params.hparams.n"]) == (2**63 - 1, None)
        assert (oldest["params.hparams.name"], newest["params.hparams.name"]) == ("", "x")
        assert (oldest["params.hparams.on"], newest["params.hparams.on"]) == (True, None)
        assert (oldest["params.hparams.list"], newest["params.hparams.big"]) == (
            "[1,Infinity]",
            str(2**80),
        )
        assert oldest['params.hparams["a.b"]'] == 1
        assert bits(oldest['metrics.loss {"subset":"val"}']) == bits(-0.0)
    frame = pandas.read_csv(tmp_path / "runs.csv")
    assert frame["params.hparams.lr"].map(bits).tolist() == [bits(3), bits(5e-324)]
    assert json.loads(frame["tags"][1]) == ["tag, 1"]
    frame = polars.read_csv(tmp_path / "runs.csv", infer_schema_length=None)
    assert [bits(value) for value in frame["params.hparams.lr"]] == [bits(3), bits(5e-324)]
    frame = polars.read_parquet(tmp_path / "runs.parquet")
    assert frame["params.hparams.n"].to_list() == [None, 2**63 - 1]
    frame = polars.read_ipc_stream(tmp_path / "runs.arrow")
    assert frame["params.hparams.name"].to_list() == ["x", ""]


def test_files_are_replaced_only_on_demand_and_never_left_partial(shared_server, tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("earlier")
    refused = export(shared_server, "metrics", "--output", str(path), check=False)
    assert refused.returncode == 1
    assert b"--force" in refused.stderr
    wrong = export(
        shared_server, "metrics", "--query", "metric =", "-o", str(path), "--force", check=False
    )
    assert wrong.returncode == 1
    assert path.read_text() == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["points.csv"]
    done = export(shared_server, "metrics", "--names", "none", "-o", str(path), "--force", "--json")
    assert json.loads(done.stdout)["rows"] == 0
    assert path.read_text() == "run,experiment,name,context,step,epoch,time,value\n"
    to_output = export(shared_server, "metrics", "--names", "none", "--format", "csv")
    assert to_output.stdout == path.read_bytes()
    with pytest.raises(urllib.error.HTTPError) as error:
        get(shared_server, "metrics", format="csv", q="metric =")
    assert (error.value.code, "message" in json.load(error.value)) == (400, True)


POINTS = int(os.environ.get("MATYAN_EXPORT_POINTS", "200000"))


def test_memory_of_the_server_does_not_grow_with_the_file(own_server, tmp_path):
    with Run(repo=own_server.url, capture_terminal_logs=False) as run:
        for step in range(POINTS // 4):
            for name in "abcd":
                run.track(step * 0.1, name=name, step=step)
    # Unlike the program that exports, this one sees what it has stored.
    assert len(run.series("d").values) == POINTS // 4
    memory = peers_module("memory")
    sizes = {}
    for file_format in READERS:
        memory.reset_peak(own_server.process)
        before = memory.current(own_server.process)
        path = tmp_path / f"points.{file_format}"
        done = export(own_server, "metrics", "--runs", run.hash, "--output", str(path), "--json")
        assert json.loads(done.stdout)["rows"] == POINTS // 4 * 4
        sizes[file_format] = memory.peak(own_server.process) - before
    assert max(sizes.values()) < 96 << 20, sizes
    assert pyarrow.parquet.read_metadata(tmp_path / "points.parquet").num_rows == POINTS // 4 * 4
