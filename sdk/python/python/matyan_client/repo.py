"""Finding, reading, and deleting runs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from . import _arguments, _core, _urls, errors
from ._query_result import QueryResult
from ._report import Report
from .config import SETTINGS
from .run import Run
from .transport.http import HttpTransport

if TYPE_CHECKING:
    from typing_extensions import Self

_logger = logging.getLogger("matyan_client")

_PAGE_LIMIT = 50


class Repo:
    """The runs of a server. Without a URL, `MATYAN_BACKEND_URL` is used.

    No connection is opened before it is needed. `token` is for a server with access control, in
    place of the variable `MATYAN_TOKEN`; it is sent to this server only.

    Usage::

        repo = Repo("http://localhost:53800")
        for run in repo.iter_runs():
            print(run.hash, run.name)
    """

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        _arguments.check_text("url", url)
        self._url = _urls.checked("url", url or SETTINGS.backend_url)
        _arguments.check_text("token", token)
        _core.use_token(self._url, token)
        self._http = HttpTransport(self._url)

    @classmethod
    def default_repo(cls, init: bool = False) -> Repo:
        """Returns the runs of the default server. `init` exists in Aim, and has no effect."""
        del init
        return cls()

    @classmethod
    def from_path(cls, path: str | None, read_only: bool = True, init: bool = False) -> Repo:
        """Returns the runs of the server at a URL. The other arguments have no effect."""
        del read_only, init
        return cls(_urls.checked("path", path) if path else None)

    @staticmethod
    def is_remote_path(path: str) -> bool:
        """Reports whether a path is a URL."""
        return _arguments.required_text("path", path).lower().startswith(("http://", "https://"))

    @property
    def is_remote_repo(self) -> bool:
        """Always True: runs are on a server."""
        return True

    @property
    def url(self) -> str:
        """URL of the server."""
        return self._url

    @property
    def http(self) -> HttpTransport:
        """The REST API of the server."""
        return self._http

    def get_run(self, run_hash: str | None) -> Run | None:
        """Returns a run to be read, or None if it does not exist."""
        return self._read_only(run_hash) if run_hash and self.run_exists(run_hash) else None

    def run_exists(self, run_hash: str | None) -> bool:
        """Reports whether a run exists."""
        if run_hash is None:
            return False
        _arguments.required_text("run_hash", run_hash)
        try:
            return bool(self._http.get_run_info(run_hash))
        except errors.NotFoundError:
            return False

    def iter_runs(self) -> Iterator[Run]:
        """Yields all runs that are not archived, newest first, to be read."""
        for run_hash in self.list_all_runs():
            yield self._read_only(run_hash)

    def list_all_runs(self) -> list[str]:
        """Returns the hashes of all runs that are not archived, newest first."""
        return self._hashes("")

    def list_active_runs(self) -> list[str]:
        """Returns the hashes of all runs that have not ended."""
        return self._hashes("run.active == True")

    def list_experiments(self) -> list[dict[str, Any]]:
        """Returns all experiments: dicts with `id`, `name`, and further properties."""
        return self._http.list_experiments()

    def total_runs_count(self) -> int:
        """Returns the number of runs that are not archived."""
        return len(self.list_all_runs())

    @overload
    def query_runs(
        self,
        query: str = "",
        paginated: Literal[False] = False,
        offset: str | None = None,
        limit: int = _PAGE_LIMIT,
        report_mode: Any = None,
    ) -> QueryResult: ...

    @overload
    def query_runs(
        self,
        query: str = "",
        *,
        paginated: Literal[True],
        offset: str | None = None,
        limit: int = _PAGE_LIMIT,
        report_mode: Any = None,
    ) -> Iterator[list[dict[str, Any]]]: ...

    @overload
    def query_runs(
        self,
        query: str,
        paginated: Literal[True],
        offset: str | None = None,
        limit: int = _PAGE_LIMIT,
        report_mode: Any = None,
    ) -> Iterator[list[dict[str, Any]]]: ...

    def query_runs(
        self,
        query: str = "",
        paginated: bool = False,
        offset: str | None = None,
        limit: int = _PAGE_LIMIT,
        report_mode: Any = None,
    ) -> QueryResult | Iterator[list[dict[str, Any]]]:
        """Returns the runs that match a query, or with `paginated` an iterator of pages of them.

        `offset` is the hash of the run before the first result, `limit` the length of a page.
        `report_mode` exists in Aim, and has no effect here and in the other queries.
        """
        del report_mode
        _arguments.required_text("query", query)
        _arguments.check_text("offset", offset)
        if _arguments.flag("paginated", paginated):
            return self._pages(query, offset, _arguments.length("limit", limit))
        return QueryResult(self._http.search_runs(query, offset=offset), self._url, "runs")

    def query_metrics(self, query: str = "", report_mode: Any = None) -> QueryResult:
        """Returns runs with the metrics that match a query, sampled to 50 points.

        `dataframe` of the result has all points.
        """
        del report_mode
        return self._query("metric", query)

    def query_images(self, query: str = "", report_mode: Any = None) -> QueryResult:
        """Returns runs with the sequences of images that match a query."""
        del report_mode
        return self._query("images", query)

    def query_audios(self, query: str = "", report_mode: Any = None) -> QueryResult:
        """Returns runs with the sequences of audio that match a query."""
        del report_mode
        return self._query("audios", query)

    def query_figure_objects(self, query: str = "", report_mode: Any = None) -> QueryResult:
        """Returns runs with the sequences of figures that match a query."""
        del report_mode
        return self._query("figures", query)

    def query_htmls(self, query: str = "") -> QueryResult:
        """Returns runs with the sequences of HTML pages that match a query."""
        return self._query("htmls", query)

    def query_point_clouds(self, query: str = "") -> QueryResult:
        """Returns runs with the sequences of point clouds that match a query."""
        return self._query("point_clouds", query)

    def query_distributions(self, query: str = "", report_mode: Any = None) -> QueryResult:
        """Returns runs with the sequences of distributions that match a query."""
        del report_mode
        return self._query("distributions", query)

    def query_texts(self, query: str = "", report_mode: Any = None) -> QueryResult:
        """Returns runs with the sequences of texts that match a query."""
        del report_mode
        return self._query("texts", query)

    def reports(self) -> list[Report]:
        """Returns all reports of the project, the oldest first."""
        answer = self._http.get("/api/v1/rest/reports/")
        listed = answer if isinstance(answer, list) else []
        return [Report(self._http, one) for one in listed if isinstance(one, dict)]

    def report(self, name: str) -> Report:
        """Returns the report with a name or an id. A notebook shows its text and its charts."""
        _arguments.required_text("name", name)
        reports = self.reports()
        found = [one for one in reports if name in (one.id, one.name)]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(one.id for one in found)
            raise ValueError(f"`name`: several reports have the name {name!r}: give one of {ids}")
        known = ", ".join(repr(one.name) for one in reports[:10]) or "none"
        raise KeyError(f"no report {name!r}; the server has {known}")

    def delete_run(self, run_hash: str) -> bool:
        """Deletes a run. Returns False if it does not exist."""
        _arguments.required_name("run_hash", run_hash)
        try:
            self._http.delete_run(run_hash)
        except errors.NotFoundError:
            _logger.warning("failed to delete run %s: it does not exist", run_hash)
            return False
        return True

    def delete_runs(self, run_hashes: list[str]) -> tuple[bool, list[str]]:
        """Deletes runs. Returns whether all were deleted, and the hashes that do not exist."""
        wanted = _arguments.texts("run_hashes", run_hashes)
        failed = [run_hash for run_hash in wanted if not self.delete_run(run_hash)]
        return not failed, failed

    def delete_experiment(self, exp_id: str) -> bool:
        """Deletes an experiment by id. Returns False if it does not exist."""
        _arguments.required_name("exp_id", exp_id)
        try:
            self._http.delete_experiment(exp_id)
        except errors.NotFoundError:
            _logger.warning("failed to delete experiment %s: it does not exist", exp_id)
            return False
        return True

    def collect_sequence_info(
        self, sequence_types: str | tuple[str, ...] = ("metric",)
    ) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Returns overviews of the series of each run by type. Runs without any are left out."""
        if isinstance(sequence_types, str):
            sequence_types = (sequence_types,)
        types = tuple(_arguments.texts("sequence_types", sequence_types))
        collected: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for run in self.iter_runs():
            traces: dict[str, list[dict[str, Any]]] = {}
            # The run may have been deleted since it was listed.
            with contextlib.suppress(errors.RunNotFoundError):
                traces = run.collect_sequence_info(types)
            found = {kind: traces[kind] for kind in types if kind in traces}
            if found:
                collected[run.hash] = found
        return collected

    def collect_params_info(self) -> dict[str, dict[str, Any]]:
        """Returns the params of each run."""
        collected: dict[str, dict[str, Any]] = {}
        for run in self.iter_runs():
            # The run may have been deleted since it was listed.
            with contextlib.suppress(errors.RunNotFoundError):
                collected[run.hash] = run[...]
        return collected

    @staticmethod
    def available_sequence_types() -> list[str]:
        """Returns the types of series that can be queried."""
        return list(_arguments.SEQUENCE_TYPES)

    def close(self) -> None:
        """Does nothing: there is nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Repo(url={self._url!r})"

    def _read_only(self, run_hash: str) -> Run:
        return Run(run_hash, repo=self._url, read_only=True)

    def _hashes(self, query: str) -> list[str]:
        return self._http.find_hashes(query)

    def _query(self, kind: str, query: str) -> QueryResult:
        _arguments.required_text("query", query)
        return QueryResult(self._http.search_sequence(kind, query), self._url, kind)

    def _pages(self, query: str, offset: str | None, limit: int) -> Iterator[list[dict[str, Any]]]:
        cursor = ""
        while True:
            page, next_cursor = self._http.search_page(query, limit, offset, cursor)
            if page:
                yield page
            if next_cursor:
                offset = None
                cursor = next_cursor
            elif next_cursor is None and len(page) >= limit:
                # A server without cursors: its next page starts after a run.
                offset = page[-1]["hash"]
            else:
                return
