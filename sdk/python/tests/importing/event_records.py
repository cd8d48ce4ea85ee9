"""The records of event files, with their checksums, without TensorBoard."""

import struct

# The parts of a record besides its content: a length, and two checksums.
FRAME_BYTES = 16

# The content of a record, between the checksum of its length and its own checksum.
CONTENT = slice(12, -4)


def _table_entry(byte):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F6_3B78 if byte & 1 else 0)
    return byte


_TABLE = [_table_entry(byte) for byte in range(256)]


def checksum(content):
    """Returns the checksum of a part of a record, masked as in files."""
    crc = 0xFFFF_FFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFF_FFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282_EAD8) & 0xFFFF_FFFF)


def framed(content):
    """Returns a record with this content."""
    length = struct.pack("<Q", len(content))
    return length + checksum(length) + content + checksum(content)


def field(number, content):
    """Returns a field of a message."""
    length = len(content)
    varint = bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *varint, length]) + content


def records_of(file):
    """Returns the records of the content of a file, with their lengths and checksums."""
    records = []
    while file:
        (length,) = struct.unpack_from("<Q", file)
        records.append(file[: length + FRAME_BYTES])
        file = file[length + FRAME_BYTES :]
    return records
