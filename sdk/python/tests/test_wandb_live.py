"""An open reader of a run of the unmodified `wandb` package while the script of the run runs."""

import pytest
from peers import peers_module
from test_wandb_clients import GUARD_SECONDS, SENDS_SOON, client  # noqa: F401 - a fixture

pytest.importorskip("wandb")
pytest.importorskip("grpc")


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    yield from peers_module("grpc_stubs").generated(tmp_path_factory.mktemp("stubs"))


SCRIPT = """
import sys, wandb
run = wandb.init(project="{project}", id="r")
for i in range(3):
    run.log({{"loss": i / 2}})
    sys.stdin.readline()
run.finish()
"""


@pytest.mark.usefixtures("stubs")
def test_an_open_reader_gets_points_while_the_script_runs(client, shared_server):  # noqa: F811
    project = f"live-{client.directory.name}"
    url = shared_server.url
    reading = peers_module("grpc_reading")
    with (
        reading.followed_points(url, f"r:{project}", "loss", GUARD_SECONDS) as points,
        client.begin(SCRIPT.format(project=project), url, **SENDS_SOON) as process,
    ):
        for step in range(3):
            assert next(points) == (step, step / 2)
            # Until then, the script neither logs more nor ends.
            process.stdin.write("\n")
            process.stdin.flush()
        _, errors = process.communicate()
    assert process.returncode == 0, errors
