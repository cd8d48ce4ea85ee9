"""Creation of runs, and the current run of the process."""

from __future__ import annotations

import atexit
import hashlib
import os
from typing import Any

from matyan_client import Run as MatyanRun
from matyan_client import _system
from matyan_client import errors as matyan_errors
from matyan_client.config import SETTINGS

from . import _open_runs
from ._config import parsed
from ._notices import ignore_unknown, warn_once
from ._options import Options, Settings, is_set, resolve
from ._run import Run
from .errors import UsageError

# Seconds between samples of the machine's load, as in W&B.
_SYSTEM_INTERVAL = 15.0

# Arguments that need no counterpart, because Matyan does the same anyway or has no such thing.
_WITHOUT_EFFECT = frozenset({"force", "anonymous", "magic"})


class _Process:
    """The run that functions of the module mean."""

    current: Run | None = None
    is_registered = False


def current_run() -> Run | None:
    """Returns the run of `wandb.run`."""
    run = _Process.current
    return run if run is not None and run in _open_runs.listed() else None


def init(
    entity: str | None = None,
    project: str | None = None,
    dir: Any = None,  # noqa: A002 - the name in W&B
    id: str | None = None,  # noqa: A002 - the name in W&B
    name: str | None = None,
    notes: str | None = None,
    tags: Any = None,
    config: Any = None,
    config_exclude_keys: list[str] | None = None,
    config_include_keys: list[str] | None = None,
    allow_val_change: bool | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    force: bool | None = None,
    reinit: bool | str | None = None,
    resume: bool | str | None = None,
    save_code: bool | None = None,
    settings: Any = None,
    **keywords: Any,
) -> Run:
    """Starts a run, or returns the run that has started, depending on `reinit`.

    The run needs no server: its data is sent when there is a server. With an `id`, the hash of the
    run follows from entity, project, and id, so that a later process with the same three continues
    it; with `resume`, also its steps, config, and summary.
    """
    del force, allow_val_change
    given = {
        "entity": entity,
        "project": project,
        "dir": dir,
        "id": id,
        "name": name,
        "notes": notes,
        "tags": tags,
        "group": group,
        "job_type": job_type,
        "mode": mode,
        "resume": resume,
    }
    # Switching off a feature that does not exist needs no warning.
    unknown = {key: item for key, item in keywords.items() if item}
    ignore_unknown("init", {key: unknown[key] for key in unknown if key not in _WITHOUT_EFFECT})
    own_settings = Settings()
    own_settings.update(settings)
    choice = own_settings.reinit if reinit is None else reinit
    running = _open_runs.listed()
    if running and choice in (True, "finish_previous"):
        for run in running:
            run.finish()
    elif running and choice != "create_new":
        # The arguments of the second call have no effect, as in W&B.
        return running[-1]
    options = resolve(given, own_settings)
    run = _begin(options)
    wanted = parsed(config)
    if config_include_keys is not None:
        wanted = {key: wanted[key] for key in wanted if key in config_include_keys}
    for key in config_exclude_keys or ():
        wanted.pop(key, None)
    run.config.update(wanted, allow_val_change=True)
    if save_code or own_settings.save_code or (save_code is None and is_set("WANDB_SAVE_CODE")):
        run.store_script()
    _open_runs.add(run)
    if choice != "create_new" or _Process.current is None:
        _Process.current = run
    if not _Process.is_registered:
        # Registered after the hook of `Run`, so it is called before that closes the runs.
        _Process.is_registered = True
        atexit.register(_complete_all)
    return run


def _begin(options: Options) -> Run:
    if options.resume == "auto" and options.run_id is None:
        warn_once("wandb.init: `resume` needs an `id` to find the run; a new run begins")
    if options.mode == "disabled":
        return Run(options, None, options.run_id or "disabled")
    run_hash = None if options.run_id is None else _hash(options)
    stored = None
    if run_hash is not None and options.resume is not None:
        stored = _stored_run(run_hash, options)
    settings = options.settings
    is_quiet = bool(settings.x_disable_stats or settings._disable_stats)  # noqa: SLF001 - W&B's
    if settings.silent or settings.quiet or is_set("WANDB_SILENT") or is_set("WANDB_QUIET"):
        SETTINGS.quiet = True
    hides_code = settings.disable_git or settings.disable_code
    if hides_code or is_set("WANDB_DISABLE_GIT") or is_set("WANDB_DISABLE_CODE"):
        SETTINGS.git_diff = False
    target = MatyanRun(
        run_hash,
        experiment=options.project,
        offline=options.mode == "offline",
        system_tracking_interval=None if is_quiet else _SYSTEM_INTERVAL,
        capture_terminal_logs=settings.console != "off",
    )
    if not settings.x_disable_meta:
        # As with W&B, whose scripts have not asked for their environment to be stored.
        facts = _system.script_facts(with_environment=False)
        target._log_system_params(**facts)  # noqa: SLF001 - a class of the same package
    run = Run(options, target, options.run_id or target.hash)
    if stored is not None:
        run.continue_from(*stored)
    run.describe()
    return run


def _hash(options: Options) -> str:
    """Returns the hash for an id, which is unique in its project only."""
    run_id = str(options.run_id)
    if len(run_id) == 32 and set(run_id) <= set("0123456789abcdef"):
        # The hash of a run, which `run.id` showed.
        return run_id
    text = "/".join((options.entity or "", options.project or "", run_id))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _stored_run(run_hash: str, options: Options) -> tuple[dict[str, Any], int | None] | None:
    """Returns params and next step of the run to resume, or None for a run that is new."""
    if options.mode == "offline":
        warn_once("wandb.init: an offline run cannot read what is stored; its steps begin at 0")
        return None
    reader = MatyanRun(run_hash, read_only=True)
    transport = reader._http  # noqa: SLF001 - a class of the same package
    try:
        params = transport.get_run_info(run_hash).get("params", {})
        known = params.get("summary", {}).get("_step", 0)
        first = int(known) if isinstance(known, (int, float)) else 0
        series = transport.series(run_hash, [], first, None)
    except matyan_errors.NotFoundError:
        if options.resume == "must":
            raise UsageError(
                f"wandb.init: there is no run {options.run_id!r} to resume; use resume='allow'"
            ) from None
        return None
    except matyan_errors.ServerError as error:
        warn_once("wandb.init: cannot read the run to resume; the server numbers its steps", error)
        return {}, None
    if options.resume == "never":
        raise UsageError(
            f"wandb.init: the run {options.run_id!r} exists; use another id or resume='allow'"
        )
    # The machine's load has its own steps.
    own = [columns for columns in series if not columns.name.startswith("__system")]
    last = [int(columns.steps[len(columns) - 1]) for columns in own if len(columns)]
    has_rows = bool(last) or "_step" in params.get("summary", {})
    return params, max([first, *last]) + 1 if has_rows else 0


def _complete_all() -> None:
    pid = os.getpid()
    for run in _open_runs.listed():
        try:
            if run.pid == pid:
                run.complete()
        except Exception as error:  # noqa: BLE001 - the other runs must be completed as well
            warn_once("wandb: failed to record the end of a run", error)
