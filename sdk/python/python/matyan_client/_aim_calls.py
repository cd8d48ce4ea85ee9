"""Calls of Aim that have no effect here, so that scripts for Aim run unchanged."""

from __future__ import annotations

from ._warnings import warn_user

# Calls that a warning was shown for.
_warned: set[str] = set()


class AimCalls:
    """The part of `Run` that exists for scripts of Aim."""

    def report_progress(self, *, expect_next_in: int = 0, block: bool = False) -> None:
        """Has no effect: the server notices runs that have stopped."""
        del expect_next_in, block
        _warn("report_progress", "the server notices runs that have stopped")

    def report_successful_finish(self, *, block: bool = True) -> None:
        """Has no effect: `close` and the end of the script report how a run has ended."""
        del block
        _warn("report_successful_finish", "`close` and the end of the script say how a run ended")

    def set_artifacts_uri(self, uri: str) -> None:
        """Has no effect: the server decides where artifacts are stored."""
        del uri
        _warn("set_artifacts_uri", "the server decides where artifacts are stored")


def _warn(name: str, reason: str) -> None:
    if name not in _warned:
        _warned.add(name)
        warn_user(f"`{name}` has no effect: {reason}")
