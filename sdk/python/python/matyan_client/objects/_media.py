"""Payloads of objects that are files, and their encodings.

An object keeps pixels and samples as they are. They are encoded when the bytes are needed, which
for tracked objects is not the caller's thread.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, TypeAlias

from matyan_client import _core


class Encoded(NamedTuple):
    """Bytes of a file, such as an image."""

    data: bytes
    format: str


class Pixels(NamedTuple):
    """Rows of pixels with 1 to 4 channels of 8 bits, to be stored as PNG."""

    data: bytes
    width: int
    height: int
    channels: int


class Samples(NamedTuple):
    """Interleaved samples of 16 bits, little-endian, to be stored as WAV."""

    data: bytes
    channels: int
    rate: int


Media: TypeAlias = Encoded | Pixels | Samples


def encoded(media: Media) -> Encoded:
    """Returns the bytes of a payload."""
    if isinstance(media, Encoded):
        return media
    return Encoded(_core.encode_media(media), "PNG" if isinstance(media, Pixels) else "wav")


def file_content(argument: str, value: str | os.PathLike[str]) -> bytes:
    """Returns the content of a file. Errors name the argument and the path."""
    try:
        return Path(value).read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(f"`{argument}`: cannot read {os.fspath(value)!r}: {reason}") from None
    except ValueError as error:
        raise ValueError(f"`{argument}`: cannot read {os.fspath(value)!r}: {error}") from None
