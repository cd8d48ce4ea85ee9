"""Logger and handlers of PyTorch Ignite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ._base import RunAdapter, RunOptions
from ._exception_resistant import guarded
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL, parse_context_prefix, plain_params

try:
    from ignite.handlers.base_logger import (
        BaseLogger,
        BaseOptimizerParamsHandler,
        BaseOutputHandler,
    )
except ImportError:
    # Ignite before 0.5 has these classes in its `contrib` package.
    try:
        from ignite.contrib.handlers.base_logger import (
            BaseLogger,
            BaseOptimizerParamsHandler,
            BaseOutputHandler,
        )
    except ImportError as error:
        message = "pytorch-ignite is not installed; run `pip install pytorch-ignite`"
        raise RuntimeError(message) from error

if TYPE_CHECKING:
    from ignite.engine import Engine, Events
    from torch.optim import Optimizer

__all__ = ["AimLogger", "MatyanLogger", "OptimizerParamsHandler", "OutputHandler"]


class MatyanLogger(RunAdapter, BaseLogger):
    """Logger to attach to an engine with `attach_output_handler` or `attach_opt_params_handler`.

    A prefix in the name of a metric becomes the context `subset`: with the defaults, `val_loss` is
    tracked as `loss` with the context `{"subset": "val"}`.
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
    ) -> None:
        super().__init__()
        prefixes = {
            "train": train_metric_prefix,
            "test": test_metric_prefix,
            "val": val_metric_prefix,
        }
        self._prefixes = {subset: prefix for subset, prefix in prefixes.items() if prefix}
        self._init_run(
            RunOptions(
                repo, experiment, system_tracking_interval, log_system_params, capture_terminal_logs
            )
        )

    @property
    def name(self) -> str | None:
        return self._session.options.experiment

    @property
    def version(self) -> str:
        return self.experiment.hash

    @guarded
    def log_params(self, params: Mapping[str, Any]) -> None:
        self._set_params(plain_params(params), "hparams.")

    @guarded
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        for key, value in metrics.items():
            name, context = parse_context_prefix(key, self._prefixes)
            self._track(value, name, step=step, context=context)

    def _create_output_handler(self, *args: Any, **kwargs: Any) -> OutputHandler:
        return OutputHandler(*args, **kwargs)

    def _create_opt_params_handler(self, *args: Any, **kwargs: Any) -> OptimizerParamsHandler:
        return OptimizerParamsHandler(*args, **kwargs)


class OutputHandler(BaseOutputHandler):
    """Handler that tracks the output and the metrics of an engine as `<tag>_<name>`."""

    def __init__(
        self,
        tag: str,
        metric_names: str | list[str] | None = None,
        output_transform: Callable[..., Any] | None = None,
        global_step_transform: Callable[..., int] | None = None,
        state_attributes: list[str] | None = None,
    ) -> None:
        super().__init__(
            tag, metric_names, output_transform, global_step_transform, state_attributes
        )

    def __call__(self, engine: Engine, logger: MatyanLogger, event_name: str | Events) -> None:
        _require_logger(logger, self)
        rendered = self._setup_output_metrics_state_attrs(engine)
        step = self.global_step_transform(engine, event_name)
        if not isinstance(step, int):
            raise TypeError(f"global_step_transform must return an int, not {type(step).__name__}")
        logger.log_metrics({"_".join(key): value for key, value in rendered.items()}, step=step)


class OptimizerParamsHandler(BaseOptimizerParamsHandler):
    """Handler that tracks a parameter of each group of an optimizer."""

    def __init__(
        self, optimizer: Optimizer, param_name: str = "lr", tag: str | None = None
    ) -> None:
        super().__init__(optimizer, param_name, tag)

    def __call__(self, engine: Engine, logger: MatyanLogger, event_name: str | Events) -> None:
        _require_logger(logger, self)
        step = engine.state.get_event_attrib_value(event_name)
        tag = f"{self.tag}_" if self.tag else ""
        values = {
            f"{tag}{self.param_name}_group_{index}": float(group[self.param_name])
            for index, group in enumerate(self.optimizer.param_groups)
        }
        logger.log_metrics(values, step=step)


def _require_logger(logger: object, handler: object) -> None:
    if not isinstance(logger, MatyanLogger):
        raise TypeError(
            f"{type(handler).__name__} works with a MatyanLogger, not {type(logger).__name__}"
        )


AimLogger = MatyanLogger
