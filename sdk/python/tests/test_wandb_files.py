"""Values of W&B's client that are stored as files."""

import io
import json

import pytest

import matyan_client.wandb as wandb
from matyan_client.wandb import _notices
from matyan_client.wandb._target import Moment, Staging
from matyan_client.wandb._values import log_value


def test_different_files_have_different_paths():
    def path(name, step, context):
        return Moment(None, None, step, None).media_path("html", name, ".html", context)

    assert path("train/loss", 3, {}) == "media/html/train/loss_3.html"
    assert path("loss", None, {"index": 1}) == "media/html/loss_last-1.html"
    names = ("x", "x_1", "x_last", "x 1", "x:1", "x-1", "/x", "x/", "../x", "a//x", "x_1-0-a")
    contexts = (
        *({}, {"index": 0}, {"index": 1}, {"row": 0, "column": "a"}, {"row": 0, "column": "a_1"}),
        *({"row": 1, "column": "a"}, {"row": 0, "column": "a-1"}, {"row": 0, "column": "a/_1"}),
        *({"index": 0, "row": 1, "column": "a"}, {"row": 0, "column": "1-a"}),
    )
    places = [
        (name, step, context) for name in names for step in (None, 0, 1) for context in contexts
    ]
    paths = {path(*place) for place in places}
    assert len(paths) == len(places)
    assert not any({"", ".", ".."}.intersection(one.split("/")) for one in paths)


def test_files_of_lists_and_cells_are_all_kept(monkeypatch):
    # It warns once in a process.
    monkeypatch.setattr(_notices, "_shown", set())

    class Recorder:
        def __init__(self):
            self.paths = []
            self.texts = []

        def log_artifact(self, file, path):
            self.paths.append(path)

        def track(self, value, name, step, epoch, context):
            self.texts.append((name, step, json.dumps(context)))

    def scene():
        return wandb.Object3D(io.StringIO("o"), file_type="obj")

    run = Recorder()
    staging = Staging()
    moment = Moment(run, staging, 3, None)
    with pytest.warns(RuntimeWarning, match="stored as a file"):
        log_value(moment, "list", [scene(), scene()])
    table = wandb.Table(columns=["a", "b"], data=[[scene(), scene()], [scene(), None]])
    log_value(moment, "table", table)
    log_value(moment, "one", scene())
    staging.remove()
    folder = "media/object3D"
    assert run.paths == [
        f"{folder}/list_3-0.obj",
        f"{folder}/list_3-1.obj",
        "media/table/table_3.table.json",
        *(f"{folder}/table_3-{place}.obj" for place in ("0-a", "0-b", "1-a")),
        f"{folder}/one_3.obj",
    ]
    # A text of the same series and step would replace the one before.
    assert len(set(run.texts)) == len(run.paths)
    assert run.texts[-1] == ("one", 3, '{"kind": "file"}')
