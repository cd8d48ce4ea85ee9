"""Reports as HTML, which notebooks show for the last expression of a cell."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _notebook, errors

if TYPE_CHECKING:
    from .transport.http import HttpTransport

_logger = logging.getLogger("matyan_client")

# More lines and charts would keep a notebook waiting. The page of the report has all of them.
_MOST_RUNS = 8
_MOST_CHARTS = 12

_FENCE = re.compile(r"^\s*```\s*(\S*)")
# The kinds of panels that are no charts of lines.
_OTHER_PANELS = ("bar", "scatter", "parallel", "importance", "heat", "number", "runs", "media")
_INLINE = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*|\*([^\s*][^*]*)\*")
_MARKS = ("code", "strong", "em")


class Report:
    """A report of the project. A notebook shows its text, and its charts as curves of runs."""

    def __init__(self, http: HttpTransport, stored: dict[str, Any]) -> None:
        self._http = http
        self._stored = stored

    @property
    def id(self) -> str:
        """Id of the report."""
        return str(self._stored.get("id", ""))

    @property
    def name(self) -> str:
        """Name of the report."""
        return str(self._stored.get("name", ""))

    @property
    def code(self) -> str:
        """Text of the report, as Markdown with panels."""
        return str(self._stored.get("code") or "")

    @property
    def url(self) -> str:
        """Address of the report in the UI of the server."""
        return f"{self._http.url}/reports/{self.id}"

    def __repr__(self) -> str:
        return f"Report(name={self.name!r}, url={self.url!r})"

    def _repr_html_(self) -> str:
        """Returns the report as HTML. What cannot be read leads to the page of the report."""
        link = f'<a href="{html.escape(self.url)}" target="_blank" rel="noreferrer">'
        parts = [f"<div><b>{link}{html.escape(self.name or self.url)}</a></b></div>"]
        charts = 0
        # Most charts of a report show the same runs.
        infos: dict[str, dict[str, Any]] = {}
        for language, text in blocks(self.code):
            if language == "chart" and charts < _MOST_CHARTS:
                charts += 1
                parts.append(self._chart(text, infos))
            elif language == "chart" or language in _OTHER_PANELS:
                title = html.escape(_settings(text).get("title") or language)
                parts.append(f"<p><small>{link}{title}</a></small></p>")
            elif language == "":
                parts.append(markdown_html(text))
            else:
                parts.append(f"<pre>{html.escape(text)}</pre>")
        return "".join(parts)

    def _chart(self, text: str, infos: dict[str, dict[str, Any]]) -> str:
        settings = _settings(text)
        names = [name.strip() for name in settings.get("metric", "").split(",") if name.strip()]
        title = settings.get("title") or ", ".join(names)
        parts = [f"<div><b>{html.escape(title)}</b></div>"]
        try:
            runs = self._http.search_runs(settings.get("query", ""), _MOST_RUNS)
            rows = [
                row for run in runs for row in self._rows(str(run.get("hash", "")), names, infos)
            ]
        except errors.ServerError as error:
            _logger.debug("failed to read a chart of report %s: %s", self.id, error)
            rows = []
        parts.append(f"<table>{''.join(rows)}</table>" if rows else "<small>no runs</small>")
        return "".join(parts)

    def _rows(self, run_hash: str, names: list[str], infos: dict[str, dict[str, Any]]) -> list[str]:
        """Returns a row for each metric of a run that has one of the names.

        `infos` keeps what was read of runs.
        """
        if run_hash not in infos:
            infos[run_hash] = self._http.get_run_info(run_hash)
        info = infos[run_hash]
        found = info.get("traces", {}).get("metric", [])
        metrics = [metric for metric in found if metric.get("name") in names]
        traces = [{"name": one["name"], "context": one.get("context", {})} for one in metrics]
        if not traces:
            return []
        density = _notebook.POINTS
        curves = self._http.get_run_metric_batch(run_hash, traces, record_density=density)
        name = info.get("props", {}).get("name") or run_hash
        return _notebook.metric_rows(metrics, curves, str(name))


def blocks(code: str) -> Iterator[tuple[str, str]]:
    """Yields the texts of a report, with the language of code, or "" for Markdown."""
    language = ""
    lines: list[str] = []
    is_code = False
    for line in code.splitlines():
        fence = _FENCE.match(line)
        if fence is None or (is_code and line.strip() != "```"):
            lines.append(line)
            continue
        if lines:
            yield language, "\n".join(lines)
        lines = []
        is_code = not is_code
        language = (fence.group(1) or "text") if is_code else ""
    if lines:
        yield language, "\n".join(lines)


def _settings(text: str) -> dict[str, str]:
    """Returns the settings of a panel. An indented line continues the one above."""
    settings: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if line[:1].isspace() and last:
            settings[last] = f"{settings[last]}\n{line.strip()}".strip()
        elif ":" in line:
            last, _, value = (part.strip() for part in line.partition(":"))
            settings[last] = value
    return settings


def markdown_html(text: str) -> str:
    """Returns headings, lists and paragraphs of Markdown as HTML. All else stays text."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = paragraph.splitlines()
        heading = re.match(r"(#{1,6})\s+(.*)", paragraph)
        if heading is not None:
            # The page of the notebook has headings of its own.
            size = min(len(heading.group(1)) + 2, 6)
            parts.append(f"<h{size}>{_inline(heading.group(2))}</h{size}>")
            lines = lines[1:]
        if lines and all(re.match(r"\s*[-*+]\s", line) for line in lines):
            items = (re.sub(r"^\s*[-*+]\s+", "", line) for line in lines)
            parts.append(f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</ul>")
        elif lines:
            parts.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "".join(parts)


def _inline(text: str) -> str:
    def marked(found: re.Match[str]) -> str:
        at, inner = next((at, group) for at, group in enumerate(found.groups()) if group)
        return f"<{_MARKS[at]}>{inner}</{_MARKS[at]}>"

    return _INLINE.sub(marked, html.escape(text))
