"""Experiment tracking for training scripts.

`Run` records a training script, `Repo` finds and reads runs. The other names are types of values
that can be tracked next to numbers.
"""

import logging as _logging

from .objects import Audio, Distribution, Figure, Image, Text
from .repo import Repo
from .run import Run

__all__ = ["Audio", "Distribution", "Figure", "Image", "Repo", "Run", "Text"]

# Without a handler of the script, nothing is printed.
_logging.getLogger(__name__).addHandler(_logging.NullHandler())
