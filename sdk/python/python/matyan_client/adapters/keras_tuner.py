"""Callback of KerasTuner: one run for each trial."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ._base import RunAdapter, RunOptions, RunSession
from ._exception_resistant import guarded
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL

try:
    import keras_tuner  # noqa: F401
    from keras.callbacks import Callback
except ImportError as error:
    raise RuntimeError("keras-tuner is not installed; run `pip install keras-tuner`") from error

__all__ = ["AimCallback", "MatyanCallback"]


class MatyanCallback(RunAdapter, Callback):
    """Callback for `tuner.search(callbacks=[MatyanCallback(tuner)])`.

    Each trial has its own run, with the id of the trial, its hyperparameters, and the logs of
    each batch. Several executions of a trial share its run.
    """

    def __init__(
        self,
        tuner: Any = None,
        repo: str | None = None,
        experiment: str | None = None,
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
    ) -> None:
        super().__init__()
        self.tuner = tuner
        self._init_run(
            RunOptions(
                repo, experiment, system_tracking_interval, log_system_params, capture_terminal_logs
            )
        )
        self._sessions: dict[str, RunSession] = {}

    def __deepcopy__(self, _memo: dict[int, Any]) -> MatyanCallback:
        # KerasTuner copies its callbacks for every execution. All copies share the tuner, whose
        # current trial they ask for, and the runs, so that a trial keeps its run.
        return copy.copy(self)

    @guarded
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        trial = self._current_trial()
        if trial is None:
            return
        session = self._sessions.get(trial.trial_id)
        if session is None:
            session = RunSession(self._session.options)
            self._sessions[trial.trial_id] = session
            self._session = session
            self._set_param("trial_id", trial.trial_id)
        self._session = session
        self._set_params(trial.hyperparameters.values, "hparams.")

    @guarded
    def on_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._session.run is not None:
            for name, value in (logs or {}).items():
                self._track(value, name)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self.close()

    def _current_trial(self) -> Any:
        if self.tuner is None:
            return None
        trials = self.tuner.oracle.ongoing_trials
        trial = trials.get(getattr(self.tuner, "tuner_id", None))
        return trial if trial is not None else next(iter(trials.values()), None)


AimCallback = MatyanCallback
