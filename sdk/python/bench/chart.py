"""A picture of what tracking costs, next to other trackers, for the first screen of the README."""

import datetime
import html
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_WIDTH = 760
_NAMES = 150
_NUMBERS = 110
_ROW = 24
_HEAD = 34
_GAP = 14
_FOOT = 26

_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.weak{fill:#656d76;"
    "font-size:11px}.own{fill:#2563eb}.other{fill:#9aa4b2}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.weak{fill:#9198a1}.own{fill:#60a5fa}"
    ".other{fill:#57606a}}"
)


class Group(NamedTuple):
    """Bars of one figure, by tracker."""

    title: str
    # Figures by the names of trackers; absent for a tracker that failed.
    figures: Mapping[str, float]
    form: str


def write(path: pathlib.Path, groups: Sequence[Group], own: str) -> None:
    """Writes the picture, with the day and the machine."""
    path.write_text(drawn(groups, own, f"{_today():%B %-d, %Y}, {_machine()}"))


def drawn(groups: Sequence[Group], own: str, note: str) -> str:
    """Returns the picture as SVG. Bars of a group begin at zero, and have one scale."""
    parts = []
    top = 0
    for title, figures, form in groups:
        parts.append(f'<text class="title" x="0" y="{top + 20}">{html.escape(title)}</text>')
        top += _HEAD
        most = max(figures.values(), default=1) or 1
        for name, figure in figures.items():
            width = max(1.5, (_WIDTH - _NAMES - _NUMBERS) * figure / most)
            kind = "own" if name == own else "other"
            end = _NAMES + width + 8
            parts.append(
                f'<text x="0" y="{top + 15}">{html.escape(name)}</text>'
                f'<rect class="{kind}" x="{_NAMES}" y="{top + 3}" width="{width:.1f}" '
                'height="15" rx="2"/>'
                f'<text x="{end:.1f}" y="{top + 15}">{html.escape(form.format(figure))}</text>'
            )
            top += _ROW
        top += _GAP
    parts.append(f'<text class="weak" x="0" y="{top + 10}">{html.escape(note)}</text>')
    described = "; ".join(
        f"{title}: " + ", ".join(f"{name} {form.format(one)}" for name, one in figures.items())
        for title, figures, form in groups
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + _FOOT}" '
        f'width="{_WIDTH}" role="img" aria-label="{html.escape(described)}">'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _today() -> datetime.datetime:
    return datetime.datetime.now(tz=datetime.timezone.utc)


def _machine() -> str:
    cpus = pathlib.Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    if not models:
        return platform.machine()
    return f"{len(models)} cores of {models[0]}"
