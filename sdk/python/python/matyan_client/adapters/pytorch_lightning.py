"""Logger of PyTorch Lightning."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matyan_client._warnings import level_of_caller

from ._base import RunAdapter, RunOptions
from ._exception_resistant import guarded
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL, plain_params

try:
    from lightning.pytorch.loggers.logger import DummyExperiment, Logger, rank_zero_experiment
    from lightning.pytorch.utilities import rank_zero_only
except ImportError:
    try:
        from pytorch_lightning.loggers.logger import DummyExperiment, Logger, rank_zero_experiment
        from pytorch_lightning.utilities import rank_zero_only
    except ImportError as error:
        message = "lightning is not installed; run `pip install lightning`"
        raise RuntimeError(message) from error

if TYPE_CHECKING:
    from matyan_client import Run

__all__ = ["AimLogger", "MatyanLogger"]

ContextAffixes = Mapping[str, Mapping[str, str]]

DEFAULT_PREFIXES = {"train": "train_", "val": "val_", "test": "test_"}


class MatyanLogger(RunAdapter, Logger):
    """Logger for `Trainer(logger=...)`.

    `context_prefixes` and `context_postfixes` map a context key to its values, and each value to
    the affix of a metric's name that stands for it: with `{"subset": {"val": "val_"}}`, the metric
    `val_loss` is tracked as `loss` with the context `{"subset": "val"}`.

    Only the process with rank 0 tracks. Logging after `finalize`, for example by `trainer.test`
    after `trainer.fit`, continues the same run.
    """

    def __init__(
        self,
        repo: str | None = None,
        experiment: str | None = None,
        train_metric_prefix: str | None = "train_",
        val_metric_prefix: str | None = "val_",
        test_metric_prefix: str | None = "test_",
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
        run_name: str | None = None,
        run_hash: str | None = None,
        context_prefixes: ContextAffixes | None = None,
        context_postfixes: ContextAffixes | None = None,
    ) -> None:
        super().__init__()
        subsets = {
            "train": train_metric_prefix,
            "val": val_metric_prefix,
            "test": test_metric_prefix,
        }
        self._context_prefixes = _choose_prefixes(subsets, context_prefixes)
        self._context_postfixes = context_postfixes or {}
        self._run_name = run_name
        self._init_run(
            RunOptions(
                repo,
                experiment,
                system_tracking_interval,
                log_system_params,
                capture_terminal_logs,
            ),
            run_hash,
        )

    @property
    @rank_zero_experiment
    def experiment(self) -> Run:
        """The run in the process with rank 0; a placeholder without effects in all others."""
        # The trainer itself reads this property, so that it must not raise.
        return self._open_run_or_none() or DummyExperiment()

    @property
    def name(self) -> str | None:
        return self._session.options.experiment

    @property
    def version(self) -> str | None:
        if self._session.run_hash is None and rank_zero_only.rank == 0:
            self._open_run()
        return self._session.run_hash

    @rank_zero_only
    @guarded
    def log_hyperparams(
        self, params: Mapping[str, Any] | Namespace, *_args: Any, **_kwargs: Any
    ) -> None:
        self._open_run()
        self._set_params(plain_params(params), "hparams.")

    @rank_zero_only
    @guarded
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._open_run()
        epoch = metrics.get("epoch")
        for key, value in metrics.items():
            if key != "epoch":
                name, context = self.parse_context(key)
                self._track(value, name, step=step, epoch=epoch, context=context)

    def parse_context(self, name: str) -> tuple[str, dict[str, str]]:
        """Returns the name without its affixes, and the context that they stand for."""
        context: dict[str, str] = {}
        for key, values in self._context_prefixes.items():
            for value, prefix in values.items():
                if name.startswith(prefix):
                    name = name.removeprefix(prefix)
                    context[key] = value
                    break
        for key, values in self._context_postfixes.items():
            for value, postfix in values.items():
                if name.endswith(postfix):
                    name = name.removesuffix(postfix)
                    context[key] = value
                    break
        return name, context

    @rank_zero_only
    def finalize(self, status: str = "") -> None:
        super().finalize(status)
        self.close()

    def _open_run(self) -> None:
        self._open_run_or_none()

    @guarded
    def _open_run_or_none(self) -> Run:
        is_closed = self._session.run is None
        run = self._session.open()
        if is_closed and self._run_name is not None:
            run.name = self._run_name
        return run


def _choose_prefixes(
    subsets: Mapping[str, str | None], context_prefixes: ContextAffixes | None
) -> ContextAffixes:
    changed = [subset for subset, prefix in subsets.items() if prefix != DEFAULT_PREFIXES[subset]]
    for subset in changed:
        warnings.warn(
            f"{subset}_metric_prefix is deprecated; use context_prefixes instead",
            DeprecationWarning,
            stacklevel=level_of_caller(),
        )
    if context_prefixes is None:
        used = {subset: prefix for subset, prefix in subsets.items() if prefix}
        return {"subset": used} if used else {}
    if changed:
        raise ValueError(
            f"{changed[0]}_metric_prefix cannot be combined with context_prefixes; "
            "add the prefix to context_prefixes"
        )
    return context_prefixes


AimLogger = MatyanLogger
