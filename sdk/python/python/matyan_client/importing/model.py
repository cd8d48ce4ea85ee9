"""Runs as sources yield them, the same for all formats."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from matyan_client import _core, errors
from matyan_client._console import counted

# Points of a series are handed over in pieces of this size, so that memory stays bounded.
CHUNK_POINTS = 65_536
# The epoch of a point without an epoch, among other points that have an epoch.
NO_EPOCH = _core.ABSENT


class SourceError(Exception):
    """A source that cannot be read. The text is shown to the user."""


@dataclass(slots=True)
class Points:
    """A piece of a series of numbers, in columns of equal length."""

    name: str
    context: dict[str, Any] = field(default_factory=dict)
    values: array[float] = field(default_factory=lambda: array("d"))
    steps: array[int] = field(default_factory=lambda: array("q"))
    times_us: array[int] = field(default_factory=lambda: array("q"))
    epochs: array[int] | None = None

    def add(self, value: float, step: int, time: float) -> None:
        """Appends a point. The time is in seconds since the Unix epoch."""
        self.values.append(value)
        self.steps.append(step)
        self.times_us.append(round(time * 1e6))


@dataclass(frozen=True, slots=True)
class TrackedObject:
    """An image, text, or other object at a step of a series, or a list of them."""

    value: Any
    name: str
    step: int
    context: dict[str, Any] = field(default_factory=dict)
    # In seconds since the Unix epoch, if the source knows it.
    time: float | None = None
    epoch: int | None = None


class StoredObject(NamedTuple):
    """An object as a server stores it, with the payload that is a file."""

    value: dict[str, Any]
    payload: Any = None

    def json(self) -> dict[str, Any]:
        """Returns what is stored with the series."""
        return self.value

    def _payload(self) -> tuple[dict[str, Any], Any]:
        return self.value, self.payload


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of the run, and its path in the run."""

    file: Path
    path: str


@dataclass(frozen=True, slots=True)
class TerminalLine:
    """A line that the script printed."""

    text: str
    number: int


@dataclass(frozen=True, slots=True)
class LoggingRecord:
    """A message that the script logged."""

    level: int
    message: str
    time: float
    arguments: dict[str, Any]
    # File and line of the call.
    location: tuple[str, int] | None = None


Item: TypeAlias = "Points | TrackedObject | Artifact | TerminalLine | LoggingRecord"


@dataclass(slots=True)
class RunFacts:
    """Description of a run as a whole. Times are in seconds since the Unix epoch."""

    name: str | None = None
    description: str | None = None
    experiment: str | None = None
    tags: list[str] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    created: float | None = None
    ended: float | None = None
    # As the source calls it, such as `finished`, `failed`, `crashed`, or `killed`.
    state: str | None = None
    # Text of the error that ended the run. Fingerprints of runs that were imported before lack it.
    error: str | None = field(default=None, repr=False)
    is_archived: bool = False
    # Whether the copy is active as well. Other trackers cannot continue a run here, archives can.
    is_active: bool = field(default=False, repr=False)
    # Data that cannot be imported, and damage that was found.
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ImportedRun:
    """A run of a source.

    `items` reads the data. Many formats mix data and facts in one file, therefore `facts` are
    complete only when `items` has ended. The time of creation is known with the first item.
    """

    run_hash: str
    # Names the run for people, relative to its source.
    label: str
    # Changes when the source of the run does.
    fingerprint: str
    items: Callable[[], Iterator[Item]]
    facts: RunFacts = field(default_factory=RunFacts)


def attempted(label: str, read: Callable[[], ImportedRun]) -> ImportedRun:
    """Returns the result of `read`, or a run that fails with the reason why it cannot be read.

    A damaged run must not stop the import of the others.
    """
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - a damaged file makes readers raise anything
        reason = f"cannot be read: {described_error(error)}"

    def items() -> Iterator[Item]:
        raise SourceError(reason)

    return ImportedRun(derived_hash("unreadable", label), label, "", items)


def described_error(error: Exception) -> str:
    """Returns the text of an error for a report, with its type if the error is unexpected."""
    expected = isinstance(error, (SourceError, errors.ServerError, OSError, ValueError))
    return str(error) if expected and str(error) else f"{type(error).__name__}: {error}"


def derived_hash(*identity: str) -> str:
    """Returns the hash of a run that is always the same for the same identity."""
    return hashlib.sha256("\0".join(identity).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def files_fingerprint(files: list[Path]) -> str:
    """Returns a text that changes when a file is added, removed, or grows."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.name}\0{file.stat().st_size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def digest(*parts: object) -> str:
    """Returns a text that changes when any of the parts does."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def described_item(item: Item) -> str:
    """Returns the description of an item in messages."""
    if isinstance(item, Points):
        return f"{counted(len(item.values), 'point')} of {item.name!r}"
    if isinstance(item, TrackedObject):
        return f"{item.name!r} at step {item.step}"
    return f"the artifact {item.path!r}" if isinstance(item, Artifact) else "a line"


class PointBuffer:
    """Collects points that arrive one by one, and cuts them into pieces."""

    def __init__(self) -> None:
        self._open: dict[str, Points] = {}

    def add(self, name: str, value: float, step: int, time: float) -> Points | None:
        """Appends a point. Returns a piece of the series when it is complete."""
        points = self._open.get(name)
        if points is None:
            points = Points(name)
            self._open[name] = points
        points.add(value, step, time)
        return self._open.pop(name) if len(points.values) >= CHUNK_POINTS else None

    def rest(self) -> Iterator[Points]:
        """Yields the remaining points, and empties the buffer."""
        while self._open:
            yield self._open.popitem()[1]
