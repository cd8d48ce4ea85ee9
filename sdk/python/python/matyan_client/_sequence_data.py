"""Points of a metric as tables, in the forms that scripts for Aim read."""

from __future__ import annotations

import datetime
import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

# Names that Aim has for the columns.
COLUMNS = ("val", "epoch", "time")
# Aim divides params and contexts into columns down to this depth.
_DEPTH = 3


class SequenceData:
    """Steps of a metric in ascending order, with the columns `val`, `epoch`, and `time`.

    Epochs are floats, and NaN where they are not known.
    """

    def __init__(self, steps: Sequence[int], columns: Mapping[str, Sequence[Any]]) -> None:
        self._steps = steps
        self._columns = columns

    def view(self, columns: str | Sequence[str]) -> SequenceData:
        """Returns only the given columns."""
        names = [columns] if isinstance(columns, str) else columns
        known = {name: self._columns[name] for name in names if name in self._columns}
        if not known:
            raise ValueError(f"`columns`: expected some of {', '.join(COLUMNS)}, found {columns!r}")
        return SequenceData(self._steps, known)

    def range(self, start: int, stop: int) -> SequenceData:
        """Returns the points from the step `start` on, and before `stop`."""
        return self._piece(slice(bisect_left(self._steps, start), bisect_left(self._steps, stop)))

    def sample(self, k: int) -> SequenceData:
        """Returns about `k` points at regular distances, and the last point."""
        count = len(self._steps)
        if k <= 0 or count <= k:
            return self
        chosen = sorted({*range(0, count, count // k), count - 1})
        columns = {name: [column[at] for at in chosen] for name, column in self._columns.items()}
        return SequenceData([self._steps[at] for at in chosen], columns)

    def items(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yields each step with its entries."""
        return zip(self._steps, self.values(), strict=True)

    def values(self) -> Iterator[tuple[Any, ...]]:
        """Yields the entries of each step."""
        return zip(*self._columns.values(), strict=True)

    def indices(self) -> Iterator[int]:
        """Yields the steps."""
        return iter(self._steps)

    def items_list(self) -> tuple[list[int], list[list[Any]]]:
        """Returns lists of the steps and of the columns."""
        return self.indices_list(), self.values_list()

    def values_list(self) -> list[list[Any]]:
        """Returns the columns as lists."""
        return [list(column) for column in self._columns.values()]

    def indices_list(self) -> list[int]:
        """Returns the steps as a list."""
        return list(self._steps)

    def numpy(self) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
        """Returns arrays of the steps and of the columns."""
        import numpy as np  # noqa: PLC0415 - optional

        columns = [np.array(column, dtype=np.float64) for column in self._columns.values()]
        return np.array(self._steps, dtype=np.int64), columns

    def __iter__(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        return self.items()

    def __len__(self) -> int:
        return len(self._steps)

    def _piece(self, piece: slice) -> SequenceData:
        columns = {name: column[piece] for name, column in self._columns.items()}
        return SequenceData(self._steps[piece], columns)


def metric_frame(data: SequenceData, facts: dict[str, Any]) -> pd.DataFrame:
    """Returns points as a pandas data frame, with facts that are the same in each row."""
    import pandas as pd  # noqa: PLC0415 - optional

    steps, (values, epochs, times) = data.items_list()
    columns = {
        "idx": range(len(steps)),
        "step": steps,
        "value": values,
        "epoch": epochs,
        "time": [None if time is None else _local_time(time) for time in times],
    }
    frame: pd.DataFrame = pd.DataFrame({**columns, **facts}, index=range(len(steps)))
    return frame


def _local_time(time: float) -> datetime.datetime:
    # Without its zone, as in Aim.
    return datetime.datetime.fromtimestamp(time).astimezone().replace(tzinfo=None)


def unfolded(name: str, value: Any, depth: int = _DEPTH) -> dict[str, Any]:
    """Returns the leaves of a dict by their paths. Lists, and dicts below the depth, are JSON."""
    if not isinstance(value, dict) or not value or depth == 0:
        return {name: json.dumps(value) if isinstance(value, (dict, list)) else value}
    leaves: dict[str, Any] = {}
    for key, member in value.items():
        leaves |= unfolded(f"{name}.{key}", member, depth - 1)
    return leaves
