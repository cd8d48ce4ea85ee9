"""Texts that the SDK and its command print: endings of runs, progress, errors and questions."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

_BAR_WIDTH = 24
# A close that takes no longer shows nothing.
_BAR_DELAY = 1.0
_UNIT = 1024
# Names of files that the line at the end has.
_MOST_NAMES = 3
# Most characters of a server's text that are quoted in a line.
_LONGEST_QUOTE = 500
# Control characters, which terminals obey, and characters that change the direction of the text.
_CONTROLS = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\t\n"
}


def ending(
    run_hash: str,
    numbers: tuple[int, int, int],
    spool: Path | None,
    reason: str,
    devices: tuple[int, int] = (0, 0),
    *,
    server: str | None = None,
) -> str:
    """Returns the line at the end of a run: the data that is left, the reason, and the next step.

    It is empty if everything is stored. The numbers count values that are left, values that are
    lost, and child processes that have left data. The numbers of devices count values that are not
    computed, and values that could not be read. The server has a token that `sync` would not send
    there without the server's URL.
    """
    pending, lost, children = numbers
    late, failed = devices
    files = [] if spool is None else _files_left(spool)
    left = []
    if pending:
        left.append(counted(pending, "value"))
    if files:
        names = ", ".join(files[:_MOST_NAMES]) + (", ..." if len(files) > _MOST_NAMES else "")
        left.append(f"{counted(len(files), 'file')} ({names})")
    if children:
        left.append(f"data of {counted(children, 'child process', 'child processes')}")
    parts = []
    if left:
        place = "" if spool is None else f", in {spool}"
        parts.append(
            f"not stored yet: {' and '.join(left)} of run {run_hash}{place}; reason: {reason}; "
            f"`{_sync_command(server)}` sends it, with `--repo URL` to another server"
        )
    if lost:
        parts.append(
            "lost because the spool was full, the server rejected them, or a file was gone or "
            f"refused: {counted(lost, 'value')} of run {run_hash}"
        )
    if late:
        late_values = counted(late, "value")
        parts.append(
            f"lost because a device did not compute them in time: {late_values} of run {run_hash}"
        )
    if failed:
        failed_values = counted(failed, "value")
        parts.append(f"lost because a device failed: {failed_values} of run {run_hash}")
    return "; ".join(parts)


def _sync_command(server: str | None) -> str:
    """Returns the command that finds the spools of this process, also in another shell."""
    import shlex  # noqa: PLC0415 - only if something is left
    from pathlib import Path  # noqa: PLC0415 - the same

    directory = os.environ.get("MATYAN_SPOOL_DIR", "")
    parts = []
    if server is not None:
        parts.append(f"MATYAN_BACKEND_URL={shlex.quote(server)}")
    if directory:
        parts.append(f"MATYAN_SPOOL_DIR={shlex.quote(str(Path(directory).absolute()))}")
    return " ".join([*parts, "matyan-client sync"])


def add_command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    """Adds a command. Its line in the list of commands is also the start of its own help."""
    description = f"{text[0].upper()}{text[1:]}."
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=description)
    return parser


def counted(number: int, one: str, several: str | None = None) -> str:
    """Returns a number with its noun in the right form."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def size(number: int) -> str:
    """Returns a number of bytes in a unit that suits it."""
    value = float(number)
    for unit in ("bytes", "KiB", "MiB"):
        if value < _UNIT:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= _UNIT
    return f"{value:.1f} GiB"


def _files_left(spool: Path) -> list[str]:
    """Returns the paths within the run of files that are not uploaded, in their order."""
    paths = []
    for manifest in sorted(spool.glob("uploads/*.json"), key=lambda path: (len(path.name), path)):
        # The upload may end at any moment.
        with contextlib.suppress(OSError, ValueError):
            paths.append(str(json.loads(manifest.read_bytes()).get("path", "")))
    return paths


def plain_text(text: str) -> str:
    """Returns a text without control characters, which a server or a source may have in its texts.

    They are escaped, except for tabs and the ends of lines.
    """
    return text.translate(_CONTROLS)


def plain_line(text: str) -> str:
    """Returns a text like `plain_text` without ends of lines, which would look like other lines."""
    return plain_text(text).replace("\n", "\\n")


def quoted(text: str) -> str:
    """Returns a text of a server as a part of a line, without its end if it is long."""
    cut = text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."
    return plain_line(cut)


def show(line: str) -> None:
    """Prints a line of the result of a command."""
    print(plain_text(line), flush=True)


def say(line: str) -> None:
    """Prints a line to the error stream, if there is one."""
    write_line(plain_line(line))


def complain(command: str, reason: str) -> None:
    """Prints to the error stream why a command fails, in one line."""
    print(plain_line(f"matyan-client {command}: {reason}"), file=sys.stderr)


def write_line(line: str) -> None:
    """Prints a line of the script itself unchanged to the error stream, if there is one."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def uploads_of(run_hash: str) -> set[Path]:
    """Returns the descriptions of the files of a run that are not uploaded, also of children."""
    spools = [spool.path for spool in _core.spools() if spool.run_id == run_hash]
    return {upload for spool in spools for upload in spool.glob("uploads/*.json")}


class StoredWait:
    """An update that ends a wait when everything that was there at its start is stored, with files.

    Other threads may still add values and files, which the wait must not follow for ever.
    """

    def __init__(
        self, update: Callable[[int, int], bool], uploads: Callable[[], set[Path]]
    ) -> None:
        self._update = update
        self._find_uploads = uploads
        self._uploads: set[Path] | None = None
        self._end: int | None = None
        self.is_enough = False
        """Whether everything is stored but for what was added meanwhile."""

    def update(self, pending: int, total: int) -> bool:
        """Returns whether the wait continues."""
        if self._uploads is None:
            self._uploads = self._find_uploads()
        elif self._uploads:
            self._uploads = {upload for upload in self._uploads if upload.exists()}
        elif self._end is None:
            # A file that is uploaded has added a value before it disappeared, which counts too.
            self._end = total
        self.is_enough = self._end is not None and total > self._end <= total - pending
        return self._update(pending, total) and not self.is_enough


class ProgressBar:
    """Shows how much is still to be stored, on a terminal and if the wait takes long."""

    def __init__(self, *, quiet: bool) -> None:
        self._started = time.monotonic()
        self._is_shown = False
        with contextlib.suppress(AttributeError, ValueError):
            self._is_possible = not quiet and sys.stderr.isatty()

    def update(self, pending: int, total: int) -> bool:
        """Draws the bar. Returns True, so that the wait continues."""
        if not self._is_possible or time.monotonic() - self._started < _BAR_DELAY:
            return True
        done = _BAR_WIDTH * (total - pending) // max(1, total)
        bar = "#" * done + "." * (_BAR_WIDTH - done)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"\rmatyan: storing [{bar}] {pending} left\x1b[K")
            sys.stderr.flush()
            self._is_shown = True
        return True

    def clear(self) -> None:
        """Removes the bar."""
        if self._is_shown:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()

    _is_possible = False
