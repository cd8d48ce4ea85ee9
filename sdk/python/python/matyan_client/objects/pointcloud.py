"""Tracked point clouds."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matyan_client import values

from . import _arrays
from ._media import Encoded, Media, file_content

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Formats that the web UI shows: PLY, and the points of W&B.
_FORMATS = ("ply", "pts.json")
# Names and types of the columns after x, y, and z, by the number of columns.
_MORE_COLUMNS: dict[int, tuple[str, ...]] = {3: (), 4: ("label",), 6: ("red", "green", "blue")}


class PointCloud:
    """Points in space.

    Accepts an array of the shape (points, columns), the path or the bytes of a PLY file, and of the
    points in JSON that W&B writes. The columns are x, y, and z; then nothing, or a label from 0 to
    255, or red, green, and blue from 0 to 255. Arrays are stored as PLY with coordinates of 32
    bits.

    Usage::

        run.track(PointCloud(points, caption="scan 3"), name="scans", step=0)
    """

    def __init__(
        self,
        data: Any,
        caption: str = "",
        *,
        format: str = "",  # noqa: A002 - as of the other objects with files
    ) -> None:
        self._caption = values.text(str(caption))
        self._point_count: int | None = None
        if isinstance(data, (bytes, bytearray, memoryview)):
            self._media = Encoded(bytes(data), _checked(format or "ply"))
        elif isinstance(data, (str, os.PathLike)):
            form = _checked(format or _format_of(Path(data).name))
            self._media = Encoded(file_content("data", data), form)
        elif values.is_array(data) or isinstance(data, (list, tuple)):
            points = _points(data)
            self._point_count = len(points)
            self._media = Encoded(_ply(points), "ply")
        else:
            raise TypeError(
                f"`data`: expected an array, a path, or bytes, not {type(data).__name__}"
            )

    @property
    def caption(self) -> str:
        """Text that is shown with the points."""
        return self._caption

    @property
    def format(self) -> str:
        """Format of the file: `ply`, or `pts.json`."""
        return self._media.format

    @property
    def point_count(self) -> int | None:
        """Number of points, or None for a file."""
        return self._point_count

    def json(self) -> dict[str, object]:
        """Returns the points as one value, with the file as base64."""
        data = base64.b64encode(self._media.data).decode("ascii")
        return {"type": "point_cloud", "data": data, **self._attributes()}

    def _attributes(self) -> dict[str, object]:
        return {
            "format": self.format,
            "caption": self._caption,
            "point_count": self._point_count,
        }

    def _payload(self) -> tuple[dict[str, object], Media]:
        """Returns the values to store with the series, and the content to store as a file."""
        return {"type": "point_cloud", **self._attributes()}, self._media

    def __repr__(self) -> str:
        size = len(self._media.data)
        return f"PointCloud(format={self.format!r}, size={size}, caption={self._caption!r})"


def _format_of(name: str) -> str:
    return next((one for one in _FORMATS if name.lower().endswith(f".{one}")), name)


def _checked(form: str) -> str:
    if form not in _FORMATS:
        raise ValueError(f"`format`: expected {' or '.join(_FORMATS)}, found {form!r}")
    return form


def _points(data: Any) -> NDArray[Any]:
    array = _arrays.to_numpy(data)
    if array.ndim != 2 or array.shape[1] not in _MORE_COLUMNS or array.dtype.kind not in "biuf":
        raise TypeError(
            "`data`: expected numbers of the shape (points, 3), (points, 4), or (points, 6), found "
            f"{array.dtype} of the shape {tuple(array.shape)}"
        )
    return array


def _ply(points: NDArray[Any]) -> bytes:
    """Returns points as a binary PLY file."""
    import numpy as np  # noqa: PLC0415 - optional, and slow to import

    more = _MORE_COLUMNS[points.shape[1]]
    table = np.zeros(
        len(points), [*((axis, "<f4") for axis in "xyz"), *((one, "u1") for one in more)]
    )
    for at, axis in enumerate("xyz"):
        table[axis] = points[:, at]
    for at, column in enumerate(more, 3):
        table[column] = np.nan_to_num(points[:, at].astype(np.float64)).clip(0, 255).round()
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(points)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {column}" for column in more),
        "end_header",
    ]
    return "\n".join([*header, ""]).encode("ascii") + table.tobytes()
