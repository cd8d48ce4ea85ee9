"""Callback of XGBoost: evaluation metrics of each boosting round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._base import CallbackAdapter
from ._exception_resistant import guarded

try:
    from xgboost.callback import TrainingCallback
except ImportError as error:
    raise RuntimeError("xgboost is not installed; run `pip install xgboost`") from error

__all__ = ["AimCallback", "MatyanCallback"]

History = Mapping[str, Mapping[str, Sequence[Any]]]


class MatyanCallback(CallbackAdapter, TrainingCallback):
    """Callback for `xgboost.train`, `xgboost.cv` and the scikit-learn estimators.

    The step is the boosting round. The context holds the name of the data set, and `stdv`, which
    is true for the standard deviation over the folds of a cross-validation.
    """

    def before_training(self, model: Any) -> Any:
        self.setup()
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: History) -> bool:
        self._track_round(epoch, evals_log)
        # True would ask XGBoost to stop.
        return False

    def after_training(self, model: Any) -> Any:
        self.close()
        return model

    @guarded
    def _track_round(self, iteration: int, history: History) -> None:
        for data, metrics in history.items():
            for name, values in metrics.items():
                # A cross-validation reports pairs of mean and standard deviation.
                last = values[-1]
                parts = last if isinstance(last, tuple) else (last,)
                for value, is_deviation in zip(parts, (False, True), strict=False):
                    context = {"data": data, "stdv": is_deviation}
                    self._track(value, name, step=iteration, context=context)


AimCallback = MatyanCallback
