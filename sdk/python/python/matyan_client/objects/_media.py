"""Payloads of images and audio, and their encodings.

An object keeps pixels and samples as they are. They are encoded when the bytes are needed, which
for tracked objects is not the caller's thread.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple, TypeAlias

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Gray, gray with alpha, RGB, and RGBA.
_PNG_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
# The fast end of the scale: on photographs, the default level takes five times as long for a few
# percent.
_PNG_COMPRESSION = 2

CONTENT_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "webp": "image/webp",
    "tiff": "image/tiff",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
}


class Encoded(NamedTuple):
    """Bytes of an image or audio file."""

    data: bytes
    format: str

    @property
    def content_type(self) -> str:
        """Media type for the format, or the general one for a format that is unknown."""
        return CONTENT_TYPES.get(self.format.lower(), "application/octet-stream")


class Pixels(NamedTuple):
    """Rows of pixels with 1 to 4 channels of 8 bits, to be stored as PNG."""

    data: bytes
    width: int
    height: int
    channels: int

    def encode(self) -> Encoded:
        """Returns the pixels as a PNG file."""
        header = struct.pack(
            ">IIBBBBB", self.width, self.height, 8, _PNG_COLOR_TYPES[self.channels], 0, 0, 0
        )
        row_length = self.width * self.channels
        rows = memoryview(self.data)
        compressor = zlib.compressobj(_PNG_COMPRESSION)
        compressed = bytearray()
        for row in range(self.height):
            # Filter 0: the row as it is.
            compressed += compressor.compress(b"\0")
            compressed += compressor.compress(rows[row * row_length : (row + 1) * row_length])
        compressed += compressor.flush()
        chunks = ((b"IHDR", header), (b"IDAT", bytes(compressed)), (b"IEND", b""))
        return Encoded(_PNG_SIGNATURE + b"".join(_png_chunk(*chunk) for chunk in chunks), "PNG")


class Samples(NamedTuple):
    """Interleaved samples of 16 bits, little-endian, to be stored as WAV."""

    data: bytes
    channels: int
    rate: int

    def encode(self) -> Encoded:
        """Returns the samples as a WAV file."""
        frame = self.channels * 2
        # The sizes in the header have 32 bits.
        data = self.data[: (0xFFFF_FFFF - 36) // frame * frame]
        header = struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            b"RIFF",
            36 + len(data),
            b"WAVE",
            b"fmt ",
            16,
            1,
            self.channels,
            self.rate,
            self.rate * frame,
            frame,
            16,
            b"data",
            len(data),
        )
        return Encoded(header + data, "wav")


Media: TypeAlias = Encoded | Pixels | Samples


def encoded(media: Media) -> Encoded:
    """Returns the bytes of a payload."""
    return media if isinstance(media, Encoded) else media.encode()


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
