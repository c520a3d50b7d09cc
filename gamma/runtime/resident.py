"""Pages of mapped files: read when they are used, given back when they are not."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def mapping_of(array: Array) -> mmap.mmap | None:
    """The file mapping that ``array`` is a view of, or None."""
    owner: Any = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        if isinstance(owner, memoryview):
            owner = owner.obj
        else:
            owner = getattr(owner, "base", None)
    return owner


def contiguous(array: Array, dtype: npt.DTypeLike) -> Array:
    """A copy in ``dtype`` in C order; pages of a mapped ``array`` are given back on the way.

    A mapped matrix and its copy are never both resident, whichever of its axes the file keeps last.
    """
    if mapping_of(array) is None or array.ndim != 2:
        return np.array(array, dtype, order="C")
    copy = np.empty(array.shape, dtype)
    turned = abs(array.strides[0]) < abs(array.strides[1])
    source, target = (array.T, copy.T) if turned else (array, copy)
    for part in _parts(len(source), source[:1].nbytes):
        target[part] = source[part]
        release(source[part])
    return copy


def all_finite(array: Array) -> bool:
    """Whether no entry is NaN or infinite; pages of a mapped ``array`` are given back."""
    if mapping_of(array) is None or not array.flags.forc:
        return bool(np.isfinite(array).all())
    flat, good = array.ravel(order="K"), True
    for part in _parts(flat.size, flat.itemsize):
        good = good and bool(np.isfinite(flat[part]).all())
        release(flat[part])
    return good


def _parts(count: int, each: int) -> Iterator[slice]:
    """Slices of about a megabyte of ``count`` entries of ``each`` bytes."""
    step = max(1, (1 << 20) // max(1, each))
    return (slice(start, start + step) for start in range(0, count, step))


def release(array: Array) -> int:
    """Let the system take back the pages that hold a mapped ``array``; bytes given back.

    They are read from the file again when they are next used. Nothing happens to other memory.
    """
    owner = mapping_of(array)
    if owner is None or not array.nbytes or not hasattr(mmap, "MADV_DONTNEED"):
        return 0
    start = array.__array_interface__["data"][0]
    first = np.frombuffer(owner, np.uint8, 1).__array_interface__["data"][0]
    # Whole pages only: neighbours keep what they share with this array.
    begin = -(-(start - first) // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (start - first + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end <= begin:
        return 0
    owner.madvise(mmap.MADV_DONTNEED, begin, end - begin)
    return int(end - begin)
