"""Reports as HTML, which notebooks show for the last expression of a cell."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from . import _core, _notebook, errors
from ._report_panels import Chart, PanelSettings

if TYPE_CHECKING:
    from .transport.http import HttpTransport

_logger = logging.getLogger("matyan_client")

# More lines and charts would keep a notebook waiting. The page of the report has all of them.
_MOST_RUNS = 8
_MOST_LINES = 100
_MOST_CHARTS = 12

_FENCE = re.compile(r"\s*```\s*(\S*)")
_ITEM = re.compile(r"\s*([-*+]|\d+[.)])\s")
_INDENTED = re.compile(r"\s+\S")
_RULE = re.compile(r"([-*_])(\s*\1){2,}")
# The kinds of panels that are no charts of lines.
OTHER_PANELS = ("bar", "scatter", "parallel", "importance", "heat", "number", "runs", "media")
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
        """Text of the report: Markdown with panels."""
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
                parts.append(self._chart(Chart(text), infos))
            elif language == "chart" or language in OTHER_PANELS:
                title = html.escape(PanelSettings(text).get("title") or language)
                parts.append(f"<p><small>{link}{title}</a></small></p>")
            elif language == "":
                parts.append(markdown_html(text))
            else:
                parts.append(f"<pre>{html.escape(text)}</pre>")
        return "".join(parts)

    def _chart(self, chart: Chart, infos: dict[str, dict[str, Any]]) -> str:
        """Returns a chart as HTML, with what is wrong with its text, and what cannot be read."""
        rows: list[str] = []
        notes = list(chart.mistakes)
        runs: list[dict[str, Any]] = []
        # One more tells whether some are left out.
        limit = min(chart.limit, _MOST_RUNS + 1)
        try:
            runs = self._http.search_runs(_core.query_expression(chart.query), limit)
        except errors.ServerError as error:
            self._note(notes, "failed to find the runs", error)
        for run in runs[:_MOST_RUNS]:
            run_hash = str(run.get("hash", ""))
            try:
                rows += self._rows(run_hash, chart, infos)
            except errors.ServerError as error:
                self._note(notes, f"failed to read run {run_hash}", error)
        if not rows and not notes:
            kind = "run of this query" if chart.query else "run"
            notes.append(f"No {kind} has {', '.join(chart.names) or 'a metric'}.")
        if len(runs) > _MOST_RUNS:
            notes.append(f"Only the {_MOST_RUNS} newest runs are shown here.")
        if len(rows) > _MOST_LINES:
            notes.append(f"{len(rows) - _MOST_LINES} more lines are left out here.")
        table = f"<table>{''.join(rows[:_MOST_LINES])}</table>" if rows else ""
        texts = "".join(f"<div><small>{html.escape(note)}</small></div>" for note in notes)
        return f"<div><b>{html.escape(chart.title)}</b></div>{table}{texts}"

    def _note(self, notes: list[str], action: str, error: errors.ServerError) -> None:
        _logger.debug("%s of a chart of report %s: %s", action, self.id, error)
        notes.append(f"{action}: {error}")

    def _rows(self, run_hash: str, chart: Chart, infos: dict[str, dict[str, Any]]) -> list[str]:
        """Returns a row for each metric of a run that the chart shows.

        `infos` keeps what was read of runs.
        """
        if run_hash not in infos:
            infos[run_hash] = self._http.get_run_info(run_hash)
        info = infos[run_hash]
        found = info.get("traces", {}).get("metric", [])
        metrics = [metric for metric in found if chart.shows(str(metric.get("name", "")))]
        # The others are counted without their points.
        read = metrics[:_MOST_LINES]
        traces = [{"name": one["name"], "context": one.get("context", {})} for one in read]
        if not traces:
            return []
        curves = self._http.get_run_metric_batch(
            run_hash, traces, chart.step_range, record_density=_notebook.POINTS
        )
        name = info.get("props", {}).get("name") or run_hash
        return _notebook.metric_rows(metrics, curves, str(name), chart.values)


def blocks(code: str) -> Iterator[tuple[str, str]]:
    """Yields the texts of a report, with the language of code, or "" for Markdown.

    The web UI and `matyan publish` divide reports alike: `tests/vectors/panels.json` has cases.
    """
    lines = code.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    start = at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence is None:
            at = _end_of_prose(lines, at)
            continue
        if at > start:
            yield "", "\n".join(lines[start:at])
        end = _next_line(lines, at + 1, lambda line: line.strip() == "```")
        yield fence[1] or "text", "\n".join(lines[at + 1 : end])
        start = at = end + 1
    if start < len(lines):
        yield "", "\n".join(lines[start:])


def _end_of_prose(lines: Sequence[str], at: int) -> int:
    """Returns the end of a line, or of the formula or list that begins with it."""
    line = lines[at].strip()
    if line.startswith("$$") and not line[2:].endswith("$$"):
        return _next_line(lines, at + 1, lambda line: "$$" in line) + 1
    if _ITEM.match(lines[at]) and not _RULE.fullmatch(line):
        # Code that is indented below an item is a part of the item.
        return _next_line(
            lines, at + 1, lambda line: not (_ITEM.match(line) or _INDENTED.match(line))
        )
    return at + 1


def _next_line(lines: Sequence[str], start: int, is_wanted: Callable[[str], object]) -> int:
    return next((at for at in range(start, len(lines)) if is_wanted(lines[at])), len(lines))


def markdown_html(text: str) -> str:
    """Returns headings, lists and paragraphs of Markdown as HTML. All else stays text."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = paragraph.splitlines()
        heading = re.match(r"(#{1,6})\s+(.*)", paragraph)
        if heading is not None:
            # The page of the notebook has its own headings.
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
