"""Callback of the Hugging Face Trainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from itertools import combinations
from typing import Any

from matyan_client._warnings import warn_user

from ._base import CallbackAdapter
from ._exception_resistant import guarded
from ._utils import is_number, with_objects_as_text

try:
    from transformers.trainer_callback import TrainerCallback
except ImportError as error:
    raise RuntimeError("transformers is not installed; run `pip install transformers`") from error

__all__ = ["AimCallback", "MatyanCallback"]

SUBSETS = ("train", "eval", "test")


class MatyanCallback(CallbackAdapter, TrainerCallback):
    """Callback for `Trainer(callbacks=[...])`.

    The prefixes `train_`, `eval_` and `test_` of log keys become the context `subset`. If the
    trainer evaluates several named data sets, their name becomes the context `sub_dataset`.

    Only the first process of a distributed training tracks.
    """

    _has_warned = False

    @guarded
    def setup(self, args: Any = None, state: Any = None, model: Any = None) -> None:
        """Opens the run and records the training arguments and the configuration of the model."""
        if state is not None and not state.is_world_process_zero:
            return
        self._open_run()
        if args is not None:
            self._set_params(args.to_sanitized_dict(), "hparams.")
        config = getattr(model, "config", None)
        if config is not None:
            labels = getattr(model, "num_labels", None)
            values = with_objects_as_text({**vars(config), "num_labels": labels})
            self._set_param("model", values)

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.setup(state=state)

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        self.setup(args, state, model)

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero:
            return
        if self._session.run is None:
            self.setup(args, state, model)
        self._track_logs(logs or {}, state)

    @guarded
    def _track_logs(self, logs: Mapping[str, Any], state: Any) -> None:
        # A key with the name of a data set has at least three parts.
        named = any(key.count("_") > 1 for key in logs)
        common = common_substring(logs) if named else ""
        for key, value in logs.items():
            if not is_number(value):
                self._warn_not_numeric(key, value)
                continue
            name, context = parse_log_key(key, common)
            self._track(value, name, step=state.global_step, epoch=state.epoch, context=context)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.close()

    def _warn_not_numeric(self, key: str, value: object) -> None:
        if not self._has_warned:
            self._has_warned = True
            warn_user(f"skipped the log entry {key!r}: {type(value).__name__} is not a number")


def parse_log_key(key: str, common: str) -> tuple[str, dict[str, str]]:
    """Returns name and context of a log entry, for example of `eval_squad_loss`.

    `common` is the longest text that most keys of the same log share; if it extends the prefix of
    the subset, the extension is the name of the data set.
    """
    for subset in SUBSETS:
        prefix = f"{subset}_"
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            context = {"subset": subset}
            dataset = common.removeprefix(prefix)
            if common.startswith(prefix) and dataset and name.startswith(f"{dataset}_"):
                return name.removeprefix(f"{dataset}_"), {**context, "sub_dataset": dataset}
            return name, context
    return key, {}


def common_substring(keys: Iterable[str]) -> str:
    """Returns the longest common substring that occurs for most pairs of keys."""
    counts: Counter[str] = Counter()
    for first, second in combinations(keys, 2):
        match = SequenceMatcher(None, first, second).find_longest_match()
        counts[first[match.a : match.a + match.size]] += 1
    return max(counts, key=counts.__getitem__).rstrip("_") if counts else ""


AimCallback = MatyanCallback
