"""The bytes of a file, plain or gzip, with a cap on what they expand to."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from gamma.errors import FormatError, UsageError
from gamma.frozen import Frozen
from gamma.runtime.files import file_mode, open_regular, refused

MODEL_LIMIT = 2 << 30
PROPERTY_LIMIT = 256 << 20
GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 16
MEMBER_LIMIT = 10_000
# A file of weights or decimals shrinks 2 to 20 fold; one that grows past this is a bomb.
RATIO_LIMIT = 100.0
RATIO_FREE = 64 << 20
_ratio: ContextVar[float] = ContextVar("gamma_gzip_ratio", default=RATIO_LIMIT)


@contextmanager
def expanding(ratio: float | None) -> Iterator[None]:
    """Gzip files read in the block may expand to ``ratio`` times their size; None changes nothing.

    Raises UsageError for a ratio below 1.
    """
    if ratio is not None and not ratio >= 1:
        raise UsageError(f"gzip_ratio {ratio}: expected at least 1")
    token = _ratio.set(_ratio.get() if ratio is None else ratio)
    try:
        yield
    finally:
        _ratio.reset(token)


class FileBytes(Frozen, eq=True):
    """A file's content.

    Attributes:
        path: the file that was read (with .gz where that one was).
        data: its content, expanded.
        sha256: hash of ``data``, so that a file and its .gz have the same one.
    """

    path: Path
    data: bytes
    sha256: str


def existing(path: str | Path) -> Path:
    """``path``, or ``path.gz`` when only that exists; FormatError when neither does."""
    plain = Path(path)
    for candidate in (plain, plain.with_name(plain.name + ".gz") if plain.name else plain):
        if file_mode(candidate) is not None:
            return candidate
    raise refused(plain, "does not exist (nor with .gz): check the path")


def read_bytes(path: str | Path, limit: int = MODEL_LIMIT) -> FileBytes:
    """Read a file, expanding gzip (recognised by content), at most ``limit`` bytes.

    Raises FormatError when it cannot be read or exceeds the limit, which is checked while
    inflating.
    """
    found = existing(path)
    try:
        with open_regular(found) as stream:
            # Not read(limit + 1): that reserves the limit's memory for a file of any size.
            size = os.fstat(stream.fileno()).st_size
            raw = (stream.read(size + 1) or b"") if size <= limit else b""
    except (OSError, MemoryError) as error:
        raise refused(found, f"cannot be read ({error})") from error
    if size > limit:
        raise refused(found, f"is larger than {limit} bytes, the limit for such files")
    if len(raw) > size:
        raise refused(found, f"holds more than its {size} bytes: it is written to, try again")
    data = _inflate(raw, found, limit) if raw.startswith(GZIP_MAGIC) else raw
    return FileBytes(found, data, hashlib.sha256(data).hexdigest())


def _inflate(raw: bytes, path: Path, limit: int) -> bytes:
    """Expand all members of a gzip file; nothing may follow them."""
    chunks: list[bytes] = []
    total = position = 0
    members = 1
    cap = int(min(limit, max(RATIO_FREE, _ratio.get() * len(raw))))
    member = zlib.decompressobj(wbits=31)
    while True:
        piece = member.unconsumed_tail
        if not piece:
            piece = raw[position : position + CHUNK]
            position += len(piece)
        try:
            chunk = member.decompress(piece, CHUNK)
        except zlib.error as error:
            raise FormatError.at(path, "gzip", f"damaged data ({error}): fetch it anew") from error
        if not piece and not chunk and not member.eof:
            raise FormatError.at(path, "gzip", "ends too early (truncated): fetch it anew")
        total += len(chunk)
        if total > cap:
            wanted = "" if cap == limit else "; if you trust it, give a larger gzip_ratio="
            message = f"expands to more than {cap} bytes{wanted}"
            raise FormatError.at(path, "gzip", message)
        chunks.append(chunk)
        if not member.eof:
            continue
        position -= len(member.unused_data)
        if position == len(raw):
            return b"".join(chunks)
        members += 1
        if members > MEMBER_LIMIT or raw[position : position + 2] != GZIP_MAGIC:
            message = f"{len(raw) - position} bytes follow the compressed data: fetch it anew"
            raise FormatError.at(path, "gzip", message)
        member = zlib.decompressobj(wbits=31)
