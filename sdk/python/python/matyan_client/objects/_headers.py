"""Recognition of file formats, and of the size of images, from the first bytes of a file."""

from __future__ import annotations

from typing import NamedTuple

_JPEG_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
# Start of frame; C4, C8, and CC in the same range are tables and extensions.
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class ImageHeader(NamedTuple):
    """Format and size of an image file."""

    format: str
    width: int | None
    height: int | None


def image_header(data: bytes) -> ImageHeader | None:
    """Returns the format and size of an image file, or None if the format is not known."""
    header = _image_header(data)
    # A truncated file keeps its format.
    if header is not None and (header.width == 0 or header.height == 0):
        return ImageHeader(header.format, None, None)
    return header


def audio_format(data: bytes) -> str | None:
    """Returns the format of an audio file, or None if it is not known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    if data[:4] == b"fLaC":
        return "flac"
    if data[:4] == b"OggS":
        return "ogg"
    # An ID3 tag, or the 11 set bits at the start of each MPEG frame.
    if data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2):
        return "mp3"
    return None


def _image_header(data: bytes) -> ImageHeader | None:
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return ImageHeader("PNG", _big(data, 16, 4), _big(data, 20, 4))
    if data[:3] == b"\xff\xd8\xff":
        return _jpeg_header(data)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return ImageHeader("GIF", _little(data, 6, 2), _little(data, 8, 2))
    if data[:2] == b"BM":
        # A negative height means that the rows start at the top.
        height = int.from_bytes(data[22:26], "little", signed=True)
        return ImageHeader("BMP", _little(data, 18, 4), abs(height))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_header(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return ImageHeader("TIFF", None, None)
    return None


def _jpeg_header(data: bytes) -> ImageHeader:
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_STANDALONE_MARKERS:
            position += 2
        elif marker in _JPEG_FRAME_MARKERS:
            return ImageHeader("JPEG", _big(data, position + 7, 2), _big(data, position + 5, 2))
        else:
            position += 2 + max(2, _big(data, position + 2, 2))
    return ImageHeader("JPEG", None, None)


def _webp_header(data: bytes) -> ImageHeader:
    kind = data[12:16]
    if kind == b"VP8 ":
        width = _little(data, 26, 2) & 0x3FFF
        height = _little(data, 28, 2) & 0x3FFF
    elif kind == b"VP8L":
        bits = _little(data, 21, 4)
        width = (bits & 0x3FFF) + 1
        height = (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        width = _little(data, 24, 3) + 1
        height = _little(data, 27, 3) + 1
    else:
        width = 0
        height = 0
    return ImageHeader("WEBP", width, height)


def _big(data: bytes, start: int, length: int) -> int:
    return int.from_bytes(data[start : start + length], "big")


def _little(data: bytes, start: int, length: int) -> int:
    return int.from_bytes(data[start : start + length], "little")
