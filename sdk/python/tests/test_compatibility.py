"""Interfaces of Aim and of the client of Matyan 0.3 that scripts use."""

import json

import pytest

from matyan_client import Distribution, Figure, Image, Run, Text, _aim_calls
from matyan_client.transport import WsTransport


@pytest.fixture
def run(shared_server):
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        yield run


def test_series_are_read_as_scripts_for_aim_do(run):
    np = pytest.importorskip("numpy")
    for step in (0, 2, 5):
        run.track(step / 2, name="loss", step=step, epoch=step // 2, context={"subset": "train"})
        run.track(Text(f"text {step}"), name="text", step=step)
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    run.track([Image(pixels, caption="a"), Image(pixels, caption="b")], name="image", step=1)
    run.track(Image(pixels, caption="c"), name="image", step=2, context={"subset": "val"})
    run.track(Distribution([1, 2, 3], bin_count=3), name="weights", step=3)
    run.track(Figure({"data": [], "layout": {"x": 1}}), name="figure", step=4)
    run.close()
    metric = run.get_metric("loss", {"subset": "train"})
    assert (metric.name, metric.context, metric.run) == ("loss", {"subset": "train"}, run)
    assert metric["name"] == "loss"
    assert json.loads(json.dumps(metric))["name"] == "loss"
    assert list(metric.values()) == [metric[key] for key in metric]
    assert metric.values.sparse_list() == ([0, 2, 5], [0.0, 1.0, 2.5])
    steps, values = metric.values.sparse_numpy()
    assert (steps.tolist(), values.tolist()) == ([0, 2, 5], [0.0, 1.0, 2.5])
    assert (metric.values.first(), metric.values.last()) == ((0, 0.0), (5, 2.5))
    assert (metric.first_step(), metric.last_step(), len(metric.values)) == (0, 5, 3)
    assert metric.epochs.values_list() == [0, 1, 2]
    assert all(time > 1e9 for time in metric.timestamps)
    assert metric.dataframe()["value"].tolist() == [0.0, 1.0, 2.5]
    frame = metric.dataframe(
        include_name=True, include_context=True, include_run=True, only_last=True
    )
    (row,) = frame.drop(columns="time").to_dict("records")
    assert row == {
        "idx": 0,
        "step": 5,
        "value": 2.5,
        "epoch": 2,
        "run.hash": run.hash,
        "run": "{}",
        "metric.name": "loss",
        "metric.context.subset": "train",
    }
    assert metric.data.indices_list() == [0, 2, 5]
    assert metric.data.view("val").values_list() == [[0.0, 1.0, 2.5]]
    assert [entry[:2] for _, entry in metric.data.range(1, 5)] == [(1.0, 1)]
    assert metric.data.sample(1).items_list()[0] == [0, 5]
    assert metric.data.numpy()[1][1].tolist() == [0, 1, 2]
    assert run.repo.get_run(run.hash) == run
    assert run.get_metric("loss") is None
    texts = run.get_text_sequence("text")
    assert [text.data for text in texts.values] == ["text 0", "text 2", "text 5"]
    assert (texts.indices, len(texts), texts.first_step()) == ([0, 2, 5], 3, 0)
    steps, (members,) = run.get_image_sequence("image").values.sparse_list()
    assert (steps, [image.caption for image in members]) == ([1], ["a", "b"])
    (image,) = run.get_image_sequence("image", {"subset": "val"}).values
    assert (image.caption, image.width, image.height) == ("c", 3, 2)
    (distribution,) = run.get_distribution_sequence("weights").values
    assert distribution.weights == [1, 1, 1]
    (figure,) = run.get_figure_sequence("figure").values
    assert figure.data == {"data": [], "layout": {"x": 1}}
    assert run.get_audio_sequence("none") is None
    assert len(texts.dataframe()) == 3
    found = run.repo.query_images(f"run.hash == '{run.hash}'").dataframe()
    assert sorted(found["context"]) == ['{"subset": "val"}', "{}"]


def test_calls_of_aim_without_effect_warn_once(run):
    calls = {
        "report_progress": lambda: run.report_progress(expect_next_in=60),
        "report_successful_finish": lambda: run.report_successful_finish(block=False),
        "set_artifacts_uri": lambda: run.set_artifacts_uri("s3://bucket"),
    }
    _aim_calls._warned.clear()
    for name, call in calls.items():
        with pytest.warns(RuntimeWarning, match=f"`{name}` has no effect"):
            call()
        call()


def test_the_properties_and_params_of_a_run_are_one_row(run):
    pytest.importorskip("pandas")
    run["hparams"] = {"lr": 0.1, "layers": [1, 2]}
    run["name"] = "hidden by the property"
    run.name = "first"
    run.track(0.5, name="loss")
    run.flush()
    (both,) = run.dataframe(include_params=True).to_dict("records")
    assert (both["hash"], both["name"], both["hparams.lr"]) == (run.hash, "first", 0.1)
    assert both["hparams.layers"] == "[1, 2]"
    (props,) = run.dataframe(include_props=True, include_params=False).to_dict("records")
    assert props["name"] == "first"
    assert "hparams.lr" not in props
    (params,) = run.dataframe(include_props=False).to_dict("records")
    assert params["name"] == "hidden by the property"
    assert len(run.dataframe()) == 1


def test_what_a_run_does_not_have_is_named_with_the_next_step(run):
    for name, hint in (
        ("finish", "use `close`"),
        ("__import", r"read the param as `run\['__import'\]`"),
    ):
        with pytest.raises(AttributeError, match=f"{name}.*{hint}"):
            getattr(run, name)
    with pytest.raises(AttributeError, match=r"'unheard_of'$"):
        run.unheard_of()


def test_the_transport_of_the_client_of_matyan_03(shared_server):
    transport = WsTransport(shared_server.url, "transported")
    transport.send_create_run()
    transport.send_set_run_property(name="named", experiment="E")
    transport.send_log_hparams({"hparams": {"lr": 0.1, "layers": (1, 2)}})
    for step in range(5):
        transport.send_log_metric("loss", step / 2, step=step, context={"subset": "val"})
    transport.send_log_custom_object("text", {"type": "text", "data": "x"}, step=1, dtype="text")
    transport.send_add_tag("tag")
    transport.send_log_terminal_line("a line", 0)
    transport.send_log_record("hello", 20, 1_700_000_000.0, ["file.py", 3], {"a": 1})
    assert transport.wait_for_flush(30)
    assert transport.connected
    assert (transport.pending, transport.stats) == (0, {"sent": 12, "dropped": 0, "pending": 0})
    transport.send_finish_run()
    transport.close()
    transport.close()
    assert not transport.connected
    stored = Run("transported", repo=shared_server.url, read_only=True)
    assert (stored.name, stored.experiment, stored.tags) == ("named", "E", ["tag"])
    assert stored["hparams"] == {"lr": 0.1, "layers": [1, 2]}
    assert stored.series("loss", {"subset": "val"}).values.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert (stored.get_terminal_logs(), stored.active) == (["a line"], False)
    assert stored.get_text_sequence("text").values.tolist()[0].data == "x"


def test_a_transport_without_a_server_keeps_what_it_is_given():
    transport = WsTransport("http://127.0.0.1:1", "kept")
    transport.send_log_metric("loss", 1.0)
    assert not transport.wait_for_flush(0.1)
    assert (transport.pending, transport.connected) == (2, False)
    transport.close(0.1)
    assert transport.pending == 3
