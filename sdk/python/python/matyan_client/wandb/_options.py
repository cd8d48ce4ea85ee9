"""Options of a run: arguments of `init`, settings, and environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ._notices import warn_once

MODES = ("online", "offline", "disabled")
_OTHER_MODES = {"dryrun": "offline", "run": "online", "shared": "online"}
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})


class Settings:
    """Settings by name. Settings without a counterpart are kept, and have no effect."""

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        # A script may read any setting of W&B.
        return None

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"Settings({given})"

    def update(self, given: Any) -> None:
        """Sets settings from a dict or other settings."""
        vars(self).update(vars(given) if isinstance(given, Settings) else dict(given or {}))


@dataclass
class Options:
    """Options for the creation of a run."""

    project: str | None
    entity: str | None
    name: str | None
    run_id: str | None
    notes: str | None
    tags: tuple[str, ...]
    group: str | None
    job_type: str | None
    mode: str
    resume: str | None
    directory: str
    settings: Settings


def resolve(given: dict[str, Any], settings: Settings) -> Options:
    """Returns options from arguments first, then settings, then the environment."""

    def option(argument: str, setting: str, variable: str) -> Any:
        for value in (given.get(argument), getattr(settings, setting)):
            if value is not None:
                return value
        return os.environ.get(f"WANDB_{variable}") or None

    return Options(
        project=option("project", "project", "PROJECT"),
        entity=option("entity", "entity", "ENTITY"),
        name=option("name", "run_name", "NAME"),
        run_id=option("id", "run_id", "RUN_ID"),
        notes=option("notes", "run_notes", "NOTES"),
        tags=_tags(option("tags", "run_tags", "TAGS")),
        group=option("group", "run_group", "RUN_GROUP"),
        job_type=option("job_type", "run_job_type", "JOB_TYPE"),
        mode=_mode(option("mode", "mode", "MODE")),
        resume=_resume(option("resume", "resume", "RESUME")),
        directory=str(option("dir", "root_dir", "DIR") or "."),
        settings=settings,
    )


def is_set(variable: str) -> bool:
    """Reports whether an environment variable is true."""
    return os.environ.get(variable, "").strip().lower() in _TRUE


def _tags(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        given = given.split(",")
    return tuple(dict.fromkeys(str(tag).strip() for tag in given or () if str(tag).strip()))


def _mode(given: Any) -> str:
    if given is None:
        return "disabled" if is_set("WANDB_DISABLED") else "online"
    mode = _OTHER_MODES.get(str(given), str(given))
    if mode not in MODES:
        warn_once(f"wandb.init: `mode` is {given!r}; expected one of {', '.join(MODES)}")
        return "online"
    return mode


def _resume(given: Any) -> str | None:
    if given is None or given is False or given == "":
        return None
    if given is True or str(given).lower() in _TRUE:
        return "auto"
    if given in ("allow", "must", "never", "auto"):
        return str(given)
    warn_once(f"wandb.init: `resume` is {given!r}; expected allow, must, never, or auto")
    return "allow"
