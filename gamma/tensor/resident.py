"""Pages of mapped files: read when they are used, given back when they are not."""

from __future__ import annotations

import mmap
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
