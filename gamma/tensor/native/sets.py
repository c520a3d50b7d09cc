"""Sets with symbols: the calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gamma.runtime import pool
from gamma.tensor._simd import ffi, lib
from gamma.tensor.native.memory import pointer

Float64 = npt.NDArray[np.float64]


def reach(columns: Float64, each: int, factor: float, extra: float, out: Float64) -> None:
    k, n = columns.shape
    lib.gamma_reach(
        pointer(columns, k * n),
        k // each,
        each,
        n,
        factor,
        extra,
        pointer(out, n, True),
        pointer(np.empty(n), n, True),
    )


def outer(
    parts: Sequence[tuple[Float64, int]], rest: Float64, g: float
) -> tuple[Float64, Float64, Float64]:
    V, d = rest.shape
    counts = [len(columns) for columns, _ in parts]
    symbols = sum(counts)
    held = [pointer(columns, columns.size) for columns, _ in parts]
    given = (
        ffi.new("double *[]", held),
        ffi.new("size_t[]", counts),
        ffi.new("size_t[]", [each for _, each in parts]),
        pointer(rest, V * d),
    )
    blocks = ffi.new("struct gamma_blocks *", (len(parts), symbols, V, d, *given, g))
    matrix, error, scale = np.empty((V, d, d)), np.empty(V), np.empty((V, d))
    work = pool.empty(d + symbols * (d + 1), np.float64)
    lib.gamma_outer(
        blocks,
        pointer(matrix, matrix.size, True),
        pointer(error, V, True),
        pointer(scale, V * d, True),
        pointer(work, work.size, True),
    )
    return matrix, error, scale
