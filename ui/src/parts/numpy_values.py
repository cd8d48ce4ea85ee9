"""Writes `numpy_values.json`: what numpy computes from random lines, for `numpy.test.ts`. It needs numpy only."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

WEIGHTS = [0.0, 0.5, 0.9, 0.99]
CONFIDENCE = 0.95


def smoothed(values: np.ndarray, weight: float) -> np.ndarray:
    """The mean of all finite values so far, in which each counts `weight` times as much as the next one."""
    result = np.full(len(values), np.nan)
    for at in np.flatnonzero(np.isfinite(values)):
        known = values[: at + 1][np.isfinite(values[: at + 1])]
        result[at] = np.average(known, weights=weight ** np.arange(len(known))[::-1])
    return result


def student_quantile(freedom: int) -> float:
    """The value that Student's t exceeds, up or down, with a probability of 1 - CONFIDENCE."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    places = np.linspace(0, 50, 2_000_001)
    density = scale * (1 + places**2 / freedom) ** (-(freedom + 1) / 2)
    areas = np.cumsum((density[1:] + density[:-1]) / 2) * (places[1] - places[0])
    return float(np.interp(CONFIDENCE / 2, areas, places[1:]))


def band(lines: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, list[object]]:
    """Aggregates at all places of all lines; each line has values between its ends."""
    x = np.unique(np.concatenate([own for own, _ in lines]))
    rows = []
    for own, values in lines:
        known = np.isfinite(values)
        rows.append(np.interp(x, own[known], values[known], left=np.nan, right=np.nan))
    table = np.array(rows)
    count = np.sum(~np.isnan(table), axis=0)
    deviation = np.where(count > 1, np.nanstd(table, axis=0, ddof=1), np.nan)
    quantiles = np.array([student_quantile(n - 1) if n > 2 else np.nan for n in count])
    return {
        "lines": [{"x": plain(own), "values": plain(values)} for own, values in lines],
        "x": plain(x),
        "mean": plain(np.nanmean(table, axis=0)),
        "median": plain(np.nanmedian(table, axis=0)),
        "low": plain(np.nanmin(table, axis=0)),
        "high": plain(np.nanmax(table, axis=0)),
        "deviation": plain(deviation),
        "confidence": plain(quantiles * deviation / np.sqrt(count)),
    }


def ranks(values: np.ndarray) -> np.ndarray:
    return np.array([np.sum(values < one) + (np.sum(values == one) - 1) / 2 for one in values])


def plain(values: np.ndarray) -> list[object]:
    """JSON has no NaN and no infinities: they are texts that JavaScript reads as numbers."""
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [names.get(str(float(value)), float(value)) for value in values]


def main() -> None:
    dice = np.random.default_rng(11)
    noisy = np.exp(-np.arange(60) / 15) + dice.normal(0, 0.2, 60)
    broken = noisy.copy()
    broken[[0, 7, 8, 30]] = [np.nan, np.nan, np.inf, -np.inf]
    uneven = []
    for count in (40, 25, 25, 12, 3):
        x = np.sort(dice.choice(60, count, replace=False)).astype(float)
        uneven.append((x, dice.normal(0, 1, count)))
    uneven[1][1][[4, 5]] = np.nan
    many = [(np.arange(5.0), dice.normal(1, 3, 5)) for _ in range(40)]
    a = dice.normal(0, 1, 30).round(1)
    b = dice.integers(0, 6, 30).astype(float)
    content = {
        "smoothed": [
            {"weight": weight, "values": plain(values), "expected": plain(smoothed(values, weight))}
            for values in (noisy, broken)
            for weight in WEIGHTS
        ],
        "bands": [band(uneven), band(many)],
        "correlation": {
            "a": plain(a),
            "b": plain(b),
            "pearson": float(np.corrcoef(a, b)[0, 1]),
            "spearman": float(np.corrcoef(ranks(a), ranks(b))[0, 1]),
            "slope": float(np.polyfit(a, b, 1)[0]),
        },
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
