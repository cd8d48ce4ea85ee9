"""Results of queries: lists of dicts, with the attributes of Aim's results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ._reading import series_frame
from ._sequences import Metric, ObjectSequence
from .run import Run
from .transport._answers import found_traces

if TYPE_CHECKING:
    import pandas as pd


class FoundRun(Run):
    """A run found by a query, read-only. Iterating it yields the series that the query selected."""

    def __init__(self, found: dict[str, Any], url: str, kind: str) -> None:
        super().__init__(found["hash"], repo=url, read_only=True)
        self._found = found
        self._kind = kind

    @property
    def run(self) -> FoundRun:
        """The run itself: results of Aim have an attribute `run`."""
        return self

    def __iter__(self) -> Iterator[Any]:
        if self._kind == "runs":
            yield from self.metrics()
            return
        for trace in self._traces():
            if self._kind == "metric":
                yield Metric({"hash": self.hash, **trace}, self)
            else:
                key = (trace["name"], trace.get("context") or {})
                yield ObjectSequence(self, self._http, self._kind, key)

    def dataframe(
        self, include_props: bool | None = None, include_params: bool | None = None
    ) -> pd.DataFrame:
        """Returns the selected series as a pandas data frame.

        It has a row for each point of the metrics, or for each step of the objects. With an
        argument, it is the same as `Run.dataframe`.
        """
        describes_run = include_props is not None or include_params is not None
        if self._kind == "runs" or describes_run:
            return super().dataframe(include_props, include_params)
        if self._kind != "metric":
            return _joined([sequence.dataframe() for sequence in self])
        keys = [(trace["name"], json.dumps(trace.get("context") or {})) for trace in self._traces()]
        # Without keys, the server would return all metrics.
        return series_frame(self.hash, self._http.series(self.hash, keys) if keys else [])

    def _traces(self) -> list[dict[str, Any]]:
        return found_traces(self._found)


class QueryResult(list[dict[str, Any]]):
    """Result of a query: a list of dicts, one for each run.

    The kind is "runs", "metric", or a type of objects such as "images".
    """

    def __init__(self, items: list[dict[str, Any]], url: str, kind: str) -> None:
        super().__init__(items)
        self._url = url
        self._kind = kind

    def iter_runs(self) -> Iterator[FoundRun]:
        """Yields the runs, read-only. Iterating a run yields the series that the query selected."""
        for item in self:
            yield FoundRun(item, self._url, self._kind)

    def iter(self) -> Iterator[Any]:
        """Yields each series that the query selected, or each run if it was a query for runs."""
        for run in self.iter_runs():
            if self._kind == "runs":
                yield run
            else:
                yield from run

    def dataframe(self) -> pd.DataFrame:
        """Returns all results as a pandas data frame.

        It has a row for each point of the metrics, as in `Run.dataframe`, or for each step of the
        objects.
        """
        return _joined([run.dataframe() for run in self.iter_runs()])


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415 - optional

    # The columns of an empty frame have no types, and would change the types of the result.
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else series_frame("", [])
