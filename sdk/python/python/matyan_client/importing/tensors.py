"""Tensors in event files."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

from matyan_client._core import ProtobufError, ProtobufMessage

_STRING, _HALF, _BFLOAT16, _BOOL = 7, 19, 14, 10

# Codes of `struct` for `tensor_content`, by type.
_LAYOUTS = {
    1: "f",
    2: "d",
    3: "i",
    4: "B",
    5: "h",
    6: "b",
    9: "q",
    _BOOL: "?",
    _BFLOAT16: "H",
    17: "H",
    _HALF: "e",
    22: "I",
    23: "Q",
}
# Fields for single elements, by type. Small integers share one.
_INTEGER_FIELDS = {3: 7, 4: 7, 5: 7, 6: 7, 17: 7, 9: 10, _BOOL: 11, 22: 16, 23: 17}

# The shape is a claim of the file, which may be far larger than the file itself.
_MOST_ELEMENTS = 16_000_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """Elements of a tensor in the order of rows: numbers, or texts as bytes."""

    shape: list[int]
    numbers: list[float] = field(default_factory=list)
    texts: list[bytes] | None = None


def decoded(proto: ProtobufMessage) -> Tensor | None:
    """Returns a `TensorProto`, or None for complex numbers and types without numbers."""
    kind = proto.integer(1)
    shape = [dimension.integer(1) for dimension in proto.message(2).messages(2)]
    if kind == _STRING:
        return Tensor(shape, texts=proto.contents(8))
    if kind not in _LAYOUTS:
        return None
    # A single element stands for all of them, and so does the last one of too few.
    count = math.prod(shape)
    content = proto.content(4)
    given = len(content) // struct.calcsize(_LAYOUTS[kind])
    if max(count, given) > _MOST_ELEMENTS:
        raise ProtobufError(f"a tensor of more than {_MOST_ELEMENTS} elements")
    numbers = _from_content(kind, content) if content else _from_fields(kind, proto)
    if numbers and len(numbers) < count:
        numbers.extend([numbers[-1]] * (count - len(numbers)))
    return Tensor(shape, numbers)


def _from_content(kind: int, content: bytes) -> list[float]:
    layout = _LAYOUTS[kind]
    count = len(content) // struct.calcsize(layout)
    numbers = struct.unpack_from(f"<{count}{layout}", content)
    return [_widened(number) if kind == _BFLOAT16 else float(number) for number in numbers]


def _from_fields(kind: int, proto: ProtobufMessage) -> list[float]:
    if kind == 1:
        return proto.singles(5)
    if kind == 2:
        return proto.doubles(6)
    if kind == _HALF:
        return [struct.unpack("<e", struct.pack("<H", bits))[0] for bits in _bits(proto)]
    if kind == _BFLOAT16:
        return [_widened(bits) for bits in _bits(proto)]
    return [float(number) for number in proto.integers(_INTEGER_FIELDS[kind])]


def _bits(proto: ProtobufMessage) -> list[int]:
    """Returns the bits of numbers of 16 bits, which a file may write as any integers."""
    return [integer & 0xFFFF for integer in proto.integers(13)]


def _widened(bits: int) -> float:
    """Returns a bfloat16, which is the upper half of a float of 32 bits."""
    return float(struct.unpack("<f", struct.pack("<I", bits << 16))[0])
