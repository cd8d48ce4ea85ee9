"""Properties of a run: the values of the server, with the values of this process on top."""

from __future__ import annotations

from typing import Any

from . import _arguments, values
from ._reading import RunReader
from ._tracking import Tracker
from ._warnings import warn_user


class RunProperties(RunReader, Tracker):
    """The part of `Run` that has its properties, and that refuses writes to a run that is read."""

    _read_only: bool
    _is_closed: bool
    # Kinds of writes that were ignored with a warning, because the run is read-only.
    _ignored: set[str]

    @property
    def name(self) -> str | None:
        """Name of the run for people."""
        return _text_or_none(self._property("name"))

    @name.setter
    def name(self, value: str) -> None:
        self._set_property("name", value)

    @property
    def description(self) -> str | None:
        """Description of the run."""
        return _text_or_none(self._property("description"))

    @description.setter
    def description(self, value: str) -> None:
        self._set_property("description", value)

    @property
    def experiment(self) -> str | None:
        """Name of the experiment that the run belongs to."""
        stored = self._property("experiment")
        return _text_or_none(stored.get("name") if isinstance(stored, dict) else stored)

    @experiment.setter
    def experiment(self, value: str | None) -> None:
        _arguments.check_text("experiment", value)
        if value:
            self._set_property("experiment", value)
        else:
            self._check_writable("set `experiment` of")
            self._local["experiment"] = None

    @property
    def archived(self) -> bool:
        """Whether the run is hidden from searches that do not ask for archived runs."""
        return bool(self._property("archived"))

    @archived.setter
    def archived(self, value: bool) -> None:
        value = _arguments.flag("archived", value)
        self._check_writable("set `archived` of")
        self._set_properties(archived=value)
        self._local["archived"] = value

    @property
    def active(self) -> bool:
        """Whether the run has not ended."""
        if self._read_only:
            return bool(self.props.get("active", True))
        return self._ended is None

    def _property(self, name: str) -> Any:
        if name in self._local or self._is_new:
            return self._local.get(name)
        return self.props.get(name)

    def _set_property(self, name: str, value: str) -> None:
        value = values.text(_arguments.required_text(name, value))
        self._check_writable(f"set `{name}` of")
        self._set_properties(**{name: value})  # type: ignore[arg-type]
        self._local[name] = value

    def _check_writable(self, action: str) -> None:
        if self._read_only:
            raise RuntimeError(f"Cannot {action} a read-only run: open it with {self._writable()}")

    def _check_uploads(self) -> None:
        if self._read_only or self._is_closed:
            state = "read-only" if self._read_only else "closed"
            # Starts like the message of the client of Matyan 0.3.
            raise RuntimeError(
                f"Artifact upload requires an active WebSocket connection: the run is {state}, "
                f"open it with {self._writable()}"
            )

    def _ignore(self, consequence: str) -> None:
        """Warns once that a write has no effect, where scripts for Matyan 0.3 expect no error."""
        if consequence not in self._ignored:
            self._ignored.add(consequence)
            warn_user(
                f"run {self._hash} is read-only, so {consequence}: open it with {self._writable()}"
            )

    def _writable(self) -> str:
        """Returns the call that opens the run for writing."""
        return f"Run({self._hash!r}) to write to it"


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
