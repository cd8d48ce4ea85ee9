"""W&B's interface for Matyan: `import matyan_client.wandb as wandb`.

Scripts keep their calls. The project is the experiment, `notes` the description, and names of
metrics stay as they are. In queries, the config is `run.hparams`, so `run.hparams.lr > 0.1`, the
summary is `run.summary`, and group, job type, id, and entity are in `run.wandb`. Images, audio,
histograms, and figures are objects of Matyan; tables, pages, and other media are files among the
artifacts. A call without a counterpart is reported once and never stops a training.

The server and the spool are the same as for `matyan_client.Run`. Of W&B's environment variables,
those for project, entity, name, notes, tags, run id, group, job type, mode, resume, directory,
code, and git count. As in W&B, a run describes the machine and uploads the changes since the last
commit: `Settings(x_disable_meta=True)` turns both off, and `MATYAN_GIT_DIFF=0` the latter.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import _open_runs, errors, plot, util
from ._artifact import Artifact
from ._config import Config
from ._init import current_run, init
from ._media import (
    Audio,
    Classes,
    Histogram,
    Html,
    Image,
    Molecule,
    Object3D,
    Plotly,
    Table,
    Video,
)
from ._metrics import Metric
from ._notices import termerror, termlog, termwarn
from ._options import Settings
from ._run import Run
from ._summary import SummaryView
from .errors import CommError, Error, UsageError
from .plot import plot_table

if TYPE_CHECKING:
    config: Config
    run: Run | None
    summary: SummaryView

__all__ = [
    "AlertLevel",
    "Artifact",
    "Audio",
    "Classes",
    "CommError",
    "Error",
    "Histogram",
    "Html",
    "Image",
    "Molecule",
    "Object3D",
    "Plotly",
    "Run",
    "Settings",
    "Table",
    "UsageError",
    "Video",
    "alert",
    "config",
    "define_metric",
    "errors",
    "finish",
    "init",
    "log",
    "log_artifact",
    "log_model",
    "login",
    "mark_preempting",
    "plot",
    "plot_table",
    "require",
    "run",
    "save",
    "setup",
    "summary",
    "teardown",
    "termerror",
    "termlog",
    "termwarn",
    "unwatch",
    "use_artifact",
    "util",
    "watch",
]

_NEXT_STEPS = {
    "Api": "use matyan_client.Repo, whose queries find runs and read their series",
    "sweep": "use Optuna with matyan_client.optuna, or start the script once for each setting",
    "agent": "use Optuna with matyan_client.optuna, or start the script once for each setting",
    "controller": "use Optuna with matyan_client.optuna",
    "restore": "use matyan_client.Repo().get_run(HASH).download_artifact(PATH, DESTINATION)",
    "use_model": "use matyan_client.Repo().get_run(HASH).download_artifact(PATH, DESTINATION)",
    "link_model": "give the artifact an alias in log_artifact, which its run records",
    "link_artifact": "give the artifact an alias in log_artifact, which its run records",
    "keras": "use matyan_client.keras",
    "xgboost": "use matyan_client.xgboost",
    "lightgbm": "use matyan_client.lightgbm",
    "catboost": "use matyan_client.catboost",
    "fastai": "use matyan_client.fastai",
    "sb3": "use matyan_client.sb3",
    "integration": "use the adapters of matyan_client, such as matyan_client.keras",
    "tensorboard": "import the logs with matyan-client, or log the values directly",
}


class AlertLevel(enum.Enum):
    """Levels of `alert`."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


def log(
    data: Mapping[str, Any],
    step: int | None = None,
    commit: bool | None = None,
    **keywords: Any,
) -> None:
    """Stores values in the current run, see `Run.log`."""
    _required("wandb.log()").log(data, step, commit, **keywords)


def define_metric(name: str, *arguments: Any, **keywords: Any) -> Metric | None:
    """Defines a metric of the current run, see `Run.define_metric`."""
    return _required("wandb.define_metric()").define_metric(name, *arguments, **keywords)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """Ends the current run, if there is one."""
    run = current_run()
    if run is not None:
        run.finish(exit_code, quiet)


def log_artifact(artifact_or_path: Any, *arguments: Any, **keywords: Any) -> Artifact | None:
    """Stores an artifact of the current run, see `Run.log_artifact`."""
    return _required("wandb.log_artifact()").log_artifact(artifact_or_path, *arguments, **keywords)


def log_model(path: str, name: str | None = None, aliases: list[str] | None = None) -> None:
    """Stores a model of the current run, see `Run.log_model`."""
    _required("wandb.log_model()").log_model(path, name, aliases)


def use_artifact(artifact_or_name: Any, *arguments: Any, **keywords: Any) -> Artifact:
    """Returns an artifact of this process, see `Run.use_artifact`."""
    return _required("wandb.use_artifact()").use_artifact(artifact_or_name, *arguments, **keywords)


def save(glob_str: Any = None, base_path: Any = None, policy: str = "live") -> list[str] | None:
    """Stores files of the current run, see `Run.save`."""
    return _required("wandb.save()").save(glob_str, base_path, policy)


def watch(models: Any, *arguments: Any, **keywords: Any) -> None:
    """Records gradients and parameters of models, see `Run.watch`."""
    _required("wandb.watch()").watch(models, *arguments, **keywords)


def unwatch(models: Any = None) -> None:
    """Stops watching models, see `Run.unwatch`."""
    _required("wandb.unwatch()").unwatch(models)


def alert(title: str, text: str = "", level: Any = None, wait_duration: Any = None) -> None:
    """Stores a log record in the current run, see `Run.alert`."""
    _required("wandb.alert()").alert(title, text, level, wait_duration)


def login(*_arguments: Any, **_keywords: Any) -> bool:
    """Returns True. Matyan needs no login."""
    termlog("login is not needed: MATYAN_BACKEND_URL names the server", repeat=False)
    return True


def mark_preempting() -> None:
    """Exists in W&B, and has no effect, see `Run.mark_preempting`."""


def require(*_arguments: Any, **_keywords: Any) -> None:
    """Exists in W&B, and has no effect: there are no experimental features."""


def setup(settings: Any = None) -> None:
    """Exists in W&B, and has no effect: there is no second process to prepare."""
    del settings


def teardown(exit_code: int | None = None) -> None:
    """Ends all runs."""
    for run in _open_runs.listed():
        run.finish(exit_code)


def _required(call: str) -> Run:
    run = current_run()
    if run is None:
        raise Error(f"You must call wandb.init() before {call}")
    return run


class _BeforeInit:
    """Replacement of `config` and `summary` while there is no run."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        raise Error(f"You must call wandb.init() before wandb.{self._name}.{key}")

    def __setattr__(self, key: str, value: Any) -> None:
        raise Error(f"You must call wandb.init() before wandb.{self._name}.{key}")

    def __getitem__(self, key: str) -> Any:
        raise Error(f"You must call wandb.init() before wandb.{self._name}[{key!r}]")

    def __setitem__(self, key: str, value: Any) -> None:
        raise Error(f"You must call wandb.init() before wandb.{self._name}[{key!r}]")


def __getattr__(name: str) -> Any:
    if name in ("run", "config", "summary"):
        run = current_run()
        if name == "run":
            return run
        return _BeforeInit(name) if run is None else getattr(run, name)
    step = _NEXT_STEPS.get(name)
    if step is None and not name.startswith("_"):
        import difflib  # noqa: PLC0415 - rarely needed

        for known in difflib.get_close_matches(name, [*__all__, *_NEXT_STEPS], n=1):
            step = f"did you mean {known!r}?"
    if step is None:
        step = "remove the call, or use `wandb.run.matyan_run` for what Matyan offers"
    raise AttributeError(f"matyan_client.wandb has no {name!r}; {step}")
