"""A server with access control: the token of a script, and where it is sent."""

import math
import os
import subprocess
import sys
import time
import warnings

import pytest
from test_cli import NOWHERE, left_run

from matyan_client import Repo, Run, Text, _core, _sync_command, cli
from matyan_client.config import SETTINGS
from matyan_client.errors import ServerError

UNKNOWN_TOKEN = "mtk_unknown"


def test_a_run_is_recorded_and_read_with_a_token(closed_server):
    server, token = closed_server
    with pytest.raises(ServerError, match="MATYAN_TOKEN"):
        list(Repo(server.url).iter_runs())
    with Run(
        repo=server.url, frontier_url=server.gateway, token=token, capture_terminal_logs=False
    ) as run:
        run.track(0.5, name="loss", step=1)
        assert run.flush(30)
    assert [found.hash for found in Repo(server.url).iter_runs()] == [run.hash]


def test_the_token_may_be_in_the_environment(closed_server, monkeypatch):
    server, token = closed_server
    monkeypatch.setenv("MATYAN_TOKEN", token)
    assert list(Repo(server.url).iter_runs()) == []


_SCRIPT = """
import sys

from matyan_client import Repo, Run

url, gateway = sys.argv[1:]
with Run(repo=url, frontier_url=gateway, capture_terminal_logs=False) as run:
    run.track(0.5, name="loss", step=1)
    assert run.flush(30)
print(run.hash in [found.hash for found in Repo(url).iter_runs()])
"""


def test_a_token_of_matyan_login_is_sent_to_its_server_and_its_gateway(
    closed_server, tmp_path, monkeypatch
):
    server, token = closed_server
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("MATYAN_BACKEND_URL", server.url)

    def matyan(*words, piped=""):
        command = [os.environ["MATYAN_BIN"], *words]
        subprocess.run(command, input=piped, text=True, check=True, capture_output=True)

    def script():
        command = [sys.executable, "-c", _SCRIPT, server.url, server.gateway]
        environment = {**os.environ, "MATYAN_QUIET": "0"}
        return subprocess.run(command, env=environment, text=True, check=False, capture_output=True)

    matyan("login", piped=token)
    done = script()
    assert done.stdout == "True\n", done.stderr
    matyan("logout")
    refused = script()
    assert refused.returncode != 0
    assert "MATYAN_TOKEN" in refused.stderr


def test_a_file_of_tokens_that_others_can_read_is_a_warning(tmp_path):
    file = tmp_path / "matyan" / "tokens.json"
    file.parent.mkdir()
    file.write_text('{"version": 1, "tokens": {"http://localhost:1": "mtk_secret"}}')
    file.chmod(0o644)
    command = [sys.executable, "-c", "from matyan_client import Run; Run(offline=True).close()"]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "MATYAN_QUIET": "0"}
    done = subprocess.run(command, env=environment, text=True, check=True, capture_output=True)
    assert "other users of this machine can read the tokens" in done.stderr
    assert "mtk_secret" not in done.stderr


@pytest.mark.parametrize("token", ["", "a b", "mtk_ä"])
def test_a_wrong_token_is_not_repeated(token):
    with pytest.raises(ValueError, match="`token`") as caught:
        Repo("http://localhost:1", token=token)
    assert token == "" or token not in str(caught.value)


def test_a_token_in_clear_is_a_warning(monkeypatch):
    monkeypatch.setenv("MATYAN_TOKEN", "mtk_secret")
    with pytest.warns(UserWarning, match="without TLS") as caught:
        Repo("http://tracker.example:53800")
    assert "secret" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Repo("https://tracker.example")
        Repo("http://localhost:53800")


def test_a_server_that_refuses_the_token_does_not_get_the_spools(
    closed_server, monkeypatch, capsys
):
    server, token = closed_server
    run = left_run(NOWHERE)
    assert cli.main(["sync", "--repo", server.url]) == 1
    assert f"{server.url} is not open to everyone" in capsys.readouterr().err
    assert [spool.gateway_url for spool in _core.spools()] == [NOWHERE]
    monkeypatch.setenv("MATYAN_TOKEN", UNKNOWN_TOKEN)
    assert cli.main(["sync", "--repo", server.url]) == 1
    shown = capsys.readouterr()
    assert f"{server.url} refuses the token: set MATYAN_TOKEN to a new one" in shown.err
    assert "sending" not in shown.err
    assert shown.out == "0 of 1 run sent (0 of 1 spool), 0 values stored\n"
    assert [spool.gateway_url for spool in _core.spools()] == [NOWHERE]
    assert cli.main(["sync", "--watch", "--repo", server.url]) == 1
    assert [spool.gateway_url for spool in _core.spools()] == [NOWHERE]
    # The token of a process for a server is the last one.
    monkeypatch.setenv("MATYAN_TOKEN", token)
    assert cli.main(["sync", run, "--repo", server.url]) == 0
    assert _core.spools() == []


def test_sync_names_a_refused_token_once_and_at_once(closed_server, monkeypatch, capsys):
    monkeypatch.setattr(_sync_command, "_UNREACHABLE_LIMIT", math.inf)
    server, token = closed_server
    left_run(server.url)
    left_run(server.url)
    monkeypatch.setattr(SETTINGS, "backend_url", NOWHERE)
    monkeypatch.setattr(SETTINGS, "frontier_url", NOWHERE)
    assert cli.main(["sync"]) == 1
    shown = capsys.readouterr().err
    assert f"{server.url} is not open to everyone: set MATYAN_TOKEN to a token and " in shown
    assert f"MATYAN_BACKEND_URL={server.url}, then run" in shown
    monkeypatch.setenv("MATYAN_TOKEN", token)
    assert cli.main(["sync"]) == 1
    shown = capsys.readouterr().err
    assert f"MATYAN_TOKEN was not sent to {server.url}" in shown
    assert f"set MATYAN_BACKEND_URL={server.url}, then run" in shown
    monkeypatch.setattr(SETTINGS, "backend_url", server.url)
    monkeypatch.setenv("MATYAN_BACKEND_URL", server.url)
    monkeypatch.setenv("MATYAN_TOKEN", UNKNOWN_TOKEN)
    assert cli.main(["sync"]) == 1
    shown = capsys.readouterr().err
    assert shown.count("refuses the token: set MATYAN_TOKEN to a new one") == 1
    assert "start the server" not in shown
    monkeypatch.setenv("MATYAN_TOKEN", token)
    assert cli.main(["sync"]) == 0


def test_runs_of_another_project_are_sent_only_if_that_is_wanted(shared_server, capsys):
    first = left_run(f"{NOWHERE}/p/vision")
    second = left_run(f"{NOWHERE}/p/vision")
    assert cli.main(["sync", "--repo", shared_server.url]) == 1
    shown = capsys.readouterr()
    assert "recorded for another project: the data of runs" in shown.err
    assert first in shown.err
    assert shown.out == "nothing to send\n"
    assert {spool.gateway_url for spool in _core.spools()} == {f"{NOWHERE}/p/vision"}
    assert cli.main(["sync", first, "--repo", shared_server.url]) == 0
    assert [spool.run_id for spool in _core.spools()] == [second]
    assert cli.main(["sync", "--other-projects", "--repo", shared_server.url]) == 0
    assert _core.spools() == []


@pytest.mark.parametrize("is_known", [False, True])
def test_the_hint_of_a_run_names_the_server_of_its_token(is_known, monkeypatch, capsys):
    monkeypatch.setattr(SETTINGS, "quiet", False)
    monkeypatch.setattr(SETTINGS, "backend_url", NOWHERE if is_known else "http://127.0.0.1:2")
    monkeypatch.setattr(SETTINGS, "frontier_url", "http://127.0.0.1:2")
    url = f"{NOWHERE}/p/speech"
    with Run(repo=url, offline=True, token=UNKNOWN_TOKEN, capture_terminal_logs=False) as run:
        run.track(1.0, name="m")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "not stored yet" in line]
    assert ("`MATYAN_SPOOL_DIR=" if is_known else f"`MATYAN_BACKEND_URL={url} ") in line


@pytest.mark.parametrize(
    "track",
    [
        lambda run: run.track(1.0, name="loss"),
        lambda run: run.track(Text("a"), name="answer"),
        lambda run: run.track_many([1.0], name="losses"),
    ],
)
def test_a_refused_token_is_printed_while_values_are_tracked(
    track, closed_server, monkeypatch, capfd
):
    server, token = closed_server
    monkeypatch.setattr(SETTINGS, "quiet", False)
    wrong = {"repo": server.url, "token": UNKNOWN_TOKEN, "capture_terminal_logs": False}
    run = Run(**wrong)
    shown = ""
    while "no data is sent" not in shown:
        track(run)
        time.sleep(0.01)
        shown += capfd.readouterr().err
    (line,) = [line for line in shown.splitlines() if "no data is sent" in line]
    assert line.startswith("matyan: no data is sent, and all of it is kept in ")
    assert "with status 401" in line
    run._end(None, spent=1e9)
    assert "no data is sent" not in capfd.readouterr().err
    run = Run(run.hash, **{**wrong, "token": token})
    run.close()
    assert cli.main(["sync"]) == 0
