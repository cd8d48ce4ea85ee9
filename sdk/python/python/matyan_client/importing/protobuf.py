"""Reader of protobuf messages without their schema: fields by number.

The formats that are imported need a handful of fields, which do not justify a dependency.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import TypeAlias

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Value: TypeAlias = "int | bytes"


class ProtobufError(ValueError):
    """Bytes that are not a protobuf message."""


class Message:
    """Fields of a message. Numbers of fixed size are kept as bytes until they are used."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[Value]] = {}
        position, end = 0, len(data)
        while position < end:
            # Most keys and lengths have one byte, and most time is spent here.
            key = data[position]
            if key < 0x80:
                position += 1
            else:
                key, position = _varint(data, position)
            number, kind = key >> 3, key & 7
            value: Value
            if kind == _VARINT:
                value, position = _varint(data, position)
            elif kind == _BYTES:
                length, position = _length(data, position)
                value, position = data[position : position + length], position + length
            elif kind == _FIXED64:
                value, position = data[position : position + 8], position + 8
            elif kind == _FIXED32:
                value, position = data[position : position + 4], position + 4
            else:
                raise ProtobufError(f"unknown wire type {kind}")
            if position > end:
                raise ProtobufError("the message is truncated")
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def integer(self, number: int) -> int:
        """Returns a varint as a signed number; 0 if absent."""
        value = self._last(number)
        if not isinstance(value, int):
            return 0
        return value - (1 << 64) if value >> 63 else value

    def double(self, number: int) -> float:
        """Returns a double; 0 if absent."""
        return self._float(number, "<d")

    def single(self, number: int) -> float:
        """Returns a float of 32 bits; 0 if absent."""
        return self._float(number, "<f")

    def content(self, number: int) -> bytes:
        """Returns bytes; empty if absent."""
        value = self._last(number)
        return value if isinstance(value, bytes) else b""

    def text(self, number: int) -> str:
        """Returns text; empty if absent."""
        return self.content(number).decode("utf-8", "replace")

    def message(self, number: int) -> Message:
        """Returns a message; an empty one if absent."""
        return Message(self.content(number))

    def messages(self, number: int) -> list[Message]:
        """Returns a repeated message."""
        return [Message(data) for data in self.contents(number)]

    def contents(self, number: int) -> list[bytes]:
        """Returns repeated bytes."""
        return [value for value in self._fields.get(number, []) if isinstance(value, bytes)]

    def floats(self, number: int, typecode: str) -> array[float]:
        """Returns repeated doubles (`d`) or floats (`f`), packed or not."""
        column: array[float] = array(typecode)
        for data in self.contents(number):
            column.frombytes(data)
        if sys.byteorder == "big":
            column.byteswap()
        return column

    def integers(self, number: int) -> list[int]:
        """Returns repeated varints, packed or not, as signed numbers."""
        column: list[int] = []
        for value in self._fields.get(number, []):
            if isinstance(value, int):
                column.append(value)
                continue
            position = 0
            while position < len(value):
                element, position = _varint(value, position)
                column.append(element)
        return [value - (1 << 64) if value >> 63 else value for value in column]

    def _float(self, number: int, layout: str) -> float:
        value = self._last(number)
        if not isinstance(value, bytes) or len(value) != struct.calcsize(layout):
            return 0.0
        return float(struct.unpack(layout, value)[0])

    def _last(self, number: int) -> Value | None:
        values = self._fields.get(number)
        return values[-1] if values else None


def _length(data: bytes, position: int) -> tuple[int, int]:
    if position < len(data) and data[position] < 0x80:
        return data[position], position + 1
    return _varint(data, position)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    try:
        while True:
            byte = data[position]
            position += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result & 0xFFFF_FFFF_FFFF_FFFF, position
            shift += 7
            if shift > 63:
                raise ProtobufError("a number is too long")
    except IndexError:
        raise ProtobufError("the message is truncated") from None
