"""Histograms whose bins may differ in width."""

from __future__ import annotations

from matyan_client._core import equal_bins
from matyan_client.objects import Distribution

# Lower bound, upper bound, and weight.
Bin = tuple[float, float, float]

# The values that are left out because their bins are no distribution, in the notes of an import.
NOT_FINITE = "histograms with numbers that are not finite"


def distribution(bins: list[Bin]) -> Distribution | None:
    """Returns bins of any width as a distribution, whose bins have the same width.

    The result is None without bins, and if a number is not finite.
    """
    found = equal_bins(bins)
    return None if found is None else Distribution.from_histogram(*found)
