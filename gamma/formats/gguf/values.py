"""Metadata of a GGUF file: one typed value a key; arrays stay in the file until they are asked for.

Types: 0 uint8, 1 int8, 2 uint16, 3 int16, 4 uint32, 5 int32, 6 float32, 7 bool, 8 string, 9 array,
10 uint64, 11 int64, 12 float64. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gamma.formats.gguf.cursor import Buffer, Cursor, decode
from gamma.frozen import Frozen

STRING, ARRAY, BOOL = 8, 9, 7
NAMES = {
    0: "uint8", 1: "int8", 2: "uint16", 3: "int16", 4: "uint32", 5: "int32", 6: "float32",
    BOOL: "bool", STRING: "string", ARRAY: "array", 10: "uint64", 11: "int64", 12: "float64",
}  # fmt: skip
CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", BOOL: "B", 10: "Q", 11: "q",
         12: "d"}  # fmt: skip

MOST_STRINGS = 2_000_000
"""Strings in arrays of one file; the largest vocabularies and merge lists have 0.6 million."""


class ArrayValue(Frozen):
    """An array of ``count`` numbers or strings in bytes [begin, end) of the header."""

    path: Path
    key: str
    type: int
    count: int
    _raw: Buffer

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int | float | bool | str]:
        """Every entry, read from the file now. FormatError for a string that is not UTF-8."""
        if self.type == STRING:
            at = 0
            for index in range(self.count):
                length = struct.unpack_from("<Q", self._raw, at)[0]
                part = self._raw[at + 8 : at + 8 + length]
                yield decode(self.path, f"{self.key}[{index}]", part)
                at += 8 + length
        elif self.type == BOOL:
            yield from (bool(v) for v in bytes(self._raw))
        else:
            for begin in range(0, len(self._raw), 1 << 16):
                yield from np.frombuffer(
                    self._raw[begin : begin + (1 << 16)], "<" + CODES[self.type]
                ).tolist()


Scalar = int | float | bool | str


class Value(Frozen, eq=True):
    """The value of one key: its type as the file names it, and the number, text or array."""

    type: str
    value: Scalar | ArrayValue


class ValueReader:
    """Reads values one after another and counts strings over the whole file."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor, self.strings = cursor, 0

    def read(self, key: str) -> Value:
        """The type and value at the cursor."""
        cursor = self.cursor
        kind = cursor.count("I", key)
        if kind == ARRAY:
            array = self._array(key)
            return Value(f"array of {NAMES[array.type]}", array)
        return Value(self._known(kind, key), self._scalar(kind, key))

    def _known(self, kind: int, key: str) -> str:
        if kind not in NAMES:
            raise self.cursor.error(key, f"value type {kind} is not one of 0 to 12")
        return NAMES[kind]

    def _scalar(self, kind: int, key: str) -> Scalar:
        if kind == STRING:
            return self.cursor.text(key)
        value = self.cursor.number(CODES[kind], key)
        if kind != BOOL:
            return value
        if value not in (0, 1):
            raise self.cursor.error(key, f"boolean is {value}, expected 0 or 1")
        return bool(value)

    def _array(self, key: str) -> ArrayValue:
        cursor = self.cursor
        kind = cursor.count("I", key)
        self._known(kind, key)
        if kind == ARRAY:
            raise cursor.error(key, "an array of arrays, expected numbers or strings")
        count = cursor.count("Q", key)
        begin = cursor.at
        least = 8 if kind == STRING else struct.calcsize("<" + CODES[kind])
        if count * least > len(cursor.data) - begin:
            raise cursor.error(
                key,
                f"claims {count} entries of at least {least} bytes, "
                f"the header has {len(cursor.data) - begin} bytes left",
            )
        if kind == STRING:
            self._step_over_strings(count, key)
        else:
            cursor.skip(count * least, key)
        raw = cursor.data[begin : cursor.at]
        if kind == BOOL and bytes(raw).translate(None, b"\0\1"):
            raise cursor.error(key, "a boolean is neither 0 nor 1")
        return ArrayValue(cursor.path, key, kind, count, raw)

    def _step_over_strings(self, count: int, key: str) -> None:
        cursor, data = self.cursor, self.cursor.data
        self.strings += count
        if self.strings > MOST_STRINGS:
            raise cursor.error(key, f"more than {MOST_STRINGS} strings in the arrays of one file")
        at, end, length = cursor.at, len(data), struct.Struct("<Q").unpack_from
        for index in range(count):
            if at + 8 > end:
                break
            at += 8 + length(data, at)[0]
            if at > end:
                raise cursor.error(
                    f"{key}[{index}]", "the string ends beyond the header; the file is damaged"
                )
        else:
            cursor.at = at
            return
        raise cursor.error(key, f"ends before its {count} strings; the file is truncated")
