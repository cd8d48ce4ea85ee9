"""The run of Matyan that values go to, and the files that are made for it."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matyan_client import Run, Text, _name_paths
from matyan_client.objects import Figure, Image

from ._notices import warn_once

# They separate the parts of a place, and `_` ends the name.
_PLACE_MARKS = re.compile("[_/-]")


class Staging:
    """A directory for files that must not change until they are sent."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._count = 0
        self._lock = threading.RLock()

    def new_path(self, name: str) -> Path:
        """Returns a path that no other file has, with the name at its end."""
        with self._lock:
            if self._directory is None:
                self._directory = Path(tempfile.mkdtemp(prefix="matyan-wandb-"))
            self._count += 1
            folder = self._directory / str(self._count)
        folder.mkdir()
        return folder / Path(name).name

    def copy(self, path: Path) -> Path:
        """Returns the path of a copy."""
        copy = self.new_path(path.name)
        shutil.copyfile(path, copy)
        return copy

    def after_fork(self) -> None:
        """Leaves the directory to the parent, which deletes it, in a forked child."""
        self._lock = threading.RLock()
        self._directory = None

    def remove(self) -> None:
        """Deletes all files, which must have been sent."""
        with self._lock:
            directory = self._directory
            self._directory = None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


class Moment:
    """A run at a step, which gets the values of one call of `log`."""

    def __init__(self, run: Run, staging: Staging, step: int | None, epoch: int | None) -> None:
        self.run = run
        self.staging = staging
        self.step = step
        self.epoch = epoch

    def track(self, value: Any, name: str, context: dict[str, Any] | None = None) -> None:
        """Tracks a number or an object."""
        self.run.track(value, name=name, step=self.step, epoch=self.epoch, context=context)

    def store_bytes(self, data: bytes, path: str, name: str, context: Mapping[str, Any]) -> None:
        """Stores bytes as an artifact, with its path as a text under the name and the context."""
        file = self.staging.new_path(path)
        file.write_bytes(data)
        self.store_file(file, path, name, context)

    def store_part(self, data: bytes, path: str) -> None:
        """Stores bytes as an artifact that belongs to another one."""
        file = self.staging.new_path(path)
        file.write_bytes(data)
        self.run.log_artifact(file, path)

    def store_file(self, file: Path, path: str, name: str, context: Mapping[str, Any]) -> None:
        """Stores a file as an artifact, with its path as a text under the name and the context."""
        self.run.log_artifact(file, path)
        self.track(Text(path), name, {**context, "kind": "file"})

    def media_path(
        self, folder: str, name: str, suffix: str = "", context: Mapping[str, Any] | None = None
    ) -> str:
        """Returns the path of an artifact for a value that is stored as a file.

        `context` has the place of the value in a list, and in a table.
        """
        safe = _name_paths.inside_folder(_name_paths.escaped(name)) or "value"
        step = "last" if self.step is None else str(self.step)
        return f"media/{folder}/{safe}_{step}{_place(context or {})}{suffix}"


def _place(context: Mapping[str, Any]) -> str:
    """Returns the place of a value in a list and in a table, without `_`, which ends the name."""
    parts = [context[key] for key in ("index", "row", "column") if key in context]
    texts = (_name_paths.escaped(str(part)) for part in parts)
    return "".join(f"-{_name_paths.quoted(_PLACE_MARKS, text)}" for text in texts)


def flattened(data: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Returns the values of nested dicts by their paths."""
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            for tail, inner in flattened(value).items():
                path = (str(key), *tail)
                flat[path] = inner
        else:
            flat[(str(key),)] = value
    return flat


def figure_or_image(figure: Any) -> Figure | Image:
    """Returns a figure as plotly shows it, or as an image if plotly cannot."""
    if hasattr(figure, "gcf"):
        # The module `pyplot` means its current figure.
        figure = figure.gcf()
    if not hasattr(figure, "to_plotly_json") and hasattr(figure, "get_figure"):
        figure = figure.get_figure()
    try:
        return Figure(figure)
    except (ImportError, TypeError) as error:
        if not hasattr(figure, "savefig"):
            raise
        warn_once(
            "wandb.log: a matplotlib figure is stored as an image, because plotly cannot show it",
            error,
        )
        return Image(figure)
