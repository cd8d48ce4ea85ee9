"""Writing of imported runs to a server, the same for all sources.

A run that is stored completely gets the params `__import`, with the fingerprint of its source.
This is the only state of an import: it needs no local file, and also holds when the import is
repeated from another machine.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import operator
import time
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from matyan_client import _core, errors
from matyan_client._console import counted
from matyan_client._lifecycle import FINISHED, INTERRUPTED, Outcome
from matyan_client.run import Run
from matyan_client.transport.http import HttpTransport

from .model import (
    Artifact,
    ImportedRun,
    Item,
    LoggingRecord,
    Points,
    RunFacts,
    TerminalLine,
    TrackedObject,
    described_error,
    described_item,
)
from .progress import PATIENCE, LeftoverProgress, ProgressLine
from .source_files import SourceFiles

_logger = logging.getLogger("matyan_client")

RECORD_KEY = "__import"

# More than this is not left to the background: the spool of an import stays small.
_MOST_PENDING = 500_000
_FLUSH_PIECE = 1.0
_NO_FILES = SourceFiles()
_DELETED = "the run was deleted on the server, and stays deleted"
_INCOMPLETE = "the server has not stored all of the run"
# States of sources, by the outcome that they mean.
_FINISHED = frozenset({"finished", "completed", "complete", "success"})
_FAILED = frozenset({"failed", "crashed", "failure", "error"})
_INTERRUPTED = frozenset({"killed", "interrupted", "aborted", "stopped", "preempted"})


@dataclass(frozen=True, slots=True)
class Target:
    """Destination of an import. A dry run only counts."""

    url: str
    experiment: str | None = None
    is_dry_run: bool = False
    # Where data is sent, unless that is the same URL.
    frontier_url: str | None = None


@dataclass(slots=True)
class RunOutcome:
    """Outcome of one run, with counts of the data that was read.

    The state is `imported`, `unchanged`, `failed`, or `counted` in a dry run. `replaced` counts
    points whose step occurs later in their series, too: a series stores one point for each step.
    """

    run: str
    label: str
    state: str = "imported"
    points: int = 0
    replaced: int = 0
    objects: int = 0
    artifacts: int = 0
    # Of the terminal and of logs.
    lines: int = 0
    params: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ImportReport:
    """Outcome of an import."""

    source: str
    runs: list[RunOutcome] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether no run failed."""
        return all(outcome.state != "failed" for outcome in self.runs)

    def total(self, what: str) -> int:
        """Returns the sum of a count over all runs that were read."""
        return sum(getattr(outcome, what) for outcome in self.runs)

    def count(self, state: str) -> int:
        """Returns the number of runs in a state."""
        return sum(outcome.state == state for outcome in self.runs)

    def described(self) -> dict[str, Any]:
        """Returns the report as plain data."""
        totals = {what: self.total(what) for what in ("points", "replaced", "objects", "artifacts")}
        return {
            "source": self.source,
            "complete": self.is_complete,
            **totals,
            "runs": [asdict(outcome) for outcome in self.runs],
        }


def import_runs(
    source: str, runs: Iterable[ImportedRun], target: Target, files: SourceFiles = _NO_FILES
) -> ImportReport:
    """Imports runs one after the other. A run that fails does not stop the others.

    Artifacts are uploaded only if they are files of the source.
    """
    report = ImportReport(source)
    listed = list(runs)
    backend = HttpTransport(target.url)
    if not target.is_dry_run:
        # Fails without a server.
        backend.read_version()
        _send_leftovers(listed)
    with ProgressLine(len(listed)) as progress:
        for number, imported in enumerate(listed):
            outcome = RunOutcome(imported.run_hash, imported.label)
            report.runs.append(outcome)
            progress.start_run(number)
            try:
                _RunImport(source, imported, target, outcome, progress, files).proceed(backend)
            except Exception as error:  # noqa: BLE001 - damage makes readers raise anything
                outcome.state = "failed"
                outcome.notes.append(described_error(error))
            outcome.notes = [*imported.facts.notes, *outcome.notes]
    return report


class ImportedRunWriter(Run):
    """A run that keeps the time of its creation."""

    def __init__(self, run_hash: str, *, created_us: int | None, **options: Any) -> None:
        self._created_us = created_us
        super().__init__(run_hash, **options)


class _RunImport:
    """The import of one run."""

    def __init__(
        self,
        source: str,
        imported: ImportedRun,
        target: Target,
        outcome: RunOutcome,
        progress: ProgressLine,
        files: SourceFiles,
    ) -> None:
        self._source = source
        self._files = files
        self._imported = imported
        self._target = target
        self._outcome = outcome
        self._progress = progress
        self._series: dict[tuple[str, str], _SeenSteps] = {}
        # Data that earlier imports of the run have stored. Unlike points, it would not be replaced.
        self._stored_lines = 0
        self._stored_records = 0

    def proceed(self, backend: HttpTransport) -> None:
        """Reads the run, and writes it unless the server has it."""
        if self._target.is_dry_run:
            for item in self._allowed(self._imported.items()):
                self._count(item)
            self._finish_counts()
            self._outcome.state = "counted"
            return
        record = _stored_record(backend, self._imported.run_hash)
        if record is not None and record.get("fingerprint") == self._imported.fingerprint:
            self._outcome.state = "unchanged"
            return
        self._stored_lines, self._stored_records = _stored_texts(backend, self._imported.run_hash)
        with _notices() as notices:
            items = self._allowed(self._imported.items())
            # The time of creation may be read together with the first item.
            first = list(itertools.islice(items, 1))
            created = self._imported.facts.created
            run = ImportedRunWriter(
                self._imported.run_hash,
                created_us=None if created is None else _microseconds(created),
                repo=self._target.url,
                frontier_url=self._target.frontier_url,
                experiment=self._target.experiment,
                force_resume=True,
                capture_terminal_logs=False,
            )
            outcome = None
            try:
                self._write(run, itertools.chain(first, items), notices, is_first=record is None)
                outcome = _outcome(self._imported.facts)
            except errors.TransportError:
                if run.health.rejected:
                    # The next run is not concerned.
                    raise errors.ServerError(_INCOMPLETE) from None
                if _is_missing(backend, self._imported.run_hash):
                    raise errors.ServerError(_DELETED) from None
                raise
            finally:
                self._end(run, outcome)
                self._outcome.notes.extend(notices.messages)
        stored = _stored_record(backend, self._imported.run_hash)
        if stored is None or stored.get("fingerprint") != self._imported.fingerprint:
            # Data of deleted runs is accepted and dropped, so that late data cannot revive them.
            raise errors.ServerError(_DELETED)

    def _allowed(self, items: Iterator[Item]) -> Iterator[Item]:
        refused = 0
        for item in items:
            if not isinstance(item, Artifact) or self._files.contains(item.file):
                yield item
            else:
                refused += 1
        if refused:
            self._outcome.notes.append(
                f"left out: {counted(refused, 'file')} outside of the source; "
                "`--outside-files` uploads them"
            )

    def _end(self, run: Run, outcome: Outcome | None) -> None:
        ended = self._imported.facts.ended
        # An import that failed is repeated, so it does not know how the run has ended.
        run._end(  # noqa: SLF001 - the same package
            outcome,
            time_us=None if ended is None else _microseconds(ended),
            stays_active=self._imported.facts.is_active,
        )

    def _write(
        self, run: Run, items: Iterable[Item], notices: _NoticeHandler, *, is_first: bool
    ) -> None:
        for item in items:
            self._count(item)
            try:
                self._write_item(run, item)
            except (TypeError, ValueError) as error:
                # A value that no server accepts must not cost the others.
                self._outcome.notes.append(f"left out {described_item(item)}: {error}")
            if run.health.pending > _MOST_PENDING:
                self._wait(run)
        self._finish_counts()
        self._write_facts(run, is_first=is_first)
        self._wait(run)
        if notices.has_errors:
            raise errors.ServerError(_INCOMPLETE)
        # Only now: the record says that everything else is stored.
        run[RECORD_KEY] = self._record()
        self._wait(run)

    def _write_item(self, run: Run, item: Item) -> None:
        if isinstance(item, TerminalLine):
            # The lines of a continued run are numbered after the stored lines.
            number = item.number - self._stored_lines
            if number >= 0:
                run._append_terminal_line(item.text, number)  # noqa: SLF001 - the same package
        elif isinstance(item, LoggingRecord):
            if self._stored_records:
                self._stored_records -= 1
            else:
                run._append_log_record(  # noqa: SLF001 - the same package
                    item.level, item.message, item.time, item.location, item.arguments
                )
        elif isinstance(item, Artifact):
            with self._files.open(item.file) as opened:
                run._log_opened_artifact(  # noqa: SLF001 - the same package
                    opened, item.file, item.path
                )
        else:
            _write_item(run, item)

    def _write_facts(self, run: Run, *, is_first: bool) -> None:
        facts = self._imported.facts
        for key, value in facts.params.items():
            # Keys are set separately, so that a dot in a name does not divide it.
            run[(key,)] = value
        for tag in facts.tags:
            run.add_tag(tag)
        if not is_first:
            # Names may have been changed by people since.
            return
        if facts.name:
            run.name = facts.name
        if facts.description:
            run.description = facts.description
        if facts.experiment and not self._target.experiment:
            run.experiment = facts.experiment
        if facts.is_archived:
            run.archived = True

    def _wait(self, run: Run) -> None:
        """Waits until everything is stored. A lasting lack of a server is an error."""
        reached = time.monotonic()
        while not run.flush(_FLUSH_PIECE) and not run.health.dropped:
            self._progress.update(self._outcome)
            health = run.health
            if health.connected:
                reached = time.monotonic()
            elif time.monotonic() - reached > PATIENCE:
                raise errors.TransportError(f"the server cannot be reached: {health.last_error}")
        if run.health.dropped:
            raise errors.TransportError(
                f"{run.health.dropped} values or files were not stored: solve what the warnings "
                "name, such as a full disk, and repeat the import"
            )

    def _record(self) -> dict[str, Any]:
        facts = self._imported.facts
        record = {
            "source": self._source,
            "label": self._imported.label,
            "fingerprint": self._imported.fingerprint,
            "created": facts.created,
            "ended": facts.ended,
            "state": facts.state,
        }
        return {key: value for key, value in record.items() if value is not None}

    def _count(self, item: Item) -> None:
        outcome = self._outcome
        if isinstance(item, Points):
            outcome.points += len(item.values)
            key = (item.name, repr(item.context))
            self._series.setdefault(key, _SeenSteps()).add(item.steps)
        elif isinstance(item, TrackedObject):
            outcome.objects += len(item.value) if isinstance(item.value, list) else 1
        elif isinstance(item, Artifact):
            outcome.artifacts += 1
        else:
            outcome.lines += 1
        self._progress.update(self._outcome)

    def _finish_counts(self) -> None:
        self._outcome.replaced = sum(seen.repeated() for seen in self._series.values())
        self._outcome.params = _leaves(self._imported.facts.params)


class _SeenSteps:
    """Steps of a series, to count the steps that occur more than once."""

    def __init__(self) -> None:
        # Regular steps take no memory. Others are kept as they are.
        self._pieces: list[range | array[int]] = []
        self._is_increasing = True
        self._last: int | None = None

    def add(self, steps: array[int]) -> None:
        if not steps:
            return
        piece = _regular(steps)
        self._pieces.append(array("q", steps) if piece is None else piece)
        if self._is_increasing:
            starts_later = self._last is None or steps[0] > self._last
            self._is_increasing = starts_later and (
                all(map(operator.lt, steps, steps[1:])) if piece is None else True
            )
            self._last = steps[-1]
            if self._is_increasing and len(self._pieces) > 1:
                self._join()

    def repeated(self) -> int:
        if self._is_increasing:
            return 0
        count = sum(len(piece) for piece in self._pieces)
        return count - len(set(itertools.chain.from_iterable(self._pieces)))

    def _join(self) -> None:
        """Joins the last two pieces if together they are regular."""
        first, second = self._pieces[-2:]
        if not isinstance(first, range) or not isinstance(second, range):
            return
        joined = range(first.start, second.stop, first.step)
        if first.stop == second.start and first.step == second.step:
            self._pieces[-2:] = [joined]


def _regular(steps: array[int]) -> range | None:
    """Returns steps as a range if they increase by the same number."""
    stride = steps[1] - steps[0] if len(steps) > 1 else 1
    if stride < 1:
        return None
    candidate = range(steps[0], steps[0] + stride * len(steps), stride)
    return candidate if all(map(operator.eq, steps, candidate)) else None


class _NoticeHandler(logging.Handler):
    """Keeps the reports of the SDK about a run, for the outcome."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self.has_errors = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        self.messages.append(message)
        self.has_errors = self.has_errors or record.levelno >= logging.ERROR


@contextlib.contextmanager
def _notices() -> Iterator[_NoticeHandler]:
    handler = _NoticeHandler()
    _logger.addHandler(handler)
    try:
        yield handler
    finally:
        _logger.removeHandler(handler)


def _write_item(run: Run, item: Points | TrackedObject) -> None:
    if isinstance(item, Points):
        run._track_columns(  # noqa: SLF001 - `track_many` does not take times
            (item.name, item.context or None, "float"),
            item.values.tobytes(),
            item.steps.tobytes(),
            None if item.epochs is None else item.epochs.tobytes(),
            item.times_us.tolist(),
        )
    else:
        run._track_object_list(  # noqa: SLF001 - `track` does not take a time
            item.value if isinstance(item.value, list) else [item.value],
            item.name,
            item.step,
            item.epoch,
            item.context or None,
            None if item.time is None else _microseconds(item.time),
        )


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _outcome(facts: RunFacts) -> Outcome | None:
    """Returns the outcome of a run for the state that its source names."""
    state = facts.state
    if state in _FINISHED:
        return FINISHED
    if state in _FAILED:
        return Outcome("failed", facts.error or "")
    return INTERRUPTED if state in _INTERRUPTED else None


def _send_leftovers(runs: list[ImportedRun]) -> None:
    """Sends the data that an interrupted import of the same runs has left in its spools."""
    hashes = {imported.run_hash for imported in runs}
    if not any(spool.state == "left" and spool.run_id in hashes for spool in _core.spools()):
        return
    progress = LeftoverProgress()
    *_, interruption = _core.sync(False, progress, hashes)
    progress.end()
    if interruption is not None:
        raise interruption
    if progress.is_stuck:
        raise errors.TransportError(
            f"data that an interrupted import left was not stored within {PATIENCE:g} seconds: "
            "send it with `matyan-client sync`, then repeat the import"
        )


def _stored_texts(backend: HttpTransport, run_hash: str) -> tuple[int, int]:
    """Returns how many terminal lines and log records of a run are stored."""
    try:
        lines = sum(1 for _ in backend.iter_run_logs(run_hash))
        return lines, backend.get_run_log_records(run_hash, "0:1")[0]
    except errors.NotFoundError:
        return 0, 0


def _stored_record(backend: HttpTransport, run_hash: str) -> dict[str, Any] | None:
    """Returns the record of an import that is complete, if the run has it."""
    try:
        record = backend.get_run_info(run_hash).get("params", {}).get(RECORD_KEY)
    except errors.NotFoundError:
        return None
    return record if isinstance(record, dict) else None


def _is_missing(backend: HttpTransport, run_hash: str) -> bool:
    try:
        backend.get_run_info(run_hash)
    except errors.NotFoundError:
        return True
    except errors.ServerError:
        return False
    return False


def _leaves(params: Any) -> int:
    if isinstance(params, dict):
        return sum(_leaves(value) for value in params.values())
    return 1
