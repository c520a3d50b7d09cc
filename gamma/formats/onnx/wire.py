"""A look at the protobuf wire format before it is decoded: how many entries there are.

Two bytes of a file can make an empty message that costs a hundred bytes once decoded. Counting
first, and skipping over contents, bounds time and memory for files built to exhaust them.
"""

from __future__ import annotations

from pathlib import Path

from gamma.errors import FormatError, UnsupportedError
from gamma.formats.onnx import schema

ENTRIES_LIMIT = 1 << 19
_DAMAGED = "is not a readable ONNX model (truncated or another format): export it anew"

# Fixed-size wire types; groups (3 and 4) do not occur in ONNX.
_FIXED = {1: 8, 5: 4}


def count_entries(data: bytes, path: Path, limit: int = ENTRIES_LIMIT) -> int:
    """Number of fields in a model's messages.

    Raises FormatError when the bytes are no protobuf, UnsupportedError beyond ``limit``.
    """
    nested_of = {message: schema.nested(message) for message in schema.MESSAGES}
    stack = [("Model", 0, len(data))]
    count = 0
    while stack:
        kind, position, end = stack.pop()
        nested = nested_of[kind]
        while position < end:
            count += 1
            if count > limit:
                raise UnsupportedError.at(path, "", f"holds more than {limit} protobuf entries")
            key, position = _varint(data, position, end, path)
            wire = key & 7
            if wire == 0:
                _, position = _varint(data, position, end, path)
                continue
            if wire == 2:
                size, position = _varint(data, position, end, path)
            elif wire in _FIXED:
                size = _FIXED[wire]
            else:
                raise FormatError.at(path, "", _DAMAGED)
            if size > end - position:
                raise FormatError.at(path, "", _DAMAGED)
            if wire == 2 and size and key >> 3 in nested:
                stack.append((nested[key >> 3], position, position + size))
            position += size
    return count


def _varint(data: bytes, position: int, end: int, path: Path) -> tuple[int, int]:
    """A variable-length number and the position after it."""
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise FormatError.at(path, "", _DAMAGED)
