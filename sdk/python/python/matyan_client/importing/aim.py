"""Runs of an Aim repository, a directory with `.aim`, through Aim's own storage.

A run keeps its hash. The databases of each run are read directly, because Aim itself looks for
runs in an index that it updates later.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from matyan_client.objects import Audio, Distribution, Figure, Image, Text

from .model import (
    NO_EPOCH,
    Artifact,
    ImportedRun,
    Item,
    LoggingRecord,
    Points,
    RunFacts,
    SourceError,
    TerminalLine,
    TrackedObject,
    attempted,
    digest,
)
from .source_files import SourceFiles

_DEFAULT_NAME = "Run: "


class _Trace(NamedTuple):
    """A series, described by the metadata of a run."""

    name: str
    context_id: int
    context: dict[str, Any]
    version: int
    last_step: int | None


def runs(source: Path, files: SourceFiles) -> list[ImportedRun]:
    """Returns the runs of a repository."""
    try:
        import aim  # noqa: PLC0415 - optional
    except ImportError:
        raise SourceError(
            "the package `aim` is needed to read its repositories: pip install aim"
        ) from None
    root = source.parent if source.name == ".aim" else source
    if not (root / ".aim").is_dir():
        raise SourceError(f"{str(source)!r} has no directory `.aim`")
    # Aim reads the databases by itself.
    files.require_inside(root / ".aim")
    repo = aim.Repo(str(root))
    hashes = sorted(repo.list_all_runs())
    return [attempted(run_hash, partial(_run, aim, repo, run_hash)) for run_hash in hashes]


def _run(aim: Any, repo: Any, run_hash: str) -> ImportedRun:
    run = aim.Run(run_hash, repo=repo, read_only=True)
    meta = _database(repo, "meta", run.hash).subtree(("meta", "chunks", run.hash)).collect()
    facts = RunFacts(
        # Aim shows a name made of the hash for runs that have none.
        name=None if run.name == f"{_DEFAULT_NAME}{run.hash}" else run.name,
        description=run.description or None,
        experiment=run.experiment,
        tags=list(run.tags),
        params=meta.get("attrs", {}),
        created=run.creation_time,
        ended=meta.get("end_time"),
        state="finished" if meta.get("end_time") else None,
        is_archived=bool(run.archived),
    )
    traces = list(_traces(meta))
    artifacts = {
        name: str(artifact.uri) for name, artifact in _members(meta.get("artifacts", {}), "")
    }
    return ImportedRun(
        run_hash=run.hash,
        label=facts.name or run.hash,
        fingerprint=digest(facts, traces, artifacts),
        items=partial(_items, repo, run.hash, traces, artifacts, facts),
        facts=facts,
    )


def _database(repo: Any, kind: str, run_hash: str) -> Any:
    return repo.request_tree(kind, run_hash, read_only=True, skip_read_optimization=True)


def _traces(meta: dict[str, Any]) -> Iterator[_Trace]:
    contexts = meta.get("contexts", {})
    for context_id, names in meta.get("traces", {}).items():
        for name, trace in names.items():
            context = contexts.get(context_id, {})
            version = trace.get("version", 1)
            yield _Trace(name, context_id, context, version, trace.get("last_step"))


def _members(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yields artifacts with their names."""
    for name, member in tree.items():
        if isinstance(member, dict):
            yield from _members(member, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", member


def _items(
    repo: Any,
    run_hash: str,
    traces: list[_Trace],
    artifacts: dict[str, str],
    facts: RunFacts,
) -> Iterator[Item]:
    sequences = _database(repo, "seqs", run_hash).subtree("seqs")
    for trace in traces:
        # Points are stored by their step, or by a hash of it and with a column of steps.
        version = () if trace.version == 1 else (f"v{trace.version}",)
        columns = sequences.subtree((*version, "chunks", run_hash, trace.context_id, trace.name))
        yield from _series(trace, columns, facts)
    for name, uri in artifacts.items():
        address = urlsplit(uri)
        file = Path(unquote(address.path))
        if address.scheme in ("", "file") and file.is_file():
            yield Artifact(file, name)
        else:
            facts.notes.append(f"the artifact {name} at {uri} was not imported")


def _epochs(known: list[Any]) -> array[int] | None:
    if all(epoch is None for epoch in known):
        return None
    return array("q", (NO_EPOCH if epoch is None else int(epoch) for epoch in known))


def _series(trace: _Trace, columns: Any, facts: RunFacts) -> Iterator[Item]:
    values = dict(columns.array("val").items())
    steps = dict(columns.array("step").items()) if trace.version != 1 else {}
    times = dict(columns.array("time").items())
    epochs = dict(columns.array("epoch").items())
    keys = sorted(values, key=lambda key: steps.get(key, key))
    numbers = [key for key in keys if isinstance(values[key], (bool, int, float))]
    if numbers:
        yield Points(
            trace.name,
            trace.context,
            values=array("d", (values[key] for key in numbers)),
            steps=array("q", (steps.get(key, key) for key in numbers)),
            times_us=array("q", (round(times[key] * 1e6) for key in numbers)),
            epochs=_epochs([epochs.get(key) for key in numbers]),
        )
    for key in keys:
        value = values[key]
        step = steps.get(key, key)
        time = times.get(key)
        if isinstance(value, (list, tuple)):
            yield from _object_list(trace, (step, time), list(value), facts)
        elif not isinstance(value, (bool, int, float)):
            yield from _objects(trace, (step, time), value, facts)


def _object_list(
    trace: _Trace, moment: tuple[int, float | None], members: list[Any], facts: RunFacts
) -> Iterator[Item]:
    found = [item for member in members for item in _objects(trace, moment, member, facts)]
    objects = [item.value for item in found if isinstance(item, TrackedObject)]
    yield from (item for item in found if not isinstance(item, TrackedObject))
    if objects:
        yield TrackedObject(objects, trace.name, moment[0], trace.context, moment[1])


def _objects(
    trace: _Trace, moment: tuple[int, float | None], value: Any, facts: RunFacts
) -> Iterator[Item]:
    step, time = moment
    kind = getattr(type(value), "AIM_NAME", "")
    if kind == "aim.log_line":
        yield TerminalLine(value.data, step)
    elif kind == "aim.log_record":
        yield LoggingRecord(
            level=int(value.storage["log_level"]),
            message=value.message,
            time=value.storage["timestamp"],
            arguments=value.storage.get("extra_args", None) or {},
        )
    else:
        converted = _converted(kind, value)
        if converted is None:
            facts.notes.append(f"{trace.name}: values of {kind or type(value).__name__} left out")
        else:
            yield TrackedObject(converted, trace.name, step, trace.context, time)


def _converted(kind: str, value: Any) -> Any:
    """Returns an object of Aim as the same object of this package, with the same content."""
    if kind == "aim.image":
        return Image(bytes(value.storage["data"]), caption=value.caption)
    if kind == "aim.audio":
        described = value.json()
        return Audio(value.get().read(), described.get("format", ""), described.get("caption", ""))
    if kind == "aim.text":
        return Text(value.data)
    if kind == "aim.distribution":
        return Distribution.from_histogram(value.weights.tolist(), value.range)
    if kind == "aim.figure":
        return Figure(json.loads(value.data))
    return None
