"""Files of a run: its directory, saved files, and artifacts."""

from __future__ import annotations

import glob
import time
from pathlib import Path
from typing import Any

from matyan_client import Run

from ._artifact import Artifact
from ._notices import warn_once
from ._target import Staging


class RunFiles:
    """Files that a run stores, when it is asked to or when it ends."""

    def __init__(self, run: Run | None, staging: Staging, root: str, run_id: str) -> None:
        self._run = run
        self._staging = staging
        stamp = time.strftime("%Y%m%d_%H%M%S")
        self._directory = Path(root).absolute() / "wandb" / f"run-{stamp}-{run_id}" / "files"
        # Files to store at the end by their name, with the time of the change that is stored.
        self._saved: dict[str, tuple[Path, float | None]] = {}
        self._artifacts: dict[str, list[dict[str, Any]]] = {}
        self._logged: list[Artifact] = []

    @property
    def directory(self) -> Path:
        """Directory whose files are stored when the run ends. It is created here."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory

    def save(self, pattern: str, base: str | None, policy: str) -> list[str]:
        """Stores the files that a pattern names, now, at the end, or both if they change."""
        found = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
        files = [path for path in found if path.is_file()]
        if not files:
            warn_once(f"wandb.save: no file matches {pattern!r}")
        for path in files:
            name = _saved_name(path, base)
            stored = None
            if policy != "end":
                self._store(path, name)
                stored = path.stat().st_mtime
            if policy != "now":
                self._saved[name] = (path.absolute(), stored)
        return [str(path) for path in files]

    def log_artifact(self, artifact: Artifact, aliases: list[str] | None) -> Artifact:
        """Stores the files of an artifact under its name and the next version."""
        versions = self._artifacts.setdefault(artifact.name, [])
        artifact.version = f"v{len(versions)}"
        artifact.aliases = list(aliases or ["latest"])
        versions.append({"version": artifact.version, **artifact.described()})
        if self._run is not None:
            for name, path in artifact.files.items():
                self._run.log_artifact(path, f"{artifact.name}/{artifact.version}/{name}")
            self._run["wandb", "artifacts", artifact.name] = versions
            self._logged.append(artifact)
        return artifact

    def complete(self) -> None:
        """Stores the saved files that have changed, and the files of the run's directory."""
        for name, (path, stored) in self._saved.items():
            if path.is_file() and path.stat().st_mtime != stored:
                self._store(path, name)
        self._saved = {}
        if self._directory.is_dir():
            for path in sorted(self._directory.rglob("*")):
                if path.is_file():
                    self._store(path, path.relative_to(self._directory).as_posix())

    def remove_copies(self) -> None:
        """Deletes copies of files, which must have been sent."""
        self._staging.remove()
        for artifact in self._logged:
            artifact.remove_copies()

    def _store(self, path: Path, name: str) -> None:
        if self._run is not None:
            self._run.log_artifact(self._staging.copy(path), f"files/{name}")


def _saved_name(path: Path, base: str | None) -> str:
    """Returns the path below `base`, which is the current directory for relative paths."""
    if base is None:
        return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
    try:
        return path.absolute().relative_to(Path(base).absolute()).as_posix()
    except ValueError:
        return path.name
