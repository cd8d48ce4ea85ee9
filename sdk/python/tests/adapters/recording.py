"""Stand-in for `Run` that records calls, with the semantics of the real one where tests need it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

# A series is known by its name and its context as JSON text with sorted keys.
SeriesKey = tuple[str, str]
Point = tuple[int, Any, int | None]


def series_key(name: str, context: dict[str, Any] | None = None) -> SeriesKey:
    return name, json.dumps(context or {}, sort_keys=True)


@dataclass
class StoredRun:
    """The data of a run after a training, whether recorded or read from a server."""

    hash: str
    experiment: str | None = None
    name: str | None = None
    is_finished: bool = False
    params: dict[str, Any] = field(default_factory=dict)
    points: dict[SeriesKey, list[Point]] = field(default_factory=dict)

    def series(self, name: str, context: dict[str, Any] | None = None) -> list[Point]:
        return self.points.get(series_key(name, context), [])

    def values(self, name: str, context: dict[str, Any] | None = None) -> list[Any]:
        return [value for _step, value, _epoch in self.series(name, context)]

    def steps(self, name: str, context: dict[str, Any] | None = None) -> list[int]:
        return [step for step, _value, _epoch in self.series(name, context)]

    def epochs(self, name: str, context: dict[str, Any] | None = None) -> list[int | None]:
        return [epoch for _step, _value, epoch in self.series(name, context)]

    def param(self, path: str) -> Any:
        node: Any = self.params
        for segment in path.split("."):
            node = node[segment]
        return node


class RecordingRun:
    """Replacement of `Run`; all objects of one hash share a `StoredRun`."""

    stored: ClassVar[dict[str, StoredRun]] = {}
    opened: ClassVar[list[dict[str, Any]]] = []
    numbers: ClassVar[itertools.count[int]] = itertools.count()

    def __init__(self, run_hash: str | None = None, **arguments: Any) -> None:
        self.hash = run_hash or f"{next(self.numbers):032x}"
        self.opened.append({"run_hash": run_hash, **arguments})
        experiment = arguments.get("experiment")
        self._run = self.stored.setdefault(self.hash, StoredRun(self.hash, experiment))
        self._run.is_finished = False

    @property
    def name(self) -> str | None:
        return self._run.name

    @name.setter
    def name(self, name: str) -> None:
        self._run.name = name

    def __setitem__(self, key: Any, value: Any) -> None:
        path = key if isinstance(key, tuple) else tuple(key.split("."))
        node = self._run.params
        for segment in path[:-1]:
            node = node.setdefault(segment, {})
        node[path[-1]] = json.loads(json.dumps(value, default=str))

    def track(
        self,
        value: Any,
        name: str | None = None,
        step: int | None = None,
        epoch: int | None = None,
        *,
        context: dict[str, Any] | None = None,
    ) -> None:
        assert name
        points = self._run.points.setdefault(series_key(name, context), [])
        if step is None:
            step = max((stored for stored, _value, _epoch in points), default=-1) + 1
        points[:] = [point for point in points if point[0] != step]
        points.append((step, value if hasattr(value, "json") else float(value), epoch))

    def close(self) -> None:
        self._run.is_finished = True
