"""Runs a program, then kills and lists the processes that outlast it by two seconds.

On Linux, the processor time of this process's children includes all processes of the program, even those whose
parent has ended without waiting for them. Otherwise browsers and servers of tests would not be counted.

Usage: descendants.py PROGRAM [ARGUMENT ...]
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36

# Seconds in which processes may end by themselves after the program, as the helpers of Python's multiprocessing do.
PATIENCE = 2.0

# Maximum length of a command in the output.
COMMAND_LENGTH = 300


def running_children() -> Iterator[tuple[int, str]]:
    """The ids and commands of the child processes that have not ended."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name is in parentheses, and may itself contain parentheses.
            name, _, fields = stat.read_text(errors="replace").partition(" (")[2].rpartition(") ")
            state, parent = fields.split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                arguments = (stat.parent / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
                command = shlex.join(arguments) if any(arguments) else name
                yield int(stat.parent.name), command.replace("\n", " ")[:COMMAND_LENGTH]


def main(command: list[str]) -> int:
    if sys.platform == "linux":
        # Processes whose parent has ended become children of this process.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Signals are sent to the whole session: the program gets them too, and this process waits until it has ended.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    program = os.posix_spawnp(command[0], command, os.environ)
    code = None
    while code is None:
        ended, status = os.wait()
        if ended == program:
            code = os.waitstatus_to_exitcode(status)
    program_ended = time.monotonic()
    while any(running_children()) and time.monotonic() < program_ended + PATIENCE:
        time.sleep(0.02)
    killed = set()
    with contextlib.suppress(ChildProcessError):
        while True:
            for number, left in running_children():
                if number not in killed:
                    print(f"killed a process that was left behind: {left}", flush=True)
                    os.kill(number, signal.SIGKILL)
                    killed.add(number)
            killed.discard(os.wait()[0])
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
