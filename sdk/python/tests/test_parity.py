"""The same scripts under this package and under the published client 0.3.0, with equal results.

Each script is run by both, against the same server, and prints what it sees as JSON. The published
client is in the interpreter `MATYAN_PUBLISHED_PYTHON`.
"""

import json
import os
import subprocess
import sys

import pytest

PRELUDE = """
import json, os, sys, time
from matyan_client import Audio, Distribution, Figure, Image, Repo, Run, Text

URL = os.environ["TEST_URL"]

def reread(run_hash, check=lambda run: True):
    end = time.monotonic() + 20
    while True:
        run = Repo(URL).get_run(run_hash)
        if run is not None and check(run) or time.monotonic() > end:
            return run
        time.sleep(0.05)

def until(check):
    end = time.monotonic() + 20
    while not check() and time.monotonic() < end:
        time.sleep(0.05)

def error(call, *arguments, **keywords):
    try:
        return call(*arguments, **keywords)
    except Exception as error:
        return [
            kind.__name__ for kind in (TypeError, ValueError, KeyError, RuntimeError, OSError)
            if isinstance(error, kind)
        ]

def show(**values):
    sys.__stdout__.write(json.dumps(values, default=str, sort_keys=True) + "\\n")
"""

SCRIPTS = {
    "documented example": """
run = Run(repo=URL, experiment="parity")
run["hparams"] = {"lr": 0.01, "batch_size": 32}
for step in range(20):
    run.track(1.0 / (step + 1), name="loss", step=step, context={"subset": "train"})
run.close()
stored = reread(run.hash, lambda run: run.metrics() and run.props["active"] is False)
show(params=stored["hparams"], lr=stored["hparams.lr"], experiment=stored.props["experiment"]["name"],
     metrics=stored.metrics(), hash=len(run.hash))
""",
    "params": """
run = Run(repo=URL)
run["a.b"] = 1
run["c"] = {"d": [1, 2, {"e": None}], "f": "text", "g": True, "h": (1, 2)}
run.set("i", {"j": 1})
run["i"] = {"k": 2}
show(own=run["a.b"], default=run.get("missing", 7), missing=error(lambda: run["missing"]))
run.close()
stored = reread(run.hash, lambda run: "k" in run.get("i", {}))
show(a=stored["a"], c=stored["c"], i=stored["i"], deep=stored["c.f"], missing=stored.get("c.x", 1))
""",
    "steps": """
run = Run(repo=URL)
for value in range(5):
    run.track(value, name="auto")
    run.track(value, name="auto", context={"subset": "val"})
run.track(99, name="auto", step=2)
run.track({"x": 1, "y": 2.5}, step=3, epoch=1, context={"k": [1, {"z": 2}]})
run.track({}, step=3)
run.track("0.5", name="text")
run.track(True, name="flag")
run.close()
reread(run.hash, lambda run: len(run.metrics()) == 6 and not run.props["active"])
found = Repo(URL).query_metrics(f"run.hash == '{run.hash}'")[0]["traces"].values()
import struct
def numbers(array):
    return list(struct.unpack(f"<{len(array['blob']) // 8}d", array["blob"]))
show(traces=sorted(json.dumps(
    [trace["name"], trace.get("context", {}), numbers(trace["iters"]), numbers(trace["values"])],
    sort_keys=True) for trace in found))
""",
    "bad arguments": """
run = Run(repo=URL)
show(nameless=error(run.track, 1.0), convert=error(run.track, "text", name="a"),
     dict_with_name=error(run.track, {"x": 1}, name="a"), nothing=error(run.track, None, name="a"),
     artifact=error(run.log_artifact, "/missing/file"))
run.close()
show(closed=error(run.track, 1.0, name="a"), again=run.close(), active=run.active)
reader = Run(run.hash, repo=URL, read_only=True)
show(read_only=error(reader.track, 1.0, name="a"), tag=reader.add_tag("x"), log=reader.log_info("x"))
""",
    "properties": """
run = Run(repo=URL, experiment="first")
show(name=run.name, description=run.description, archived=run.archived, experiment=run.experiment,
     end=run.end_time, active=run.active, kind=type(run.creation_time).__name__)
run.name, run.description, run.experiment = "name", "about", "second"
run.add_tag("one"); run.add_tag("two"); run.remove_tag("one")
show(name=run.name, description=run.description, experiment=run.experiment)
run.close()
stored = reread(run.hash, lambda run: run.props.get("name") == "name" and run.tags == ["two"])
props = stored.props
show(name=props["name"], description=props["description"], experiment=props["experiment"]["name"],
     tags=stored.tags, archived=props["archived"], ended=run.duration > 0)
""",
    "objects": """
import io, wave
run = Run(repo=URL)
png = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082")
run.track(Text("hello"), name="text", step=0)
run.track(Distribution([1, 2, 3, 4], bin_count=4), name="distribution", step=1)
run.track(Image(png, caption="dot"), name="image", step=2, context={"subset": "val"})
run.track(Figure({"data": [], "layout": {}}), name="figure", step=3)
run.close()
reread(run.hash, lambda run: set(run.collect_sequence_info(
    ("texts", "images", "figures", "distributions"))) and not run.props["active"])
repo, query = Repo(URL), f"run.hash == '{run.hash}'"
until(lambda: all(search(query) for search in (repo.query_texts, repo.query_images,
    repo.query_figure_objects, repo.query_distributions)))
texts = repo.query_texts(query)[0]["traces"][0]
images = repo.query_images(query)[0]["traces"][0]
image = images["values"][0][0]
show(text=[texts["name"], texts["values"][0][0]["data"]], image=[
    images["name"], images["context"], image["caption"], image["format"]],
    content=list(repo._http.get_blob_batch("images", [image["blob_uri"]]).values())[0] == png,
    figures=repo.query_figure_objects(query)[0]["traces"][0]["name"],
    distributions=repo.query_distributions(query)[0]["traces"][0]["values"][0]["bin_count"])
""",
    "artifacts": """
import pathlib, tempfile
directory = pathlib.Path(tempfile.mkdtemp())
(directory / "sub").mkdir()
(directory / "config.yaml").write_text("lr: 1")
(directory / "sub" / "model.bin").write_bytes(bytes(range(256)) * 1000)
run = Run(repo=URL)
run.log_artifact(str(directory / "config.yaml"), name="run-config")
run.log_artifact(str(directory / "config.yaml"))
run.log_artifacts(str(directory), name="ckpts")
run.close()
stored = reread(run.hash, lambda run: len(run.artifacts) == 4)
out = pathlib.Path(tempfile.mkdtemp())
paths = stored.download_artifacts(out)
stored.download_artifact("run-config", out / "one")
show(paths=sorted(item["path"] for item in stored.artifacts), content=stored.get_artifact("run-config").decode(),
     unpacked=sorted(str(path.relative_to(out)) for path in paths), one=(out / "one").read_text(),
     large=len(stored.get_artifact("ckpts/sub/model.bin")))
""",
    "logs": """
run = Run(repo=URL)
print("first line")
print("\\r10%\\r20%", end="")
print("\\r100%")
print("to the error stream", file=sys.stderr)
sys.stdout.write("unfinished")
run.log_info("message", key=1)
run.log_warning("careful")
run.close()
stored = reread(run.hash, lambda run: not run.props["active"])
http = stored._http
until(lambda: http.get_run_log_records(run.hash)[0] == 2 and len(http.get_run_logs(run.hash)) > 3)
count, records = http.get_run_log_records(run.hash)
show(lines=[list(line) for line in http.get_run_logs(run.hash) if "matyan_client" not in line[1]
            and " | " not in line[1]],
     count=count, records=[[record["message"], record["log_level"]] for _, record in records])
""",
    "repo": """
mark = os.urandom(4).hex()
hashes = []
for number in range(3):
    run = Run(repo=URL, experiment="repo " + mark)
    run["number"] = number
    run["mark"] = mark
    run.track(number, name="m")
    run.close()
    hashes.append(run.hash)
for run_hash in hashes:
    reread(run_hash, lambda run: run.get("mark") == mark and not run.props["active"] and run.metrics())
repo = Repo(URL)
query = f"run.mark == '{mark}'"
found = repo.query_runs(query)
pages = list(repo.query_runs(query, paginated=True, limit=2))
show(order=[hashes.index(run["hash"]) for run in found], keys=sorted(found[0]),
     pages=[[hashes.index(run["hash"]) for run in page] for page in pages],
     traces=found[0]["traces"], exists=repo.run_exists(hashes[0]), unknown=repo.get_run("unknown"),
     listed=set(hashes) <= set(repo.list_all_runs()), active=set(hashes) & set(repo.list_active_runs()) == set(),
     types=repo.available_sequence_types()[:6], remote=[repo.is_remote_repo, Repo.is_remote_path(URL)],
     params=repo.collect_params_info()[hashes[1]]["number"], runs=repr(repo) == f"Repo(url='{URL}')",
     info=repo.collect_sequence_info()[hashes[1]]["metric"])
show(deleted=repo.delete_runs(hashes[:2]))
""",
    "resumed": """
run = Run(repo=URL, experiment="kept")
run.name = "kept"
run.track(1.0, name="m", step=0)
run.close()
reread(run.hash, lambda run: run.metrics() and not run.props["active"])
again = Run(run.hash, repo=URL, force_resume=True)
again.track(2.0, name="m", step=1)
again.close()
stored = reread(run.hash, lambda run: run.metrics()[0].get("last_value", run.metrics()[0].get("last")) == 2.0)
show(name=stored.props["name"], experiment=stored.props["experiment"]["name"], metrics=stored.metrics())
""",
}


def results(python, script, server, spool):
    environment = {
        **os.environ,
        "TEST_URL": server.url,
        "MATYAN_BACKEND_URL": server.url,
        "MATYAN_FRONTIER_URL": server.gateway,
        "MATYAN_SPOOL_DIR": str(spool),
        "MATYAN_QUIET": "1",
    }
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)
    process = subprocess.run(
        [python, "-c", PRELUDE + script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]


def published_python():
    """Returns the interpreter with the published client."""
    if "MATYAN_PUBLISHED_PYTHON" not in os.environ:
        pytest.skip(
            "MATYAN_PUBLISHED_PYTHON does not name an interpreter with the published client"
        )
    return os.environ["MATYAN_PUBLISHED_PYTHON"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_the_same_results(name, shared_server, spool):
    ours = results(sys.executable, SCRIPTS[name], shared_server, spool)
    assert ours == results(published_python(), SCRIPTS[name], shared_server, spool)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_the_same_results_over_kafka(name, shared_server, kafka_server, spool):
    embedded = results(sys.executable, SCRIPTS[name], shared_server, spool)
    assert embedded == results(sys.executable, SCRIPTS[name], kafka_server, spool)
    assert embedded == results(published_python(), SCRIPTS[name], kafka_server, spool)
