"""Bytes of a header, read in order; every read is checked against the end."""

from __future__ import annotations

import struct
from pathlib import Path

from gamma.errors import FormatError
from gamma.formats.safetensors import shorten

Buffer = memoryview

TEXT_LIMIT = 16 << 20
"""Bytes of names and of strings outside arrays in one file; a chat template has 0.1 MB."""


class Cursor:
    """A position in ``data``; errors name the file and what was being read."""

    def __init__(self, path: Path, data: Buffer) -> None:
        self.path, self.data, self.at, self.texts = path, data, 0, 0

    def error(self, where: str, message: str) -> FormatError:
        """The error of this file at ``where``."""
        return FormatError.at(self.path, where, message)

    def skip(self, count: int, where: str) -> int:
        """Step over ``count`` bytes; the position before them."""
        start = self.at
        if count > len(self.data) - start:
            raise self.error(
                where,
                f"needs {count} bytes at {start}, the header has {len(self.data) - start} left; "
                "the file is truncated or damaged",
            )
        self.at = start + count
        return start

    def number(self, code: str, where: str) -> int | float:
        """One little-endian number of struct's type ``code``."""
        start = self.skip(struct.calcsize(code), where)
        value: int | float = struct.unpack_from("<" + code, self.data, start)[0]
        return value

    def count(self, code: str, where: str) -> int:
        """One unsigned integer."""
        return int(self.number(code, where))

    def text(self, where: str) -> str:
        """A string: 64-bit length and UTF-8."""
        length = self.count("Q", where)
        start = self.skip(length, where)
        self.texts += length
        if self.texts > TEXT_LIMIT:
            raise self.error(where, f"more than {TEXT_LIMIT} bytes of names and texts in one file")
        return decode(self.path, where, self.data[start : start + length])


def decode(path: Path, where: str, raw: Buffer) -> str:
    """UTF-8 text; FormatError otherwise."""
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError as error:
        found = shorten(bytes(raw[:32]))
        raise FormatError.at(path, where, f"{found} is not UTF-8 ({error.reason})") from None
