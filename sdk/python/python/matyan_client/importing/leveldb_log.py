"""Reader of logs in the format of LevelDB, as W&B writes them: records cut into blocks.

Each piece of a record has a header with CRC-32 of its type and content (LevelDB itself uses
CRC32C), length, and type. A piece never crosses the end of a block.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

_IDENTITY = b":W&B"
_FILE_HEADER_BYTES = 7
_BLOCK_BYTES = 32_768
_PIECE_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4


def records(path: Path, report: Callable[[str], None]) -> Iterator[bytes]:
    """Yields the records of a file.

    After damage, the rest of the block is left out, which is reported, as is a file that ends
    within a record.
    """
    with path.open("rb") as file:
        block = file.read(_BLOCK_BYTES)
        if not block.startswith(_IDENTITY):
            report(f"{path.name}: not a file of W&B")
            return
        position, start = _FILE_HEADER_BYTES, 0
        pieces: list[bytes] = []
        while block:
            for kind, content in _pieces(block, position):
                if kind is None:
                    is_last = len(block) < _BLOCK_BYTES
                    problem = "ends within a record" if is_last else "left out a damaged block"
                    report(f"{path.name}: {problem} at byte {start}")
                    pieces = []
                elif kind == _FULL:
                    yield content
                elif kind == _FIRST:
                    pieces = [content]
                elif pieces:
                    pieces.append(content)
                    if kind == _LAST:
                        yield b"".join(pieces)
                        pieces = []
            start += len(block)
            block, position = file.read(_BLOCK_BYTES), 0
        if pieces:
            report(f"{path.name}: ends within a record at byte {start}")


def _pieces(block: bytes, position: int) -> Iterator[tuple[int | None, bytes]]:
    """Yields types and contents of the pieces of a block, and None as type at damage."""
    while len(block) - position >= _PIECE_HEADER.size:
        checksum, length, kind = _PIECE_HEADER.unpack_from(block, position)
        position += _PIECE_HEADER.size
        content = block[position : position + length]
        position += length
        is_complete = len(content) == length and _FULL <= kind <= _LAST
        if not is_complete or zlib.crc32(content, zlib.crc32(bytes([kind]))) != checksum:
            yield None, b""
            return
        yield kind, content
    if len(block) < _BLOCK_BYTES and position < len(block):
        yield None, b""
