"""The REST API of a server, call by call."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, SupportsIndex, TypeAlias
from urllib.parse import quote

from matyan_client import _core, _urls, errors
from matyan_client._console import quoted
from matyan_client._warnings import level_of_caller

from . import _answers

_Position: TypeAlias = tuple[int, int, int]

_REST = "/api/v1/rest"

# Limit of a small read, in seconds.
_SMALL_LIMIT = 10.0
# Time in which small reads do not ask a silent server, in seconds.
_SILENCE = 5.0

# Lines or records that are read at a time.
_LINES = 10_000


class HttpTransport:
    """A client of one server. It connects with the first request.

    `timeout` is the limit of a whole call in seconds. Searches, series, logs, blobs and artifacts,
    which may be large, have none: they fail if nothing arrives for 120 seconds.

    Calls that fail raise an exception of `matyan_client.errors`.
    """

    # Positions in the logs of servers, by URL and run: the stored writes of runs of this process.
    _stored: ClassVar[dict[str, dict[str, _Position]]] = {}

    def __init__(self, base_url: str, timeout: float = 30.0) -> None:
        self._client = _core.Backend(_urls.checked("base_url", base_url), timeout)
        self._included: dict[str, _Position] = {}
        self._timeout = timeout
        # The client of small reads, if it has its own limit.
        self._small: HttpTransport | None = None
        # The end of a time in which small reads are refused, and why.
        self._silence: tuple[float, errors.TransportError] | None = None

    @classmethod
    def include(cls, base_url: str, run_hash: str, position: _Position) -> None:
        """Makes every later answer of a server include what is stored at a position of its log."""
        cls._stored.setdefault(base_url.rstrip("/"), {})[run_hash] = position

    @property
    def _backend(self) -> _core.Backend:
        """The client, which waits for the stored writes of runs of this process."""
        for run_hash, position in tuple(self._stored.get(self._client.url, {}).items()):
            if self._included.get(run_hash) != position:
                self._included[run_hash] = position
                self._client.include(run_hash, position)
        return self._client

    @property
    def is_silent(self) -> bool:
        """Whether small reads are refused, because the server has just failed to answer one."""
        if self._small is not None:
            return self._small.is_silent
        return self._silence is not None and time.monotonic() < self._silence[0]

    @property
    def url(self) -> str:
        """URL of the server."""
        return self._client.url

    def close(self) -> None:
        """Does nothing: connections are closed by the server, or with the process."""

    def get(self, path: str, **params: Any) -> Any:
        """Returns the JSON answer to a GET request. Lists become repeated parameters."""
        return self._json("GET", path, params)

    def put(self, path: str, json: Any = None) -> Any:
        """Returns the JSON answer to a PUT request."""
        return self._json("PUT", path, body=json or {})

    def post(self, path: str, json: Any = None) -> Any:
        """Returns the JSON answer to a POST request."""
        return self._json("POST", path, body=json or {})

    def post_no_content(self, path: str, json: Any = None) -> None:
        """Sends a POST request whose answer is empty."""
        self._backend.send(_call("POST", path, body=json))

    def delete(self, path: str) -> Any:
        """Returns the JSON answer to a DELETE request."""
        return self._json("DELETE", path)

    def get_version(self) -> dict[str, Any] | None:
        """Returns version and component of the server, or None if it cannot be reached."""
        try:
            return self.read_version()
        except errors.ServerError:
            return None

    def read_version(self) -> dict[str, Any]:
        """Returns version and component of the server."""
        return _answers.checked(self.get(f"{_REST}/version/"), dict)

    def get_run_info(self, run_hash: str, sequence: Iterable[str] = ()) -> dict[str, Any]:
        """Returns params, traces, props, and artifacts of a run.

        That takes 10 seconds at most. After that, the same error is raised for 5 seconds at once.
        """
        if self._timeout > _SMALL_LIMIT:
            self._small = self._small or HttpTransport(self.url, _SMALL_LIMIT)
            return self._small.get_run_info(run_hash, sequence)
        began = time.monotonic()
        if self._silence is not None and self.is_silent:
            raise errors.TransportError(str(self._silence[1]))
        try:
            # Older servers ignore the parameter, and answer with null.
            answer = self.get(
                _run_path(run_hash, "info/"), sequence=list(sequence), bare_numbers=True
            )
        except errors.TransportError as error:
            end = time.monotonic()
            if end - began >= self._timeout:
                self._silence = end + _SILENCE, error
            raise
        return _answers.run_info(answer)

    def update_run(self, run_hash: str, **fields: Any) -> dict[str, Any]:
        """Sets properties of a run."""
        answer: dict[str, Any] = self.put(_run_path(run_hash), json=fields)
        return answer

    def delete_run(self, run_hash: str) -> dict[str, Any]:
        """Deletes a run."""
        answer: dict[str, Any] = self.delete(_run_path(run_hash))
        return answer

    def delete_runs_batch(self, run_hashes: list[str]) -> dict[str, Any]:
        """Deletes runs; unknown runs are ignored."""
        call = _call("POST", f"{_REST}/runs/delete-batch/", body=run_hashes)
        return _answers.decoded(self._backend.send(call), dict)

    def clear_run_tombstone(self, run_hash: str) -> None:
        """Makes the hash of a deleted run usable for a new run."""
        self.post_no_content(_run_path(run_hash, "clear-tombstone/"))

    def delete_params(self, run_hash: str, paths: list[list[str]]) -> None:
        """Removes paths from the params of a run; an empty path removes all of them."""
        self._backend.delete_params(run_hash, paths)

    def add_tag_to_run(self, run_hash: str, tag_name: str) -> dict[str, Any]:
        """Adds a tag by name."""
        answer: dict[str, Any] = self.post(
            _run_path(run_hash, "tags/new/"), json={"tag_name": tag_name}
        )
        return answer

    def remove_tag_from_run(self, run_hash: str, tag_id: str) -> dict[str, Any]:
        """Removes a tag by id."""
        answer: dict[str, Any] = self.delete(_run_path(run_hash, f"tags/{_segment(tag_id)}/"))
        return answer

    def get_run_logs(self, run_id: str, record_range: str = "") -> list[tuple[int, str]]:
        """Returns terminal lines with their numbers. The range is `start:stop`."""
        return self._backend.lines(run_id, record_range)

    def iter_run_logs(self, run_id: str) -> Iterator[tuple[int, str]]:
        """Yields all terminal lines with their numbers, a part of them in memory at a time."""
        start = 0
        while found := self.get_run_logs(run_id, f"{start}:{start + _LINES}"):
            yield from found
            start += _LINES

    def iter_run_log_records(self, run_id: str) -> Iterator[Any]:
        """Yields all log records, a part of them in memory at a time."""
        start = 0
        while found := self.get_run_log_records(run_id, f"{start}:{start + _LINES}")[1]:
            yield from (record for _, record in found)
            start += _LINES

    def get_run_log_records(
        self, run_id: str, record_range: str = ""
    ) -> tuple[int, list[tuple[int, Any]]]:
        """Returns the number of all log records, and the records of a range."""
        return self._backend.log_records(run_id, record_range)

    def get_run_metric_batch(
        self,
        run_id: str,
        traces: list[dict[str, Any]],
        record_range: str = "",
        record_density: int = 50,
    ) -> list[dict[str, Any]]:
        """Returns sampled points of metrics; a density of 0 means all of them."""
        params: dict[str, Any] = {"record_density": record_density}
        if record_range:
            params["record_range"] = record_range
        call = _call("POST", _run_path(run_id, "metric/get-batch/"), params, traces)
        return _answers.metric_batch(self._backend.send(call))

    def get_blob_batch(self, seq_type: str, blob_uris: list[str]) -> dict[str, bytes]:
        """Returns the contents of images, or of another type, by URI. Unknown URIs are left out."""
        return self._backend.blobs(seq_type, blob_uris) if blob_uris else {}

    def search_runs(
        self, query: str = "", limit: int | None = None, offset: str | None = None
    ) -> list[dict[str, Any]]:
        """Returns the runs that match a query, newest first."""
        params: dict[str, Any] = {"limit": limit, "offset": offset}
        return self._search("run", query, params)

    def find_hashes(self, query: str) -> list[str]:
        """Returns the hashes of the runs that match a query, and keeps nothing else of them."""
        return [content["hash"] for content in _contents(self._open_search("run", query, {}))]

    def search_page(
        self, query: str, limit: int, offset: str | None, cursor: str
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Returns a page of runs, and the cursor of the next page, which is empty at the end.

        The cursor is None if the server has no cursors.
        """
        params = {"limit": limit, "offset": offset, "cursor": cursor}
        return self._search_page("run", query, params)

    def search_metrics(self, query: str = "", **params: Any) -> list[dict[str, Any]]:
        """Returns runs with the metrics that match a query."""
        return self._search("metric", query, params)

    def search_sequence(
        self, seq_type: str, query: str = "", **params: Any
    ) -> list[dict[str, Any]]:
        """Returns runs with the sequences of a type that match a query."""
        return self._search(seq_type, query, params)

    def series(
        self,
        run_hash: str,
        keys: list[tuple[str, str]],
        first_step: SupportsIndex | None = None,
        end_step: SupportsIndex | None = None,
    ) -> list[_core.SeriesColumns]:
        """Returns metrics at full resolution. A key is a name and a context as JSON text."""
        return self._backend.series(run_hash, keys, first_step, end_step)

    def list_experiments(self) -> list[dict[str, Any]]:
        """Returns all experiments."""
        return _answers.entities(self.get(f"{_REST}/experiments/"))

    def create_experiment(self, name: str) -> dict[str, Any]:
        """Creates an experiment."""
        return _answers.checked(self.post(f"{_REST}/experiments/", json={"name": name}), dict)

    def delete_experiment(self, uuid: str) -> dict[str, Any]:
        """Deletes an experiment by id. Its runs stay."""
        return _answers.checked(self.delete(f"{_REST}/experiments/{_segment(uuid)}/"), dict)

    def list_tags(self) -> list[dict[str, Any]]:
        """Returns all tags."""
        return _answers.entities(self.get(f"{_REST}/tags/"))

    def create_tag(
        self, name: str, *, color: str | None = None, description: str | None = None
    ) -> dict[str, Any]:
        """Creates a tag."""
        given = {"name": name, "color": color, "description": description}
        body = {key: value for key, value in given.items() if value is not None}
        return _answers.checked(self.post(f"{_REST}/tags/", json=body), dict)

    def get_project_info(self) -> dict[str, Any]:
        """Returns name and description of the project."""
        return _answers.checked(self.get(f"{_REST}/projects/"), dict)

    def get_artifact(self, run_id: str, path: str) -> bytes:
        """Returns the content of an artifact."""
        return self._backend.read(_call("GET", _artifact_path(run_id, "download"), {"path": path}))

    def download_artifact(self, run_id: str, path: str, dest: str | os.PathLike[str]) -> None:
        """Saves an artifact as a file, which appears when it is complete."""
        call = _call("GET", _artifact_path(run_id, "download"), {"path": path})
        self._backend.save(call, os.fspath(dest))

    def download_all_artifacts(self, run_id: str, dest_file: str | os.PathLike[str]) -> None:
        """Saves all artifacts of a run as a ZIP file."""
        self._backend.save(
            _call("GET", _artifact_path(run_id, "download-all")), os.fspath(dest_file)
        )

    def presign_artifact(
        self,
        frontier_url: str,
        run_id: str,
        artifact_path: str,
        content_type: str = "application/octet-stream",
    ) -> dict[str, Any]:
        """Returns a URL to which an artifact can be uploaded."""
        body = {"run_id": run_id, "artifact_path": artifact_path, "content_type": content_type}
        gateway = HttpTransport(frontier_url, self._timeout)
        return _answers.checked(gateway.post(f"{_REST}/artifacts/presign", json=body), dict)

    def _json(
        self, method: str, path: str, params: dict[str, Any] | None = None, body: Any = None
    ) -> Any:
        return _answers.parsed(self._backend.send(_call(method, path, params, body)))

    def _search(self, target: str, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        return self._search_page(target, query, params)[0]

    def _search_page(
        self, target: str, query: str, params: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], str | None]:
        found = self._open_search(target, query, params)
        contents = list(_contents(found))
        return contents, found.next_cursor

    def _open_search(self, target: str, query: str, params: dict[str, Any]) -> _core.SearchResults:
        parameters = _parameters(params)
        try:
            found = self._backend.search(target, query, parameters)
        except errors.ServerError as error:
            if error.status != _BAD_REQUEST:
                raise
            raise errors.QueryError(str(error), status=error.status, code=error.code) from None
        for warning in found.warnings[:_MOST_WARNINGS]:
            text = f"query {query!r}: {quoted(warning)}"
            warnings.warn(text, UserWarning, stacklevel=level_of_caller())
        return found


_BAD_REQUEST = 400
# Warnings about one query that are shown.
_MOST_WARNINGS = 20


def _contents(found: _core.SearchResults) -> Iterator[dict[str, Any]]:
    """Yields the content of each run that was found, with its hash."""
    for run_hash, content in found:
        _answers.checked(content, dict)["hash"] = run_hash
        yield content


def _call(
    method: str, path: str, params: dict[str, Any] | None = None, body: Any = None
) -> tuple[str, str, list[tuple[str, str]], str | None]:
    """Returns a request as the core expects it."""
    text = None if body is None else json.dumps(body)
    return method, path, _parameters(params or {}), text


def _parameters(params: dict[str, Any]) -> list[tuple[str, str]]:
    parameters: list[tuple[str, str]] = []
    for name, value in params.items():
        items = value if isinstance(value, (list, tuple)) else [value]
        parameters.extend((name, _parameter(item)) for item in items if item is not None)
    return parameters


def _parameter(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _segment(text: str) -> str:
    return quote(str(text), safe="")


def _run_path(run_hash: str, rest: str = "") -> str:
    return f"{_REST}/runs/{_segment(run_hash)}/{rest}"


def _artifact_path(run_id: str, action: str) -> str:
    return _run_path(run_id, f"artifacts/{action}/")
