"""Tracked tables."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from matyan_client import _name_paths, values

from ._media import Encoded, encoded

# The web UI reads no larger tables, and a file of this size is copied at the call.
_MOST_BYTES = 16_000_000
_FOLDER = "tables"

# Texts that look like other values, such as 1, nan, True and lists, or that begin with a quote.
_TEXT_OF_VALUE = re.compile(
    r"-?\d+(\.\d+)?(e[+-]?\d+)?|nan|-?inf|True|False|None|[\[{\"].*", re.ASCII | re.DOTALL
)
# Ends of names that look like a step, and like an epoch.
_STEP_END = re.compile(r"_(-?[0-9]+)\Z")
_EPOCH_END = re.compile(r"_(e-?[0-9]+)\Z")


class TableFile(NamedTuple):
    """A file of a table: the table itself, or the image or recording of a cell."""

    path: str
    data: bytes


class Table:
    """Rows with named columns, whose cells may be images and recordings.

    Accepts rows that are sequences or dicts by column, and a pandas data frame.

    A table is stored as a file among the artifacts of the run, once for each step and epoch;
    without either, it replaces the table of the same name. The web UI sorts and filters it, shows
    its images, and compares it with the tables of other steps and runs.

    Usage::

        table = Table(["image", "label", "prediction"])
        for image, label, prediction in batch:
            table.add_row(Image(image), label, prediction)
        run.track(table, name="predictions", step=epoch)
    """

    def __init__(self, columns: Iterable[Any] | None = None, data: Any = None) -> None:
        if hasattr(data, "itertuples"):
            columns = data.columns if columns is None else columns
            data = data.itertuples(index=False, name=None)
        elif values.is_array(data):
            data = data.tolist()
        rows = list(data or [])
        if columns is None:
            first = rows[0] if rows else None
            if not isinstance(first, Mapping):
                raise TypeError("`columns`: expected names, because the rows are no dicts")
            columns = first
        self._columns = [values.text(str(column)) for column in columns]
        if len(set(self._columns)) < len(self._columns):
            raise ValueError("`columns`: a name occurs twice")
        self._rows: list[list[Any]] = []
        for row in rows:
            if isinstance(row, Mapping):
                self._rows.append(self._of_mapping(row))
            else:
                self.add_row(*row)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    @property
    def rows(self) -> list[list[Any]]:
        """The cells of each row."""
        return [list(row) for row in self._rows]

    def add_row(self, *cells: Any) -> None:
        """Adds a row with a cell for each column."""
        if len(cells) != len(self._columns):
            raise ValueError(f"`cells`: expected {len(self._columns)} values, found {len(cells)}")
        self._rows.append(list(cells))

    def json(self) -> dict[str, object]:
        """Returns the table as one value, with the forms of its images and recordings."""
        rows = [
            [cell.json() if _kind(cell) else _readable(values.plain(cell)) for cell in row]
            for row in self._rows
        ]
        return {"type": "table", "columns": self.columns, "data": rows}

    def _of_mapping(self, row: Mapping[Any, Any]) -> list[Any]:
        named = {str(name): cell for name, cell in row.items()}
        unknown = sorted(named.keys() - set(self._columns))
        if unknown:
            raise ValueError(f"`data`: no column {unknown[0]!r}")
        return [named.get(column) for column in self._columns]

    def _files(
        self,
        name: str,
        step: int | None,
        context: Mapping[str, Any],
        epoch: int | None = None,
    ) -> Iterator[TableFile]:
        """Yields the files of the cells, and then the table, which names them."""
        base = f"{_FOLDER}/{_base(name, step, epoch, context)}"
        return table_files(base, self._columns, self._rows)

    def __repr__(self) -> str:
        return f"Table({self._columns!r}, {len(self._rows)} rows)"


def table_files(
    base: str, columns: Iterable[Any], rows: Iterable[Iterable[Any]]
) -> Iterator[TableFile]:
    """Yields the files of the cells, and then the table, which names them.

    `base` is the path of the table without its suffix.
    """
    stored = []
    for number, row in enumerate(rows):
        cells: list[Any] = []
        for place, cell in enumerate(row):
            kind = _kind(cell)
            if kind is None:
                cells.append(_readable(values.plain(cell)))
                continue
            media = encoded(cell._media)  # noqa: SLF001 - a class of the same package
            path = f"{base}/{number}_{place}.{_extension(media)}"
            yield _checked(TableFile(path, media.data), "an image or a recording of a table")
            cells.append({"_type": kind, "path": path, "caption": cell.caption})
        stored.append(cells)
    table = {"columns": [str(column) for column in columns], "data": stored}
    yield _checked(TableFile(f"{base}.table.json", json.dumps(table).encode()), "a table")


def _kind(cell: Any) -> str | None:
    """Returns the type of a cell that is a file of its own."""
    from .audio import Audio  # noqa: PLC0415 - types are imported when they are used
    from .image import Image  # noqa: PLC0415 - types are imported when they are used

    if isinstance(cell, Image):
        return "image-file"
    return "audio-file" if isinstance(cell, Audio) else None


def _readable(value: Any) -> Any:
    """Returns a value that every reader of JSON knows, with texts for NaN and infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_readable(one) for one in value]
    if isinstance(value, dict):
        return {key: _readable(one) for key, one in value.items()}
    return value


def _extension(media: Encoded) -> str:
    return re.sub(r"\W", "", media.format.lower()) or "bin"


def _base(name: str, step: int | None, epoch: int | None, context: Mapping[str, Any]) -> str:
    """Returns the path of a table in its folder, without its suffix.

    It has the name, `key=value` for each entry of the context, and the step and `e` with the epoch.
    What would make two of these paths equal is escaped.
    """
    entries = [f" {_key(key)}={_value(context[key])}" for key in sorted(context)]
    text = _name_paths.inside_folder("".join([_words(name), *entries]))
    if step is None:
        text = _STEP_END.sub(r"%5F\1", text)
        if epoch is None:
            text = _EPOCH_END.sub(r"%5F\1", text)
    step_text = "" if step is None else f"_{step}"
    return text + step_text + ("" if epoch is None else f"_e{epoch}")


def _key(text: str) -> str:
    return _name_paths.escaped(text)


def _words(text: str) -> str:
    """Returns text in which no word after the first looks like an entry of a context."""
    first, space, others = _name_paths.escaped(text, " =").partition(" ")
    return first + space + others.replace("=", "%3D")


def _value(value: Any) -> str:
    """Returns the text of a value of a context. Texts that look like other values are in quotes."""
    text = str(value)
    is_like_value = isinstance(value, str) and _TEXT_OF_VALUE.fullmatch(text)
    return _words(f'"{text}"' if is_like_value else text)


def _checked(file: TableFile, what: str) -> TableFile:
    if len(file.data) > _MOST_BYTES:
        megabytes = len(file.data) / 1e6
        most = _MOST_BYTES / 1e6
        raise ValueError(
            f"`value`: {what} has {megabytes:.1f} MB, and {most:.0f} MB are stored at most"
        )
    return file
