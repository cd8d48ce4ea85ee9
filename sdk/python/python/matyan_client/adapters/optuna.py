"""Callback of Optuna: trials as steps of one run, or as separate runs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ._base import RunAdapter, RunOptions, RunSession
from ._exception_resistant import guarded
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL, is_number

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

__all__ = ["AimCallback", "MatyanCallback"]

T = TypeVar("T")


class TrialSessions:
    """A session for each thread, because Optuna may run trials and their callbacks in several."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._local = threading.local()

    def current(self) -> RunSession:
        session: RunSession | None = getattr(self._local, "session", None)
        if session is None:
            session = RunSession(self._options)
            self._local.session = session
        return session

    def finish(self) -> None:
        session = self.current()
        self._local.session = None
        session.close()

    def __getstate__(self) -> RunOptions:
        return self._options

    def __setstate__(self, options: RunOptions) -> None:
        self.__init__(options)  # type: ignore[misc]


class MatyanCallback(RunAdapter):
    """Callback for `study.optimize(callbacks=[...])`.

    By default, the params and values of all trials are metrics of one run, and the step is the
    number of the trial. A param that is not a number (a categorical param) becomes a run param:
    `hparams.<name>` holds the value of the latest trial, `trials.<number>.<name>` the values of all
    trials.

    With `as_multirun`, each trial is a run with the name `trial-<number>`, and params and values
    are run params. Trials that run in several threads have separate runs.
    """

    def __init__(
        self,
        metric_name: str | Sequence[str] = "value",
        as_multirun: bool = False,
        repo: str | None = None,
        experiment_name: str | None = None,
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
    ) -> None:
        if not isinstance(metric_name, (str, Sequence)):
            raise TypeError(
                f"metric_name must be a str or a sequence of str, not {type(metric_name).__name__}"
            )
        self._metric_name = metric_name
        self._as_multirun = as_multirun
        self._init_run(
            RunOptions(
                repo,
                experiment_name,
                system_tracking_interval,
                log_system_params,
                capture_terminal_logs,
            )
        )
        self._trials = TrialSessions(self._session.options)
        if not as_multirun:
            self.setup()

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        # A failed or pruned trial has no values.
        values = trial.values or []
        metrics = dict(zip(self._names_of(values), values, strict=True))
        self._set_param("hparams.direction", [direction.name for direction in study.directions])
        self._set_param("study_name", study.study_name)
        if self._as_multirun:
            self._name_trial(trial)
            self._set_params(trial.params, "hparams.")
            self._set_params({**metrics, "trial_number": trial.number})
            self.close()
        else:
            self._track_trial(trial, metrics)

    def track_in_aim(self) -> Callable[[Callable[[Trial], T]], Callable[[Trial], T]]:
        """Decorator of an objective that uses `experiment`: its run starts with the trial."""

        def decorate(objective: Callable[[Trial], T]) -> Callable[[Trial], T]:
            @functools.wraps(objective)
            def wrapper(trial: Trial) -> T:
                if self._as_multirun:
                    self._name_trial(trial)
                return objective(trial)

            return wrapper

        return decorate

    @guarded
    def close(self) -> None:
        """Closes the run; with `as_multirun`, the next trial of this thread has a new run."""
        if self._as_multirun:
            self._trials.finish()
        else:
            super().close()

    def _current_session(self) -> RunSession:
        return self._trials.current() if self._as_multirun else super()._current_session()

    def _names_of(self, values: Sequence[float]) -> Sequence[str]:
        if isinstance(self._metric_name, str):
            if len(values) > 1:
                return [f"{self._metric_name}_{index}" for index in range(len(values))]
            return [self._metric_name] * len(values)
        if values and len(values) != len(self._metric_name):
            raise ValueError(
                f"metric_name has {len(self._metric_name)} names, "
                f"but the study has {len(values)} values; give one name for each value"
            )
        return self._metric_name[: len(values)]

    def _track_trial(self, trial: FrozenTrial, metrics: dict[str, float]) -> None:
        for name, value in trial.params.items():
            if is_number(value):
                self._track(value, name, step=trial.number)
            else:
                self._set_param(f"hparams.{name}", value)
                self._set_param(("trials", str(trial.number), name), value)
        for name, value in metrics.items():
            self._track(value, name, step=trial.number)

    @guarded
    def _name_trial(self, trial: FrozenTrial | Trial) -> None:
        run = self._current_session().open()
        if run.name is None:
            run.name = f"trial-{trial.number}"


AimCallback = MatyanCallback
