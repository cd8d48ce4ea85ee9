"""The config of a run: its params under `hparams`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from matyan_client import values

from ._notices import warn_once
from .errors import ConfigError

_OWN = ("_items", "_write", "_locked")


class Config:
    """Settings of a run, by attribute and by item.

    A value can be set once. To change it, pass `allow_val_change=True` to `update`, as in W&B;
    otherwise the change raises `ConfigError`. Notebooks may change values freely.
    """

    _items: dict[str, Any]
    _write: Callable[[str, Any], None]
    _locked: set[str]

    def __init__(self, write: Callable[[str, Any], None]) -> None:
        object.__setattr__(self, "_items", {})
        object.__setattr__(self, "_write", write)
        object.__setattr__(self, "_locked", set())

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __getattr__(self, key: str) -> Any:
        if key in _OWN:
            # A copy that is being restored has no items yet.
            raise AttributeError(key)
        try:
            return self._items[key]
        except KeyError:
            raise AttributeError(f"the config has no value {key!r}") from None

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __setattr__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)

    def keys(self) -> list[str]:
        """Returns the names of all values."""
        return list(self._items)

    def values(self) -> list[Any]:
        """Returns all values."""
        return list(self._items.values())

    def items(self) -> list[tuple[str, Any]]:
        """Returns names and values."""
        return list(self._items.items())

    def get(self, key: str, default: Any = None) -> Any:
        """Returns a value, or `default` if there is none."""
        return self._items.get(key, default)

    def as_dict(self) -> dict[str, Any]:
        """Returns a copy of the config."""
        return dict(self._items)

    def update(self, d: Any, allow_val_change: bool | None = None) -> None:
        """Sets values from a mapping, a namespace, flags of absl, or the path of a YAML file."""
        accepted = self._accepted(parsed(d), allow_val_change)
        for key, value in accepted.items():
            self._set(key, value)

    def setdefaults(self, d: Any) -> None:
        """Sets the values that are not set yet."""
        self.update({key: value for key, value in parsed(d).items() if key not in self._items})

    def update_locked(self, d: Any, user: str | None = None, **_keywords: Any) -> None:
        """Sets values that later updates cannot change."""
        del user
        given = parsed(d)
        for key, value in self._accepted(given, allow_val_change=True).items():
            self._set(key, value)
            self._locked.add(key)

    def persist(self) -> None:
        """Exists in W&B, and has no effect: every change is recorded when it is made."""

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Takes over the values of an earlier process for keys that this process has not set."""
        for key, value in stored.items():
            self._items.setdefault(key, value)

    def _accepted(self, given: Mapping[str, Any], allow_val_change: bool | None) -> dict[str, Any]:
        may_change = _is_notebook() if allow_val_change is None else allow_val_change
        accepted = {}
        for name, original in given.items():
            key = name.strip("-")
            value = values.plain(original)
            if key in self._locked:
                warn_once(f"wandb.config: the value {key!r} is locked, so its change is ignored")
                continue
            if not may_change and key in self._items and self._items[key] != value:
                raise ConfigError(
                    f"Attempted to change value of key {key!r} from {self._items[key]!r} to "
                    f"{value!r}; to do that, pass allow_val_change=True to config.update()"
                )
            accepted[key] = value
        return accepted

    def _set(self, key: str, value: Any) -> None:
        self._items[key] = value
        self._write(key, value)


def parsed(given: Any) -> dict[str, Any]:
    """Converts a config in any form that `init` and `update` accept to a dict."""
    if given is None:
        return {}
    if isinstance(given, Config):
        return given.as_dict()
    if isinstance(given, (str, Path)):
        return _from_file(Path(given))
    if hasattr(given, "flag_values_dict"):
        given = given.flag_values_dict()
    plain = values.plain(given)
    if not isinstance(plain, dict):
        raise TypeError(f"`config`: expected a dict, not {type(given).__name__}")
    if isinstance(given, Mapping):
        # The values are converted where they are set. Only the keys are needed here.
        return {str(key): value for key, value in given.items()}
    return dict(plain)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        import yaml  # noqa: PLC0415 - optional
    except ImportError:
        warn_once("wandb.config: PyYAML is required to read a file; the config stays empty")
        return {}
    content = yaml.safe_load(path.read_text("utf-8")) or {}
    # A file of W&B has a description next to each value.
    return {
        str(key): item["value"] if isinstance(item, dict) and "value" in item else item
        for key, item in content.items()
        if key != "wandb_version"
    }


def _is_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and "ipykernel" in sys.modules and shell.get_ipython() is not None
