"""The published client needs nothing but the URL of a project to write to it and to read from it."""

from __future__ import annotations

from types import SimpleNamespace

import httpx
import pytest
from conftest import Server
from matyan_client import Repo, Run
from matyan_client.transport.http import HttpTransport
from test_published_client import finished, http, open_run, stored  # noqa: F401  (fixtures)

# In a project, all of it has to work as in the default one.
from test_published_client_reading import test_every_reading_method_of_the_client  # noqa: F401

PROJECT = "speech-models"


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server")).start()
    yield running
    assert running.stop() == 0, running.said()


@pytest.fixture(scope="module")
def server(default):
    """The URLs of a project, in place of the URLs of a server."""
    new = {"name": PROJECT, "display_name": "My project"}
    made = httpx.post(f"{default.query}/api/v1/rest/projects/", json=new, timeout=60)
    made.raise_for_status()
    return SimpleNamespace(query=f"{default.query}/p/{PROJECT}", ingest=f"{default.ingest}/p/{PROJECT}")


def log(run, word, artifact):
    artifact.write_text(word)
    run.name = word
    run["word"] = word
    run.add_tag(word)
    for step in range(3):
        run.track(step + 0.5, name="loss", step=step, context={"of": word})
    run.log_artifact(str(artifact), "note.txt")
    run.close()


def shown(server, run_hash):
    """The parts of a run that the client reads."""
    run = stored(server, run_hash)
    repo = Repo(server.query)
    [found] = repo.query_runs(f"run.hash == '{run_hash}'")
    return {
        "name": found["props"]["name"],
        "word": run["word"],
        "tags": found["props"]["tags"][0]["name"],
        "experiment": found["props"]["experiment"]["name"],
        "loss": [trace["context"] for trace in run.collect_sequence_info("metric")["metric"]],
        "artifact": run.get_artifact("note.txt"),
    }


def expected(word):
    content = word.encode()
    context = {"of": word}
    return {"name": word, "word": word, "tags": word, "experiment": word, "loss": [context], "artifact": content}


def test_a_run_of_a_project_is_in_no_other(default, server, open_run, http, tmp_path):
    ours = open_run(experiment="ours")
    log(ours, "ours", tmp_path / "ours.txt")
    finished(http, ours.hash)
    assert shown(server, ours.hash) == expected("ours")
    assert ours.hash in Repo(server.query).list_all_runs()

    outside = Repo(default.query)
    assert outside.list_all_runs() == [] and outside.query_runs("'ours' in run.tags") == []
    assert not outside.run_exists(ours.hash) and outside.get_run(ours.hash) is None
    everything = HttpTransport(default.query)
    with pytest.raises(httpx.HTTPStatusError) as refused:
        everything.get_run_info(ours.hash)
    assert refused.value.response.status_code == 404
    assert everything.list_tags() == [] and everything.list_experiments() == []

    # The same id in the default project is another run.
    theirs = Run(
        ours.hash, repo=default.query, frontier_url=default.ingest, experiment="theirs", capture_terminal_logs=False
    )
    log(theirs, "theirs", tmp_path / "theirs.txt")
    finished(everything, ours.hash)
    assert shown(default, ours.hash) == expected("theirs")
    assert shown(server, ours.hash) == expected("ours")
    assert outside.delete_run(ours.hash)
    assert shown(server, ours.hash) == expected("ours")
    everything.close()
