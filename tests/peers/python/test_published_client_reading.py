"""Every method of the published client that reads: the methods of `Repo` and `Run`, and the HTTP calls they use."""

from __future__ import annotations

import uuid

import numpy
from conftest import eventually
from matyan_client import Audio, Distribution, Figure, Image, Repo, Text
from test_published_client import finished, http, open_run, stored  # noqa: F401  (fixtures)


def test_every_reading_method_of_the_client(server, http, open_run, tmp_path):
    """Compares the results of all methods of `Repo`, and of the reading methods of `Run`, with what was logged."""
    word = "w" + uuid.uuid4().hex[:12]
    runs = [open_run(experiment=f"e-{word}") for _ in range(3)]
    (tmp_path / "one.txt").write_text("one")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "two.bin").write_bytes(b"\x00two")
    for number, run in enumerate(runs):
        run.name = f"{word} {number}"
        run.description = "described"
        run.set("hparams", {"number": number, "word": word})
        run.add_tag(f"t-{word}")
        for step in range(10):
            run.track(float(step * (number + 1)), name="loss", step=step, context={"subset": word})
        run.track(Text(f"text {number}"), name="texts", step=0)
        run.track(Image(numpy.full((2, 2, 3), number, numpy.uint8)), name="images", step=0)
        run.track(Audio(numpy.zeros(100), rate=8000, format_="wav"), name="audios", step=0)
        run.track(Figure({"data": [], "layout": {}}), name="figures", step=0)
        run.track(Distribution([1.0, 2.0, 3.0], bin_count=4), name="distributions", step=0)
    runs[0].log_artifact(str(tmp_path / "one.txt"))
    runs[0].log_artifacts(str(tmp_path / "folder"), name="folder")
    for run in runs[:2]:
        run.close()
        finished(http, run.hash)
    last = runs[2]
    eventually(lambda: stored(server, last.hash).get_metric("loss", {"subset": word}), "the last run is applied")
    ids = [run.hash for run in runs]
    own = f"run.hparams.word == '{word}'"

    repo = Repo.from_path(server.query)
    assert repo.is_remote_repo and Repo.is_remote_path(server.query) and not Repo.is_remote_path("/tmp")
    assert repr(repo) == f"Repo(url={server.query!r})"
    assert repo.available_sequence_types() == ["metric", "images", "figures", "texts", "audios", "distributions"]
    assert repo.run_exists(ids[0]) and not repo.run_exists("no such run") and repo.get_run("no such run") is None
    listed = repo.list_all_runs()
    assert [one for one in listed if one in ids] == ids[::-1], "newest first"
    assert repo.total_runs_count() == len(listed)
    assert [one.hash for one in repo.iter_runs()] == listed
    active = repo.list_active_runs()
    assert ids[2] in active and not set(ids[:2]) & set(active)

    found = repo.query_runs(own)
    assert [one["hash"] for one in found] == ids[::-1]
    assert [one["params"]["hparams"]["number"] for one in found] == [2, 1, 0]
    assert found[0]["props"]["name"] == f"{word} 2" and found[0]["props"]["experiment"]["name"] == f"e-{word}"
    pages = list(repo.query_runs(own, paginated=True, limit=2))
    assert [[one["hash"] for one in page] for page in pages] == [[ids[2], ids[1]], [ids[0]]]
    assert [one["hash"] for one in repo.query_runs(own, offset=ids[1])] == [ids[0]]
    assert [one["hash"] for one in repo.query_runs(f"'t-{word}' in run.tags and run.hparams.number > 1")] == [ids[2]]
    assert repo.query_runs(f"run.experiment == 'e-{word}' and run.name == '{word} 1'")[0]["hash"] == ids[1]

    metrics = repo.query_metrics(f"metric.name == 'loss' and metric.context.subset == '{word}'")
    assert sorted(one["hash"] for one in metrics) == sorted(ids)
    for one in metrics:
        [trace] = one["traces"].values()
        values = numpy.frombuffer(trace["values"]["blob"], "<f8")
        assert list(values) == [float(step * (ids.index(one["hash"]) + 1)) for step in range(10)]
    for kind, query in (
        ("images", repo.query_images), ("audios", repo.query_audios), ("texts", repo.query_texts),
        ("figures", repo.query_figure_objects), ("distributions", repo.query_distributions),
    ):
        matching = query(f"{kind}.name == '{kind}' and {own}")
        assert sorted(one["hash"] for one in matching) == sorted(ids), kind
    [text] = repo.query_texts(f"texts.name == 'texts' and run.hparams.number == 1 and {own}")
    assert text["traces"][0]["values"][0][0]["data"] == "text 1"

    infos = repo.collect_sequence_info(("metric", "texts"))
    assert {trace["name"] for trace in infos[ids[0]]["metric"]} == {"loss"}
    assert [trace["name"] for trace in infos[ids[1]]["texts"]] == ["texts"]
    assert repo.collect_params_info()[ids[2]]["hparams"] == {"number": 2, "word": word}

    reader = repo.get_run(ids[0])
    assert reader.hash == ids[0] and reader["hparams.number"] == 0 and reader.get("no.such", "none") == "none"
    assert reader["hparams"] == {"number": 0, "word": word} and reader.tags == [f"t-{word}"]
    props = reader.props
    assert (props["name"], props["description"], props["active"]) == (f"{word} 0", "described", False)
    assert props["end_time"] >= props["creation_time"]
    [loss] = reader.metrics()
    assert (loss["name"], loss["context"], loss["last_value"]) == ("loss", {"subset": word}, 9.0)
    assert reader.get_metric("loss", {"subset": word}) == loss and reader.get_metric("loss") is None
    assert [(name, context, run.hash) for name, context, run in reader.iter_metrics_info()] == [
        ("loss", {"subset": word}, ids[0])
    ]
    everything = reader.collect_sequence_info()
    assert set(everything) == set(repo.available_sequence_types())
    assert set(reader.collect_sequence_info("texts")) == {"texts"}
    assert sorted(one["path"] for one in reader.artifacts) == ["folder/two.bin", "one.txt"]
    assert reader.get_artifact("one.txt") == b"one"
    reader.download_artifact("folder/two.bin", tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == b"\x00two"
    unpacked = reader.download_artifacts(tmp_path / "all")
    assert sorted(path.relative_to(tmp_path / "all").as_posix() for path in unpacked) == ["folder/two.bin", "one.txt"]
    assert (tmp_path / "all" / "one.txt").read_text() == "one"

    assert {tag["name"]: tag["run_count"] for tag in http.list_tags()}[f"t-{word}"] == 3
    experiment = next(one for one in http.list_experiments() if one["name"] == f"e-{word}")
    assert experiment["run_count"] == 3
    assert http.create_tag(f"new-{word}", color="#123456")["status"] == "OK"
    assert http.create_experiment(f"new-{word}")["status"] == "OK"
    assert http.get_project_info()["name"] == "My project"
    [points] = http.get_run_metric_batch(ids[1], [{"name": "loss", "context": {"subset": word}}])
    assert points["values"] == [float(2 * step) for step in range(10)]

    assert repo.delete_experiment(experiment["id"]) and not repo.delete_experiment(experiment["id"])
    assert repo.query_runs(f"run.experiment == 'e-{word}'") == []
    assert reader.props["experiment"] == {"id": None, "name": None, "description": None}
    assert repo.delete_run(ids[0]) and not repo.run_exists(ids[0])
    assert repo.delete_runs([ids[1], "no such run"]) == (False, ["no such run"])
    assert [one["hash"] for one in repo.query_runs(own)] == [ids[2]]
    repo.close()
