"""Processors of this process; threads of the BLAS: how many there may be, fewer for a while."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any


def available() -> int:
    """Processors that this process may use: of the machine, and of its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return min(count, quota() or count)


@lru_cache(maxsize=1)
def quota(
    own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Processors whose time the control groups grant (Linux, v1 and v2); None without a limit."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    granted = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            # Inside a container the path may be the host's: then the root alone is there.
            groups = Path(path.lstrip("/"))
            for group in (groups, *groups.parents):
                granted += _granted(mounted / controllers / group)
    return max(1, math.ceil(min(granted))) if granted else None


def _granted(group: Path) -> list[float]:
    """Processors that one control group grants, [] when it does not say."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            share, period = " ".join((group / f).read_text(encoding="utf-8") for f in files).split()
            if int(share) > 0:
                return [int(share) / int(period)]
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return []


def asked() -> int:
    """Threads that were asked for: what the BLAS is set to outside `limit_blas`.

    OPENBLAS_NUM_THREADS and its like, ``--threads`` and threadpoolctl all end up there. Without a
    BLAS that can be asked: `available`.
    """
    with _lock:
        counts = _before.values() if _limits else map(_count, _libraries().values())
        known = [count for count in counts if count]
    return min(known) if known else available()


def limit() -> int | None:
    """The least limit of the `limit_blas` blocks that are active; None outside of them."""
    with _lock:
        return min(_limits, default=None)


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
        least = min(_limits, default=0)
        _limits.append(count)
        if min(_limits) != least:  # asking and setting takes as long as a small product
            _apply()
    try:
        yield
    finally:
        with _lock:
            least = min(_limits)
            _limits.remove(count)
            if min(_limits, default=0) != least:
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
