"""Histograms whose bins may differ in width."""

from __future__ import annotations

from matyan_client.objects import Distribution

# Lower bound, upper bound, and weight.
Bin = tuple[float, float, float]


def distribution(bins: list[Bin]) -> Distribution:
    """Returns bins of any width as a distribution, whose bins have the same width.

    Bins of equal width stay as they are. Weights of others are divided in proportion to the
    overlap with each new bin, so that their sum stays.
    """
    low = bins[0][0]
    high = bins[-1][1]
    weights = [weight for _, _, weight in bins]
    if high <= low:
        return Distribution.from_histogram([sum(weights)], (low - 0.5, low + 0.5))
    width = (high - low) / len(bins)
    if all(abs(end - start - width) <= 1e-6 * width for start, end, _ in bins):
        return Distribution.from_histogram(weights, (low, high))
    count = max(64, min(len(bins), 512))
    width = (high - low) / count
    spread = [0.0] * count
    for start, end, weight in bins:
        first = min(max(int((start - low) / width), 0), count - 1)
        if end <= start:
            spread[first] += weight
            continue
        last = min(int((end - low) / width), count - 1)
        for at in range(first, last + 1):
            bound = high if at == count - 1 else low + (at + 1) * width
            overlap = min(end, bound) - max(start, low + at * width)
            spread[at] += weight * max(0.0, overlap) / (end - start)
    return Distribution.from_histogram(spread, (low, high))
