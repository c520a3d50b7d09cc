"""Every kernel on every instruction set and in NumPy, from 4 to a million numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gamma.tensor import kernels

SIZES = (4, 32, 256, 1 << 10, 1 << 16, 1 << 20)


def _numbers(size: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(size).standard_normal(size).astype(dtype)


def _rows(size: int) -> tuple[Any, ...]:
    """Rows of at most 256 numbers, their constants and box indices."""
    wide = min(size, 256)
    count = size // wide
    table = np.random.default_rng(1).random((1, wide))
    return _numbers(size).reshape(count, wide), np.zeros(count), np.zeros(count, np.int64), table


def _relax(size: int) -> Callable[[], object]:
    A, d, box, table = _rows(size)
    slope = np.ones(table.shape, np.float32)  # slopes of one keep the rows what they are
    return lambda: kernels.relax_rows(A, d, box, slope, slope, table, table)


def _row_kernel(name: str) -> Callable[[int], Callable[[], object]]:
    def make(size: int) -> Callable[[], object]:
        A, d, box, table = _rows(size)
        return lambda: getattr(kernels, name)(A, d, box, table)

    return make


def _affine(size: int) -> Callable[[], object]:
    W, _, _, table = _rows(size)
    return lambda: kernels.interval_affine(W, table, table)


def _of(name: str, count: int, dtype: Any = np.float32) -> Callable[[int], Callable[[], object]]:
    """A kernel of ``count`` arrays of one size; pairs of ends are ordered."""

    def make(size: int) -> Callable[[], object]:
        x = _numbers(size, dtype)
        given = [x, x + 1, x, x + 2, x, x + 1][:count] if count != 3 else [x, x + 2, x + 1]
        return lambda: getattr(kernels, name)(*given)

    return make


def _widen(size: int) -> Callable[[], object]:
    half = kernels.f16_down(_numbers(size))
    return lambda: kernels.f16_to_f32(half)


# Name -> (how to make the call, bytes moved per number).
KERNELS: dict[str, tuple[Callable[[int], Callable[[], object]], int]] = {
    "relax_rows": (_relax, 8),
    "dot_rows": (_row_kernel("dot_rows"), 4),
    "abs_dot_rows": (_row_kernel("abs_dot_rows"), 4),
    "interval_affine": (_affine, 4),
    "interval_mul": (_of("interval_mul", 4), 24),
    "safe_mul_add": (_of("safe_mul_add", 6), 32),
    "pos_neg_split": (_of("pos_neg_split", 1), 12),
    "step_up": (_of("step_up", 1), 8),
    "narrow_up": (_of("narrow_up", 1, np.float64), 12),
    "midpoint": (_of("midpoint", 2, np.float64), 24),
    "radius_about": (_of("radius_about", 3, np.float64), 32),
    "f16_up": (_of("f16_up", 1), 6),
    "f16_to_f32": (_widen, 6),
    "dot": (_of("dot", 2), 8),
}


@pytest.mark.parametrize("isa", kernels.available())
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", KERNELS)
def test_kernel(benchmark: Any, name: str, size: int, isa: str) -> None:
    make, moved = KERNELS[name]
    with kernels.pinned(isa):
        benchmark.group = f"{name} {size}"
        benchmark.extra_info |= {"isa": isa, "bytes": moved * size}
        benchmark(make(size))
        assert kernels.isa == isa
