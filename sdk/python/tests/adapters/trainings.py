"""Small trainings with real frameworks, the same for every client that offers the adapters.

Run as a script, it trains once with the installed client and tracks on a server, which is how the
results of two clients are compared::

    python trainings.py xgboost --repo http://127.0.0.1:53800 --experiment NAME
"""

from __future__ import annotations

import argparse
import importlib
import io
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

Options = Mapping[str, Any]

ROUNDS = 5


def _adapter(name: str) -> Any:
    return importlib.import_module(f"matyan_client.adapters.{name}")


def _close(adapter: Any) -> None:
    # Some of the published adapters have no `close`.
    close = getattr(adapter, "close", None)
    if close is None:
        close = adapter.experiment.close
    close()


def _named(options: Options) -> dict[str, Any]:
    """Options of the adapters whose argument is called `experiment_name`."""
    return {
        "experiment_name" if key == "experiment" else key: value for key, value in options.items()
    }


def _table(seed: int = 7) -> tuple[Any, Any]:
    import numpy as np

    random = np.random.default_rng(seed)
    features = random.normal(size=(120, 4))
    return features, (features[:, 0] + 0.1 * random.normal(size=120) > 0).astype(int)


def xgboost(options: Options) -> Any:
    import xgboost

    features, labels = _table()
    train = xgboost.DMatrix(features[:80], labels[:80])
    valid = xgboost.DMatrix(features[80:], labels[80:])
    callback = _adapter("xgboost").MatyanCallback(**options)
    params = {"objective": "binary:logistic", "eval_metric": ["logloss", "auc"], "nthread": 1}
    history: dict[str, Any] = {}
    xgboost.train(
        params,
        train,
        ROUNDS,
        evals=[(train, "train"), (valid, "valid")],
        evals_result=history,
        callbacks=[callback],
        verbose_eval=False,
    )
    return history


def xgboost_cv(options: Options) -> Any:
    import xgboost

    callback = _adapter("xgboost").MatyanCallback(**options)
    params = {"objective": "binary:logistic", "nthread": 1}
    return xgboost.cv(
        params, xgboost.DMatrix(*_table()), ROUNDS, nfold=3, seed=1, callbacks=[callback]
    )


def lightgbm(options: Options) -> Any:
    import lightgbm

    features, labels = _table()
    train = lightgbm.Dataset(features[:80], labels[:80])
    valid = train.create_valid(features[80:], labels[80:])
    callback = _adapter("lightgbm").MatyanCallback(**options)
    history: dict[str, Any] = {}
    params = {"objective": "binary", "num_threads": 1, "verbosity": -1, "deterministic": True}
    lightgbm.train(
        params,
        train,
        ROUNDS,
        valid_sets=[train, valid],
        valid_names=["train", "valid"],
        callbacks=[callback, lightgbm.record_evaluation(history)],
    )
    callback.close()
    return history


def lightgbm_cv(options: Options) -> Any:
    import lightgbm

    callback = _adapter("lightgbm").MatyanCallback(**options)
    params = {"objective": "binary", "num_threads": 1, "verbosity": -1, "deterministic": True}
    history = lightgbm.cv(
        params, lightgbm.Dataset(*_table()), ROUNDS, nfold=3, seed=1, callbacks=[callback]
    )
    callback.close()
    return history


def catboost(options: Options) -> Any:
    import catboost

    features, labels = _table()
    echo = io.StringIO()
    logger = _adapter("catboost").MatyanLogger(loss_function="Logloss", log_cout=echo, **options)
    with tempfile.TemporaryDirectory() as directory:
        model = catboost.CatBoostClassifier(
            iterations=ROUNDS, random_seed=1, thread_count=1, train_dir=directory
        )
        model.fit(
            features[:80],
            labels[:80],
            eval_set=(features[80:], labels[80:]),
            log_cout=logger,
            log_cerr=io.StringIO(),
        )
        _close(logger)
    return model.get_evals_result(), echo.getvalue()


def _study(options: Options, objective: Callable[[Any], Any], **arguments: Any) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = arguments.pop("directions", ["minimize"])
    study = optuna.create_study(
        study_name="parabola", directions=directions, sampler=optuna.samplers.RandomSampler(seed=3)
    )
    callback = _adapter("optuna").MatyanCallback(**arguments, **_named(options))
    study.optimize(objective, n_trials=4, callbacks=[callback])
    callback.close()
    return study


def optuna(options: Options) -> Any:
    def objective(trial: Any) -> float:
        return float(trial.suggest_float("x", -1, 1) ** 2 + trial.suggest_int("n", 1, 5))

    return _study(options, objective)


def optuna_multirun(options: Options) -> Any:
    def objective(trial: Any) -> float:
        trial.suggest_categorical("kind", ["adam", "sgd"])
        return float(trial.suggest_float("x", -1, 1) ** 2)

    return _study(options, objective, as_multirun=True)


def optuna_two_values(options: Options) -> Any:
    def objective(trial: Any) -> tuple[float, float]:
        x = trial.suggest_float("x", -1, 1)
        return x**2, -x

    return _study(options, objective, directions=["minimize", "maximize"])


def _keras_model(rate: Any = 0.1) -> Any:
    import keras

    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.SGD(rate), "binary_crossentropy", metrics=["accuracy"])
    return model


def keras(options: Options, module: str = "keras") -> Any:
    import keras

    features, labels = _table()
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)
    callback = _adapter(module).MatyanCallback(**options)
    history = _keras_model(rate).fit(
        features[:80],
        labels[:80],
        validation_data=(features[80:], labels[80:]),
        epochs=3,
        batch_size=16,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    )
    callback.close()
    return history.history


def tensorflow(options: Options) -> Any:
    return keras(options, "tensorflow")


def keras_tuner(options: Options) -> Any:
    import keras_tuner

    features, labels = _table()
    with tempfile.TemporaryDirectory() as directory:
        tuner = keras_tuner.RandomSearch(
            lambda params: _keras_model(params.Choice("rate", [0.1, 0.01])),
            objective="accuracy",
            max_trials=2,
            executions_per_trial=2,
            seed=1,
            directory=directory,
        )
        callback = _adapter("keras_tuner").MatyanCallback(tuner, **options)
        tuner.search(features, labels, epochs=2, batch_size=40, verbose=0, callbacks=[callback])
    return {trial.trial_id: trial.hyperparameters.values for trial in tuner.oracle.trials.values()}


def pytorch(options: Options) -> Any:
    import torch

    from matyan_client import Run

    torch.manual_seed(1)
    block = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    model = torch.nn.Sequential(block, torch.nn.Linear(3, 1, bias=False))
    model(torch.ones(2, 4)).sum().backward()
    run = Run(**options)
    _adapter("pytorch").track_params_dists(model, run)
    _adapter("pytorch").track_gradients_dists(model, run)
    run.close()
    return model


def pytorch_lightning(options: Options) -> Any:
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self, rate: float = 0.1, layers: int = 1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(4, 1)

        def _loss(self, batch: Any, name: str) -> Any:
            loss = (self.layer(batch[0]) ** 2).mean()
            self.log(name, loss)
            return loss

        def training_step(self, batch: Any, _index: int) -> Any:
            return self._loss(batch, "train_loss")

        def validation_step(self, batch: Any, _index: int) -> None:
            self._loss(batch, "val_loss")

        def test_step(self, batch: Any, _index: int) -> None:
            self._loss(batch, "test_loss")

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), self.hparams["rate"])

    lightning.seed_everything(1, verbose=False)
    dataset = torch.utils.data.TensorDataset(torch.linspace(0, 1, 64).reshape(16, 4))
    loader = torch.utils.data.DataLoader(dataset, batch_size=4)
    logger = _adapter("pytorch_lightning").MatyanLogger(run_name="tiny", **options)
    with tempfile.TemporaryDirectory() as directory:
        trainer = lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=logger,
            log_every_n_steps=2,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=directory,
        )
        model = Model()
        trainer.fit(model, loader, loader)
        trainer.test(model, loader, verbose=False)
    logger.finalize("success")
    return trainer


def pytorch_ignite(options: Options) -> Any:
    import torch
    from ignite.engine import Engine, Events

    torch.manual_seed(1)
    adapter = _adapter("pytorch_ignite")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    trainer = Engine(lambda _engine, batch: {"loss": float(batch) / 2})
    evaluator = Engine(lambda _engine, batch: batch)

    @evaluator.on(Events.EPOCH_COMPLETED)
    def _measure(engine: Any) -> None:
        engine.state.metrics["error"] = 0.25

    logger = adapter.MatyanLogger(**options)
    logger.log_params({"rate": 0.5, "model": {"layers": 2}})
    logger.attach_output_handler(
        trainer,
        event_name=Events.ITERATION_COMPLETED,
        tag="train",
        output_transform=lambda output: {"loss": output["loss"]},
    )
    logger.attach_output_handler(
        evaluator, event_name=Events.EPOCH_COMPLETED, tag="val", metric_names=["error"]
    )
    logger.attach_opt_params_handler(
        trainer, event_name=Events.ITERATION_STARTED, optimizer=optimizer
    )
    trainer.run([1, 2, 3], max_epochs=2)
    evaluator.run([1], max_epochs=1)
    logger.close()


def _trainer(callback: Any, directory: str) -> Any:
    import torch
    import transformers

    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=8,
        num_labels=2,
    )
    rows = [
        {"input_ids": [index % 20, 1, 2], "attention_mask": [1, 1, 1], "labels": index % 2}
        for index in range(12)
    ]
    arguments = transformers.TrainingArguments(
        directory,
        num_train_epochs=2,
        per_device_train_batch_size=4,
        eval_strategy="epoch",
        logging_steps=2,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=1,
    )
    trainer = transformers.Trainer(
        transformers.BertForSequenceClassification(config),
        arguments,
        train_dataset=rows,
        eval_dataset={"easy": rows[:4], "hard": rows[4:]},
        callbacks=[callback],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def hugging_face(options: Options) -> Any:
    callback = _adapter("hugging_face").MatyanCallback(**options)
    with tempfile.TemporaryDirectory() as directory:
        trainer = _trainer(callback, directory)
        trainer.train()
    return trainer.state


def sb3(options: Options) -> Any:
    import stable_baselines3

    callback = _adapter("sb3").MatyanCallback(**_named(options))
    model = stable_baselines3.PPO(
        "MlpPolicy", "CartPole-v1", n_steps=64, batch_size=32, seed=1, device="cpu"
    )
    model.learn(128, callback=callback)
    _close(callback)
    return model


def fastai(options: Options) -> Any:
    import fastai.callback.progress  # noqa: F401, which adds `no_bar` to the learner
    from fastai.test_utils import synth_learner
    from fastai.torch_core import set_seed

    set_seed(1)
    callback = _adapter("fastai").MatyanCallback(**_named(options))
    learner = synth_learner(n_trn=4, n_val=2, cbs=[callback])
    with learner.no_bar(), learner.no_logging():
        learner.fit(2)
    _close(callback)
    return learner


def prophet(options: Options) -> Any:
    import prophet

    model = prophet.Prophet(n_changepoints=7, seasonality_mode="multiplicative")
    logger = _adapter("prophet").MatyanLogger(model, **options)
    logger.track_metrics({"mae": 0.5})
    logger.track_metrics({"mae": 0.25}, context={"subset": "test"})
    _close(logger)


def paddle(options: Options) -> Any:
    import numpy as np
    import paddle

    paddle.seed(1)
    rows = [(np.full(4, index, "float32"), np.ones(1, "float32")) for index in range(8)]
    callback = _adapter("paddle").MatyanCallback(**_named(options))
    model = paddle.Model(paddle.nn.Linear(4, 1))
    optimizer = paddle.optimizer.SGD(0.001, parameters=model.parameters())
    model.prepare(optimizer, paddle.nn.MSELoss())
    model.fit(rows, rows, batch_size=4, epochs=2, verbose=0, shuffle=False, callbacks=[callback])
    _close(callback)


TRAININGS: Mapping[str, Callable[[Options], Any]] = {
    function.__name__: function
    for function in (
        xgboost,
        xgboost_cv,
        lightgbm,
        lightgbm_cv,
        catboost,
        optuna,
        optuna_multirun,
        optuna_two_values,
        keras,
        tensorflow,
        keras_tuner,
        pytorch,
        pytorch_lightning,
        pytorch_ignite,
        hugging_face,
        sb3,
        fastai,
        prophet,
        paddle,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("training", choices=TRAININGS)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--experiment", required=True)
    arguments = parser.parse_args()
    TRAININGS[arguments.training](
        {
            "repo": arguments.repo,
            "experiment": arguments.experiment,
            "system_tracking_interval": None,
            "log_system_params": False,
            "capture_terminal_logs": False,
        }
    )


if __name__ == "__main__":
    main()
