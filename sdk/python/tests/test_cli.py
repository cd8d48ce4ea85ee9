"""The command `matyan-client` without a server."""

import http.server
import json
import signal
import subprocess
import sys
import threading

import pytest

from matyan_client import Repo, Run, _core, _sync_command, backup, cli, errors
from matyan_client.config import SETTINGS

NOWHERE = "http://127.0.0.1:1"


def test_the_command_lists_spools(capsys):
    run = Run(repo=NOWHERE, offline=True, capture_terminal_logs=False)
    run.track(1.0, name="m")
    assert cli.main(["spool", "ls", "--json"]) == 0
    (spool,) = json.loads(capsys.readouterr().out)
    assert (spool["run"], spool["state"], spool["gateway_url"]) == (run.hash, "in use", NOWHERE)
    assert cli.main(["spool", "ls"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["RUN", "STATE", "SIZE", "FILES"]
    assert line.split()[:6] == [run.hash, "in", "use", "256.0", "KiB", "0"]


def test_the_command_removes_spools_that_no_script_uses(capsys):
    left = left_run(NOWHERE)
    used = Run(repo=NOWHERE, offline=True, capture_terminal_logs=False)
    used.track(1.0, name="m")
    # The input of tests is no terminal.
    assert cli.main(["spool", "rm", left]) == 1
    assert "Run the command again with --yes" in capsys.readouterr().err
    assert cli.main(["spool", "rm", "--yes", left, used.hash, "unknown"]) == 1
    shown = capsys.readouterr()
    assert "removed " in shown.out
    assert f"run {used.hash} is in use" in shown.err
    assert "there is no spool of run unknown" in shown.err
    assert cli.main(["spool", "ls", "--json"]) == 0
    assert [spool["run"] for spool in json.loads(capsys.readouterr().out)] == [used.hash]


def test_sync_without_a_server_says_so(spool, monkeypatch, capsys):
    monkeypatch.setattr(_sync_command, "_UNREACHABLE_LIMIT", 0.5)
    monkeypatch.setattr(_sync_command, "_PROGRESS_INTERVAL", 0.1)
    run = left_run(NOWHERE)
    path = spool.glob("*/")
    assert cli.main(["sync"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "0 of 1 run sent (0 of 1 spool), 0 values stored\n"
    assert f"run {run}: sending 256.0 KiB to {NOWHERE}\n" in shown.err
    assert "0 of 1 spool sent, 0 values stored, waiting for a server\n" in shown.err
    assert f"run {run}: not sent completely; the rest is in {next(path)}\n" in shown.err
    assert "no connection to http://127.0.0.1:1: " in shown.err
    assert "start the server, then run `matyan-client sync` again" in shown.err


def test_sync_counts_a_spool_that_cannot_be_opened(spool, capsys):
    run = left_run(NOWHERE)
    path = next(spool.glob("*/"))
    (path / "series").unlink()
    (path / "series").mkdir()
    assert cli.main(["sync"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "0 of 1 run sent (0 of 1 spool), 0 values stored\n"
    assert f"failed to open {path}: " in shown.err
    assert f"run {run}: not sent completely" in shown.err


LEFT = """
import sys
from matyan_client import Run
with Run(repo=sys.argv[1], offline=True, capture_terminal_logs=False) as run:
    run.track(1.0, name="m")
print(run.hash)
"""


def left_run(url):
    """Returns a run whose script has ended, with its data in a spool."""
    script = [sys.executable, "-c", LEFT, url]
    ended = subprocess.run(script, check=True, capture_output=True, text=True, timeout=60)
    return ended.stdout.strip()


def test_sync_sends_only_the_runs_that_are_named(shared_server, capsys):
    runs = [left_run(shared_server.url) for _ in range(2)]
    assert cli.main(["sync", runs[0]]) == 0
    shown = capsys.readouterr()
    assert shown.out == "1 of 1 run sent (1 of 1 spool), 3 values stored\n"
    assert shown.err == (
        f"run {runs[0]}: sending 256.0 KiB to {shared_server.url}\nrun {runs[0]}: sent\n"
    )
    repo = Repo(shared_server.url)
    assert [repo.run_exists(run) for run in runs] == [True, False]
    assert cli.main(["sync", "--json"]) == 0
    shown = capsys.readouterr()
    assert (json.loads(shown.out)["sent"], shown.err) == ([runs[1]], "")
    assert repo.run_exists(runs[1])
    assert cli.main(["sync"]) == 0
    assert capsys.readouterr().out == "nothing to send\n"


def test_watching_sends_spools_as_they_appear(own_server):
    runs = [left_run(own_server.url)]
    own_server.stop()
    command = [sys.executable, "-m", "matyan_client.cli", "sync", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        try:
            own_server.start()
            assert json.loads(watching.stdout.readline())["sent"] == runs
            runs.append(left_run(own_server.url))
            assert json.loads(watching.stdout.readline())["sent"] == runs[1:]
        finally:
            watching.send_signal(signal.SIGINT)
        assert watching.stdout.read() == b""
        assert watching.stderr.read() == b""
    assert watching.returncode == 130
    assert all(Repo(own_server.url).run_exists(run) for run in runs)


def test_sync_sends_to_another_server_than_that_of_the_script(shared_server, spool, capsys):
    run = left_run(NOWHERE)
    assert cli.main(["sync", run, "--repo", shared_server.url]) == 0
    shown = capsys.readouterr()
    assert f"to {shared_server.url}\n" in shown.err
    assert shown.out == "1 of 1 run sent (1 of 1 spool), 3 values stored\n"
    assert list(spool.iterdir()) == []
    stored = Run(run, repo=shared_server.url, read_only=True)
    assert stored.series("m").values.tolist() == [1.0]


def test_sync_to_what_is_no_server_is_refused(capsys):
    run = left_run(NOWHERE)
    for arguments in (["--repo", "tracker"], ["--frontier-url", "http://127.0.0.1:1"]):
        assert cli.main(["sync", run, *arguments]) == 2
        assert "--repo" in capsys.readouterr().err
    assert [spool.gateway_url for spool in _core.spools()] == [NOWHERE]


LARGE = """
import os, sys
from matyan_client import Run
with open(sys.argv[2], "wb") as file:
    file.truncate(17 << 20)
with Run(repo=sys.argv[1], offline=True, capture_terminal_logs=False) as run:
    run.log_artifact(sys.argv[2], name="model.bin")
os.remove(sys.argv[2])
"""


def test_sync_reports_a_file_that_is_gone(shared_server, tmp_path, capsys):
    script = [sys.executable, "-c", LARGE, shared_server.url, str(tmp_path / "model.bin")]
    subprocess.run(script, check=True, timeout=60)
    assert cli.main(["sync"]) == 1
    shown = capsys.readouterr()
    assert "model.bin was not uploaded, and is lost" in shown.err
    assert "1 of 1 run sent" in shown.out


def test_sync_of_an_unknown_run_fails(shared_server, monkeypatch, capsys):
    monkeypatch.setattr(SETTINGS, "backend_url", shared_server.url)
    run = left_run(shared_server.url)
    assert cli.main(["sync", run, "unknown"]) == 1
    shown = capsys.readouterr()
    assert "1 of 1 run sent" in shown.out
    assert "there is no spool of run unknown, and the server at " in shown.err
    assert "`matyan-client spool ls` lists all spools" in shown.err
    # Everything of this run is stored, so a repetition is no failure.
    assert cli.main(["sync", run]) == 0
    assert f"run {run}: nothing is left to send" in capsys.readouterr().err
    monkeypatch.setattr(SETTINGS, "backend_url", NOWHERE)
    assert cli.main(["sync", "unknown", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["unknown"] == ["unknown"]
    assert f"it is not known whether the server has it: cannot reach {NOWHERE}" in shown.err


def test_sync_names_the_runs_of_other_processes(capsys):
    run = Run(repo=NOWHERE, capture_terminal_logs=False)
    run.track(1.0, name="m")
    assert cli.main(["sync", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "spools": 0,
        "finished": 0,
        "stored": 0,
        "sent": [],
        "left": [],
        "held": [run.hash],
        "elsewhere": [],
        "other_project": [],
        "unknown": [],
        "messages": [],
    }
    assert cli.main(["sync"]) == 0
    said = capsys.readouterr().err
    assert f"still in use by running scripts: the data of runs {run.hash}; " in said
    assert "then end the script, or restart the notebook" in said
    assert cli.main(["sync", run.hash]) == 1
    run._end(None, spent=1e9)


def test_a_list_without_spools_says_so(capsys):
    assert cli.main(["spool", "ls"]) == 0
    assert capsys.readouterr() == ("", "there are no spools: nothing is left to send\n")
    assert cli.main(["spool", "ls", "--json"]) == 0
    assert capsys.readouterr() == ("[]\n", "")


def test_the_status_of_absent_servers(monkeypatch, capsys):
    monkeypatch.setattr(SETTINGS, "backend_url", NOWHERE)
    monkeypatch.setattr(SETTINGS, "frontier_url", NOWHERE)
    assert cli.main(["status"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in (lines[1], lines[3])] == [
        ["Backend", "unreachable", "-", NOWHERE],
        ["Frontier", "unreachable", "-", NOWHERE],
    ]
    assert lines[2].strip().startswith(f"cannot reach {NOWHERE}/")
    assert lines[2].endswith("; start the server, or correct the URL")
    assert cli.main(["status", "--json"]) == 1
    status = json.loads(capsys.readouterr().out)
    assert (status["backend"]["url"], status["backend"]["ok"]) == (NOWHERE, False)
    assert status["frontier"]["reason"].startswith(f"cannot reach {NOWHERE}/")


@pytest.fixture
def other_program(tmp_path):
    """A server of files, which knows nothing of Matyan."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html></html>")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_answer_of_another_program_is_an_error_of_the_server(other_program):
    with pytest.raises(errors.ServerError, match="the URL may be that of another program"):
        Repo(other_program).http.list_experiments()


def test_the_status_of_servers(shared_server, other_program, capsys):
    backend = shared_server.url.replace("http:", "HTTP:")
    assert cli.main(["status", "--backend-url", backend, "--frontier-url", other_program]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["Backend", "OK"]
    assert lines[1].endswith(f" {shared_server.url}")
    assert lines[2].split() == ["Frontier", "unreachable", "-", other_program]
    assert lines[3].strip() == "a server answers, but it is not a Matyan server; correct the URL"


def test_an_older_server_is_named(shared_server, monkeypatch, capsys):
    urls = ["--backend-url", shared_server.url, "--frontier-url", shared_server.gateway]
    assert cli.main(["status", *urls]) == 0
    assert "older" not in capsys.readouterr().out
    monkeypatch.setattr(cli.HttpTransport, "read_version", lambda _: {"version": "0.0.1"})
    assert cli.main(["status", *urls]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("the server is Matyan 0.0.1, older")
    assert cli.main(["status", "--json", *urls]) == 0
    assert "older" in json.loads(capsys.readouterr().out)["backend"]["advice"]


def test_a_date_that_cannot_be_read_is_named(tmp_path, capsys):
    assert cli.main(["backup", str(tmp_path), "--since", "yesterday"]) == 2
    expected = "`--since`: expected a date such as 2026-01-31, found 'yesterday'\n"
    assert capsys.readouterr().err == f"matyan-client backup: {expected}"
    with pytest.raises(ValueError, match=r"^`since`: expected a date such as"):
        backup.run_backup(tmp_path, since="yesterday")


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    line = f"matyan-client {cli._client_version()}\n"
    assert capsys.readouterr().out == line
    module = [sys.executable, "-m", "matyan_client", "--version"]
    assert subprocess.run(module, capture_output=True, text=True, check=True).stdout == line


def test_text_of_a_server_reaches_no_terminal(capsys):
    """Neither a version nor an error of a server moves the cursor, or writes the clipboard."""

    version = {"version": "0.4.0\x1b[2J\x9b1A\u202e", "component": "backend"}
    error = {"error": {"code": "c", "message": "\x1b]52;c;eA==\x07no"}}
    answers = [(400, error), (400, error), (400, error), (200, version), (200, version)]

    class Hostile(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, answer = answers.pop()
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        addresses = ["--backend-url", url, "--frontier-url", url]
        assert cli.main(["status", *addresses]) == 0
        shown = capsys.readouterr().out
        assert cli.main(["status", *addresses]) == 1
        shown += capsys.readouterr().out
        assert cli.main(["backup", "nowhere", "--backend-url", url, "--experiment", "a"]) == 2
        shown += capsys.readouterr().err
        server.shutdown()
    assert "0.4.0\\x1b[2J\\x9b1A\\u202e" in shown
    assert "]52;c;eA==" in shown
    assert [char for char in shown if not char.isprintable() and char != "\n"] == []
