"""Series of a run with the members that scripts for Aim read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from . import objects
from ._sequence_data import COLUMNS, SequenceData, metric_frame, unfolded
from ._stored_objects import stored_steps
from .transport._answers import reading
from .transport.http import HttpTransport

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from . import _core

_OBJECTS: dict[str, Callable[[dict[str, Any], Any], Any]] = {
    "images": lambda stored, file: objects.Image(file.data, caption=stored.get("caption") or ""),
    "audios": lambda stored, file: objects.Audio(
        file.data, file.format, stored.get("caption") or "", stored.get("rate")
    ),
    "htmls": lambda stored, file: objects.Html(file.data, caption=stored.get("caption") or ""),
    "point_clouds": lambda stored, file: objects.PointCloud(
        file.data, stored.get("caption") or "", format=file.format
    ),
    "texts": lambda stored, _: objects.Text(stored["data"]),
    "figures": lambda stored, _: objects.Figure(stored["data"]),
    "distributions": lambda stored, _: objects.Distribution(
        hist=stored["data"], bin_range=stored["range"]
    ),
}


class SeriesReader(Protocol):
    """The part of a run that its series need."""

    @property
    def hash(self) -> str:
        """Hash of the run."""

    def series(
        self, name: str, context: dict[str, Any] | None = None
    ) -> _core.SeriesColumns | None:
        """Returns all points of a metric, or None if it does not exist."""


class ColumnView(Sequence[Any]):
    """A column of a series: a sequence of entries, with the step of each."""

    def __init__(
        self, steps: Sequence[int] | _core.Column[int], entries: Sequence[Any] | _core.Column[Any]
    ) -> None:
        self._steps = steps
        self._entries = entries

    def sparse_list(self) -> tuple[list[int], list[Any]]:
        """Returns steps and entries as lists."""
        return self.indices_list(), self.values_list()

    def sparse_numpy(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Returns steps and entries as arrays."""
        return self.indices_numpy(), self.values_numpy()

    def values_list(self) -> list[Any]:
        """Returns the entries as a list."""
        return list(self._entries)

    def indices_list(self) -> list[int]:
        """Returns the steps as a list."""
        return [int(step) for step in self._steps]

    def values_numpy(self) -> NDArray[Any]:
        """Returns the entries as an array."""
        import numpy as np  # noqa: PLC0415 - optional

        return np.asarray(self._entries)

    def indices_numpy(self) -> NDArray[np.int64]:
        """Returns the steps as an array."""
        import numpy as np  # noqa: PLC0415 - optional

        return np.asarray(self._steps, dtype=np.int64)

    def tolist(self) -> list[Any]:
        """Returns the entries as a list."""
        return self.values_list()

    def first(self) -> tuple[int, Any]:
        """Returns the first step and its entry."""
        return int(self._steps[0]), self._entries[0]

    def last(self) -> tuple[int, Any]:
        """Returns the last step and its entry."""
        return int(self._steps[-1]), self._entries[-1]

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._entries)

    def __getitem__(self, index: Any) -> Any:
        return self._entries[index]


class Context(dict[str, Any]):
    """Context of a series: a dict."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the context as a plain dict."""
        return dict(self)


class _Values(ColumnView):
    """The values of a metric, and as a call the method of a dict that it hides."""

    def __init__(
        self, steps: _core.Column[int], entries: _core.Column[float], members: Any
    ) -> None:
        super().__init__(steps, entries)
        self._members = members

    def __call__(self) -> Any:
        return self._members


class Metric(dict[str, Any]):
    """A metric: a dict with its name, context, and last value, and attributes as in Aim.

    The points are read when they are first used.
    """

    def __init__(self, overview: dict[str, Any], run: SeriesReader) -> None:
        super().__init__(overview)
        self._run = run
        self._series: _core.SeriesColumns | None = None

    @property
    def name(self) -> str:
        """Name of the metric."""
        return str(self.get("name", ""))

    @property
    def context(self) -> Context:
        """Context of the metric."""
        return Context(self.get("context", {}))

    @property
    def run(self) -> Any:
        """The run that the metric belongs to."""
        return self._run

    @property
    def values(self) -> Any:
        """Values by their steps."""
        columns = self._columns()
        return _Values(columns.steps, columns.values, super().values())

    @property
    def indices(self) -> list[int]:
        """Steps of the points."""
        return [int(step) for step in self._columns().steps]

    @property
    def epochs(self) -> ColumnView:
        """Epochs by their steps; all None if the points have none."""
        columns = self._columns()
        return _optional_column(columns.steps, columns.epochs, _known_epoch)

    @property
    def timestamps(self) -> ColumnView:
        """Times in seconds since the Unix epoch by their steps."""
        columns = self._columns()
        return _optional_column(columns.steps, columns.times_us, lambda time: time / 1e6)

    def first_step(self) -> int:
        """Returns the first step."""
        return int(self._columns().steps[0])

    def last_step(self) -> int:
        """Returns the last step."""
        return int(self._columns().steps[-1])

    @property
    def data(self) -> SequenceData:
        """All points as columns."""
        epochs = [math.nan if epoch is None else float(epoch) for epoch in self.epochs]
        columns = self.values.values_list(), epochs, list(self.timestamps)
        return SequenceData(self.indices, dict(zip(COLUMNS, columns, strict=True)))

    def dataframe(
        self,
        include_name: bool = False,
        include_context: bool = False,
        include_run: bool = False,
        only_last: bool = False,
    ) -> pd.DataFrame:
        """Returns all points as a pandas data frame, or only the last point.

        Its columns are `idx`, `step`, `value`, `epoch`, and `time`, a time of the local zone. On
        request it has the name, a column for each member of the context, and the hash and the
        params of the run.
        """
        data = self.data
        if only_last:
            data = data.range(self.last_step(), self.last_step() + 1)
        facts: dict[str, Any] = {}
        if include_run:
            facts |= {"run.hash": self.run.hash, **unfolded("run", self.run[...])}
        if include_name:
            facts["metric.name"] = self.name
        if include_context:
            facts |= unfolded("metric.context", dict(self.context))
        return metric_frame(data, facts)

    def _columns(self) -> _core.SeriesColumns:
        if self._series is None:
            self._series = self._run.series(self.name, self.context)
        if self._series is None:
            raise LookupError(f"the run {self._run.hash} no longer has the metric {self.name!r}")
        return self._series


class _Loaded(NamedTuple):
    """Columns of a sequence of objects."""

    steps: list[int]
    objects: list[Any]
    epochs: list[int | None]
    times: list[float | None]


class ObjectSequence:
    """A series of objects with attributes as in Aim. The objects are read when first used.

    A step with several objects has them in a list.
    """

    def __init__(
        self, run: SeriesReader, http: HttpTransport, kind: str, key: tuple[str, dict[str, Any]]
    ) -> None:
        # Scripts use all members of a run here.
        self.run: Any = run
        self.name = key[0]
        self.context = Context(key[1])
        self._http = http
        self._kind = kind
        self._loaded: _Loaded | None = None

    @property
    def values(self) -> ColumnView:
        """Objects by their steps."""
        return ColumnView(self._all().steps, self._all().objects)

    @property
    def indices(self) -> list[int]:
        """Steps of the objects."""
        return self._all().steps

    @property
    def epochs(self) -> ColumnView:
        """Epochs by their steps."""
        return ColumnView(self._all().steps, self._all().epochs)

    @property
    def timestamps(self) -> ColumnView:
        """Times in seconds since the Unix epoch by their steps."""
        return ColumnView(self._all().steps, self._all().times)

    def first_step(self) -> int:
        """Returns the first step."""
        return self._all().steps[0]

    def last_step(self) -> int:
        """Returns the last step."""
        return self._all().steps[-1]

    def dataframe(self) -> pd.DataFrame:
        """Returns the objects as a pandas data frame, one row for each step."""
        import pandas as pd  # noqa: PLC0415 - optional

        loaded = self._all()
        frame: pd.DataFrame = pd.DataFrame(
            {
                "run.hash": self.run.hash,
                "name": self.name,
                "context": json.dumps(self.context),
                "step": loaded.steps,
                "value": loaded.objects,
                "epoch": loaded.epochs,
                "time": loaded.times,
            }
        )
        return frame

    def __len__(self) -> int:
        return len(self._all().steps)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"ObjectSequence(kind={self._kind!r}, name={self.name!r}, context={self.context!r})"

    def _all(self) -> _Loaded:
        if self._loaded is None:
            loaded = _Loaded([], [], [], [])
            make = _OBJECTS[self._kind]
            for found in stored_steps(self._http, self.run.hash, self._kind, self.name):
                if found.context != self.context:
                    continue
                with reading(f"an object of {self.name!r}"):
                    members = [make(stored, file) for stored, file in found.members]
                loaded.steps.append(found.step)
                loaded.objects.append(members[0] if len(members) == 1 else members)
                loaded.epochs.append(found.epoch)
                loaded.times.append(found.time)
            self._loaded = loaded
        return self._loaded


def _known_epoch(epoch: float) -> int | None:
    # A point without an epoch, among other points that have an epoch.
    return None if math.isnan(epoch) else int(epoch)


def _optional_column(
    steps: _core.Column[int], column: _core.Column[Any] | None, convert: Callable[[Any], Any]
) -> ColumnView:
    entries = [None] * len(steps) if column is None else [convert(entry) for entry in column]
    return ColumnView(steps, entries)
