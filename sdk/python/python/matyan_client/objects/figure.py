"""Tracked figures."""

from __future__ import annotations

import array
import base64
import json
import sys
from typing import TYPE_CHECKING, Any, Literal, cast

from matyan_client import values

if TYPE_CHECKING:
    import plotly.graph_objects

# Type codes of plotly's packed arrays, and the type codes of `array`.
_ELEMENT_CODES: dict[str, Literal["b", "B", "h", "H", "i", "I", "f", "d"]] = {
    "i1": "b",
    "u1": "B",
    "i2": "h",
    "u2": "H",
    "i4": "i",
    "u4": "I",
    "f4": "f",
    "f8": "d",
}


class Figure:
    """A figure of plotly or matplotlib, or the dict of a figure.

    Figures of matplotlib are converted by plotly, which must be installed for it. `Image` stores
    them as they look.

    Usage::

        run.track(Figure(plotly.express.scatter(x=x, y=y)), name="scatter", step=0)
    """

    def __init__(self, obj: Any) -> None:
        if isinstance(obj, dict):
            self._data = _checked(obj)
        elif hasattr(obj, "to_plotly_json"):
            self._data = _from_plotly(obj)
        elif hasattr(obj, "savefig"):
            self._data = _from_matplotlib(obj)
        else:
            raise TypeError(
                "`obj`: expected a figure of plotly or matplotlib, or a dict, not "
                f"{type(obj).__name__}"
            )

    @property
    def data(self) -> dict[str, Any]:
        """Dict of the figure, as plotly defines it."""
        return self._data

    def to_plotly_figure(self) -> plotly.graph_objects.Figure:
        """Returns the figure as a figure of plotly."""
        import plotly.graph_objects  # noqa: PLC0415 - optional, and slow to import

        return plotly.graph_objects.Figure(self._data)

    def json(self) -> dict[str, object]:
        """Returns the form in which the figure is stored."""
        return {"type": "figure", "data": self._data}

    def __repr__(self) -> str:
        return f"Figure(keys={list(self._data)!r})"


def _checked(obj: dict[Any, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", values.plain(obj))


def _from_plotly(figure: Any) -> dict[str, Any]:
    # The JSON encoder of plotly knows all types that its figures may contain.
    return cast("dict[str, Any]", _unpacked(json.loads(figure.to_json())))


def _from_matplotlib(figure: Any) -> dict[str, Any]:
    try:
        import plotly.tools  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        raise ImportError(
            "plotly is required to convert a matplotlib figure; install "
            "`matyan-client[figure]`, or track it as an Image"
        ) from None
    try:
        return _from_plotly(plotly.tools.mpl_to_plotly(figure))
    except Exception as error:
        # The converter knows a part of matplotlib, and fails on the rest in many ways.
        raise TypeError(
            f"plotly cannot convert this matplotlib figure ({error}); track it as an Image"
        ) from error


def _unpacked(value: Any) -> Any:
    """Returns a figure with packed arrays as lists, because older viewers cannot read them."""
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("dtype") in _ELEMENT_CODES and isinstance(value.get("bdata"), str):
        return _unpacked_array(value)
    return {key: _unpacked(item) for key, item in value.items()}


def _unpacked_array(packed: dict[str, Any]) -> list[Any]:
    elements = array.array(_ELEMENT_CODES[packed["dtype"]], base64.b64decode(packed["bdata"]))
    if sys.byteorder == "big":
        elements.byteswap()
    listed: list[Any] = elements.tolist()
    shape = [int(length) for length in str(packed.get("shape", "")).split(",") if length.strip()]
    for length in reversed(shape[1:]):
        listed = [listed[start : start + length] for start in range(0, len(listed), length)]
    return listed
