"""Artifacts: named sets of files."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from matyan_client import values

from ._media import Table
from ._notices import ignore_unknown, warn_once
from ._target import Staging


class Artifact:
    """A named set of files that a run records with `log_artifact`.

    The files are copied when they are added, unless their `policy` is "immutable", so that a
    script may change them afterwards. Each call of `log_artifact` stores them under
    `name/v0/`, `name/v1/` and so on, counted in the run. References are recorded, but not read.
    """

    def __init__(
        self,
        name: str,
        type: str,  # noqa: A002 - the name in W&B
        description: str | None = None,
        metadata: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        ignore_unknown("Artifact", keywords)
        self.name = name
        self.type = type
        self.description = description
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.aliases: list[str] = []
        self.version: str | None = None
        self._staging = Staging()
        self._files: dict[str, Path] = {}
        self._references: dict[str, str] = {}

    @property
    def files(self) -> dict[str, Path]:
        """Files by their path in the artifact."""
        return dict(self._files)

    def add_file(
        self,
        local_path: str,
        name: str | None = None,
        *_unused: Any,
        policy: str | None = "mutable",
        **_keywords: Any,
    ) -> None:
        """Adds a file, under its own name by default."""
        path = Path(local_path)
        if not path.is_file():
            raise ValueError(f"`local_path`: no file {str(local_path)!r}")
        is_copied = policy != "immutable"
        self._files[name or path.name] = self._staging.copy(path) if is_copied else path.absolute()

    def add_dir(
        self,
        local_path: str,
        name: str | None = None,
        *_unused: Any,
        policy: str | None = "mutable",
        **_keywords: Any,
    ) -> None:
        """Adds all files below a directory."""
        directory = Path(local_path)
        if not directory.is_dir():
            raise ValueError(f"`local_path`: no directory {str(local_path)!r}")
        for file in sorted(directory.rglob("*")):
            if file.is_file():
                relative = file.relative_to(directory).as_posix()
                self.add_file(str(file), posixpath.join(name or "", relative), policy=policy)

    def add_reference(self, uri: Any, name: str | None = None, **_keywords: Any) -> None:
        """Records an address. Its content is neither read nor checked."""
        self._references[name or posixpath.basename(str(uri)) or str(uri)] = str(uri)

    def add(self, obj: Any, name: str, overwrite: bool = False) -> None:
        """Adds a table as JSON."""
        del overwrite
        if not isinstance(obj, Table):
            kind = type(obj).__name__
            warn_once(f"wandb.Artifact: cannot add {kind}; log it, or add its file with add_file")
            return
        with self.new_file(f"{name}.table.json", "wb") as file:
            file.write(obj.to_json())

    @contextlib.contextmanager
    def new_file(
        self, name: str, mode: str = "x", encoding: str | None = None
    ) -> Iterator[IO[Any]]:
        """Opens a file that is added when the block ends."""
        path = self._staging.new_path(name)
        with path.open(mode, encoding=encoding or (None if "b" in mode else "utf-8")) as file:
            yield file
        self._files[name] = path

    def remove(self, item: str) -> None:
        """Removes a file or reference."""
        self._files.pop(str(item), None)
        self._references.pop(str(item), None)

    def wait(self, timeout: float | None = None) -> Artifact:
        """Returns the artifact. Its files are sent in the background."""
        del timeout
        return self

    def described(self) -> dict[str, Any]:
        """Returns the entry of the artifact in the params of the run."""
        return {
            "type": self.type,
            "description": self.description,
            "metadata": values.plain(self.metadata),
            "aliases": list(self.aliases),
            "files": len(self._files),
            "references": dict(self._references),
        }

    def remove_copies(self) -> None:
        """Deletes the copies of the files, which must have been sent."""
        self._staging.remove()
