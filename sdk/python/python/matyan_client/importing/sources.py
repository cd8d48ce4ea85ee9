"""Sources by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

from .model import ImportedRun, SourceError

_Reader = Callable[[Path], list[ImportedRun]]

# Modules with a function `runs`. They are imported when they are used, because some need
# packages of their own.
SOURCES = {
    "tensorboard": "directory with event files of TensorBoard",
    "mlflow": "directory `mlruns`, or the SQLite file, of MLflow",
    "aim": "directory with `.aim`; needs the package `aim`",
    "neptune": "directory that Neptune's exporter wrote; needs the package `pyarrow`",
    "wandb": "directory `wandb` of W&B, with offline runs",
}


# Directories that are given themselves, or as the directory that contains them.
_FOLDERS = {"aim": ".aim", "mlflow": "mlruns", "wandb": "wandb", "neptune": "data"}


def root_of(name: str, path: Path) -> Path:
    """Returns the directory whose files may be uploaded when a source is imported."""
    is_inside = path.is_file() or path.name == _FOLDERS.get(name)
    return path.resolve().parent if is_inside else path


def open_source(name: str, path: Path) -> list[ImportedRun]:
    """Returns the runs of a source. Their data is read later."""
    if name not in SOURCES:
        raise SourceError(f"unknown source {name!r}: use one of {', '.join(SOURCES)}")
    if not path.exists():
        raise SourceError(f"no file or directory {str(path)!r}")
    reader = cast("_Reader", importlib.import_module(f".{name}", __package__).runs)
    runs = reader(path)
    if not runs:
        raise SourceError(f"{str(path)!r} contains no runs: name a {SOURCES[name]}")
    return runs
