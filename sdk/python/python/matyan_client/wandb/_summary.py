"""The summary of a run: its params under `summary`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from matyan_client import values

from ._metrics import MetricTable

# Computed values are recorded at most this often, in seconds, and when the run ends. The last
# value of each metric is stored with its series anyway.
_RECORD_INTERVAL = 15.0

_OWN = ("_root", "_path")


class SummaryView:
    """A dict inside of the summary, by attribute and by item. Changes are recorded."""

    _root: SummaryStore
    _path: tuple[str, ...]

    def __init__(self, root: SummaryStore, path: tuple[str, ...] = ()) -> None:
        object.__setattr__(self, "_root", root)
        object.__setattr__(self, "_path", path)

    def __getitem__(self, key: str) -> Any:
        value = self._items()[key]
        if isinstance(value, dict):
            return SummaryView(self._root, (*self._path, key))
        return value

    def __getattr__(self, key: str) -> Any:
        if key in _OWN:
            # A copy that is being restored has no items yet.
            raise AttributeError(key)
        try:
            return self[key]
        except KeyError:
            raise AttributeError(f"the summary has no value {key!r}") from None

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __setattr__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        self._root.remove(self._path, key)

    def __delattr__(self, key: str) -> None:
        self._root.remove(self._path, key)

    def __contains__(self, key: object) -> bool:
        return key in self._items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._items())

    def __len__(self) -> int:
        return len(self._items())

    def __repr__(self) -> str:
        return repr(self._items())

    def keys(self) -> list[str]:
        """Returns the names of all values."""
        return list(self._items())

    def items(self) -> list[tuple[str, Any]]:
        """Returns names and values."""
        return [(key, self[key]) for key in self._items()]

    def get(self, key: str, default: Any = None) -> Any:
        """Returns a value, or `default` if there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def update(self, d: Mapping[str, Any]) -> None:
        """Sets values, which replace the computed values of their names until the next row."""
        self._root.set(self._path, d)

    def as_dict(self) -> dict[str, Any]:
        """Returns a copy as plain data."""
        return self._items()

    def _items(self) -> dict[str, Any]:
        return self._root.items(self._path)


class SummaryStore:
    """Values of a summary, computed from rows or set by the script."""

    def __init__(self, metrics: MetricTable, write: Callable[[dict[str, Any]], None]) -> None:
        self._metrics = metrics
        self._write = write
        self._items: dict[str, Any] = {}
        self._lock = threading.RLock()
        self._is_changed = False
        self._recorded = time.monotonic()
        self._started = time.time()

    def items(self, path: tuple[str, ...]) -> dict[str, Any]:
        """Returns a copy of the dict at a path."""
        with self._lock:
            self._resolve(self._items)
            node: Any = self._items
            for key in path:
                node = node[key]
            return dict(node)

    def set(self, path: tuple[str, ...], given: Mapping[str, Any]) -> None:
        """Sets values at a path, and records the summary."""
        with self._lock:
            node = self._items
            for key in path:
                node = node.setdefault(key, {})
            node.update({str(key): values.plain(value) for key, value in given.items()})
            self.record()

    def remove(self, path: tuple[str, ...], key: str) -> None:
        """Removes a value. A name without a value is ignored, as in W&B."""
        with self._lock:
            node = self._items
            for parent in path:
                node = node.get(parent, {})
            node.pop(key, None)
            self.record()

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Takes over the values of an earlier process."""
        with self._lock:
            self._items = {**stored, **self._items}

    def add_row(self, row: Mapping[tuple[str, ...], Any], step: int) -> None:
        """Counts a complete row in."""
        now = time.time()
        with self._lock:
            for path, value in row.items():
                shown = self._metrics.summarized(".".join(path), value)
                if shown is not None:
                    _put(self._items, path, shown)
            self._items["_step"] = step
            self._items["_runtime"] = now - self._started
            self._items["_timestamp"] = now
            self._is_changed = True
            if time.monotonic() - self._recorded > _RECORD_INTERVAL:
                self.record()

    def complete(self) -> None:
        """Records the values that were computed since the last call."""
        with self._lock:
            if self._is_changed:
                self.record()

    def record(self) -> None:
        """Writes the summary to the run."""
        with self._lock:
            self._is_changed = False
            self._recorded = time.monotonic()
            self._resolve(self._items)
            self._write(self._items)

    def after_fork(self) -> None:
        """Replaces the lock in a forked child."""
        self._lock = threading.RLock()

    def _resolve(self, items: dict[str, Any]) -> None:
        """Replaces tensors by their numbers, which is put off because it waits for a device."""
        for key, value in items.items():
            if isinstance(value, dict):
                self._resolve(value)
            elif hasattr(value, "detach"):
                items[key] = values.plain(value)


def _put(items: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        node = items.get(key)
        if not isinstance(node, dict):
            node = {}
            items[key] = node
        items = node
    items[path[-1]] = value
