"""The file of CompressedBounds: written atomically, checked whole before it is believed.

    offset  bytes  content
    0       8      magic "\\x89gammaB1"
    8       4      length of the header, little endian
    12      n      header, JSON: code, form, exponent, shape, dtype, floor, ceiling
    12+n    k      first array, then second, little endian
    end-32  32     SHA-256 of everything before it

Nothing in it is executed. Every size follows from the header and must be the file's.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gamma.errors import FormatError, UsageError
from gamma.runtime.files import open_regular
from gamma.tensor.codes import CODES, STORED

if TYPE_CHECKING:
    from gamma.tensor.compressed import CompressedBounds

MAGIC = b"\x89gammaB1"
HEADER_LIMIT = 1 << 16
AXES_LIMIT = 32
SIZE_LIMIT = 1 << 48
# Powers of two beyond these divide no float64 tensor.
EXPONENT_LIMIT = 1200
DIGEST = 32
BLOCK = 1 << 20
KEYS = frozenset({"code", "form", "exponent", "shape", "dtype", "floor", "ceiling"})


def write(bounds: CompressedBounds, path: Path) -> None:
    """Write ``path`` in one step: a reader sees the old file or the new one."""
    header = json.dumps(
        {
            "code": bounds.code,
            "form": bounds.form,
            "exponent": bounds.exponent,
            "shape": bounds.shape,
            "dtype": bounds.dtype.name,
            "floor": float(bounds.floor).hex(),
            "ceiling": float(bounds.ceiling).hex(),
        }
    ).encode()
    temporary = None
    try:
        import tempfile

        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            _write(stream, [MAGIC, struct.pack("<I", len(header)), header], bounds)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0o022)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _write(stream: BinaryIO, head: list[bytes], bounds: CompressedBounds) -> None:
    digest = hashlib.sha256()
    kind = STORED[bounds.code]
    pieces: list[Any] = list(head)
    for array in (bounds.first, bounds.second):
        if array.size:
            pieces.append(np.ascontiguousarray(array, kind.base).data.cast("B"))
    for piece in pieces:
        digest.update(piece)
        stream.write(piece)
    stream.write(digest.digest())


def read(path: Path) -> CompressedBounds:
    """Read and check a file. Raises FormatError for anything ``write`` does not write."""
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            return _Reader(path, stream, size).read()
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FormatError.at(path, "", f"cannot be read: {reason or 'out of memory'}") from None


class _Reader:
    """One file being read; ``left`` counts the bytes before the checksum."""

    def __init__(self, path: Path, stream: BinaryIO, size: int) -> None:
        self.path, self.stream = path, stream
        self.left = size - DIGEST
        self.digest = hashlib.sha256()

    def error(self, where: str, message: str) -> FormatError:
        return FormatError.at(self.path, where, f"{message}; compress the bounds again")

    def take(self, count: int) -> bytes:
        data = self.stream.read(count) if count <= self.left else b""
        if len(data) != count:
            raise self.error("", "ends too early (truncated)")
        self.left -= count
        self.digest.update(data)
        return data

    def read(self) -> CompressedBounds:
        if self.left < 0 or self.take(len(MAGIC)) != MAGIC:
            raise self.error("", "is not a file of compressed bounds")
        (length,) = struct.unpack("<I", self.take(4))
        if length > HEADER_LIMIT:
            raise self.error("header", f"{length} bytes, expected at most {HEADER_LIMIT}")
        fields = self.fields(self.take(length))
        kind = STORED[fields["code"]]
        count = math.prod(fields["shape"])
        if self.left != 2 * count * kind.itemsize:
            expected = 2 * count * kind.itemsize
            raise self.error("arrays", f"{self.left} bytes, expected {expected} for the shape")
        first, second = self.array(count, kind), self.array(count, kind)
        if self.stream.read(DIGEST + 1) != self.digest.digest():
            raise self.error("checksum", "does not match: the file is damaged")
        return self.build(fields, first, second)

    def array(self, count: int, kind: np.dtype[Any]) -> npt.NDArray[Any]:
        array = np.empty(count, kind)
        view = array.data.cast("B") if count else memoryview(b"")
        for start in range(0, len(view), BLOCK):
            block = view[start : start + BLOCK]
            block[:] = self.take(len(block))
        return array

    def fields(self, data: bytes) -> dict[str, Any]:
        """The header's fields, each of the right type and range."""
        try:
            found = json.loads(data.decode("ascii"))
        except (ValueError, RecursionError):
            raise self.error("header", "is not JSON") from None
        if not isinstance(found, dict) or found.keys() != KEYS:
            raise self.error("header", f"expected exactly the fields {', '.join(sorted(KEYS))}")
        code, form = found["code"], found["form"]
        if code not in CODES or form not in ("ends", "centre") or (code, form) == ("f32", "centre"):
            raise self.error("header", f"code {code!r} and form {form!r} are not known")
        shape, exponent = found["shape"], found["exponent"]
        if not isinstance(shape, list) or len(shape) > AXES_LIMIT:
            raise self.error("header", "shape is not a list of sizes")
        if not all(type(n) is int and 0 <= n <= SIZE_LIMIT for n in shape):
            raise self.error("header", "shape is not a list of sizes")
        if math.prod(max(n, 1) for n in shape) > SIZE_LIMIT:
            raise self.error("header", f"shape of more than {SIZE_LIMIT} intervals")
        if type(exponent) is not int or abs(exponent) > EXPONENT_LIMIT:
            raise self.error("header", f"exponent is not a whole number up to {EXPONENT_LIMIT}")
        if found["dtype"] not in ("float32", "float64"):
            raise self.error("header", f"dtype {found['dtype']!r}: expected float32 or float64")
        try:
            limits = {key: float.fromhex(found[key]) for key in ("floor", "ceiling")}
        except (TypeError, ValueError, OverflowError):
            raise self.error("header", "floor or ceiling is not a hexadecimal number") from None
        if any(math.isnan(limit) for limit in limits.values()):
            raise self.error("header", "floor or ceiling is not a number")
        if form == "ends" and limits != {"floor": -math.inf, "ceiling": math.inf}:
            raise self.error("header", "floor and ceiling belong to the centre form")
        return {**found, **limits, "shape": tuple(shape), "dtype": np.dtype(found["dtype"])}

    def build(
        self, fields: dict[str, Any], first: npt.NDArray[Any], second: npt.NDArray[Any]
    ) -> CompressedBounds:
        """The value, when its intervals are intervals."""
        from gamma.tensor.compressed import CompressedBounds

        made = CompressedBounds(**fields, first=first, second=second)
        try:
            made.check()
        except UsageError as error:
            raise self.error("arrays", str(error)) from None
        return made
