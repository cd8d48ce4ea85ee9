"""The command `matyan-client` without a server."""

import json
import subprocess
import sys

from matyan_client import Repo, Run, cli
from matyan_client.config import SETTINGS

NOWHERE = "http://127.0.0.1:1"


def test_the_command_lists_spools(capsys):
    run = Run(repo=NOWHERE, offline=True, capture_terminal_logs=False)
    run.track(1.0, name="m")
    assert cli.main(["spool", "ls", "--json"]) == 0
    (spool,) = json.loads(capsys.readouterr().out)
    assert (spool["run"], spool["state"], spool["gateway_url"]) == (run.hash, "in use", NOWHERE)
    assert cli.main(["spool", "ls"]) == 0
    assert run.hash in capsys.readouterr().out


def test_the_command_removes_spools_that_no_script_uses(capsys):
    script = [sys.executable, "-c", LEFT, NOWHERE]
    ended = subprocess.run(script, check=True, capture_output=True, text=True, timeout=60)
    left = ended.stdout.strip()
    used = Run(repo=NOWHERE, offline=True, capture_terminal_logs=False)
    used.track(1.0, name="m")
    # The input of tests is no terminal.
    assert cli.main(["spool", "rm", left]) == 1
    assert "Repeat the command with --yes" in capsys.readouterr().err
    assert cli.main(["spool", "rm", "--yes", left, used.hash, "unknown"]) == 1
    shown = capsys.readouterr()
    assert "removed " in shown.out
    assert f"run {used.hash} is in use" in shown.err
    assert "there is no spool of run unknown" in shown.err
    assert cli.main(["spool", "ls", "--json"]) == 0
    assert [spool["run"] for spool in json.loads(capsys.readouterr().out)] == [used.hash]


def test_sync_without_a_server_says_so(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_UNREACHABLE_LIMIT", 0.5)
    program = "from matyan_client import Run; Run(repo='http://127.0.0.1:1').track(1.0, name='m')"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert cli.main(["sync"]) == 1
    shown = capsys.readouterr()
    assert "0 of 1 spools sent" in shown.out
    assert "no connection to http://127.0.0.1:1: " in shown.err
    assert "start the server, then run `matyan-client sync` again" in shown.err


LEFT = """
import sys
from matyan_client import Run
with Run(repo=sys.argv[1], offline=True, capture_terminal_logs=False) as run:
    run.track(1.0, name="m")
print(run.hash)
"""


def test_sync_sends_only_the_runs_that_are_named(shared_server, capsys):
    runs = [
        subprocess.run(
            [sys.executable, "-c", LEFT, shared_server.url],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert cli.main(["sync", runs[0], "unknown"]) == 0
    shown = capsys.readouterr()
    assert "1 of 1 spools sent" in shown.out
    assert "there is no spool of run unknown" in shown.err
    repo = Repo(shared_server.url)
    assert [repo.run_exists(run) for run in runs] == [True, False]
    assert cli.main(["sync"]) == 0
    assert repo.run_exists(runs[1])


def test_sync_names_the_runs_of_other_processes(capsys):
    run = Run(repo=NOWHERE, capture_terminal_logs=False)
    run.track(1.0, name="m")
    assert cli.main(["sync", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "spools": 0,
        "finished": 0,
        "stored": 0,
        "held": [run.hash],
        "messages": [],
    }
    assert cli.main(["sync"]) == 0
    assert f"spools of scripts that run are left to them: runs {run.hash}" in (
        capsys.readouterr().err
    )
    run._end(None, spent=1e9)


def test_the_status_of_absent_servers(monkeypatch, capsys):
    monkeypatch.setattr(SETTINGS, "backend_url", NOWHERE)
    monkeypatch.setattr(SETTINGS, "frontier_url", NOWHERE)
    assert cli.main(["status"]) == 0
    assert "  Backend    unreachable  -\n  Frontier   unreachable  -" in capsys.readouterr().out
