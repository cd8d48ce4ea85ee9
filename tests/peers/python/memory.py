"""The memory of a process, as Linux reports it."""

from __future__ import annotations

import subprocess
from pathlib import Path


def reset_peak(process: subprocess.Popen) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak(process: subprocess.Popen) -> int:
    """The most memory that a process has had since the last reset, in bytes."""
    return _size(process, "VmHWM")


def current(process: subprocess.Popen) -> int:
    return _size(process, "VmRSS")


def _size(process: subprocess.Popen, name: str) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(size) << 10
