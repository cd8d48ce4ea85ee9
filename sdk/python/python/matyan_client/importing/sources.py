"""Sources by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

from .model import ImportedRun, SourceError
from .source_files import SourceFiles

_Reader = Callable[[Path, SourceFiles], list[ImportedRun]]

# Modules with a function `runs`. They are imported when they are used, because some need their
# own packages.
SOURCES = {
    "tensorboard": "directory with event files of TensorBoard",
    "mlflow": "directory `mlruns`, or the SQLite file, of MLflow",
    "aim": "directory with `.aim`; needs the package `aim`",
    "neptune": "directory that Neptune's exporter wrote; needs the package `pyarrow`",
    "wandb": "directory `wandb` of W&B, with offline runs",
}


# Names of the directories next to a source of one file, such as a database, that belong to it.
_BESIDE_FILE = {"mlflow": ("mlartifacts", "mlruns"), "wandb": ("files",)}

_ADVICE = ": `--outside-files` follows it, if you trust the source"


class Source(NamedTuple):
    """An opened source."""

    # Their data is read later.
    runs: list[ImportedRun]
    files: SourceFiles


def open_source(name: str, path: Path, *, with_outside_files: bool = False) -> Source:
    """Opens a source. Only its own files are read, unless the user trusts it with all files."""
    if name not in SOURCES:
        raise SourceError(f"unknown source {name!r}: use one of {', '.join(SOURCES)}")
    if not path.exists():
        raise SourceError(f"no file or directory {str(path)!r}")
    places = _places(name, path.resolve())
    files = SourceFiles(*places, is_trusted=with_outside_files, advice=_ADVICE)
    reader = cast("_Reader", importlib.import_module(f".{name}", __package__).runs)
    runs = reader(path, files)
    if not runs:
        raise SourceError(f"{str(path)!r} contains no runs: name a {SOURCES[name]}")
    return Source(runs, files)


def _places(name: str, path: Path) -> list[Path]:
    """Returns what belongs to a source, and not what else is in the directory that contains it."""
    beside: tuple[str, ...] = ()
    if path.is_file():
        beside = _BESIDE_FILE.get(name, ())
    elif name == "neptune" and path.name == "data":
        beside = ("files",)
    return [path, *(path.with_name(directory) for directory in beside)]
