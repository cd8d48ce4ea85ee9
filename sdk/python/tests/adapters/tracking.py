"""Place where the adapters of one test track, and what they have tracked."""

from __future__ import annotations

import uuid

from recording import RecordingRun, StoredRun
from stored import read_runs


class Tracking:
    """Server at a URL, or the stand-in for `Run`."""

    def __init__(self, url: str | None) -> None:
        self.url = url
        self.experiment = f"adapters-{uuid.uuid4().hex}"

    @property
    def options(self) -> dict[str, object]:
        """Common arguments of the adapters, with `experiment`."""
        return {
            "repo": self.url,
            "experiment": self.experiment,
            "system_tracking_interval": None,
            "log_system_params": False,
            "capture_terminal_logs": False,
        }

    @property
    def options_n(self) -> dict[str, object]:
        """Common arguments of the adapters that name the experiment `experiment_name`."""
        options = self.options
        options["experiment_name"] = options.pop("experiment")
        return options

    def runs(self) -> list[StoredRun]:
        """All runs of the test, oldest first."""
        if self.url:
            return read_runs(self.url, self.experiment)
        return list(RecordingRun.stored.values())

    def run(self) -> StoredRun:
        runs = self.runs()
        assert len(runs) == 1, f"expected one run, found {len(runs)}"
        return runs[0]
