"""`wandb login` of the unmodified `wandb` package, in its current version and an older one."""

import subprocess

import pytest
from test_wandb_clients import GUARD_SECONDS, KEY, PYTHONS, Client, client, points  # noqa: F401 - a fixture

from matyan_client import Run

pytest.importorskip("wandb")

# A port at which nothing listens.
NOWHERE = "http://127.0.0.1:9"

SCRIPT = """
import wandb
run = wandb.init(project="{project}", id="r")
run.log({{"loss": 0.5}})
run.finish()
"""


def execute(client, url, *arguments):  # noqa: F811
    """Executes Python without a key or the URL of the server, and cut off from other machines."""
    environment = client.environment(url, HTTPS_PROXY=NOWHERE, HTTP_PROXY=NOWHERE)
    environment["NO_PROXY"] = "127.0.0.1"
    # The output of the client is read.
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_SILENT"):
        del environment[name]
    return subprocess.run(
        [client.python, *arguments],
        cwd=client.directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=GUARD_SECONDS,
    )


def login(client, url, key):  # noqa: F811
    return execute(client, url, "-m", "wandb", "login", "--verify", "--host", url, key)


def kept_credentials(client):  # noqa: F811
    netrc = client.directory / ".netrc"
    return netrc.read_text() if netrc.exists() else ""


def test_an_open_server_accepts_any_key(client, shared_server):  # noqa: F811
    done = login(client, shared_server.url, KEY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Currently logged in as: matyan to {shared_server.url}" in done.stderr
    assert KEY in kept_credentials(client)


def test_a_closed_server_accepts_its_tokens_only(client, closed_server):  # noqa: F811
    server, token = closed_server
    for wrong in (KEY, "mtk_" + "0" * 40):
        done = login(client, server.url, wrong)
        assert done.returncode != 0, done.stdout + done.stderr
        assert wrong not in kept_credentials(client)
    done = login(client, server.url, token)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Currently logged in as: operator" in done.stderr
    assert token in kept_credentials(client)


# With the current client only: the older one does not find the key of a URL with a port.
def test_a_script_needs_no_settings_after_a_login(closed_server, tmp_path):
    current = Client(PYTHONS["current"], tmp_path)
    server, token = closed_server
    script = SCRIPT.format(project="login")
    assert execute(current, server.url, "-c", script).returncode != 0
    done = login(current, server.url, token)
    assert done.returncode == 0, done.stdout + done.stderr
    done = execute(current, server.url, "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    run = Run("r:login", repo=server.url, token=token, read_only=True)
    assert points(run, "loss") == {0: 0.5}
