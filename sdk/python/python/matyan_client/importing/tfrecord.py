"""Reader of TFRecord files: records with a length, each protected by masked CRC32C."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_POLYNOMIAL = 0x82F6_3B78
_MASK_DELTA = 0xA282_EAD8
# No event is as large; a longer length is damage.
_MOST_RECORD_BYTES = 1 << 31


def records(path: Path, report: Callable[[str], None]) -> Iterator[bytes]:
    """Yields the records of a file.

    A record whose content is damaged is left out. After a damaged length, nothing more can be
    read. Both are reported, and so is a file that ends within a record, as that of a process that
    was killed does.
    """
    with path.open("rb") as file:
        position = 0
        while header := file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                report(f"{path.name}: ends within a record at byte {position}")
                return
            length, checksum = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != checksum or length > _MOST_RECORD_BYTES:
                report(f"{path.name}: damaged at byte {position}; the rest was not read")
                return
            body = file.read(length + _FOOTER.size)
            if len(body) < length + _FOOTER.size:
                report(f"{path.name}: ends within a record at byte {position}")
                return
            content = body[:length]
            if masked_crc32c(content) == _FOOTER.unpack(body[length:])[0]:
                yield content
            else:
                report(f"{path.name}: left out a damaged record at byte {position}")
            position += _HEADER.size + len(body)


def masked_crc32c(data: bytes) -> int:
    """Returns the checksum of TFRecord: CRC32C, rotated and shifted by a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFF_FFFF


def crc32c(data: bytes) -> int:
    """Returns the CRC32C (Castagnoli) of bytes."""
    crc, table = 0xFFFF_FFFF, _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFF_FFFF


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)  # noqa: PLW2901 - a register
        table.append(byte)
    return table


_TABLE = _table()
