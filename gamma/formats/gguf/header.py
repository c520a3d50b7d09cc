"""The header of a GGUF file, checked before anything in it is believed.

    "GGUF", uint32 version, uint64 tensors, uint64 keys; then the keys, each a string, a type and a
    value; then the tensors, each a name, uint32 axes, uint64 sizes (fastest first), uint32 type and
    uint64 offset from the data, which starts at the next multiple of general.alignment.

Every count is compared with the bytes that are left before anything loops over it or takes memory
for it. Offsets may be shared, and tensors may overlap: they are only read.
"""

from __future__ import annotations

import math
from pathlib import Path

from gamma.errors import FormatError, UnsupportedError
from gamma.formats.gguf.cursor import Buffer, Cursor
from gamma.formats.gguf.types import TYPES
from gamma.formats.gguf.values import Value, ValueReader
from gamma.formats.safetensors import plain_name, shorten
from gamma.frozen import Frozen

HEADER_LIMIT = 64 << 20  # bytes; the largest vocabularies in use take 30 MB
MOST_KEYS = 1 << 16
MOST_TENSORS = 1 << 16
MOST_AXES = 4  # of ggml
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
LARGEST_ALIGNMENT = 1 << 20


class TensorInfo(Frozen, eq=True):
    """One tensor; ``shape`` has the fastest axis last, bytes count from the start of the file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(Frozen):
    """What the file says of itself: typed values by key, tensors by name."""

    version: int
    alignment: int
    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]


def parse_header(path: Path, data: Buffer, size: int) -> Header:
    """The header in ``data`` (the first bytes of a file of ``size`` bytes).

    Raises:
        FormatError: anything that is not exactly a GGUF file of version 2 or 3.
        UnsupportedError: big-endian files, version 1.
    """
    cursor = Cursor(path, data[:HEADER_LIMIT])
    version = _version(cursor)
    tensors = cursor.count("Q", "tensor count")
    keys = cursor.count("Q", "key count")
    # A key takes 13 bytes at least (a length, a type, a value), a tensor 32.
    _fits(cursor, "key count", keys, 13, MOST_KEYS)
    _fits(cursor, "tensor count", tensors, 32, MOST_TENSORS)
    metadata = _metadata(cursor, keys)
    alignment = _alignment(cursor, metadata)
    described = [_tensor(cursor) for _ in range(tensors)]
    start = -(-cursor.at // alignment) * alignment
    found: dict[str, TensorInfo] = {}
    for info in described:
        if info.name in found:
            raise cursor.error(info.name, "there are two tensors of this name")
        found[info.name] = _placed(path, info, start, alignment, size)
    return Header(version, alignment, metadata, found)


def _version(cursor: Cursor) -> int:
    magic = bytes(cursor.data[cursor.skip(4, "header") : cursor.at])
    if magic != b"GGUF":
        raise cursor.error("header", f"starts with {magic!r}, expected b'GGUF'")
    version = cursor.count("I", "version")
    if version in (2, 3):
        return version
    if int.from_bytes(version.to_bytes(4, "little"), "big") in (1, 2, 3):
        raise UnsupportedError.at(
            cursor.path, "", "a big-endian GGUF file, expected little-endian; convert it"
        )
    if version == 1:
        raise UnsupportedError.at(
            cursor.path, "", "GGUF version 1, expected 2 or 3; convert the file anew"
        )
    raise cursor.error("version", f"found {version}, expected 2 or 3")


def _fits(cursor: Cursor, what: str, count: int, each: int, most: int) -> None:
    left = len(cursor.data) - cursor.at
    if count * each > left:
        raise cursor.error(
            what, f"claims {count}, which take {each} bytes each; the header has {left} left"
        )
    if count > most:
        raise cursor.error(what, f"claims {count}, gamma reads at most {most}")


def _metadata(cursor: Cursor, count: int) -> dict[str, Value]:
    values, reader = {}, ValueReader(cursor)
    for index in range(count):
        key = _name(cursor, f"key {index}")
        if key in values:
            raise cursor.error(key, "this key is there twice")
        values[key] = reader.read(key)
    return values


def _name(cursor: Cursor, where: str) -> str:
    name = cursor.text(where)
    if not name or not plain_name(name):
        raise cursor.error(
            where, f"name {shorten(name)} is not plain text of 1 to 256 printable characters"
        )
    return name


def _alignment(cursor: Cursor, metadata: dict[str, Value]) -> int:
    given = metadata.get(ALIGNMENT_KEY)
    if given is None:
        return DEFAULT_ALIGNMENT
    value = given.value
    if given.type != "uint32" or not isinstance(value, int):
        raise cursor.error(ALIGNMENT_KEY, f"is {given.type}, expected uint32")
    if value < 8 or value & (value - 1) or value > LARGEST_ALIGNMENT:
        raise cursor.error(
            ALIGNMENT_KEY, f"is {value}, expected a power of two from 8 to {LARGEST_ALIGNMENT}"
        )
    return value


def _tensor(cursor: Cursor) -> TensorInfo:
    """The next tensor; ``begin`` is its offset, ``end`` the offset after it."""
    name = _name(cursor, "tensor name")
    axes = cursor.count("I", name)
    if not 1 <= axes <= MOST_AXES:
        raise cursor.error(name, f"has {axes} axes, expected 1 to {MOST_AXES}")
    sizes = [cursor.count("Q", name) for _ in range(axes)]
    number, offset = cursor.count("I", name), cursor.count("Q", name)
    if number not in TYPES:
        raise cursor.error(name, f"tensor type {number} is not one that gamma knows")
    kind = TYPES[number]
    if 0 in sizes:
        raise cursor.error(name, f"tensor is empty, sizes {sizes}")
    if sizes[0] % kind.weights:
        raise cursor.error(
            name, f"rows of {sizes[0]} weights, {kind.name} comes in blocks of {kind.weights}"
        )
    count = math.prod(sizes) // kind.weights * kind.bytes
    return TensorInfo(name, kind.name, tuple(reversed(sizes)), offset, offset + count)


def _placed(path: Path, info: TensorInfo, start: int, alignment: int, size: int) -> TensorInfo:
    if info.begin % alignment:
        raise FormatError.at(
            path, info.name, f"offset {info.begin} is no multiple of the alignment {alignment}"
        )
    if info.end > size - start:
        raise FormatError.at(
            path,
            info.name,
            f"{info.kind} of shape {shorten(list(info.shape))} at offset {info.begin} takes "
            f"{info.end - info.begin} bytes, the file holds {max(0, size - start)} bytes of data",
        )
    return TensorInfo(info.name, info.kind, info.shape, start + info.begin, start + info.end)
