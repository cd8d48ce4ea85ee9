"""Callback of LightGBM: evaluation metrics of each boosting round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._base import CallbackAdapter
from ._exception_resistant import guarded

if TYPE_CHECKING:
    from lightgbm.callback import CallbackEnv

__all__ = ["AimCallback", "MatyanCallback"]

# Name that LightGBM gives to the aggregate over the folds of a cross-validation.
CROSS_VALIDATION = "cv_agg"


class MatyanCallback(CallbackAdapter):
    """Callback for `lightgbm.train`, `lightgbm.cv` and the scikit-learn estimators.

    The context holds the name of the data set. A cross-validation gives two series for each
    metric, `<name>-mean` and `<name>-stdv`.
    """

    # LightGBM reads these attributes: it sorts callbacks by `order`, and calls this callback after
    # the iteration.
    order = 25
    before_iteration = False

    def before_tracking(self, **kwargs: Any) -> None:
        """Hook for subclasses, called with `env` before an iteration is tracked."""

    def after_tracking(self, **kwargs: Any) -> None:
        """Hook for subclasses, called with `env` after an iteration was tracked."""

    def __call__(self, env: CallbackEnv) -> None:
        self._open_run()
        self.before_tracking(env=env)
        for result in env.evaluation_result_list or ():
            self._track_result(result)
        self.after_tracking(env=env)

    @guarded
    def _track_result(self, result: tuple[Any, ...]) -> None:
        data, name, value, _is_higher_better, *deviation = result
        if data == CROSS_VALIDATION:
            # LightGBM before 4.6 joins the names of data set and metric with a blank.
            data, _, name = name.partition(" ")
        context = {"data_name": data}
        if deviation:
            self._track(value, f"{name}-mean", context=context)
            self._track(deviation[0], f"{name}-stdv", context=context)
        else:
            self._track(value, name, context=context)


AimCallback = MatyanCallback
