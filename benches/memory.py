"""Resident memory of one call."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

STATUS = Path("/proc/self/status")
T = TypeVar("T")


def resident() -> int:
    """Resident bytes of this process now; 0 where the system does not say."""
    return _field("VmRSS")


def _field(name: str) -> int:
    try:
        for line in STATUS.read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def peak_of(call: Callable[[], T]) -> tuple[T, int | None]:
    """The result of ``call`` and the highest resident bytes while it ran (None: unknown).

    What earlier work freed is given back to the system first, and the kernel's high-water mark is
    reset, so the figure is this call's.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return call(), None
    result = call()
    return result, _field("VmHWM")
