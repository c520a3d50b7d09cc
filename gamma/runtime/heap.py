"""Freed memory stays with the process: the next block of rows uses its pages again.

A walk allocates and frees arrays of some megabytes hundreds of times. By default the C library of
Linux gives such memory back each time, and the system zeroes every page anew: a quarter of the time
of a convolutional walk, and a lock that threads wait for.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache

from gamma import tuning

# malloc.h of the GNU C library.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Larger arrays are returned at once; so is what is free at the end of the heap beyond this.
_LARGE = 32 << 20
_KEPT = 128 << 20
# A walk that streams leaves holes of less than this: copies of large weights are returned at once,
# smaller arrays are used again. At 1 MB it took half as long again, zeroing pages.
_SMALL = 3 << 20


_process = {"owned": False, "kept": False}


def own() -> None:
    """Say that this process is gamma's: a command line, a worker, a benchmark.

    The allocator belongs to the whole process, so in one that only calls gamma nothing is changed.
    """
    _process["owned"] = True


def keep() -> bool:
    """Ask the C library to keep memory; whether it agreed. Nothing happens in a host's process."""
    agreed = _process["owned"] and tuning.enabled("kept_memory") and _set(_LARGE, _KEPT)
    _process["kept"] = agreed
    return agreed


def keeps() -> bool:
    """Whether arrays of up to a few megabytes stay with the process anyway."""
    return _process["kept"]


def give_back() -> bool:
    """Ask it to return large memory: copies of weights in turn would leave holes in the heap."""
    return _process["owned"] and _set(_SMALL, _LARGE)


@lru_cache(maxsize=1)  # what was asked for last is in force
def _set(large: int, kept: int) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # not the GNU C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, large) and mallopt(_M_TRIM_THRESHOLD, kept))
