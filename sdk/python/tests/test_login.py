"""`matyan-client login` and `matyan-client logout`, for users without the program `matyan`."""

import http.client
import io
import json
import os
import re
import subprocess
import sys
from urllib.parse import urlencode, urlsplit

import pytest

from matyan_client import Repo, cli
from matyan_client.errors import ServerError

_COMMAND = [sys.executable, "-m", "matyan_client.cli"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder for the settings of a user who has kept nothing."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("MATYAN_TOKEN", raising=False)
    return tmp_path / "config" / "matyan" / "tokens.json"


def _post(url, path, form, cookie=""):
    """Returns the status, the cookie and the text of a page."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    headers = {"content-type": "application/x-www-form-urlencoded", "cookie": cookie, "origin": url}
    connection.request("POST", path, urlencode(form), headers)
    answer = connection.getresponse()
    kept = (answer.getheader("set-cookie") or "").split(";")[0]
    return answer.status, kept, answer.read().decode()


def _session(server, token):
    """Returns the cookie of a browser that has signed in with a link."""
    words = ["access", "invite", "ana", "--role", "editor"]
    environment = {**os.environ, "MATYAN_BACKEND_URL": server.url, "MATYAN_TOKEN": token}
    invited = subprocess.run(
        [os.environ["MATYAN_BIN"], *words],
        env=environment,
        text=True,
        check=True,
        capture_output=True,
    )
    link = re.search(r"mtl_\w+", invited.stdout)[0]
    status, cookie, _ = _post(server.url, "/sign-in", {"token": link})
    assert (status, cookie.startswith("matyan")) == (303, True)
    return cookie


def _is_readable(server):
    """Whether a new script may read, with what is kept."""
    script = "import sys; from matyan_client import Repo; list(Repo(sys.argv[1]).iter_runs())"
    done = subprocess.run(
        [sys.executable, "-c", script, server.url], check=False, capture_output=True
    )
    return done.returncode == 0


def test_a_token_by_a_code_is_kept_and_ends_with_logout(closed_server, home):
    server, operator = closed_server
    cookie = _session(server, operator)
    words = [*_COMMAND, "login", "--code", "--json", "--limit", "viewer"]
    process = subprocess.Popen(
        [*words, "--backend-url", server.url],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        first = process.stderr.readline()
        code = re.search(r"type the code (\w{4}-\w{4})", first)[1]
        form = {"code": code}
        status, _, page = _post(server.url, "/sign-in/code", form, cookie)
        assert (status, "matyan-client login on " in page) == (200, True), page
        assert "viewer" in page
        status, _, page = _post(server.url, "/sign-in/code", {**form, "answer": "allow"}, cookie)
        assert status == 200, page
        kept = json.loads(process.stdout.read())
    assert process.returncode == 0
    assert (kept["principal"], kept["file"]) == ("ana", str(home))
    assert home.stat().st_mode & 0o777 == 0o600
    token = re.search(r"mtk_\w+", home.read_text())[0]
    assert _is_readable(server)

    assert cli.main(["logout", "--backend-url", server.url]) == 0
    assert not home.exists()
    with pytest.raises(ServerError, match="unknown, expired or revoked"):
        # The server has known the token for up to 30 s.
        while True:
            list(Repo(server.url, token=token).iter_runs())


def test_a_refused_code_keeps_nothing(closed_server, home):
    server, operator = closed_server
    cookie = _session(server, operator)
    words = [*_COMMAND, "login", "--code", "--backend-url", server.url]
    process = subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        code = re.search(r"type the code (\w{4}-\w{4})", process.stderr.readline())[1]
        form = {"code": code, "answer": "refuse"}
        assert _post(server.url, "/sign-in/code", form, cookie)[0] == 200
        assert "the code was refused" in process.stderr.read()
    assert process.returncode == 1
    assert not home.exists()


def test_a_pasted_token_is_only_forgotten(closed_server, home, monkeypatch, capsys):
    server, operator = closed_server
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"export MATYAN_TOKEN={operator}\n"))
    assert cli.main(["login", "--backend-url", server.url]) == 0
    shown = capsys.readouterr()
    assert "signed in to" in shown.out and "as operator" in shown.out
    assert operator not in shown.out + shown.err
    assert _is_readable(server)
    assert cli.main(["logout", "--backend-url", server.url]) == 0
    assert "it stays valid" in capsys.readouterr().out
    assert not _is_readable(server)
    assert list(Repo(server.url, token=operator).iter_runs()) == []
    assert cli.main(["logout", "--backend-url", server.url]) == 0
    assert "no token is kept" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "mtk", "a link: mtl_x"])
def test_what_is_no_token_is_not_kept(text, home, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert cli.main(["login", "--backend-url", "http://localhost:1"]) == 1
    assert "contains no token" in capsys.readouterr().err
    assert not home.exists()


def test_a_refused_token_is_not_kept(closed_server, home, monkeypatch, capsys):
    server, _ = closed_server
    monkeypatch.setattr(sys, "stdin", io.StringIO("mtk_unknown"))
    assert cli.main(["login", "--backend-url", server.url]) == 1
    shown = capsys.readouterr().err
    assert "mtk_unknown" not in shown
    assert not home.exists()


def test_days_have_a_limit(capsys):
    with pytest.raises(SystemExit):
        cli.main(["login", "--days", "91"])
    assert "from 1 to 90" in capsys.readouterr().err
