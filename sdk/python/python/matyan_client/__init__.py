"""Experiment tracking for training scripts.

`Run` records a training script, `Repo` finds and reads runs. The other names are types of values
that can be tracked next to numbers.
"""

from __future__ import annotations

import logging as _logging
from typing import TYPE_CHECKING as _TYPE_CHECKING

from .run import Run

__all__ = [
    "Audio",
    "Distribution",
    "Figure",
    "Html",
    "Image",
    "PointCloud",
    "Repo",
    "Run",
    "Table",
    "Text",
]

# Without a handler of the script, nothing is printed.
_logging.getLogger(__name__).addHandler(_logging.NullHandler())

if _TYPE_CHECKING:
    from .objects import Audio, Distribution, Figure, Html, Image, PointCloud, Table, Text
    from .repo import Repo
else:
    # The other names are imported when they are used: many scripts only record numbers.
    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = "repo" if name == "Repo" else "objects"
        found = getattr(__import__(f"{__name__}.{module}", fromlist=[name]), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


def _open_repo(url: str) -> Repo:
    from .repo import Repo  # noqa: PLC0415 - many scripts only record numbers

    return Repo(url)


Run._open_repo = _open_repo  # noqa: SLF001 - a run cannot import the module that returns runs
