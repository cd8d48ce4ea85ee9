"""The run object of W&B's interface."""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from matyan_client import Run as MatyanRun

from ._artifact import Artifact
from ._config import Config
from ._description import RunDescription
from ._files import RunFiles
from ._history import History
from ._metrics import Metric, MetricTable, summary_kinds
from ._notices import ignore_unknown, termwarn, warn_once
from ._options import Options
from ._summary import SummaryStore
from ._target import Staging
from .errors import CommError

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._watch import Watch

_LEVELS = {"INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}

P = ParamSpec("P")
T = TypeVar("T")


def _harmless(method: Callable[Concatenate[Run, P], T]) -> Callable[Concatenate[Run, P], T | None]:
    """Decorator of a method whose failures are reported once, and never reach the training.

    It does nothing after the end of the run.
    """

    @functools.wraps(method)
    def wrapper(self: Run, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        if self._is_finished:
            warn_once(f"wandb.{method.__name__}: run {self.id} is finished; the call is ignored")
            return None
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - tracking must not end a training
            warn_once(
                f"wandb.{method.__name__} failed; training continues, later failures are silent",
                error,
            )
            return None

    return wrapper


class Run(RunDescription):
    """A run with the methods of W&B, which stores in a run of Matyan, `matyan_run`.

    The project is the experiment; the config is stored in the params `hparams`, the summary in
    `summary`, and other facts that W&B keeps of a run in `wandb`. With mode "disabled" there is no
    run of Matyan: config and summary work, and nothing is stored.
    """

    def __init__(self, options: Options, target: MatyanRun | None, run_id: str) -> None:
        self._options = options
        self._id = run_id
        self.matyan_run = target
        self.start_time = time.time()
        # A forked child leaves the end of the run to its parent.
        self.pid = os.getpid()
        self.resumed = False
        self._is_finished = False
        staging = Staging()
        self._metrics = MetricTable()
        self._summary = SummaryStore(self._metrics, self._write_summary)
        self._config = Config(self._write_config)
        self._files = RunFiles(target, staging, options.directory, run_id)
        self._history: History | None = None
        if target is not None:
            self._history = History(target, staging, self._metrics, self._summary)
        self._watch: Watch | None = None

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        commit: bool | None = None,
        **keywords: Any,
    ) -> None:
        """Stores values in the row of a step.

        Without `step` and `commit`, the row is complete and the next call starts a new row. With
        `commit=False`, or with `step` alone, later calls add to the row. A step that is over is
        ignored. Nested dicts become names that are joined by dots.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"`data`: expected a dict, not {type(data).__name__}")
        if self._history is not None:
            ignore_unknown("log", {key: item for key, item in keywords.items() if key != "sync"})
            self._log(data, step, commit)

    @_harmless
    def _log(self, data: Mapping[str, Any], step: int | None, commit: bool | None) -> None:
        if self._history is not None:
            self._history.log(data, None if step is None else int(step), commit)

    @_harmless
    def define_metric(
        self,
        /,
        name: str,
        step_metric: str | Metric | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        goal: str | None = None,
        overwrite: bool | None = None,
        **keywords: Any,
    ) -> Metric:
        """Defines a metric, or all metrics whose name starts with `name` if that ends with `*`.

        `summary` names aggregates for the summary: min, max, mean, last, first, best, or none. They
        leave out NaN. A value that is not a number is shown as it is, where W&B shows 0.
        `step_metric` is another metric, whose value every row with this metric shall have, and
        which is the x axis of its charts unless readers choose another one.
        """
        ignore_unknown("define_metric", keywords)
        step_name = step_metric.name if isinstance(step_metric, Metric) else step_metric
        is_synced = True if step_sync is None else bool(step_sync)
        kinds = summary_kinds(summary)
        metric = Metric(str(name), step_name, is_synced, bool(hidden), kinds, goal)
        metric = self._metrics.define(metric, overwrite=bool(overwrite))
        described = metric.described()
        if described and self.matyan_run is not None:
            self.matyan_run["wandb", "metrics", metric.name] = described
        if self._history is not None:
            self._history.define(metric)
        return metric

    @_harmless
    def log_artifact(
        self,
        /,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,  # noqa: A002 - the name in W&B
        aliases: list[str] | None = None,
        **keywords: Any,
    ) -> Artifact:
        """Stores the files of an artifact, a directory, or a file."""
        ignore_unknown("log_artifact", keywords)
        artifact = artifact_or_path
        if not isinstance(artifact, Artifact):
            path = Path(artifact_or_path)
            artifact = Artifact(name or f"run-{self.id}-{path.name}", type or "unspecified")
            if path.is_dir():
                artifact.add_dir(str(path))
            else:
                artifact.add_file(str(path))
        return self._files.log_artifact(artifact, aliases)

    def log_model(
        self,
        path: str,
        name: str | None = None,
        aliases: list[str] | None = None,
    ) -> None:
        """Stores a file or directory as an artifact of type `model`."""
        self.log_artifact(path, name, "model", aliases)

    def use_artifact(self, artifact_or_name: Any, *_arguments: Any, **_keywords: Any) -> Artifact:
        """Returns an artifact of this process. Artifacts of other runs are read through `Repo`."""
        if isinstance(artifact_or_name, Artifact):
            return artifact_or_name
        raise CommError(
            f"wandb.use_artifact: cannot find {artifact_or_name!r}: artifacts belong to runs; "
            "use matyan_client.Repo().get_run(HASH).download_artifact(PATH, DESTINATION)"
        )

    def link_artifact(self, artifact: Any, target_path: str = "", **_keywords: Any) -> None:
        """Stores the artifact, with the path in a registry as an alias."""
        if isinstance(artifact, Artifact) and artifact.version is None:
            self.log_artifact(artifact, aliases=[target_path])
        else:
            warn_once("wandb.link_artifact: there is no registry; the artifact stays in its run")

    def link_model(
        self,
        path: str,
        registered_model_name: str = "",
        name: str | None = None,
        aliases: list[str] | None = None,
    ) -> None:
        """Stores a model, with its name in a registry as an alias."""
        self.log_model(path, name, [*(aliases or ()), registered_model_name])

    def restore(self, name: str, *_arguments: Any, **_keywords: Any) -> None:
        """Raises `CommError`: files of runs are read through `Repo`."""
        self.use_artifact(name)

    def use_model(self, name: str) -> None:
        """Raises `CommError`: models of runs are read through `Repo`."""
        self.use_artifact(name)

    @_harmless
    def save(
        self,
        glob_str: Any = None,
        base_path: Any = None,
        policy: str = "live",
    ) -> list[str]:
        """Stores files. With policy "live", they are stored again at the end if they change."""
        if glob_str is None:
            return []
        base = None if base_path is None else str(base_path)
        return self._files.save(str(glob_str), base, policy)

    @_harmless
    def log_code(self, root: str | None = ".", *_arguments: Any, **_keywords: Any) -> None:
        """Stores the Python files below a directory, without hidden and environment folders."""
        directory = Path(root or ".")
        skipped = {"venv", "env", "node_modules", "site-packages", "__pycache__", "wandb"}
        for path in sorted(directory.rglob("*.py")):
            parts = path.relative_to(directory).parts
            if not any(part.startswith(".") or part in skipped for part in parts):
                self._store_code(path, "/".join(parts))

    def _store_code(self, path: Path, name: str) -> None:
        if self.matyan_run is not None:
            self.matyan_run.log_artifact(path, f"code/{name}")

    @_harmless
    def watch(
        self,
        models: Any,
        criterion: Any = None,
        log: str | None = "gradients",
        log_freq: int = 1000,
        idx: int | None = None,
        log_graph: bool = False,
    ) -> None:
        """Records distributions of a model's gradients, parameters, or all of them."""
        del criterion, idx
        if log_graph:
            warn_once("wandb.watch: the graph of a model is not recorded")
        if self._history is None:
            return
        if self._watch is None:
            from ._watch import Watch  # noqa: PLC0415 - only for models of PyTorch

            self._watch = Watch(self._history.moment, log_freq)
        for model in models if isinstance(models, (list, tuple)) else (models,):
            self._watch.add(model, log)

    @_harmless
    def unwatch(self, models: Any = None) -> None:
        """Ends to watch models, or all of them."""
        if self._watch is not None:
            for model in models if isinstance(models, (list, tuple)) else (models,):
                self._watch.remove(model)

    @_harmless
    def alert(
        self, title: str, text: str = "", level: Any = None, wait_duration: Any = None
    ) -> None:
        """Stores a log record. Nothing is sent by mail or chat."""
        del wait_duration
        number = _LEVELS.get(str(getattr(level, "value", level) or "INFO").upper(), logging.INFO)
        if self.matyan_run is not None:
            location = _caller()
            self.matyan_run._append_log_record(  # noqa: SLF001 - a class of the same package
                number, f"{title}: {text}", time.time(), location, {"alert": str(title)}
            )

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """Ends the run. An exit code other than 0 marks it as failed."""
        del quiet
        error = SystemExit(exit_code) if exit_code else None
        self._end(error)

    def complete(self) -> None:
        """Records the facts of the end, while the run continues."""
        if self._history is not None and not self._is_finished:
            self._history.complete()
            self._summary.complete()
            self._files.complete()

    def continue_from(self, params: Mapping[str, Any], next_step: int | None) -> None:
        """Continues the run of an earlier process, from its params and steps."""
        self.resumed = True
        config = params.get("hparams")
        summary = params.get("summary")
        self._config.restore(config if isinstance(config, Mapping) else {})
        self._summary.restore(summary if isinstance(summary, Mapping) else {})
        if self._history is not None:
            self._history.knows_steps = next_step is not None
            self._history.step = next_step or 0

    def status(self) -> Any:
        """Returns the health of the run of Matyan."""
        return None if self.matyan_run is None else self.matyan_run.health

    def mark_preempting(self) -> None:
        """Exists in W&B, and has no effect: logged data survives the process anyway."""

    def display(self, *_arguments: Any, **_keywords: Any) -> bool:
        """Prints where the run is shown."""
        termwarn(f"run {self.id}: {self.url or 'not sent'}")
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)

    def __repr__(self) -> str:
        return f"Run(id={self.id!r}, project={self.project!r}, mode={self.mode!r})"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a run has no attribute {name!r} in matyan_client.wandb; "
            "use `run.matyan_run` for what Matyan offers"
        )

    def after_fork(self) -> None:
        """Replaces the locks in a forked child: a thread of the parent may have held them."""
        self._summary.after_fork()
        if self._history is not None:
            self._history.after_fork()

    def _end(self, error: BaseException | None) -> None:
        if self._is_finished:
            return
        try:
            self.complete()
        except Exception as failure:  # noqa: BLE001 - the run must be closed
            warn_once("wandb.finish: failed to record the end of the run", failure)
        self._is_finished = True
        target = self.matyan_run
        if target is not None:
            if self._watch is not None:
                self._watch.remove(None)
            # It records with which outcome the script ended.
            target.__exit__(None if error is None else type(error), error, None)
            # Otherwise the next process needs the copies, to finish the uploads.
            if target._is_stored:  # noqa: SLF001 - a class of the same package
                self._files.remove_copies()

    def _write_config(self, key: str, value: Any) -> None:
        self._write(("hparams", key), value)

    def _write_summary(self, summary: dict[str, Any]) -> None:
        self._write(("summary",), summary)

    def _write(self, key: tuple[str, ...], value: Any) -> None:
        if self.matyan_run is None or self._is_finished:
            return
        try:
            self.matyan_run[key] = value
        except Exception as error:  # noqa: BLE001 - tracking must not end a training
            warn_once(f"wandb: failed to store {'.'.join(key)!r}; training continues", error)

    def store_script(self) -> None:
        """Stores the file of the script."""
        script = getattr(sys.modules.get("__main__"), "__file__", None)
        if script and os.path.isfile(script):  # noqa: PTH113 - may be any text
            self._store_code(Path(script), Path(script).name)


def _caller() -> tuple[str, int]:
    """Returns file and line of the script's call."""
    frame = sys._getframe(1)  # noqa: SLF001 - `inspect` would slow down the import
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
