"""JSON of a server, whose form is checked before anything is made of it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, TypeAlias, TypeVar

from matyan_client import errors

_Answer = TypeVar("_Answer")

_Kinds: TypeAlias = tuple[type, ...]

# Length of the part of an unexpected answer that an error quotes.
_QUOTED = 40
_HINT = "the URL may be that of another program"

_NOUNS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    NoneType: "null",
}
_OBJECT = (dict,)
_LIST = (list,)
_TEXT = (str,)
_OBJECT_OR_NULL = (dict, NoneType)
_TEXT_OR_NULL = (str, NoneType)
_NUMBER_OR_NULL = (float, NoneType)

_INFO: Mapping[str, _Kinds] = {"params": _OBJECT, "traces": _OBJECT, "artifacts": _LIST}
_PROPS: Mapping[str, _Kinds] = {
    "name": _TEXT_OR_NULL,
    "description": _TEXT_OR_NULL,
    "experiment": _OBJECT_OR_NULL,
    "tags": _LIST,
    "creation_time": _NUMBER_OR_NULL,
    "end_time": _NUMBER_OR_NULL,
    "outcome": _TEXT_OR_NULL,
    "outcome_message": _TEXT_OR_NULL,
    "parent": _OBJECT_OR_NULL,
}


def decoded(text: str, kind: type[_Answer]) -> _Answer:
    """Returns the value of a JSON text, if it is of this type."""
    return checked(parsed(text), kind)


def parsed(text: str) -> Any:
    """Returns the value of a JSON text."""
    try:
        return json.loads(text)
    except RecursionError:
        raise unexpected("JSON that is nested too deeply") from None
    except ValueError:
        raise unexpected(f"expected JSON, found {text[:_QUOTED]!r}") from None


def checked(answer: Any, kind: type[_Answer]) -> _Answer:
    """Returns an answer, if it is of this type."""
    if not isinstance(answer, kind):
        raise unexpected(f"expected a {kind.__name__}, not {type(answer).__name__}")
    return answer


def run_info(answer: Any) -> dict[str, Any]:
    """Returns the params, traces, props, and artifacts of a run, if all that is read is correct."""
    info = checked(answer, dict)
    _check_members("", info, {"props": _OBJECT}, _INFO)
    props = info["props"]
    _check_members("props", props, {}, _PROPS)
    _check_members("props.experiment", props.get("experiment") or {}, {}, {"name": _TEXT_OR_NULL})
    _check_items("props.tags", props.get("tags", []), {"name": _TEXT})
    for kind, overviews in info.get("traces", {}).items():
        place = f"traces[{kind[:_QUOTED]!r}]"
        _expect(place, overviews, _LIST)
        optional = {"last_value": _NUMBER_OR_NULL} if kind == "metric" else {}
        _check_items(place, overviews, {"name": _TEXT, "context": _OBJECT}, optional)
    _check_items("artifacts", info.get("artifacts", []), {"path": _TEXT})
    return info


def metric_batch(text: str) -> list[dict[str, Any]]:
    """Returns sampled points of metrics from a JSON text."""
    curves = decoded(text, list)
    required = {"name": _TEXT, "context": _OBJECT, "iters": _LIST, "values": _LIST}
    _check_items("", curves, required)
    return curves


def entities(answer: Any) -> list[dict[str, Any]]:
    """Returns experiments or tags, if each has a name."""
    found = checked(answer, list)
    _check_items("", found, {"name": _TEXT})
    return found


def found_traces(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the series that a search has found of a run. Empty contexts are left out there."""
    traces = found.get("traces", {})
    _expect("traces", traces, _OBJECT)
    listed = list(traces.values())
    _check_items("traces", listed, {"name": _TEXT}, {"context": _OBJECT_OR_NULL})
    return listed


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Raises a `ServerError` for whatever fails while a part of an answer is read."""
    try:
        yield
    except errors.ServerError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise unexpected(f"{what} cannot be read ({type(e).__name__})") from e


def _check_items(
    place: str,
    items: list[Any],
    required: Mapping[str, _Kinds],
    optional: Mapping[str, _Kinds] | None = None,
) -> None:
    for at, item in enumerate(items):
        _expect(f"{place}[{at}]", item, _OBJECT)
        _check_members(f"{place}[{at}]", item, required, optional or {})


def _check_members(
    place: str,
    members: dict[str, Any],
    required: Mapping[str, _Kinds],
    optional: Mapping[str, _Kinds],
) -> None:
    for name, kinds in {**required, **optional}.items():
        path = f"{place}.{name}" if place else name
        if name in members:
            _expect(path, members[name], kinds)
        elif name in required:
            raise unexpected(f"`{path}` is missing")


def _expect(place: str, value: Any, kinds: _Kinds) -> None:
    is_expected = isinstance(value, kinds)
    if float in kinds and isinstance(value, int):
        # Some numbers of hundreds of digits have no float.
        is_expected = abs(value) <= sys.float_info.max
    if not is_expected:
        wanted = " or ".join(_NOUNS[kind] for kind in kinds)
        found = _NOUNS.get(type(value), type(value).__name__)
        raise unexpected(f"`{place}`: expected {wanted}, found {found}")


def unexpected(problem: str) -> errors.ServerError:
    """Returns the error for an answer that no Matyan server gives."""
    return errors.ServerError(f"unexpected answer: {problem}; {_HINT}")
