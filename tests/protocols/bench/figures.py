"""Timing, and a table of what a client costs on this server and on its own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

REPETITIONS = 3


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def per_second(count: int, work: Callable[[], object]) -> float:
    """The median rate of several repetitions, each of which does `count` things."""
    return count / statistics.median(seconds(work) for _ in range(REPETITIONS))


def print_table(title: str, servers: dict[str, dict[str, float]]) -> None:
    """Prints a row for each figure and a column for each server."""
    print(f"\n{title}\n")
    names = list(servers)
    figures = list(dict.fromkeys(figure for found in servers.values() for figure in found))
    print(f"{'':<44}" + "".join(f"{name:>22}" for name in names))
    for figure in figures:
        cells = (servers[name].get(figure) for name in names)
        print(f"{figure:<44}" + "".join(f"{'-' if cell is None else f'{cell:,.0f}':>22}" for cell in cells))
