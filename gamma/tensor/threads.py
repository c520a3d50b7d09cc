"""Threads of the BLAS: how many there may be, and fewer of them for a while."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any


def available() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def asked() -> int:
    """Threads that were asked for: what the BLAS is set to outside `limit_blas`.

    OPENBLAS_NUM_THREADS and its like, ``--threads`` and threadpoolctl all end up there. Without a
    BLAS that can be asked: `available`.
    """
    with _lock:
        counts = _before.values() if _limits else map(_count, _libraries().values())
        return min((count for count in counts if count), default=available())


_lock = threading.Lock()
_limits: list[int] = []  # of the blocks that are active, in whatever thread
_before: dict[str, int] = {}  # what the libraries were set to outside of them


@contextmanager
def limit_blas(count: int) -> Iterator[None]:
    """At most ``count`` BLAS threads inside the block.

    With most builds of the BLAS the setting is the whole process's: while several threads are
    inside such blocks, the smallest limit holds, and the last one out restores what was set before.
    With OpenMP it is the thread's, so that every thread that works enters a block of its own.
    """
    with _lock:
        if not _limits:
            _before.update({path: _count(lib) for path, lib in _libraries().items()})
        _limits.append(count)
        _apply()
    try:
        yield
    finally:
        with _lock:
            _limits.remove(count)
            _apply()
            if not _limits:
                _before.clear()


def _apply() -> None:
    for path, lib in _libraries().items():
        wanted = min(_before[path], *_limits) if _limits else _before[path]
        if wanted and _count(lib) != wanted:
            # threadpoolctl lets one thread alone set OpenBLAS, and ignores the others silently;
            # here the lock keeps order, and whoever comes next may set it too.
            release = getattr(lib, "clear_controlling_thread", lambda force: None)
            release(force=True)
            lib.set_num_threads(wanted)
            release(force=True)


def _count(lib: Any) -> int:
    """What a library is set to, 0 when it does not say."""
    return lib.get_num_threads() or 0


@lru_cache(maxsize=1)
def _libraries() -> dict[str, Any]:
    """The BLAS libraries of this process: finding them takes milliseconds, asking them none."""
    import numpy  # noqa: F401  (loads the BLAS that is looked for)
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return {lib.filepath: lib for lib in found}
