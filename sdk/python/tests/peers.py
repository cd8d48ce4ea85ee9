"""Modules of the tests with clients of other projects."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

DIRECTORY = Path(__file__).parents[3] / "tests" / "peers" / "python"


def peers_module(name: str) -> ModuleType:
    """Imports a module that both groups of tests use."""
    sys.path.append(str(DIRECTORY))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop()
