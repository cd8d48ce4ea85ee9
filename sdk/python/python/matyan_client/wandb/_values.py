"""Values of any type, stored at a moment of a run in the form that suits them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from matyan_client import Text, values
from matyan_client.objects import Distribution

from ._media import Table
from ._target import Moment, figure_or_image

# Larger arrays are shown as distributions, as in W&B.
_LISTED_ELEMENTS = 32
_ARRAY_BINS = 32


def log_value(moment: Moment, name: str, value: Any) -> Any:
    """Stores a value of any type. Returns its form in the summary, or None for none."""
    kind = type(value)
    if kind is float or kind is int or kind is bool:
        moment.track(value, name)
        return value
    if value is None:
        return None
    if isinstance(value, str):
        moment.track(Text(value), name)
        return values.text(value)
    if hasattr(value, "log_to"):
        value.log_to(moment, name, {})
        return None
    if values.is_array(value):
        return _log_array(moment, name, value)
    if _is_figure(value):
        moment.track(figure_or_image(value), name)
        return None
    return _log_other(moment, name, value)


def _log_array(moment: Moment, name: str, value: Any) -> Any:
    size = 1
    for length in value.shape:
        size *= int(length)
    if size == 1:
        if hasattr(value, "detach"):
            # It may be on a device, which is not waited for.
            value = value.detach()
            moment.track(value, name)
            return value
        number = values.plain(value)
        while isinstance(number, list):
            number = number[0]
        return log_value(moment, name, number)
    if size <= _LISTED_ELEMENTS:
        return _log_json(moment, name, values.plain(value))
    moment.track(Distribution(value, _ARRAY_BINS), name)
    return None


def _log_other(moment: Moment, name: str, value: Any) -> Any:
    if hasattr(value, "columns") and hasattr(value, "itertuples"):
        Table(dataframe=value).log_to(moment, name, {})
        return None
    if callable(getattr(value, "json", None)) and hasattr(value, "_payload"):
        moment.track(value, name)
        return None
    if isinstance(value, (list, tuple)) and value and all(map(_is_media, value)):
        _log_media(moment, name, value)
        return None
    plain = values.plain(value)
    if isinstance(plain, (bool, int, float)):
        return log_value(moment, name, plain)
    return _log_json(moment, name, plain)


def _log_media(moment: Moment, name: str, media: Sequence[Any]) -> None:
    """Stores images together, and recordings together, as one step; others one by one."""
    together: dict[type, list[Any]] = {}
    for index, item in enumerate(media):
        if item.listed is None:
            item.log_to(moment, name, {"index": index})
        else:
            together.setdefault(type(item.listed), []).append(item.listed)
            item.log_parts_to(moment, name, {"index": index})
    for listed in together.values():
        moment.track(listed, name)


def _log_json(moment: Moment, name: str, plain: Any) -> Any:
    moment.track(Text(plain if isinstance(plain, str) else json.dumps(plain)), name)
    return plain


def _is_media(value: Any) -> bool:
    return hasattr(value, "log_to")


def _is_figure(value: Any) -> bool:
    library = (getattr(value, "__name__", None) or type(value).__module__).partition(".")[0]
    return library in ("plotly", "matplotlib")
