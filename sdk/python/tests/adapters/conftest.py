"""Fixtures of the adapter tests.

Each test trains with a real framework, if that is installed, and looks at the runs that result.
They are recorded by a stand-in for `Run`. With `MATYAN_TEST_URL`, they are sent to the server at
that URL instead, and read back over REST.
"""

from __future__ import annotations

import pytest
from recording import RecordingRun
from tracking import Tracking


@pytest.fixture
def tracking(monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """The place where the test tracks; all runs in it are of the test."""
    tracking = Tracking()
    if not tracking.url:
        record_runs(monkeypatch)
    return tracking


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Arguments of all runs that were opened; for tests that always use the stand-in."""
    record_runs(monkeypatch)
    return RecordingRun.opened


def record_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    RecordingRun.stored.clear()
    RecordingRun.opened.clear()
    monkeypatch.setattr("matyan_client.adapters._base.Run", RecordingRun)
