"""PyTorch, Lightning and Ignite."""

from __future__ import annotations

import pickle
import warnings
from argparse import Namespace
from typing import Any

import pytest
import trainings
from recording import RecordingRun
from tracking import Tracking

torch = pytest.importorskip("torch")

LAYERS = ["0.Sequential__0.Linear", "1.Linear"]


@pytest.mark.parametrize("kind", ["data", "gradients"])
def test_distributions_are_tracked_for_each_layer(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if not tracking.url:
        monkeypatch.setattr("matyan_client.Run", RecordingRun)
    trainings.pytorch(tracking.options)
    run = tracking.run()
    assert run.series(LAYERS[0], {"type": kind, "params": "weights"})
    assert run.series(LAYERS[0], {"type": kind, "params": "biases"})
    assert run.series(LAYERS[1], {"type": kind, "params": "weights"})
    assert not run.series(LAYERS[1], {"type": kind, "params": "biases"})


def test_types_without_a_counterpart_in_numpy_are_converted() -> None:
    from matyan_client.adapters.pytorch import _to_numpy

    samples = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    assert _to_numpy(samples).tolist() == [1.0, 1.0, 1.0]


def test_a_failure_does_not_reach_the_training() -> None:
    from matyan_client.adapters.pytorch import track_params_dists

    tracked: list[str] = []

    class BrokenRun:
        def track(self, *_args: object, name: str, **_kwargs: object) -> None:
            tracked.append(name)
            raise OSError("disk full")

    track_params_dists(torch.nn.Sequential(torch.nn.Linear(1, 1)), BrokenRun())
    assert tracked == ["0.Linear"]


class TestLightning:
    """Logger of PyTorch Lightning."""

    @pytest.fixture(autouse=True)
    def _framework(self) -> None:
        pytest.importorskip("lightning")

    def logger(self, **arguments: Any) -> Any:
        from matyan_client.adapters.pytorch_lightning import MatyanLogger

        return MatyanLogger(**arguments)

    def test_a_training_and_its_test_share_a_run(self, tracking: Tracking) -> None:
        trainings.pytorch_lightning(tracking.options)
        run = tracking.run()
        assert run.name == "tiny"
        assert run.is_finished
        assert run.param("hparams") == {"rate": 0.1, "layers": 1}
        assert run.steps("loss", {"subset": "train"}) == [1, 3, 5, 7]
        assert run.steps("loss", {"subset": "val"}) == [3, 7]
        assert run.steps("loss", {"subset": "test"}) == [8]
        assert run.series("epoch") == []
        if not tracking.url:
            assert run.epochs("loss", {"subset": "train"}) == [0, 0, 1, 1]

    def test_name_and_version_are_experiment_and_hash(self, tracking: Tracking) -> None:
        logger = self.logger(**tracking.options)
        assert logger.name == tracking.experiment
        version = logger.version
        logger.finalize("success")
        assert tracking.run().hash == version == logger.version

    def test_a_hash_resumes_a_run(self, opened: list[dict[str, object]]) -> None:
        logger = self.logger(run_hash="abc", run_name="again")
        assert logger.version == "abc"
        logger.log_metrics({"val_loss": 0.5, "epoch": 3}, step=9)
        assert opened[0]["run_hash"] == "abc"
        assert opened[0]["force_resume"] is True
        assert RecordingRun.stored["abc"].series("loss", {"subset": "val"}) == [(9, 0.5, 3)]

    @pytest.mark.parametrize(
        ("arguments", "name", "expected"),
        [
            ({}, "train_loss", ("loss", {"subset": "train"})),
            ({}, "loss", ("loss", {})),
            (
                {"context_prefixes": {"subset": {"fit": "fit/"}, "level": {"top": "top."}}},
                "fit/top.loss",
                ("loss", {"subset": "fit", "level": "top"}),
            ),
            ({"context_prefixes": {}}, "train_loss", ("train_loss", {})),
            (
                {"context_postfixes": {"unit": {"step": "_step", "epoch": "_epoch"}}},
                "val_loss_epoch",
                ("loss", {"subset": "val", "unit": "epoch"}),
            ),
        ],
    )
    def test_affixes_become_the_context(
        self, arguments: Any, name: str, expected: tuple[str, dict[str, str]]
    ) -> None:
        assert self.logger(**arguments).parse_context(name) == expected

    def test_old_prefix_arguments_warn(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.logger()
        with pytest.warns(DeprecationWarning, match="train_metric_prefix") as shown:
            logger = self.logger(train_metric_prefix="fit_")
        assert shown[0].filename == __file__
        assert logger.parse_context("fit_loss") == ("loss", {"subset": "train"})
        with (
            pytest.warns(DeprecationWarning, match="val_metric_prefix"),
            pytest.raises(ValueError, match="context_prefixes"),
        ):
            self.logger(val_metric_prefix=None, context_prefixes={})

    def test_hyperparameters_may_be_a_namespace_or_a_container(self, tracking: Tracking) -> None:
        omegaconf = pytest.importorskip("omegaconf")
        logger = self.logger(**tracking.options)
        logger.log_hyperparams(Namespace(rate=0.5))
        config = omegaconf.OmegaConf.create(
            {"depth": 3, "twice": "${depth}", "net": {"bias": True}}
        )
        logger.log_hyperparams(config)
        logger.finalize("success")
        expected = {"rate": 0.5, "depth": 3, "twice": 3, "net": {"bias": True}}
        assert tracking.run().param("hparams") == expected

    def test_a_logger_can_be_sent_to_another_process(self, tracking: Tracking) -> None:
        logger = self.logger(**tracking.options)
        logger.log_metrics({"loss": 1.0}, step=0)
        twin = pickle.loads(pickle.dumps(logger))
        assert twin.version == logger.version
        logger.finalize("success")

    def test_other_ranks_track_nothing(
        self, opened: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lightning.pytorch.utilities import rank_zero_only

        monkeypatch.setattr(rank_zero_only, "rank", 1)
        logger = self.logger()
        logger.log_metrics({"loss": 1.0})
        logger.log_hyperparams({"rate": 1})
        logger.experiment.track(1.0, name="loss")
        assert logger.version is None
        assert opened == []

    def test_a_bad_value_does_not_stop_the_training(self, tracking: Tracking) -> None:
        logger = self.logger(**tracking.options)
        logger.log_metrics({"loss": "many", "error": 0.5}, step=1)
        logger.finalize("success")
        assert logger.tracking_failures == 1
        assert tracking.run().values("error") == [0.5]


class TestIgnite:
    """Logger and handlers of PyTorch Ignite."""

    @pytest.fixture(autouse=True)
    def _framework(self) -> None:
        pytest.importorskip("ignite")

    def test_handlers_track_output_metrics_and_parameters(self, tracking: Tracking) -> None:
        trainings.pytorch_ignite(tracking.options)
        run = tracking.run()
        assert run.param("hparams") == {"rate": 0.5, "model": {"layers": 2}}
        assert run.steps("loss", {"subset": "train"}) == [1, 2, 3, 4, 5, 6]
        assert run.values("loss", {"subset": "train"}) == [0.5, 1.0, 1.5, 0.5, 1.0, 1.5]
        assert run.values("error", {"subset": "val"}) == [0.25]
        assert run.values("lr_group_0") == [0.5] * 6
        assert run.is_finished

    def test_handlers_reject_other_loggers(self) -> None:
        from ignite.engine import Engine, Events

        from matyan_client.adapters.pytorch_ignite import OptimizerParamsHandler, OutputHandler

        engine = Engine(lambda _engine, _batch: None)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
        for handler in (OutputHandler("train", "all"), OptimizerParamsHandler(optimizer)):
            with pytest.raises(TypeError, match="MatyanLogger"):
                handler(engine, object(), Events.EPOCH_COMPLETED)

    def test_version_is_the_hash_and_prefixes_can_be_off(self, tracking: Tracking) -> None:
        from matyan_client.adapters.pytorch_ignite import MatyanLogger

        with MatyanLogger(train_metric_prefix=None, **tracking.options) as logger:
            logger.log_metrics({"train_loss": 1.0, "test_loss": 2.0}, step=3)
            assert logger.version == logger.experiment.hash
            assert logger.name == tracking.experiment
        run = tracking.run()
        assert run.steps("train_loss") == [3]
        assert run.steps("loss", {"subset": "test"}) == [3]
        assert run.is_finished
