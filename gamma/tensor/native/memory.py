"""Memory for C, and the entries of the library by name."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.runtime import pool
from gamma.tensor._simd import ffi, lib

Array = npt.NDArray[Any]

_C_TYPES = {
    np.dtype(np.float32): ffi.typeof("float[]"),
    np.dtype(np.float64): ffi.typeof("double[]"),
    np.dtype(np.int64): ffi.typeof("int64_t[]"),
    np.dtype(np.int32): ffi.typeof("int32_t[]"),
    np.dtype(np.uint16): ffi.typeof("uint16_t[]"),
    np.dtype(np.uint8): ffi.typeof("uint8_t[]"),
    np.dtype(np.int8): ffi.typeof("int8_t[]"),
}
_from_buffer = ffi.from_buffer


def pointer(array: Array, size: int, writable: bool = False) -> Any:
    """A checked C array over ``array``: known dtype, native order, contiguous, ``size`` entries.

    Another byte order is refused as another dtype is. Of the checks, which cost as much as a kernel
    on a small array, contiguity and writability are those of the buffer protocol itself.
    """
    if array.size == size:
        try:
            return _from_buffer(_C_TYPES[array.dtype], array, writable)
        except (KeyError, ValueError, BufferError):
            pass
    raise _refused(array, size)


# Bytes of a line of cache, and of what a thread keeps at most.
_LINE, _KEPT = 64, 4 << 20


class _Scratch(threading.local):
    """Doubles of the thread, and where they are."""

    size = -1
    start: Any = None


_scratch = _Scratch()


def lined(room: Array, size: int) -> Array:
    """So many entries of an array from its first line of cache on: vectors that begin with a line
    lie in one."""
    skipped = -room.ctypes.data % _LINE // room.itemsize
    return room[skipped : skipped + size]


def scratch(size: int) -> Any:
    """So many doubles for one call of the library: the thread's next call gets them again.

    Asking for an array takes as long as a small network's bounds.
    """
    kept = _scratch
    if size <= kept.size:
        return kept.start
    room = pool.empty(size + _LINE // 8, np.float64)
    start = pointer(lined(room, size), size, True)
    if 8 * size <= _KEPT:
        kept.size, kept.start = size, start
    return start


def nonzeros(weight: Any, rows: int, dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
    """C arrays of a `kernels.Sparse` of so many rows: starts, places, values."""
    starts, places, values, width = weight
    count = len(values)
    inside = count == 0 or (places.min() >= 0 and places.max() < width)
    ordered = starts[0] == 0 and starts[-1] == count and (np.diff(starts) >= 0).all()
    if values.dtype != dtype or not (inside and ordered):
        raise UsageError(f"found a sparse weight that is none of width {width}")
    return pointer(starts, rows + 1), pointer(places, count), pointer(values, count)


def _refused(array: Array, size: int) -> UsageError:
    """What is wrong with an array that `pointer` does not take."""
    if array.dtype not in _C_TYPES:
        return UsageError(f"kernel array: found dtype {array.dtype}, expected a native number type")
    if array.size != size or not array.flags.c_contiguous:
        return UsageError(
            f"kernel array: found {array.shape} with strides {array.strides}, "
            f"expected {size} contiguous entries"
        )
    return UsageError("kernel array: found a read-only array, expected one to write to")


# Kernel name -> its entries for float32 and float64.
_PAIRS = {
    name.removeprefix("gamma_")[:-4]: (getattr(lib, name), getattr(lib, name[:-4] + "_f64"))
    for name in dir(lib)
    if name.endswith("_f32") and hasattr(lib, name[:-4] + "_f64")
}


def pick(name: str, array: Array) -> Any:
    """The entry ``gamma_NAME`` for the dtype of ``array``: float32, or else float64."""
    return _PAIRS[name][array.itemsize != 4]
