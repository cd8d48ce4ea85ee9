"""Media with the constructors of W&B, stored as objects of Matyan or as files."""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matyan_client import objects, values
from matyan_client.objects.table import table_files

from ._notices import ignore_unknown, warn_once
from ._target import figure_or_image

if TYPE_CHECKING:
    from ._target import Moment

__all__ = [
    "Audio",
    "Classes",
    "Histogram",
    "Html",
    "Image",
    "Media",
    "Molecule",
    "Object3D",
    "Plotly",
    "Table",
    "Video",
]


# The suffix of the files of points that W&B writes.
_POINTS = "pts.json"


class Media:
    """A value that stores itself."""

    # The object of Matyan, if a list of such values is stored as one step of a series.
    listed: Any = None

    def log_to(self, moment: Moment, name: str, context: dict[str, Any]) -> None:
        """Stores the value under a name, at a moment of a run."""
        raise NotImplementedError

    def log_parts_to(self, moment: Moment, name: str, context: dict[str, Any]) -> None:
        """Stores the parts of the value that have their own series."""


class _Tracked(Media):
    """Media that are one object of Matyan."""

    _object: Any

    def log_to(self, moment: Moment, name: str, context: dict[str, Any]) -> None:
        moment.track(self._object, name, context)
        self.log_parts_to(moment, name, context)


class _File(Media):
    """Media that are stored as files, because Matyan has no object for them."""

    # The name in W&B.
    _kind: str
    _folder: str
    _suffix: str
    _data: bytes

    def log_to(self, moment: Moment, name: str, context: dict[str, Any]) -> None:
        warn_once(f"wandb.{self._kind}: stored as a file among the artifacts of the run")
        path = moment.media_path(self._folder, name, self._suffix, context)
        moment.store_bytes(self._data, path, name, context)


class Image(_Tracked):
    """An image, with its boxes as JSON texts, and its masks as images, under the same name.

    The series of boxes and masks have a context that names their layer.
    """

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: Any = None,
        boxes: Mapping[str, Any] | None = None,
        masks: Mapping[str, Any] | None = None,
        file_type: str | None = None,
        **keywords: Any,
    ) -> None:
        del grouping, classes
        ignore_unknown("Image", keywords)
        if isinstance(data_or_path, Image):
            data_or_path = data_or_path.image
        if hasattr(data_or_path, "gcf"):
            data_or_path = data_or_path.gcf()
        if mode and hasattr(data_or_path, "getbands") and data_or_path.mode != mode:
            data_or_path = data_or_path.convert(mode)
        if not isinstance(data_or_path, objects.Image):
            data_or_path = objects.Image(data_or_path, caption or "", file_type)
        self.image: objects.Image = data_or_path
        self.listed = self.image
        self._object = self.image
        self._boxes = {str(layer): values.plain(box) for layer, box in (boxes or {}).items()}
        self._masks = dict(masks or {})

    def log_parts_to(self, moment: Moment, name: str, context: dict[str, Any]) -> None:
        for layer, boxes in self._boxes.items():
            moment.track(objects.Text(json.dumps(boxes)), name, {**context, "boxes": layer})
        for layer, mask in self._masks.items():
            data = mask.get("mask_data", mask.get("path")) if isinstance(mask, Mapping) else mask
            moment.track(objects.Image(data), name, {**context, "mask": str(layer)})


class Classes:
    """Names of the classes of boxes and masks. They are recorded with the boxes."""

    def __init__(self, class_set: Any) -> None:
        self.class_set = values.plain(class_set)


class Audio(_Tracked):
    """A recording."""

    def __init__(
        self,
        data_or_path: Any,
        sample_rate: int | None = None,
        caption: str | None = None,
        **keywords: Any,
    ) -> None:
        ignore_unknown("Audio", keywords)
        if isinstance(data_or_path, (list, tuple)):
            import numpy as np  # noqa: PLC0415 - optional

            data_or_path = np.asarray(data_or_path)
        self._object = objects.Audio(data_or_path, caption=caption or "", rate=sample_rate)
        self.listed = self._object


class Histogram(_Tracked):
    """A histogram, with bins of equal width."""

    def __init__(
        self, sequence: Any = None, np_histogram: Any = None, num_bins: int = 64, **keywords: Any
    ) -> None:
        ignore_unknown("Histogram", keywords)
        if np_histogram is not None:
            counts, edges = (list(map(float, part)) for part in np_histogram[:2])
            _check_widths(edges)
            self._object = objects.Distribution.from_histogram(counts, (edges[0], edges[-1]))
            self.histogram = counts
            self.bins = edges
            return
        self._object = objects.Distribution(sequence, num_bins)
        self.histogram = self._object.weights
        self.bins = self._object.ranges


class Plotly(_Tracked):
    """A figure of plotly or matplotlib."""

    def __init__(self, val: Any) -> None:
        self._object = val if isinstance(val, objects.Figure) else figure_or_image(val)


class Video(Media):
    """A video. Frames and GIF files become an animated image, other files stay files."""

    def __init__(
        self,
        data_or_path: Any,
        caption: str | None = None,
        fps: int | None = None,
        format: str | None = None,  # noqa: A002 - the name in W&B
        **keywords: Any,
    ) -> None:
        ignore_unknown("Video", keywords)
        if values.is_array(data_or_path):
            data = _animation(data_or_path, fps or 4)
            suffix = "gif"
        else:
            data, suffix = _content(data_or_path, format or "gif")
        self._media: Media = _VideoFile(data, suffix)
        if suffix == "gif":
            self._media = Image(objects.Image(data, caption or ""))

    def log_to(self, moment: Moment, name: str, context: dict[str, Any]) -> None:
        self._media.log_to(moment, name, context)


class _VideoFile(_File):
    _kind = "Video"
    _folder = "videos"

    def __init__(self, data: bytes, suffix: str) -> None:
        self._data = data
        self._suffix = f".{suffix}"


class Html(_Tracked):
    """A page, from a path that ends with `.html`, a text, or a stream."""

    def __init__(
        self, data: Any, inject: bool = True, data_is_not_path: bool = False, **keywords: Any
    ) -> None:
        del inject
        ignore_unknown("Html", keywords)
        is_path = isinstance(data, os.PathLike) or (
            isinstance(data, str) and data.endswith(".html") and Path(data).is_file()
        )
        if hasattr(data, "read"):
            data = data.read()
        elif is_path and not data_is_not_path:
            data = Path(data).read_bytes()
        data = data if isinstance(data, bytes) else values.text(str(data)).encode()
        self._object = objects.Html(data)
        self.listed = self._object


class Object3D(Media):
    """A point cloud, or a file of a scene, which stays a file."""

    def __init__(self, data_or_path: Any, caption: str | None = None, **keywords: Any) -> None:
        file_type = keywords.pop("file_type", None)
        ignore_unknown(type(self).__name__, keywords)
        if values.is_array(data_or_path):
            self.listed = objects.PointCloud(data_or_path, caption or "")
            return
        if isinstance(data_or_path, Mapping):
            # All points, also of clouds that would be too large for params.
            lists = {
                key: value.tolist() if values.is_array(value) else values.plain(value)
                for key, value in data_or_path.items()
            }
            data = json.dumps(lists).encode()
            suffix = _POINTS
        else:
            data, suffix = _content(data_or_path, file_type or _POINTS)
            suffix = _POINTS if suffix == "json" else suffix
        if suffix in (_POINTS, "ply"):
            self.listed = objects.PointCloud(data, caption or "", format=suffix)
        else:
            self._file = _SceneFile(data, suffix)

    def log_to(self, moment: Moment, name: str, context: dict[str, Any]) -> None:
        if self.listed is None:
            self._file.log_to(moment, name, context)
        else:
            moment.track(self.listed, name, context)


class _SceneFile(_File):
    _kind = "Object3D"
    _folder = "object3D"

    def __init__(self, data: bytes, suffix: str) -> None:
        self._data = data
        self._suffix = f".{suffix}"


class Molecule(_File):
    """A molecule, from a file."""

    _kind = "Molecule"
    _folder = "molecule"

    def __init__(self, data_or_path: Any, caption: str | None = None, **keywords: Any) -> None:
        del caption
        file_type = keywords.pop("file_type", None)
        ignore_unknown("Molecule", keywords)
        self._data, suffix = _content(data_or_path, file_type or "pdb")
        self._suffix = f".{suffix}"


class Table(Media):
    """Rows with named columns, stored as JSON with `columns` and `data`.

    Images and recordings in cells are stored next to it, and shown in their cells. Other media are
    stored under the name of the table, and their column and row.
    """

    def __init__(
        self,
        columns: Iterable[Any] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        **keywords: Any,
    ) -> None:
        # Types of columns are the types of their values here.
        for name in ("dtype", "optional", "allow_mixed_types", "log_mode"):
            keywords.pop(name, None)
        ignore_unknown("Table", keywords)
        given = data if rows is None else rows
        if dataframe is None and hasattr(given, "itertuples"):
            dataframe = given
        if dataframe is not None:
            columns = list(dataframe.columns)
            given = [list(row) for row in dataframe.itertuples(index=False, name=None)]
        elif values.is_array(given):
            given = given.tolist()
        self.columns: list[Any] = ["Input", "Output", "Expected"] if columns is None else [*columns]
        self.data: list[list[Any]] = []
        for row in given or []:
            self.add_data(*row)

    def add_data(self, *data: Any) -> None:
        """Adds a row."""
        if len(data) != len(self.columns):
            expected = len(self.columns)
            raise ValueError(f"`data`: expected {expected} values, found {len(data)}")
        self.data.append(list(data))

    def add_row(self, *row: Any) -> None:
        """Adds a row, like `add_data`."""
        self.add_data(*row)

    def add_column(self, name: str, data: Sequence[Any], optional: bool = False) -> None:
        """Adds a column."""
        del optional
        column = list(data)
        if self.data and len(column) != len(self.data):
            raise ValueError(f"`data`: expected {len(self.data)} values, found {len(column)}")
        if not self.data:
            self.data = [[] for _ in column]
        self.columns.append(name)
        for row, value in zip(self.data, column, strict=True):
            row.append(value)

    def get_column(self, name: str, convert_to: str | None = None) -> Any:
        """Returns the values of a column, as an array with `convert_to="numpy"`."""
        index = self.columns.index(name)
        column = [row[index] for row in self.data]
        if convert_to == "numpy":
            import numpy as np  # noqa: PLC0415 - optional

            return np.asarray(column)
        return column

    def get_dataframe(self) -> Any:
        """Returns the table as a pandas data frame."""
        import pandas as pd  # noqa: PLC0415 - optional

        return pd.DataFrame(self.data, columns=self.columns)

    def iterrows(self) -> Iterable[tuple[int, list[Any]]]:
        """Returns numbers and rows."""
        return enumerate(self.data)

    def to_json(self) -> bytes:
        """Returns the table as one file, with the names of the types of media in cells."""
        rows = [[_cell_text(cell) for cell in row] for row in self.data]
        (file,) = table_files("", self.columns, rows)
        return file.data

    def log_to(self, moment: Moment, name: str, context: dict[str, Any]) -> None:
        base = moment.media_path("table", name, context=context)
        files = [*table_files(base, self.columns, map(_plain_cells, self.data))]
        for path, data in files[:-1]:
            moment.store_part(data, path)
        moment.store_bytes(files[-1].data, files[-1].path, name, context)
        for number, row in enumerate(self.data):
            for column, cell in zip(self.columns, row, strict=True):
                if isinstance(cell, Media):
                    place = {**context, "column": str(column), "row": number}
                    if cell.listed is None:
                        cell.log_to(moment, name, place)
                    else:
                        cell.log_parts_to(moment, name, place)


def _plain_cells(row: Iterable[Any]) -> list[Any]:
    """Returns the cells with objects of Matyan in place of images and recordings."""
    return [_plain_cell(cell) for cell in row]


def _plain_cell(cell: Any) -> Any:
    listed = cell.listed if isinstance(cell, Media) else None
    return _cell_text(cell) if listed is None else listed


def _cell_text(cell: Any) -> Any:
    return f"<{type(cell).__name__}>" if isinstance(cell, Media) else cell


def _check_widths(edges: list[float]) -> None:
    width = (edges[-1] - edges[0]) / max(1, len(edges) - 1)
    uneven = any(
        abs(after - before - width) > 1e-3 * abs(width)
        for before, after in itertools.pairwise(edges)
    )
    if uneven:
        warn_once("wandb.Histogram: bins of different widths are shown with equal ones")


def _content(source: Any, default_format: str) -> tuple[bytes, str]:
    """Returns the bytes of a file or stream, and the format by its name."""
    if hasattr(source, "read"):
        data = source.read()
        name = str(getattr(source, "name", ""))
    else:
        data = Path(source).read_bytes()
        name = str(source)
    suffix = "".join(
        Path(name).suffixes[-2:] if name.endswith(".pts.json") else [Path(name).suffix]
    )
    content = data if isinstance(data, bytes) else str(data).encode()
    return content, suffix.lstrip(".") or default_format


def _animation(frames: Any, fps: int) -> bytes:
    """Returns a GIF file of frames by number, channel, row, and column."""
    import numpy as np  # noqa: PLC0415 - optional

    array = np.asarray(frames.detach().cpu() if hasattr(frames, "detach") else frames)
    if array.ndim == 5:
        # The videos of a batch, next to each other.
        array = np.concatenate(list(array), axis=-1)
    images = [objects.Image(np.moveaxis(frame, 0, -1)).to_pil_image() for frame in array]
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=1000 / fps,
        loop=0,
    )
    return buffer.getvalue()
