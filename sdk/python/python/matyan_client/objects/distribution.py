"""Tracked distributions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from matyan_client import values
from matyan_client._warnings import warn_user

from . import _arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_BIN_COUNT = 512


class Distribution:
    """A histogram.

    It is either counted from `samples` of any shape, or given by `hist` and `bin_range`. Samples
    that are NaN or infinite are left out.

    Usage::

        run.track(Distribution(weights), name="weights", step=0)
        run.track(Distribution.from_histogram([3, 5, 1], (0.0, 1.0)), name="gradients")
    """

    def __init__(
        self,
        samples: Any = None,
        bin_count: int = 64,
        *,
        hist: Any = None,
        bin_range: Sequence[float] | None = None,
        distribution: Any = None,
    ) -> None:
        # `distribution` is the name of the argument in Aim.
        given = distribution if samples is None else samples
        if hist is not None and bin_range is not None:
            low, high = bin_range
            self._weights = _numbers(hist)
            self._range = (float(low), float(high))
        elif given is not None:
            if isinstance(bin_count, bool) or not isinstance(bin_count, int):
                raise TypeError(f"`bin_count`: expected an integer, not {type(bin_count).__name__}")
            if bin_count < 1:
                raise ValueError(f"`bin_count`: expected at least 1, found {bin_count}")
            if bin_count > _MAX_BIN_COUNT:
                warn_user(f"`bin_count`: at most {_MAX_BIN_COUNT} bins are used, not {bin_count}")
            self._weights, self._range = _histogram(given, min(bin_count, _MAX_BIN_COUNT))
        else:
            raise ValueError("pass either `samples`, or both `hist` and `bin_range`")

    @classmethod
    def from_histogram(cls, hist: Any, bin_range: Sequence[float]) -> Distribution:
        """Returns a distribution with the given weights of bins of equal width."""
        return cls(hist=hist, bin_range=bin_range)

    @classmethod
    def from_samples(cls, samples: Any, bin_count: int = 64) -> Distribution:
        """Returns the distribution of samples in at most 512 bins."""
        return cls(samples, bin_count)

    @property
    def bin_count(self) -> int:
        """Number of bins."""
        return len(self._weights)

    @property
    def range(self) -> tuple[float, float]:
        """Lower bound of the first bin, and upper bound of the last bin."""
        return self._range

    @property
    def weights(self) -> list[float | int]:
        """Weight of each bin."""
        return list(self._weights)

    @property
    def ranges(self) -> list[float]:
        """Bounds of the bins, one more bound than there are bins."""
        low, high = self._range
        width = (high - low) / max(1, self.bin_count)
        return [*(low + width * index for index in range(self.bin_count)), high]

    def to_np_histogram(self) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
        """Returns weights and bounds, as `numpy.histogram` does."""
        import numpy as np  # noqa: PLC0415 - optional, and slow to import

        return np.asarray(self._weights), np.asarray(self.ranges)

    def json(self) -> dict[str, object]:
        """Returns the form in which the distribution is stored."""
        return {
            "type": "distribution",
            "bin_count": self.bin_count,
            "range": list(self._range),
            "data": self.weights,
        }

    def __repr__(self) -> str:
        return f"Distribution(bins={self.bin_count}, range={self._range})"


def _histogram(samples: Any, bin_count: int) -> tuple[list[float | int], tuple[float, float]]:
    """Returns counts and range as `numpy.histogram` does, with or without numpy."""
    try:
        import numpy as np  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        return _histogram_of_list([float(sample) for sample in _flat(samples)], bin_count)
    array = _arrays.to_numpy(samples).ravel()
    if array.dtype.kind == "f":
        array = array[np.isfinite(array)]
    elif array.dtype.kind not in "biu":
        raise TypeError(f"`samples`: expected numbers, not {array.dtype}")
    # A range of 16-bit floats may exceed their largest value.
    doubles = array.astype(np.float64, copy=False)
    low, high = (float(doubles.min()), float(doubles.max())) if len(doubles) else (0.0, 1.0)
    if _is_one_bin(low, high):
        return [len(doubles)], (low, high)
    counts, bounds = np.histogram(doubles, bins=bin_count)
    return counts.tolist(), (float(bounds[0]), float(bounds[-1]))


def _histogram_of_list(
    samples: list[float], bin_count: int
) -> tuple[list[float | int], tuple[float, float]]:
    samples = [sample for sample in samples if math.isfinite(sample)]
    low, high = (min(samples), max(samples)) if samples else (0.0, 1.0)
    if _is_one_bin(low, high):
        return [len(samples)], (low, high)
    if low == high:
        low = low - 0.5
        high = high + 0.5
    counts: list[float | int] = [0] * bin_count
    scale = bin_count / (high - low)
    for sample in samples:
        counts[min(int((sample - low) * scale), bin_count - 1)] += 1
    return counts, (low, high)


def _is_one_bin(low: float, high: float) -> bool:
    """Reports whether a range has too few floats, or is too wide, for bins of equal width."""
    if low == high:
        return False
    width = high - low
    least = max(math.ulp(low), math.ulp(high))
    return not math.isfinite(width) or width / _MAX_BIN_COUNT < least


def _flat(samples: Any) -> Iterable[Any]:
    """Returns the numbers of nested sequences."""
    if hasattr(samples, "tolist"):
        samples = samples.tolist()
    if isinstance(samples, (str, bytes)) or not isinstance(samples, Iterable):
        yield samples
        return
    for sample in samples:
        yield from _flat(sample)


def _numbers(weights: Any) -> list[float | int]:
    if values.is_array(weights):
        weights = _arrays.to_numpy(weights).tolist()
    numbers: list[float | int] = []
    for weight in weights:
        if isinstance(weight, (int, float)):
            numbers.append(weight)
        else:
            numbers.append(float(weight))
    return numbers
