"""Memory from the pool against memory from NumPy: zeroed or not, warm and cold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gamma.tensor.pool import TensorPool

SIZES = (1 << 10, 1 << 16, 1 << 20, 1 << 24)
Bench = Callable[[Callable[[], Any]], Any]


def _numpy(size: int, zero: bool) -> None:
    array = np.empty(size, np.float32)
    if zero:
        array.fill(0)


def _pool(pool: TensorPool, size: int, zero: bool, cold: bool) -> None:
    if cold:
        pool.trim()
    with pool.acquire(size, np.float32, zero):
        pass


@pytest.mark.parametrize("zero", [True, False], ids=["zeroed", "empty"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("source", ["numpy", "pool warm", "pool cold"])
def test_acquire_and_release(benchmark: Bench, source: str, size: int, zero: bool) -> None:
    benchmark.group = f"float32 {size} {'zeroed' if zero else 'empty'}"  # type: ignore[attr-defined]
    if source == "numpy":
        benchmark(lambda: _numpy(size, zero))
        return
    pool = TensorPool()
    benchmark(lambda: _pool(pool, size, zero, source == "pool cold"))
