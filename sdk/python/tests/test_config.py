"""Settings from the environment, and URLs of servers."""

import os
import subprocess
import sys

import pytest

from matyan_client import Repo, Run, cli
from matyan_client.config import Settings
from matyan_client.transport import HttpTransport


def test_defaults(monkeypatch):
    for name in ("BACKEND_URL", "FRONTIER_URL", "QUIET"):
        monkeypatch.delenv(f"MATYAN_{name}", raising=False)
    settings = Settings()
    assert settings.backend_url == "http://localhost:53800"
    assert settings.frontier_url == "http://localhost:53801"
    assert settings.quiet is False
    assert settings.ws_batch_size == 100


def test_data_is_sent_to_the_backend_unless_it_is_the_default_one_or_a_gateway_is_set(monkeypatch):
    monkeypatch.setenv("MATYAN_FRONTIER_URL", " ")
    for default in ("http://localhost:53800", "http://127.0.0.2:53800/", "http://[::1]:53800"):
        monkeypatch.setenv("MATYAN_BACKEND_URL", default)
        assert Settings().frontier_url == "http://localhost:53801"
    for url in ("http://tracker:53800", "http://localhost:8080", "http://localhost:53800/p/a"):
        monkeypatch.setenv("MATYAN_BACKEND_URL", url)
        assert Settings().frontier_url == url
    monkeypatch.setenv("MATYAN_FRONTIER_URL", "http://gateway:2")
    assert Settings().frontier_url == "http://gateway:2"


def test_variables_are_read(monkeypatch):
    monkeypatch.setenv("MATYAN_BACKEND_URL", "http://tracker:1/")
    monkeypatch.setenv("MATYAN_QUIET", "1")
    monkeypatch.setenv("MATYAN_WS_RETRY_COUNT", "7")
    settings = Settings()
    assert settings.backend_url == "http://tracker:1"
    assert settings.quiet is True
    assert settings.ws_retry_count == 7


def test_a_wrong_value_is_reported_once_and_replaced_by_the_default(monkeypatch):
    monkeypatch.setenv("MATYAN_WS_BATCH_SIZE", "many")
    monkeypatch.setenv("MATYAN_QUIET", "perhaps")
    settings = Settings()
    assert settings.ws_batch_size == 100
    assert settings.quiet is False
    assert settings.take_warnings() == [
        "MATYAN_WS_BATCH_SIZE='many' is not an integer; using the default 100",
        "MATYAN_QUIET='perhaps' is not a boolean; using the default False",
    ]
    assert settings.take_warnings() == []


@pytest.mark.parametrize("name", ["BACKEND_URL", "FRONTIER_URL"])
def test_a_wrong_url_is_never_replaced_by_another_server(monkeypatch, name):
    monkeypatch.setenv(f"MATYAN_{name}", "tracker:53800")
    message = f"`MATYAN_{name}`: 'tracker:53800' is not the URL of a server"
    with pytest.raises(ValueError, match=message):
        getattr(Settings(), name.lower())


def test_settings_are_read_when_they_are_used():
    program = """
import os
import matyan_client
os.environ["MATYAN_BACKEND_URL"] = "http://set-by-the-script:1"
print(matyan_client.Repo().url)
os.environ["MATYAN_BACKEND_URL"] = "http://later:1"
print(matyan_client.Repo().url)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["http://set-by-the-script:1"] * 2


WRONG_URLS = ["tracker:53800", "ftp://tracker", "http://", "http://h:port", ".", "http://h/?a=1"]


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_wrong_url_is_named_at_the_call(url):
    with pytest.raises(ValueError, match="`repo`"):
        Run(repo=url)
    with pytest.raises(ValueError, match="`frontier_url`"):
        Run(repo="http://tracker", frontier_url=url)
    with pytest.raises(ValueError, match="`url`"):
        Repo(url)
    with pytest.raises(ValueError, match="`base_url`"):
        HttpTransport(url)


@pytest.mark.parametrize("url", ["HTTP://h:1", " Http://h:1/ ", "http://h:1//"])
def test_the_scheme_of_a_url_may_be_in_upper_case(url):
    assert (Repo(url).url, Repo.from_path(url).url) == ("http://h:1", "http://h:1")
    run = Run(repo=url, offline=True, capture_terminal_logs=False)
    assert (run._backend_url, run._gateway_url) == ("http://h:1", "http://h:1")
    assert Repo.is_remote_path("HTTPS://h")


@pytest.mark.parametrize("project", ["", "/", "Foo Bar", "Team", "a%20b", "-a", ".."])
def test_a_url_names_a_project_that_can_exist(project):
    for make in (
        Repo,
        lambda url: Run(repo=url),
        lambda url: Run(repo="http://h:1", frontier_url=url),
    ):
        with pytest.raises(ValueError, match="the name of a project"):
            make(f"http://h:1/p/{project}")
    assert Repo("http://h:1/p/speech-models.2/").url == "http://h:1/p/speech-models.2"


def test_passwords_in_urls_are_refused_and_never_shown(capfd):
    url = "http://user:secret@127.0.0.1:1"
    for make in (
        lambda: Run(repo=url),
        lambda: Run(repo="http://127.0.0.1:1", frontier_url=url),
        lambda: Repo(url),
    ):
        with pytest.raises(ValueError, match="a password") as failure:
            make()
        assert "secret" not in str(failure.value)
    assert cli.main(["import", "tensorboard", ".", "--repo", url]) == 2
    assert cli.main(["status", "--backend-url", url]) == 2
    script = "from matyan_client import Run; Run(capture_terminal_logs=False, offline=True).close()"
    environment = {**os.environ, "MATYAN_QUIET": "0", "MATYAN_BACKEND_URL": url}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert done.returncode == 1
    shown = capfd.readouterr()
    assert "secret" not in shown.out + shown.err
    assert shown.err.count("MATYAN_BACKEND_URL") == 1


def test_a_problem_of_a_setting_is_shown_once():
    script = "from matyan_client import Run; Run(capture_terminal_logs=False, offline=True).close()"
    environment = {**os.environ, "MATYAN_QUIET": "0", "MATYAN_GIT_DIFF": "perhaps"}
    for first in ("", "import logging; logging.basicConfig(); "):
        done = subprocess.run(
            [sys.executable, "-c", first + script],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert done.stderr.count("MATYAN_GIT_DIFF='perhaps' is not a boolean") == 1


def test_arguments_take_precedence(monkeypatch):
    monkeypatch.setenv("MATYAN_BACKEND_URL", "http://environment")
    assert Settings(backend_url="http://argument").backend_url == "http://argument"
