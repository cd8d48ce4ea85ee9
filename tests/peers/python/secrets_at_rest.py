"""A search for secrets in what a server has left: its log, and the files of its data directory."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 64 << 20
"""Bytes of a data directory that are searched at most, in small files first."""

SECRET = re.compile(rb"mt[kslo]_([0-9A-Za-z]{43})_([0-9A-Za-z]{6})")
"""Tokens, sessions, links and states of a sign-in."""

DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

BEFORE_LINK = b"/sign-in#"
"""The text before the link's secret in the banner of the first start."""


def checksum(random: bytes) -> bytes:
    """CRC-32 in digits of base 62, from the most significant."""
    rest = zlib.crc32(random)
    digits = []
    for _ in range(6):
        rest, digit = divmod(rest, len(DIGITS))
        digits.append(DIGITS[digit])
    return bytes(reversed(digits))


def positions(content: bytes) -> list[int]:
    return [found.start() for found in SECRET.finditer(content) if checksum(found[1]) == found[2]]


def described(path: Path, content: bytes, found: list[int]) -> list[str]:
    """The places, without the secrets."""
    return [f"{path}: a secret that begins with {content[at:at + 4].decode()} at byte {at}" for at in found]


def in_log(path: Path) -> list[str]:
    """The places of a log that contain a secret. The link of the first start is printed once."""
    content = path.read_bytes() if path.exists() else b""
    found = positions(content)
    links = (at for at in found if content.startswith(b"mtl_", at) and content[:at].endswith(BEFORE_LINK))
    first_link = next(links, None)
    return described(path, content, [at for at in found if at != first_link])


def files(directory: Path) -> list[Path]:
    """All files of a data directory, the smallest first, without the file that is meant to contain a token."""
    found = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    found = [path for path in found if path != directory / "operator-token"]
    return sorted(found, key=size_of)


def size_of(path: Path) -> int:
    """The size of a file, which a running server may have removed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def in_data_dir(directory: Path) -> Iterator[str]:
    left = MAX_BYTES
    for path in files(directory):
        try:
            with path.open("rb") as file:
                content = file.read(left)
        except FileNotFoundError:
            continue
        left -= len(content)
        yield from described(path, content, positions(content))


def assert_none(log: Path, data_dir: Path) -> None:
    places = [*in_log(log), *in_data_dir(data_dir)]
    assert not places, f"secrets are left: {places}"
