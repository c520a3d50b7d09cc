"""A look at the protobuf wire format before it is decoded: how many entries there are.

Two bytes of a file can make an empty message that costs a hundred bytes once decoded. Counting
first, and skipping over contents, bounds time and memory for files built to exhaust them.
"""

from __future__ import annotations

from pathlib import Path

from gamma.errors import FormatError, UnsupportedError

ENTRIES_LIMIT = 1 << 19
_DAMAGED = "is not a readable ONNX model (truncated or another format): export it anew"

# Message kind -> field number of a nested message -> its kind (ONNX's onnx.proto).
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "leaf", 14: "leaf", 20: "training", 25: "function"},
    "graph": {
        1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "quantisation",
        15: "sparse", 16: "leaf",
    },
    "node": {5: "attribute", 9: "leaf"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 14: "type", 15: "type",
        22: "sparse", 23: "sparse",
    },
    "tensor": {3: "leaf", 13: "leaf", 16: "leaf"},
    "sparse": {1: "tensor", 2: "tensor"},
    "value": {2: "type", 4: "leaf"},
    "type": {1: "tensor type", 4: "inner type", 5: "map type", 8: "tensor type", 9: "inner type"},
    "tensor type": {2: "shape"},
    "inner type": {1: "type"},
    "map type": {2: "type"},
    "shape": {1: "leaf"},
    "training": {1: "graph", 2: "graph", 3: "leaf", 4: "leaf"},
    "function": {7: "node", 9: "leaf", 11: "attribute", 12: "value", 14: "leaf"},
    "quantisation": {2: "leaf"},
    "leaf": {},
}  # fmt: skip
# Fixed-size wire types; groups (3 and 4) do not occur in ONNX.
_FIXED = {1: 8, 5: 4}


def count_entries(data: bytes, path: Path, limit: int = ENTRIES_LIMIT) -> int:
    """Number of fields in a model's messages.

    Raises FormatError when the bytes are no protobuf, UnsupportedError beyond ``limit``.
    """
    stack = [("model", 0, len(data))]
    count = 0
    while stack:
        kind, position, end = stack.pop()
        nested = _NESTED[kind]
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
