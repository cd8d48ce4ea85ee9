"""Fixtures of the adapter tests.

Each test trains with a real framework, if that is installed, and looks at the runs that result.
They are sent to a server, the binary `MATYAN_BIN`, and read back over REST. Without it, a stand-in
for `Run` records them.
"""

from __future__ import annotations

import os

import pytest
from recording import RecordingRun
from tracking import Tracking


@pytest.fixture
def tracking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """The place where the test tracks; all runs in it are of the test."""
    if "MATYAN_BIN" in os.environ:
        return Tracking(request.getfixturevalue("shared_server").url)
    record_runs(monkeypatch)
    return Tracking(None)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Arguments of all runs that were opened; for tests that always use the stand-in."""
    record_runs(monkeypatch)
    return RecordingRun.opened


def record_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    RecordingRun.stored.clear()
    RecordingRun.opened.clear()
    monkeypatch.setattr("matyan_client.adapters._base.Run", RecordingRun)
