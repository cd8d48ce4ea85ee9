"""The run of Matyan that values go to, and the files that are made for it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matyan_client import Run, Text, values
from matyan_client.objects import Distribution, Figure, Image

from ._notices import warn_once

# Larger arrays are shown as distributions, as in W&B.
_LISTED_ELEMENTS = 32
_ARRAY_BINS = 32


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
            directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


class Moment:
    """A run at a step, where values of one call of `log` go to."""

    def __init__(self, run: Run, staging: Staging, step: int | None, epoch: int | None) -> None:
        self.run = run
        self.staging = staging
        self.step = step
        self.epoch = epoch

    def track(self, value: Any, name: str, context: dict[str, Any] | None = None) -> None:
        """Tracks a number or an object."""
        self.run.track(value, name=name, step=self.step, epoch=self.epoch, context=context)

    def log(self, name: str, value: Any) -> Any:
        """Stores a value of any type. Returns its form in the summary, or None for none."""
        kind = type(value)
        if kind is float or kind is int or kind is bool:
            self.track(value, name)
            return value
        if value is None:
            return None
        if isinstance(value, str):
            self.track(Text(value), name)
            return values.text(value)
        if hasattr(value, "log_to"):
            value.log_to(self, name, {})
            return None
        if values.is_array(value):
            return self._log_array(name, value)
        if _is_figure(value):
            self.track(figure_or_image(value), name)
            return None
        return self._log_other(name, value)

    def store_bytes(self, data: bytes, path: str, name: str) -> None:
        """Stores bytes as an artifact, with its path as a text under the name."""
        file = self.staging.new_path(path)
        file.write_bytes(data)
        self.store_file(file, path, name)

    def store_file(self, file: Path, path: str, name: str) -> None:
        """Stores a file as an artifact, with its path as a text under the name."""
        self.run.log_artifact(file, path)
        self.track(Text(path), name, {"kind": "file"})

    def media_path(self, folder: str, name: str, suffix: str) -> str:
        """Returns the path of an artifact for a value that is stored as a file."""
        safe = re.sub(r"[^\w./-]", "_", name).strip("/.") or "value"
        return f"media/{folder}/{safe}_{'last' if self.step is None else self.step}{suffix}"

    def _log_array(self, name: str, value: Any) -> Any:
        size = 1
        for length in value.shape:
            size *= int(length)
        if size == 1:
            if hasattr(value, "detach"):
                # It may be on a device, which is not waited for.
                value = value.detach()
                self.track(value, name)
                return value
            number = values.plain(value)
            while isinstance(number, list):
                number = number[0]
            return self.log(name, number)
        if size <= _LISTED_ELEMENTS:
            return self._log_json(name, values.plain(value))
        self.track(Distribution(value, _ARRAY_BINS), name)
        return None

    def _log_other(self, name: str, value: Any) -> Any:
        if hasattr(value, "columns") and hasattr(value, "itertuples"):
            from ._media import Table  # noqa: PLC0415 - a circle otherwise

            Table(dataframe=value).log_to(self, name, {})
            return None
        if callable(getattr(value, "json", None)) and hasattr(value, "_payload"):
            self.track(value, name)
            return None
        if isinstance(value, (list, tuple)) and value and all(map(_is_media, value)):
            self._log_media(name, value)
            return None
        plain = values.plain(value)
        if isinstance(plain, (bool, int, float)):
            return self.log(name, plain)
        return self._log_json(name, plain)

    def _log_media(self, name: str, media: Sequence[Any]) -> None:
        """Stores images, and recordings, as one step of a series, and others one by one."""
        together: dict[type, list[Any]] = {}
        for index, item in enumerate(media):
            if item.listed is None:
                item.log_to(self, name, {"index": index})
            else:
                together.setdefault(type(item.listed), []).append(item.listed)
                item.log_parts_to(self, name, {"index": index})
        for listed in together.values():
            self.track(listed, name)

    def _log_json(self, name: str, plain: Any) -> Any:
        self.track(Text(plain if isinstance(plain, str) else json.dumps(plain)), name)
        return plain


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


def _is_media(value: Any) -> bool:
    return hasattr(value, "log_to")


def _is_figure(value: Any) -> bool:
    library = (getattr(value, "__name__", None) or type(value).__module__).partition(".")[0]
    return library in ("plotly", "matplotlib")
