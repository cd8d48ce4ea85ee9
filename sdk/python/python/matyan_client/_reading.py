"""The part of `Run` that reads from the server."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, SupportsIndex

from . import _arguments, _core, errors
from ._params import Key, NotLocalError, ParamsOverlay, lookup, path_of
from .transport._answers import unexpected
from .transport.http import HttpTransport

if TYPE_CHECKING:
    import datetime
    from pathlib import Path

    import pandas as pd

    from ._sequences import Metric, ObjectSequence

_logger = logging.getLogger("matyan_client")

# Members of runs of Aim that have no counterpart here, and their replacements.
_MISSING = {
    "artifacts_uri": ": the server decides where artifacts are stored; use `artifacts`",
    "iter_sequence_info_by_type": ": use `collect_sequence_info`",
    "idx_to_ctx": ": contexts are dicts; use `iter_metrics_info`",
    "get_log_record_sequence": ": use `get_log_records`",
    "get_terminal_log_sequence": ": use `get_terminal_logs`",
    "finalize": ": use `close`",
    "finish": ": use `close`",
    "log": ": use `track`",
    "log_metric": ": use `track`",
}

# Names of artifacts that an error lists.
_MOST_NAMES = 5

_FRAME_COLUMNS = [
    "run.hash",
    "metric.name",
    "metric.context",
    "step",
    "value",
    "epoch",
    "time",
]


class RunReader:
    """Reads one run: its params, properties, series, and artifacts."""

    _hash: str
    _http: HttpTransport
    _params: ParamsOverlay
    # Local values of properties, which take precedence over the values of the server.
    _local: dict[str, Any]
    _is_new: bool
    _read_only: bool
    _created: float
    _ended: float | None

    @property
    def hash(self) -> str:
        """Hash of the run, its unique name."""
        return self._hash

    @property
    def url(self) -> str:
        """Address of the run's page in the UI of the server."""
        return f"{self._http.url}/runs/{self._hash}"

    @property
    def creation_time(self) -> float:
        """Time of creation in seconds since the Unix epoch."""
        if self._is_new:
            return self._created
        stored = self.props.get("creation_time")
        return self._created if stored is None else float(stored)

    @property
    def created_at(self) -> datetime.datetime:
        """Time of creation."""
        return _utc(self.creation_time)

    @property
    def end_time(self) -> float | None:
        """Time of the end in seconds since the Unix epoch, or None for an active run."""
        if self._is_new or self._ended is not None:
            return self._ended
        stored = self.props.get("end_time")
        return None if stored is None else float(stored)

    @property
    def finalized_at(self) -> datetime.datetime | None:
        """Time of the end, or None for an active run."""
        end = self.end_time
        return None if end is None else _utc(end)

    @property
    def duration(self) -> float | None:
        """Seconds from the creation to the end, or None for an active run."""
        end = self.end_time
        return None if end is None else end - self.creation_time

    @property
    def tags(self) -> list[str]:
        """Names of the tags; empty if no server can be reached."""
        return [tag.get("name", "") for tag in self.props.get("tags", [])]

    @property
    def props(self) -> dict[str, Any]:
        """Properties as the server has them; empty if it cannot be reached.

        The outcome of a run that has none is None.
        """
        stored = self._info_or_empty().get("props", {})
        return {"outcome": None, "outcome_message": None, **stored} if stored else {}

    @property
    def artifacts(self) -> list[dict[str, Any]]:
        """Descriptions of the artifacts; empty if no server can be reached."""
        return list(self._info_or_empty().get("artifacts", []))

    def __getitem__(self, key: Key) -> Any:
        """Returns a copy of the params at a key, or all of them for `...`."""
        path = path_of(key)
        with contextlib.suppress(NotLocalError):
            return self._params.local(path)
        try:
            stored = self._info().get("params", {})
        except errors.NotFoundError:
            if self._read_only:
                raise
            # Its data may not have arrived.
            stored = {}
        except errors.ServerError as error:
            stored = {}
            if not self._is_new:
                raise errors.ParamsUnavailableError(
                    f"cannot read {key!r} of run {self._hash}: {error}",
                    status=error.status,
                    code=error.code,
                ) from error
        try:
            return lookup(self._params.merged(stored), path)
        except KeyError:
            raise KeyError(f"Key {key!r} not found for run {self._hash}") from None

    def __contains__(self, key: Key) -> bool:
        """Reports whether there are params at a key."""
        try:
            self[key]
        except errors.RunNotFoundError:
            raise
        except KeyError:
            return False
        return True

    # Otherwise it would be read with numbers as keys.
    if not TYPE_CHECKING:
        __iter__ = None

    def get(
        self,
        key: Key,
        default: Any = None,
        strict: bool = True,
        resolve_objects: bool = False,
    ) -> Any:
        """Returns the params at a key, or `default` if there are none.

        The last two arguments exist in Aim, and have no effect.
        """
        del strict, resolve_objects
        try:
            return self[key]
        except errors.RunNotFoundError:
            raise
        except KeyError:
            return default

    def metrics(self) -> list[Metric]:
        """Returns name, context, and last value of each metric. The points are read when used.

        The last value of a server older than the client is None if it is NaN or infinite.
        """
        from ._sequences import Metric  # noqa: PLC0415 - only for runs that are read

        found = self._info_or_empty().get("traces", {}).get("metric", [])
        return [Metric(overview, self) for overview in found]

    def get_metric(self, name: str, context: dict[str, Any] | None = None) -> Metric | None:
        """Returns the entry of `metrics` with this name and context."""
        name = _arguments.required_text("name", name)
        wanted = _arguments.context(context)
        for metric in self.metrics():
            if metric.get("name") == name and metric.get("context", {}) == wanted:
                return metric
        return None

    def get_image_sequence(
        self, name: str, context: dict[str, Any] | None = None
    ) -> ObjectSequence | None:
        """Returns images with this name and context, or None."""
        return self._object_sequence("images", name, context)

    def get_audio_sequence(
        self, name: str, context: dict[str, Any] | None = None
    ) -> ObjectSequence | None:
        """Returns audio with this name and context, or None."""
        return self._object_sequence("audios", name, context)

    def get_text_sequence(
        self, name: str, context: dict[str, Any] | None = None
    ) -> ObjectSequence | None:
        """Returns texts with this name and context, or None."""
        return self._object_sequence("texts", name, context)

    def get_figure_sequence(
        self, name: str, context: dict[str, Any] | None = None
    ) -> ObjectSequence | None:
        """Returns figures with this name and context, or None."""
        return self._object_sequence("figures", name, context)

    def get_html_sequence(
        self, name: str, context: dict[str, Any] | None = None
    ) -> ObjectSequence | None:
        """Returns HTML pages with this name and context, or None."""
        return self._object_sequence("htmls", name, context)

    def get_point_cloud_sequence(
        self, name: str, context: dict[str, Any] | None = None
    ) -> ObjectSequence | None:
        """Returns point clouds with this name and context, or None."""
        return self._object_sequence("point_clouds", name, context)

    def get_distribution_sequence(
        self, name: str, context: dict[str, Any] | None = None
    ) -> ObjectSequence | None:
        """Returns distributions with this name and context, or None."""
        return self._object_sequence("distributions", name, context)

    def iter_metrics_info(self) -> Iterator[tuple[str, dict[str, Any], Any]]:
        """Yields name, context, and this run for each metric."""
        for metric in self.metrics():
            yield metric.get("name", ""), metric.get("context", {}), self

    def collect_sequence_info(
        self, sequence_types: str | tuple[str, ...] = ()
    ) -> dict[str, list[dict[str, Any]]]:
        """Returns overviews of the series of the given types, such as `metric` or `images`."""
        if isinstance(sequence_types, str):
            sequence_types = (sequence_types,)
        types = _arguments.texts("sequence_types", sequence_types)
        unknown = [kind for kind in types if kind not in _arguments.SEQUENCE_TYPES]
        if unknown:
            known = ", ".join(_arguments.SEQUENCE_TYPES)
            raise ValueError(f"`sequence_types`: unknown type {unknown[0]!r}; use some of {known}")
        return dict(self._info_or_empty(tuple(types)).get("traces", {}))

    def series(
        self,
        name: str,
        context: dict[str, Any] | None = None,
        *,
        first_step: SupportsIndex | None = None,
        end_step: SupportsIndex | None = None,
    ) -> _core.SeriesColumns | None:
        """Returns all points of a metric, or None if it does not exist.

        `name` and `context` are the arguments of `track`. `first_step` and `end_step` restrict the
        result to steps from `first_step` on, and before `end_step`. The columns of the result are
        `steps`, `values`, `epochs`, and `times_us` (microseconds since the Unix epoch). The last
        two are None if no point has an entry. numpy, pandas, polars, and pyarrow read columns
        without a copy.
        """
        keys = [(_arguments.required_text("name", name), json.dumps(_arguments.context(context)))]
        _arguments.check_integer("first_step", first_step)
        _arguments.check_integer("end_step", end_step)
        self._wait_for_own_writes()
        with self._naming_run():
            found = self._http.series(self._hash, keys, first_step, end_step)
        return found[0] if found else None

    def dataframe(
        self, include_props: bool | None = None, include_params: bool | None = None
    ) -> pd.DataFrame:
        """Returns all points of all metrics as a pandas data frame, one row for each point.

        Its columns are `run.hash`, `metric.name`, `metric.context` (the JSON of a dict), `step`,
        `value`, `epoch`, and `time` (seconds since the Unix epoch). Epochs and times that are not
        known are NaN.

        With one of the arguments, as in Aim, there is a single row with the hash, the properties
        and the params of the run. An argument that is left out counts as True then.
        """
        if include_props is not None or include_params is not None:
            return self._facts_frame(include_props is not False, include_params is not False)
        self._wait_for_own_writes()
        with self._naming_run():
            return series_frame(self._hash, self._http.series(self._hash, []))

    def _facts_frame(self, include_props: bool, include_params: bool) -> pd.DataFrame:
        import pandas as pd  # noqa: PLC0415 - optional

        from ._sequence_data import unfolded  # noqa: PLC0415 - only for runs that are read

        facts: dict[str, Any] = {"hash": self._hash}
        params = self[...] if include_params else {}
        for described in (self.props if include_props else {}, params):
            for name, value in described.items():
                for path, leaf in unfolded(name, value).items():
                    # A property hides a param of its name, as in Aim.
                    facts.setdefault(path, leaf)
        frame: pd.DataFrame = pd.DataFrame([facts])
        return frame

    def get_terminal_logs(self) -> list[str]:
        """Returns all terminal lines."""
        self._wait_for_own_writes()
        lines = [line for _, line in self._http.get_run_logs(self._hash, "0:")]
        return lines or self._nothing_of_the_run()

    def get_log_records(self) -> list[Any]:
        """Returns all log records."""
        self._wait_for_own_writes()
        records = [record for _, record in self._http.get_run_log_records(self._hash, "0:")[1]]
        return records or self._nothing_of_the_run()

    def get_artifact(self, name: str) -> bytes:
        """Returns the content of an artifact."""
        _arguments.required_name("name", name)
        self._wait_for_own_writes()
        with self._naming_artifact(name):
            return self._http.get_artifact(self._hash, name)

    def download_artifact(self, name: str, dest: str | os.PathLike[str]) -> None:
        """Saves an artifact as a file."""
        _arguments.required_name("name", name)
        file = _arguments.path("dest", dest)
        self._wait_for_own_writes()
        with self._naming_artifact(name):
            self._http.download_artifact(self._hash, name, file)

    def download_artifacts(self, dest_dir: str | os.PathLike[str]) -> list[Path]:
        """Saves all artifacts in a directory, and returns their paths."""
        import tempfile  # noqa: PLC0415 - rarely needed
        from pathlib import Path  # noqa: PLC0415 - rarely needed

        from . import _artifact_archive  # noqa: PLC0415 - rarely needed

        target = _arguments.path("dest_dir", dest_dir)
        self._wait_for_own_writes()
        target.mkdir(parents=True, exist_ok=True)
        # Next to the result: the disk of the general directory for such files may have no space.
        with tempfile.TemporaryDirectory(prefix=".matyan-", dir=target) as directory:
            archive = Path(directory) / "artifacts.zip"
            with self._naming_run():
                self._http.download_all_artifacts(self._hash, archive)
            return _artifact_archive.unpack(archive, target)

    def _object_sequence(
        self, kind: str, name: str, context: dict[str, Any] | None
    ) -> ObjectSequence | None:
        from ._sequences import ObjectSequence  # noqa: PLC0415 - only for runs that are read

        name = _arguments.required_text("name", name)
        wanted = _arguments.context(context)
        for found in self.collect_sequence_info(kind).get(kind, []):
            if found.get("name") == name and (found.get("context") or {}) == wanted:
                return ObjectSequence(self, self._http, kind, (name, wanted))
        return None

    @contextlib.contextmanager
    def _naming_artifact(self, name: str) -> Iterator[None]:
        """Adds the names of the missing artifact and of existing artifacts to an error."""
        try:
            yield
        except errors.NotFoundError as error:
            info = self._info()
            known = [str(artifact.get("path", "")) for artifact in info.get("artifacts", [])]
            listed = ", ".join(repr(path) for path in known[:_MOST_NAMES])
            if len(known) > _MOST_NAMES:
                listed += f", and {len(known) - _MOST_NAMES} more"
            raise errors.NotFoundError(
                f"run {self._hash} has no artifact {name!r}; it has {listed or 'none'}",
                status=error.status,
                code=error.code,
            ) from None

    # Hidden from type checkers, which would accept every name otherwise.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if isinstance(getattr(type(self), name, None), property):
                # The property raised an AttributeError, which Python has dropped. Reading the
                # property again raises the error again.
                return object.__getattribute__(self, name)
            is_param = name.startswith("__") and not name.endswith("__")
            hint = f": read the param as `run[{name!r}]`" if is_param else _MISSING.get(name, "")
            raise AttributeError(f"a run has no attribute {name!r}{hint}")

    @contextlib.contextmanager
    def _naming_run(self) -> Iterator[None]:
        """Adds the run to the error for a run that does not exist."""
        try:
            yield
        except errors.NotFoundError as error:
            raise self._not_found(error) from None

    def _nothing_of_the_run(self) -> list[Any]:
        """Returns an empty list, if the run to be read exists."""
        if self._read_only:
            self._info()
        return []

    def _not_found(self, error: errors.NotFoundError) -> errors.RunNotFoundError:
        return errors.RunNotFoundError(
            f"there is no run {self._hash!r} on {self._http.url}",
            status=error.status,
            code=error.code,
        )

    def _info(self, sequence_types: tuple[str, ...] = ()) -> dict[str, Any]:
        self._wait_for_own_writes()
        try:
            return self._http.get_run_info(self._hash, sequence_types)
        except errors.NotFoundError as error:
            raise self._not_found(error) from None

    def _info_or_empty(self, sequence_types: tuple[str, ...] = ()) -> dict[str, Any]:
        try:
            return self._info(sequence_types)
        except errors.ServerError as error:
            if self._read_only and isinstance(error, errors.NotFoundError):
                raise
            _logger.debug("failed to read run %s: %s", self._hash, error)
            return {}

    def _repr_html_(self) -> str:
        """Returns the run as HTML, for notebooks. It has what the server knows by now.

        A notebook shows a value after its cell has run, so nothing here raises or waits for the
        writes of the run.
        """
        from . import _notebook  # noqa: PLC0415 - only for notebooks

        info: dict[str, Any] = {}
        curves: list[dict[str, Any]] = []
        failure = ""
        try:
            info = self._http.get_run_info(self._hash)
            shown = _notebook.shown_metrics(info.get("traces", {}).get("metric", []))
            traces = [{"name": one["name"], "context": one.get("context", {})} for one in shown]
            if traces:
                curves = self._http.get_run_metric_batch(
                    self._hash, traces, record_density=_notebook.POINTS
                )
        except (errors.ServerError, RecursionError) as error:
            _logger.debug("failed to read run %s: %s", self._hash, error)
            # The run may not have arrived.
            if not isinstance(error, errors.NotFoundError):
                failure = f"failed to read the run: {error}"
        params = self._params.merged(info.get("params", {}))
        # The server will give it the same name.
        name = self._local.get("name") or _core.spoken_name(self._hash)
        try:
            return _notebook.run_html(self.url, name, info, params, curves, failure)
        except RecursionError:
            # Params may be nested more deeply than Python can show.
            bare = {**info, "traces": {}}
            failure = "the params are nested too deeply to be shown"
            return _notebook.run_html(self.url, name, bare, {}, [], failure)

    def _wait_for_own_writes(self) -> None:
        """Makes the next answer of the server include the writes of this process."""


def _utc(seconds: float) -> datetime.datetime:
    import datetime  # noqa: PLC0415 - slow to import, and few scripts need it

    try:
        return datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc)
    except (OSError, OverflowError, ValueError):
        raise unexpected(f"{seconds!r} seconds since the Unix epoch is no time") from None


def series_frame(run_hash: str, found: Iterable[_core.SeriesColumns]) -> pd.DataFrame:
    """Returns series as a pandas data frame, one row for each point."""
    import numpy as np  # noqa: PLC0415 - optional
    import pandas as pd  # noqa: PLC0415 - optional

    listed = list(found)
    if not listed:
        empty: pd.DataFrame = pd.DataFrame(columns=_FRAME_COLUMNS)
        return empty
    lengths = [len(series) for series in listed]

    def repeated(entries: list[str]) -> Any:
        return np.repeat(np.array(entries, dtype=object), lengths)

    def joined(columns: Iterable[_core.Column[Any] | None]) -> Any:
        pieces = zip(columns, lengths, strict=True)
        return np.concatenate(
            [np.full(n, np.nan) if c is None else np.asarray(c) for c, n in pieces]
        )

    frame: pd.DataFrame = pd.DataFrame(
        {
            "run.hash": run_hash,
            "metric.name": repeated([series.name for series in listed]),
            "metric.context": repeated([series.context_json for series in listed]),
            "step": joined(series.steps for series in listed),
            "value": joined(series.values for series in listed),
            "epoch": joined(series.epochs for series in listed),
            "time": joined(series.times_us for series in listed) / 1e6,
        }
    )
    return frame
