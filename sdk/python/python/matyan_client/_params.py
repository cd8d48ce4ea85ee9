"""Params of a run as this process sees them: the params of the server, with own writes on top."""

from __future__ import annotations

import threading
from types import EllipsisType
from typing import Any, TypeAlias

from . import _forks

Key: TypeAlias = "str | tuple[object, ...] | EllipsisType"
Path: TypeAlias = tuple[str, ...]

_DELETED = object()
_ABSENT = object()


def path_of(key: Key) -> Path:
    """Returns the segments of a key.

    Text is divided at dots. The members of a tuple are segments as they are, and `...` is the
    root.
    """
    if isinstance(key, str):
        return tuple(key.split("."))
    if key is ...:
        return ()
    if isinstance(key, tuple) and key:
        return tuple(str(segment) for segment in key)
    raise TypeError(f"`key`: expected a str, a tuple of str, or ..., not {type(key).__name__}")


def nested(path: Path, value: Any) -> Any:
    """Returns dicts inside each other, with `value` at the path."""
    for segment in reversed(path):
        value = {segment: value}
    return value


def lookup(tree: Any, path: Path) -> Any:
    """Returns the value at a path. Raises `KeyError` if there is none."""
    for segment in path:
        if not isinstance(tree, dict) or segment not in tree:
            raise KeyError(".".join(path))
        tree = tree[segment]
    return tree


class NotLocalError(Exception):
    """A value that depends on data of the server."""


class ParamsOverlay:
    """Writes of this process, in their order, with the meaning that the server gives them."""

    def __init__(self) -> None:
        # Replaced as a whole, so that it is read without the lock.
        self._writes: list[tuple[Path, Any]] = []
        # Reentrant, because a signal handler may write within a write.
        self._lock = threading.RLock()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Replaces the lock in a forked child."""
        self._lock = threading.RLock()

    def set(self, path: Path, value: Any) -> None:
        """Records a write of plain data."""
        tree = nested(path, value)
        with self._lock:
            # A root map with several keys sets each of them.
            for segment, member in tree.items() if isinstance(tree, dict) else ():
                self._record(*_descended((segment,), member))

    def delete(self, path: Path) -> None:
        """Records a deletion."""
        with self._lock:
            self._record(path, _DELETED)

    def local(self, path: Path) -> Any:
        """Returns the value at a path that was written as a whole.

        Raises `KeyError` if it was deleted, and `NotLocalError` if it depends on the server.
        """
        writes = self._writes
        covering = [at for at, (written, _) in enumerate(writes) if path[: len(written)] == written]
        if not covering:
            raise NotLocalError
        return lookup(_applied({}, writes[covering[-1] :]), path)

    def merged(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Returns the params of the server with all writes on top. Changes `tree`."""
        return _applied(tree, self._writes)

    def _record(self, path: Path, value: Any) -> None:
        # An earlier write below the path no longer matters, so a loop that sets the same params
        # does not fill the memory.
        while True:
            writes = self._writes
            kept = [write for write in writes if write[0][: len(path)] != path]
            # Otherwise a signal handler has written in between.
            if self._writes is writes:
                self._writes = [*kept, (path, value)]
                return


def _descended(path: Path, value: Any) -> tuple[Path, Any]:
    """Follows maps with a single key, as the server does before it replaces a subtree."""
    while isinstance(value, dict) and len(value) == 1:
        ((segment, value),) = value.items()
        path = (*path, segment)
    return path, value


def _applied(tree: dict[str, Any], writes: list[tuple[Path, Any]]) -> dict[str, Any]:
    import copy  # noqa: PLC0415 - only for params that are read

    for path, value in writes:
        if not path:
            tree = {}
            continue
        node = tree
        for segment in path[:-1]:
            member = node.get(segment, _ABSENT)
            if not isinstance(member, dict):
                if value is _DELETED:
                    break
                member = {}
                node[segment] = member
            node = member
        else:
            if value is _DELETED:
                node.pop(path[-1], None)
            else:
                # Later writes may go below this value, which stays as it was recorded.
                node[path[-1]] = copy.deepcopy(value)
    return tree
