"""Reading of what an import has stored, and the command itself."""

import json
from pathlib import Path

from matyan_client import Repo, cli

FIXTURES = Path(__file__).parent / "fixtures"


COUNTS = ("points", "replaced", "objects", "artifacts", "lines", "params")


def import_source(capsys, kind, source, server, *options):
    """Runs the command, and returns its report by label of the run.

    Before that it is run without storing anything, which has to count the same.
    """
    counted = run_import(capsys, kind, source, server, *options, "--dry-run")
    imported = run_import(capsys, kind, source, server, *options)
    assert set(counted) == set(imported)
    for label, run in imported.items():
        if run["state"] == "imported":
            assert counted[label]["state"] == "counted"
            assert [counted[label][what] for what in COUNTS] == [run[what] for what in COUNTS]
    return imported


def run_import(capsys, kind, source, server, *options):
    """Runs the command as it is, and returns its report by label of the run."""
    status = cli.main(
        ["import", kind, str(source), "--repo", server.url, "--json", *options],
    )
    report = json.loads(capsys.readouterr().out)
    assert status == (0 if report["complete"] else 1)
    return {run["label"]: run for run in report["runs"]}


def points(run):
    """Returns all points of all metrics: step, value as text so that NaN is equal, and time."""
    return {
        (series.name, series.context_json): [
            [step, repr(value), time / 1e6]
            for step, value, time in zip(series.steps, series.values, series.times_us, strict=True)
        ]
        for series in run._http.series(run.hash, [])
    }


def last_of_each_step(found):
    """Returns points as a series stores them: the last point of each step."""
    return sorted({point[0]: point for point in found}.values())


def objects(server, run_hash, kind, *, with_attributes=False):
    """Returns the objects of a run by name of the series, as pairs of step and object.

    Files are returned as their content in hexadecimal digits, or with their attributes as well.
    """
    http = Repo(server.url).http
    found = http.search_sequence(
        kind, f"run.hash == '{run_hash}'", record_density=1000, index_density=100
    )
    stored = {}
    for trace in found[0]["traces"].values() if found else ():
        for at, value in trace["values"].items():
            members = [value] if kind in ("distributions", "figures") else value.values()
            for member in members:
                uri = member.get("blob_uri")
                content = member if uri is None else http.get_blob_batch(kind, [uri])[uri].hex()
                if with_attributes and uri is not None:
                    content = {**member, "blob_uri": content}
                stored.setdefault(trace["name"], []).append([trace["iters"][at], content])
    return {name: sorted(pairs, key=repr) for name, pairs in stored.items()}
