"""Memory from the pool against memory from NumPy: zeroed or not, warm and cold.

Cold means that the system has to give the pages: the allocator gave back what it could, the pool
holds no block. Warm memory has been used before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gamma.runtime.pool import TensorPool

SIZES = (1 << 10, 1 << 16, 1 << 20, 1 << 24)


def _numpy(size: int, zero: bool) -> None:
    array = np.empty(size, np.float32)
    if zero:
        array.fill(0)


def _give_back() -> None:
    """Free memory goes to the system; nothing where the C library has no such call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@pytest.mark.parametrize("zero", [True, False], ids=["zeroed", "empty"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("state", ["warm", "cold"])
@pytest.mark.parametrize("source", ["numpy", "pool"])
def test_acquire_and_release(
    benchmark: Any, source: str, state: str, size: int, zero: bool
) -> None:
    benchmark.group = f"float32 {size} {'zeroed' if zero else 'empty'} {state}"
    pool = TensorPool()

    def pooled() -> None:
        with pool.acquire(size, np.float32, zero):
            pass

    call: Callable[[], None] = pooled if source == "pool" else lambda: _numpy(size, zero)

    def cold() -> None:
        pool.trim()
        _give_back()

    call()
    rounds = 20 if size > 1 << 20 else 200
    benchmark.pedantic(call, setup=cold if state == "cold" else None, rounds=rounds)
    if source == "pool":
        statistics = pool.statistics()
        assert statistics.lent_bytes == 0 and statistics.hits + statistics.misses == rounds + 1
        assert statistics.hits == (0 if state == "cold" else rounds)
