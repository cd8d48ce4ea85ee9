"""Facts of the script that its core needs to describe the machine."""

from __future__ import annotations

import os
import sys
from typing import TypedDict, TypeGuard

from . import config, values

_MIN_INTERVAL = 0.1
_MAX_INTERVAL = 86400.0


class ScriptFacts(TypedDict):
    """Arguments of `_core.Run._log_system_params`."""

    executable: str
    arguments: list[str]
    module_paths: list[str]
    directory: str
    environment: list[tuple[str, str]]
    git_diff: bool


def script_facts(*, with_environment: bool = True) -> ScriptFacts:
    """Returns how the script was started. The core leaves out secrets of the environment."""
    try:
        directory = os.getcwd()  # noqa: PTH109 - a text is needed
    except FileNotFoundError:
        directory = ""
    variables = os.environ.items() if with_environment else ()
    return {
        "executable": values.text(sys.executable or ""),
        "arguments": [values.text(str(argument)) for argument in sys.argv],
        # An empty path means the working directory.
        "module_paths": [values.text(path) for path in sys.path if isinstance(path, str) and path],
        "directory": values.text(directory),
        "environment": [(values.text(name), values.text(value)) for name, value in variables],
        "git_diff": config.SETTINGS.git_diff,
    }


def is_valid_interval(interval: object) -> TypeGuard[float]:
    """Reports whether the load of the machine can be tracked at this interval in seconds."""
    return (
        isinstance(interval, (int, float))
        and not isinstance(interval, bool)
        and _MIN_INTERVAL <= interval <= _MAX_INTERVAL
    )
