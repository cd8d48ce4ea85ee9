"""The demo `python -m matyan_client.demo`, against a server."""

from io import BytesIO

import pytest

from matyan_client import Repo, demo


def test_the_demo_logs_runs_that_learn(shared_server, capsys):
    assert demo.main(["--repo", shared_server.url, "--seconds", "0"]) == 0
    assert shared_server.url in capsys.readouterr().out
    runs = list(Repo(shared_server.url).query_runs("run.experiment == 'two moons'").iter_runs())
    assert len({run.name for run in runs}) == 6
    for run in runs:
        losses = run.series("loss", {"subset": "train"}).values.tolist()
        assert len(losses) == 60
        settings = run["hparams"]
        # A learning rate that is too high is there to be found.
        assert (losses[-1] < losses[0] / 2) == (settings["learning_rate"] < 1), settings
        images = run.get_image_sequence("decision", {})
        assert list(images.indices) == [0, 20, 40, 59]


def test_a_server_that_is_away_is_named(capsys):
    assert demo.main(["--repo", "http://127.0.0.1:1"]) == 1
    assert "http://127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize("row", [b"\0\0\0", b"\xff\0\0\0\xff\0"])
def test_pictures_are_png_files(row):
    pillow = pytest.importorskip("PIL.Image")
    image = pillow.open(BytesIO(demo._png([row, row])))
    assert image.size == (len(row) // 3, 2)
    assert image.tobytes() == row * 2
