"""Arrays from .npy files: no pickles, and every size is checked before memory is taken for it."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.runtime.files import open_regular, refused

HEADER_LIMIT = 10_000
INPUT_LIMIT = 1 << 30  # bytes of an array
ENTRIES_LIMIT = 1 << 28  # 2 GiB of float64
MAX_AXES = 16
# Version of the format -> width of the number that says how long its header is.
_WIDTHS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}


def read_npy(path: Path, wanted: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """The numbers of a .npy file as float64, for a network that takes ``wanted``.

    The shape may differ from ``wanted``, the number of entries may not.

    Raises:
        FormatError: not a .npy file of finite numbers that float64 holds exactly.
        UsageError: another number of entries.
    """
    return _read(path, wanted)


def read_any(path: Path) -> npt.NDArray[np.float64]:
    """`read_npy` of an array of any shape."""
    return _read(path, None)


def _read(path: Path, wanted: tuple[int, ...] | None) -> npt.NDArray[np.float64]:
    try:
        with open_regular(path, "give an array saved with numpy.save") as stream:
            left = os.fstat(stream.fileno()).st_size
            return read_stream(stream, left, path, wanted)
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror or error}") from None


def read_stream(
    stream: IO[bytes], size: int, path: str | Path, wanted: tuple[int, ...] | None = None
) -> npt.NDArray[np.float64]:
    """The array of a .npy file of ``size`` bytes; ``path`` is what messages call it."""
    shape, fortran, dtype = _header(stream, path)
    if wanted is not None:
        _check_count(path, shape, wanted)
    elif math.prod(shape) > ENTRIES_LIMIT:
        raise refused(path, f"shape {shape}: more than {ENTRIES_LIMIT} entries, give it in parts")
    expected = math.prod(shape) * dtype.itemsize
    left = size - stream.tell()
    if left != expected:
        message = f"shape {shape} of {dtype} needs {expected} bytes, it holds {left}"
        raise refused(path, message)
    data = stream.read(expected)
    if len(data) != expected:
        raise refused(path, "the file shrank while it was read")
    x = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    return _finite(x, path)


def _check_count(path: str | Path, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    size = math.prod(wanted)
    if math.prod(shape) != size:
        raise UsageError(
            f"{path}: array of shape {shape} ({math.prod(shape)} entries), the network takes "
            f"{wanted} ({size} entries): give one input"
        )


def _header(stream: IO[bytes], path: str | Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype from the head of a .npy file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers written by Python 2
            width = _WIDTHS[np.lib.format.read_magic(stream)]
            length = int.from_bytes(stream.read(width), "little")
            if length > HEADER_LIMIT:  # NumPy would read all of it before it looks
                raise ValueError(f"header of {length} bytes, at most {HEADER_LIMIT}")
            stream.seek(-width, os.SEEK_CUR)
            lib = np.lib.format
            read = lib.read_array_header_1_0 if width == 2 else lib.read_array_header_2_0
            shape, fortran, dtype = read(stream, max_header_size=HEADER_LIMIT)
    except Exception as error:  # NumPy lets through whatever its header parser meets
        line = " ".join(str(error).split())[:100]
        message = f"is not a .npy file ({type(error).__name__}: {line}); use numpy.save"
        raise refused(path, message) from None
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise refused(path, f"dtype {str(dtype)[:80]}: expected real numbers up to 64 bit")
    if len(shape) > MAX_AXES:
        raise refused(path, f"shape of {len(shape)} axes, expected at most {MAX_AXES}")
    if not all(type(n) is int and 0 <= n <= INPUT_LIMIT for n in shape):
        raise refused(path, f"shape {str(list(shape)[:8])[:80]}: expected sizes up to 2^30")
    if math.prod(shape) * dtype.itemsize > INPUT_LIMIT:
        raise refused(path, f"shape {shape} is larger than {INPUT_LIMIT} bytes")
    return shape, fortran, dtype


def _finite(x: npt.NDArray[Any], path: str | Path) -> npt.NDArray[np.float64]:
    if x.dtype.kind in "iu" and x.size and not -(2**53) <= int(x.min()) <= int(x.max()) <= 2**53:
        raise refused(path, "integers beyond 2^53 have no exact float64")
    values = np.ascontiguousarray(x, dtype=np.float64)
    if not np.isfinite(values).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise refused(path, f"entry {where} is NaN or infinite, expected numbers")
    return values
