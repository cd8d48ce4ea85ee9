"""The interface of W&B, without W&B."""

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from pathlib import Path

import pytest

import matyan_client.wandb as wandb
from matyan_client import Run, errors
from matyan_client.wandb import _notices

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(_notices, "_shown", set())
    monkeypatch.chdir(tmp_path)
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wandb.teardown()


@pytest.fixture
def offline(monkeypatch):
    """Options of runs that need no server."""
    for side in ("backend_url", "frontier_url"):
        monkeypatch.setattr(importlib.import_module("matyan_client.config").SETTINGS, side, NOWHERE)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return {"x_disable_stats": True, "x_disable_meta": True, "console": "off"}


@pytest.fixture
def online(shared_server, monkeypatch):
    settings = importlib.import_module("matyan_client.config").SETTINGS
    monkeypatch.setattr(settings, "backend_url", shared_server.url)
    monkeypatch.setattr(settings, "frontier_url", shared_server.gateway)
    return {"x_disable_stats": True, "x_disable_meta": True, "console": "off"}


def reader(run):
    return Run(run.matyan_run.hash, repo=run.matyan_run._backend_url, read_only=True)


def steps_and_values(run, name, context=None):
    columns = run.series(name, context)
    return columns.steps.tolist(), columns.values.tolist()


def test_properties_and_params(online):
    with wandb.init(
        project="wandb-properties",
        entity="team",
        name="first",
        notes="a note",
        tags=["a", "b"],
        group="g",
        job_type="train",
        config={"lr": 0.1, "model": {"depth": 3}},
        settings=online,
    ) as run:
        assert wandb.run is run
        assert (run.project, run.entity, run.group, run.job_type) == (
            "wandb-properties",
            "team",
            "g",
            "train",
        )
        assert run.url == f"{run.matyan_run._backend_url}/runs/{run.id}"
        run.tags += ("c",)
        run.name = "second"
        assert wandb.config.lr == wandb.config["lr"] == 0.1
        assert wandb.config.model["depth"] == 3
        wandb.log({"loss": 0.5, "epoch": 2})
    assert wandb.run is None
    stored = reader(run)
    assert (stored.name, stored.description, stored.experiment) == (
        "second",
        "a note",
        "wandb-properties",
    )
    assert sorted(stored.tags) == ["a", "b", "c"]
    assert stored["hparams"] == {"lr": 0.1, "model": {"depth": 3}}
    assert stored["wandb", "group"] == "g"
    assert stored["summary", "loss"] == 0.5
    assert stored.series("loss").epochs.tolist() == [2]


def test_the_environment_is_used_unless_arguments_are_given(offline, monkeypatch):
    for name, value in {
        "PROJECT": "from-env",
        "NAME": "name",
        "TAGS": "x, y",
        "NOTES": "text",
        "RUN_ID": "id-1",
        "RUN_GROUP": "g",
        "ENTITY": "e",
        "DIR": "work",
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = wandb.init(name="given", settings=wandb.Settings(run_notes="settings", **offline))
    assert (run.project, run.name, run.tags, run.notes) == (
        "from-env",
        "given",
        ("x", "y"),
        "settings",
    )
    assert (run.id, run.group, run.entity, run.mode, run.url) == ("id-1", "g", "e", "offline", None)
    assert "work/wandb/run-" in Path(run.dir).as_posix()
    assert run.path == "e/from-env/id-1"


def test_an_id_belongs_to_its_project(offline):
    hashes = set()
    for project in ("a", "b", "a"):
        with wandb.init(project=project, id="fold-1", settings=offline) as run:
            hashes.add(run.matyan_run.hash)
    assert len(hashes) == 2
    with wandb.init(id="0" * 31 + "a", settings=offline) as run:
        assert run.matyan_run.hash == "0" * 31 + "a"


def test_a_disabled_run_stores_nothing(spool, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = wandb.init(project="p", config={"lr": 1})
    assert (run.disabled, run.matyan_run, wandb.config.lr) == (True, None, 1)
    wandb.log({"loss": 1, "image": object()})
    wandb.define_metric("loss", summary="min")
    wandb.summary["best"] = 1
    assert wandb.summary["best"] == 1
    wandb.log_artifact(wandb.Artifact("a", "b"))
    wandb.alert("title", "text")
    wandb.watch(object())
    for step in range(100):
        wandb.log({"loss": step})
    wandb.finish()
    assert not spool.exists()
    assert not list(Path.cwd().iterdir())


def test_a_config_value_changes_only_on_request(offline):
    wandb.init(config={"lr": 1}, settings=offline)
    for change in (
        lambda: wandb.config.update({"lr": 2}),
        lambda: setattr(wandb.config, "lr", 2),
        lambda: wandb.config.__setitem__("lr", 2),
    ):
        with pytest.raises(wandb.errors.ConfigError, match="allow_val_change"):
            change()
    wandb.config.lr = 1
    wandb.config.update({"lr": 2}, allow_val_change=True)
    assert dict(wandb.config) == {"lr": 2}
    assert (wandb.config.get("x", 5), "lr" in wandb.config, wandb.config.keys()) == (
        5,
        True,
        ["lr"],
    )
    with pytest.raises(AttributeError, match="missing"):
        _ = wandb.config.missing
    wandb.config.update_locked({"fixed": 1}, "sweep")
    with pytest.warns(RuntimeWarning, match="locked"):
        wandb.config.update({"fixed": 2})
    assert wandb.config.fixed == 1


def test_calls_before_init_say_what_is_missing():
    for call in (
        lambda: wandb.log({}),
        lambda: wandb.config.lr,
        lambda: wandb.config["lr"],
        lambda: setattr(wandb.config, "lr", 1),
        lambda: wandb.summary["x"],
        lambda: wandb.save("*"),
    ):
        with pytest.raises(wandb.Error, match=r"wandb\.init"):
            call()
    assert wandb.run is None
    wandb.finish()


def test_unknown_names_say_what_to_use_instead():
    with pytest.raises(AttributeError, match="Repo"):
        _ = wandb.Api
    with pytest.raises(AttributeError, match=r"matyan_client\.keras"):
        _ = wandb.keras
    with pytest.raises(AttributeError, match=r"has no 'inti'; did you mean 'init'\?$"):
        wandb.inti  # noqa: B018 - a typo
    with pytest.raises(AttributeError, match="matyan_run"):
        _ = wandb.no_such_function
    assert not hasattr(wandb, "sweep")
    for name in wandb.__all__:
        assert hasattr(wandb, name), name


def test_unknown_arguments_are_reported_once(offline):
    with pytest.warns(RuntimeWarning, match="`sync_tensorboard`"):
        wandb.init(sync_tensorboard=True, settings=offline)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wandb.init(sync_tensorboard=True)
        wandb.log({"a": 1}, sync=False)
        wandb.login(key="secret")


def test_no_value_stops_the_training(offline):
    class Broken:
        dtype = shape = property(lambda self: 1 / 0)

        def __str__(self):
            raise RuntimeError("no text")

    run = wandb.init(settings=offline)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = run.matyan_run.health.pending
        wandb.log({"broken": Broken(), "complex": 1j, "long": "x" * 10_000_000, "good": 1.0, 5: 1})
        assert run.matyan_run.health.pending > before
        assert run.step == 1
        wandb.log({"a": 1}, step="text")
        wandb.save("no-such-file*")
        wandb.log_artifact("no-such-file")
        wandb.watch("no model")
        wandb.define_metric("a", summary="median", unknown=5)
        wandb.init(mode="unknown", reinit=True, settings=offline)
        run.log({"after the end": 1})
    for wrong in (None, 5, ["a"]):
        with pytest.raises(TypeError, match="data"):
            wandb.log(wrong)


def test_reinit(offline):
    first = wandb.init(settings=offline)
    assert wandb.init(project="ignored") is first
    extra = wandb.init(reinit="create_new", settings=offline)
    assert wandb.run is first is not extra
    extra.finish()
    second = wandb.init(reinit=True, settings=offline)
    assert wandb.run is second is not first


def test_media(online):
    np = pytest.importorskip("numpy")
    pytest.importorskip("PIL")
    run = wandb.init(project="wandb-media", settings=online)
    pixels = np.zeros((4, 5, 3), np.uint8)
    box = {"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": 1}
    boxes = {"predictions": {"box_data": [box], "class_labels": {1: "cat"}}}
    masks = {"truth": {"mask_data": np.ones((4, 5), np.uint8)}}
    with pytest.warns(RuntimeWarning, match="Object3D: stored as a file"):
        wandb.log(
            {
                "image": wandb.Image(pixels, caption="black", boxes=boxes, masks=masks),
                "several": [
                    wandb.Image(pixels, caption="first"),
                    wandb.Image(pixels, caption="second"),
                ],
                "audio": wandb.Audio(np.zeros(10), sample_rate=8000),
                "histogram": wandb.Histogram(np_histogram=np.histogram([1, 2, 3], bins=3)),
                "frames": wandb.Video(np.zeros((2, 3, 4, 4), np.uint8), fps=2),
                "page": wandb.Html("<b>text</b>"),
                "cloud": wandb.Object3D(np.zeros((2, 3)), caption="two"),
                "boxes": wandb.Object3D({"type": "lidar/beta", "points": np.zeros((1, 3))}),
                "scene": wandb.Object3D(io.StringIO("o"), file_type="obj"),
                "array": np.arange(100),
            },
            step=3,
        )
    table = wandb.Table(columns=["name", "picture"], data=[["a", wandb.Image(pixels)]])
    table.add_data("b", None)
    table.add_column("score", [1, 2.5])
    assert table.get_column("score") == [1, 2.5]
    wandb.log({"table": table})
    wandb.finish()
    stored = reader(run)
    images = stored.collect_sequence_info("images")["images"]
    found = {(image["name"], json.dumps(image["context"])) for image in images}
    assert found == {
        ("image", "{}"),
        ("image", '{"mask": "truth"}'),
        ("several", "{}"),
        ("frames", "{}"),
    }
    (several,) = stored.get_image_sequence("several").values
    assert [image.caption for image in several] == ["first", "second"]
    assert {item["name"] for item in stored.collect_sequence_info("audios")["audios"]} == {"audio"}
    distributions = stored.collect_sequence_info("distributions")["distributions"]
    assert {item["name"] for item in distributions} == {"histogram", "array"}
    (page,) = stored.get_html_sequence("page").values
    assert page.data == "<b>text</b>"
    (cloud,) = stored.get_point_cloud_sequence("cloud").values
    assert (cloud.format, cloud.caption) == ("ply", "two")
    assert stored.get_point_cloud_sequence("boxes").values[0].format == "pts.json"
    paths = {artifact["path"] for artifact in stored.artifacts}
    picture = "media/table/table_3/0_1.png"
    assert paths == {"media/object3D/scene_3.obj", picture, "media/table/table_3.table.json"}
    assert stored.get_artifact(picture).startswith(b"\x89PNG")
    assert json.loads(stored.get_artifact("media/table/table_3.table.json")) == {
        "columns": ["name", "picture", "score"],
        "data": [
            ["a", {"_type": "image-file", "path": picture, "caption": ""}, 1],
            ["b", None, 2.5],
        ],
    }


def test_artifacts_and_files(online, tmp_path):
    run = wandb.init(project="wandb-files", settings=online)
    weights = tmp_path / "model.bin"
    for version in (b"one", b"two"):
        weights.write_bytes(version)
        artifact = wandb.Artifact("model", type="model", metadata={"epoch": 1})
        artifact.add_file(str(weights))
        artifact.add_reference("s3://bucket/data.csv")
        with artifact.new_file("notes/text.txt") as file:
            file.write("note")
        assert run.log_artifact(artifact, aliases=["best"]) is artifact
    assert (artifact.version, run.use_artifact(artifact)) == ("v1", artifact)
    with pytest.raises(wandb.CommError, match="download_artifact"):
        wandb.use_artifact("model:latest")
    folder = tmp_path / "out" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    run.log_artifact(str(tmp_path / "out"), name="folder", type="dataset")
    run.log_model(str(weights), name="net")
    (tmp_path / "live.txt").write_text("early")
    assert wandb.save("live.txt") == ["live.txt"]
    assert wandb.save(str(folder / "*.txt"), base_path=str(tmp_path / "out"), policy="now")
    (Path(wandb.run.dir) / "in-dir.txt").write_text("kept")
    (tmp_path / "live.txt").write_text("late")
    os.utime(tmp_path / "live.txt", (1, 1))
    wandb.finish()
    stored = reader(run)
    assert stored.get_artifact("model/v0/model.bin") == b"one"
    assert stored.get_artifact("model/v1/model.bin") == b"two"
    assert stored.get_artifact("model/v1/notes/text.txt") == b"note"
    assert stored.get_artifact("folder/v0/deep/a.txt") == b"a"
    assert stored.get_artifact("net/v0/model.bin") == b"two"
    assert stored.get_artifact("files/live.txt") == b"late"
    assert stored.get_artifact("files/deep/a.txt") == b"a"
    assert stored.get_artifact("files/in-dir.txt") == b"kept"
    described = stored["wandb", "artifacts", "model"]
    assert [version["version"] for version in described] == ["v0", "v1"]
    assert described[1]["references"] == {"data.csv": "s3://bucket/data.csv"}
    assert described[1]["aliases"] == ["best"]


def test_alerts_are_log_records(online):
    run = wandb.init(project="wandb-alerts", settings=online)
    wandb.alert("Low accuracy", "below 0.5", level=wandb.AlertLevel.WARN, wait_duration=300)
    wandb.finish()
    record = json.dumps(reader(run).get_log_records())
    assert "Low accuracy: below 0.5" in record
    assert '"WARNING"' in record
    assert "test_wandb.py" in record


def test_a_resumed_run_continues(online):
    options = {"project": f"wandb-resume-{time.time()}", "id": "one", "settings": online}
    with pytest.raises(wandb.UsageError, match="allow"):
        wandb.init(resume="must", **options)
    with wandb.init(resume="allow", config={"lr": 1}, **options) as run:
        assert not run.resumed
        for _ in range(3):
            run.log({"loss": 1})
        run.summary["best"] = 5
    with wandb.init(resume="must", config={"seed": 2}, **options) as run:
        assert (run.resumed, run.step) == (True, 3)
        assert dict(run.config) == {"lr": 1, "seed": 2}
        assert run.summary["best"] == 5
        run.log({"loss": 2})
    stored = reader(run)
    assert steps_and_values(stored, "loss") == ([0, 1, 2, 3], [1, 1, 1, 2])
    assert stored["summary", "best"] == 5
    with pytest.raises(wandb.UsageError, match="exists"):
        wandb.init(resume="never", **options)


def test_a_run_resumes_without_a_server(offline):
    with pytest.warns(RuntimeWarning, match="the server numbers its steps"):
        run = wandb.init(id="one", resume="must", mode="online", settings=offline)
    wandb.log({"loss": 1})
    wandb.log({"loss": 1}, step=7)
    assert (run.resumed, run.step, run.summary["loss"]) == (True, 7, 1)
    run.finish(exit_code=1)
    assert run.matyan_run.health.pending


def test_a_silent_run_prints_nothing(offline, monkeypatch, capfd):
    settings = importlib.import_module("matyan_client.config").SETTINGS
    monkeypatch.setattr(settings, "quiet", False)
    with wandb.init(settings={"silent": True, **offline}):
        wandb.log({"loss": 1})
    assert capfd.readouterr().err == ""


def is_tracked(stored, name):
    """Returns whether a run has a metric. The server may not have the run yet."""
    try:
        return stored.get_metric(name) is not None
    except errors.RunNotFoundError:
        return False


def test_a_killed_script_loses_no_value(online, shared_server):
    program = """
import os, signal, sys
import matyan_client.wandb as wandb
settings = {"x_disable_stats": True, "x_disable_meta": True, "console": "off"}
run = wandb.init(project="wandb-killed", config={"lr": 1}, settings=settings)
for step in range(500):
    wandb.log({"loss": step})
wandb.log({"open": 1}, commit=False)
print(run.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    servers = {
        "MATYAN_BACKEND_URL": shared_server.url,
        "MATYAN_FRONTIER_URL": shared_server.gateway,
    }
    finished = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, **servers},
        check=False,
    )
    run_hash = finished.stdout.strip()
    with wandb.init(project="wandb-killed", settings=online):
        # This run sends what the killed script has left.
        stored = Run(run_hash, repo=shared_server.url, read_only=True)
        end = time.monotonic() + 30
        while not is_tracked(stored, "open") and time.monotonic() < end:
            time.sleep(0.1)
    assert steps_and_values(stored, "loss")[0] == list(range(500))
    assert steps_and_values(stored, "open") == ([500], [1])
    assert stored["hparams", "lr"] == 1


def test_the_end_of_a_script_completes_its_run(shared_server):
    program = """
import matyan_client.wandb as wandb
settings = {"x_disable_stats": True, "x_disable_meta": True, "console": "off"}
run = wandb.init(project="wandb-exit", settings=settings)
wandb.define_metric("loss", summary="min")
wandb.log({"loss": 1})
wandb.log({"loss": 5}, step=1)
print(run.id)
"""
    servers = {
        "MATYAN_BACKEND_URL": shared_server.url,
        "MATYAN_FRONTIER_URL": shared_server.gateway,
    }
    command = [sys.executable, "-c", program]
    environment = {**os.environ, **servers}
    output = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    stored = Run(output.stdout.strip(), repo=shared_server.url, read_only=True)
    assert stored["summary", "loss"] == {"min": 1}
    assert stored["summary", "_step"] == 1
    assert not stored.active


class Layer:
    """The part of a module of PyTorch that is watched."""

    def __init__(self, **members):
        self.__dict__.update(members)
        self._hooks = []

    def named_children(self):
        return [(name, child) for name, child in vars(self).items() if isinstance(child, Layer)]

    def children(self):
        return [child for _, child in self.named_children()]

    def register_forward_pre_hook(self, hook):
        self._hooks.append(hook)
        return types.SimpleNamespace(remove=lambda: self._hooks.remove(hook))


class Parameter:
    requires_grad = True

    def __init__(self, array):
        self.data = self
        self.array = array
        self.hooks = []

    def register_hook(self, hook):
        self.hooks.append(hook)
        return types.SimpleNamespace(remove=lambda: self.hooks.remove(hook))

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        return self.array


def test_watched_models(online):
    np = pytest.importorskip("numpy")
    parameter = Parameter(np.arange(4.0))
    model = Layer(first=Layer(weight=parameter))
    run = wandb.init(project="wandb-watch", settings=online)
    wandb.watch(model, log="all", log_freq=2)
    for step in range(4):
        for hook in model._hooks:
            hook(model, ())
        for hook in parameter.hooks:
            assert hook(parameter) is None
        wandb.log({"loss": step})
    wandb.unwatch(model)
    assert not model._hooks
    assert not parameter.hooks
    wandb.finish()
    found = reader(run).collect_sequence_info("distributions")["distributions"]
    assert sorted((item["name"], item["context"]["type"]) for item in found) == [
        ("first.Layer", "data"),
        ("first.Layer", "gradients"),
    ]


def test_a_process_may_fork_while_a_thread_holds_locks(offline):
    run = wandb.init(settings=offline)
    held = threading.Event()
    released = threading.Event()

    def hold():
        with run._history._lock, run._summary._lock, _notices._lock:
            held.set()
            released.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    child = os.fork()
    if child == 0:
        run.log({"child": 1})
        run.summary["child"] = 1
        wandb.termlog("child", repeat=False)
        os._exit(0)
    end = time.monotonic() + 20
    while (status := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.01)
    released.set()
    thread.join()
    if status == (0, 0):
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)
    assert status == (child, 0)


def test_models_and_registries(offline, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"one")
    run = wandb.init(id=wandb.util.generate_id(), settings=offline)
    assert len(run.id) == 8
    run.link_model(str(tmp_path / "model.bin"), "registry/net", name="net")
    artifact = wandb.Artifact("data", "dataset")
    run.link_artifact(artifact, "registry/data")
    assert (artifact.version, artifact.aliases) == ("v0", ["registry/data"])
    for call in (run.restore, run.use_model, wandb.use_artifact):
        with pytest.raises(wandb.CommError, match="download_artifact"):
            call("net:latest")
    with pytest.raises(AttributeError, match="matyan_run"):
        _ = run.no_such_method


def test_lines_for_the_terminal(capsys):
    wandb.termlog("text")
    wandb.termwarn("twice", repeat=False)
    wandb.termwarn("twice", repeat=False)
    wandb.termerror("two\nlines")
    assert wandb.login()
    assert wandb.login()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == [
        "wandb: text",
        "wandb: WARNING twice",
        "wandb: ERROR two",
        "wandb: ERROR lines",
    ]
    assert len(lines) == 5


def test_a_device_tensor_is_not_waited_for(offline):
    class DeviceTensor:
        shape = ()
        dtype = "float32"
        is_read = False

        def detach(self):
            return self

        def numel(self):
            return 1

        def tolist(self):
            DeviceTensor.is_read = True
            return 2.5

        def __float__(self):
            return 2.5

    run = wandb.init(settings=offline)
    wandb.log({"loss": DeviceTensor()})
    assert not DeviceTensor.is_read
    assert run.summary["loss"] == 2.5


def test_definitions_of_metrics_are_goals_of_the_project(offline):
    run = wandb.init(settings=offline)
    wandb.log({"val/f1": 0.1})
    wandb.define_metric("loss", summary="min")
    wandb.define_metric("val/*", step_metric="epoch", summary="max")
    wandb.define_metric("reward", goal="maximize", summary="best")
    wandb.define_metric("final", summary="last")
    wandb.define_metric("range", summary="min,max")
    wandb.define_metric("plain")
    wandb.define_metric("other", step_metric="_runtime")
    wandb.define_metric("epoch", step_metric="epoch")
    wandb.define_metric("lr", step_metric="epoch")
    wandb.log({"val/acc": 0.5, "other": 1, "lr": 1, "epoch": 1})
    goals = run.matyan_run._params.merged({})["__metrics__"]
    best = {"direction": "higher", "summary": "best"}
    by_epoch = {**best, "x_axis": "epoch"}
    assert goals == {
        "loss": {"direction": "lower", "summary": "best"},
        "val/f1": by_epoch,
        "val/acc": by_epoch,
        "lr": {"x_axis": "epoch"},
        "reward": best,
        "final": {"summary": "last"},
    }


def test_a_goal_reaches_the_server_once_for_each_change(offline, monkeypatch):
    run = wandb.init(settings=offline)
    told = []
    monkeypatch.setattr(run.matyan_run, "define_metric", lambda name, **goal: told.append(name))
    wandb.define_metric("val/*", summary="max")
    for step in range(3):
        wandb.log({"val/acc": step})
    wandb.define_metric("val/*", summary="max")
    assert told == ["val/acc"]
