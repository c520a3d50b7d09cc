"""Interval steps: products of centres and radii, and what makes bounds of them: the calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.tensor._simd import ffi, lib
from gamma.tensor.native.memory import pick, pointer

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


def interval_affine(
    W: Array, centre: Float64, radius: Float64, z: Float64, spread: Float64
) -> None:
    m, n = W.shape
    B = centre.shape[0]
    pick("interval_affine", W)(
        pointer(W, m * n),
        pointer(centre, B * n),
        pointer(radius, B * n),
        pointer(z, B * m, True),
        pointer(spread, B * m, True),
        B,
        m,
        n,
    )


def dense_interval(
    W: Array,
    bias: Float64 | None,
    row_sum: Float64,
    lower: Float64,
    upper: Float64,
    centre: Float64,
    out: Float64,
    factors: tuple[float, float],
) -> int:
    m, n = W.shape
    B = len(lower)
    radius = np.empty((B, n))
    crossed: int = pick("dense_interval", W)(
        pointer(W, m * n),
        ffi.NULL if bias is None else pointer(bias, m),
        pointer(row_sum, m),
        pointer(lower, B * n),
        pointer(upper, B * n),
        pointer(centre, B * n),
        pointer(radius, B * n, True),
        pointer(out, 5 * B * m, True),
        ffi.new("double[2]", factors),
        B,
        m,
        n,
    )
    return crossed


def dense_boxes(
    forward: Float64,
    sizes: Array,
    bias: Float64 | None,
    row_sum: Float64,
    lower: Float64,
    upper: Float64,
    centre: Float64,
    out: Float64,
    factors: tuple[float, float, float, float, float],
) -> int:
    (B, n), m = lower.shape, len(row_sum)
    memory = np.empty(lib.gamma_boxes_room(m, n))
    crossed: int = pick("dense_boxes", sizes)(
        pointer(forward, forward.size),
        pointer(sizes, sizes.size),
        ffi.NULL if bias is None else pointer(bias, m),
        pointer(row_sum, m),
        pointer(lower, B * n),
        pointer(upper, B * n),
        pointer(centre, B * n),
        pointer(memory, memory.size, True),
        pointer(out, 5 * B * m, True),
        ffi.new("double[5]", factors),
        B,
        m,
        n,
    )
    return crossed


def finish(
    bias: Float64 | None,
    row_sum: Float64,
    largest: Float64,
    ends: tuple[Float64, Float64, Float64, Float64, Float64],
    factors: tuple[float, float],
) -> int:
    B, m = len(largest), row_sum.size
    crossed: int = lib.gamma_finish(
        ffi.NULL if bias is None else pointer(bias, m),
        pointer(row_sum, m),
        pointer(largest, B),
        *(pointer(part, B * m, True) for part in ends),
        ffi.new("double[2]", factors),
        B,
        m,
    )
    return crossed


def sum_interval(
    centres: Sequence[Float64],
    radii: Sequence[Float64],
    signs: Sequence[int],
    row_sum: Float64,
    out: Float64,
    factors: tuple[float, float],
) -> int:
    m, B = row_sum.size, len(centres[0])
    size = B * m
    parts = [pointer(x, size) for x in (*centres, *radii)]
    crossed: int = lib.gamma_sum_interval(
        ffi.new("double *[]", parts),
        ffi.new("int64_t[]", signs),
        len(signs),
        pointer(row_sum, m),
        pointer(out, 5 * size, True),
        ffi.new("double[2]", factors),
        B,
        m,
    )
    return crossed


def largest(x: Float64, out: Float64) -> None:
    B, n = x.shape
    lib.gamma_largest(pointer(x, B * n), pointer(out, B, True), B, n)


def relu(lower: Float64, upper: Float64, out: Float64) -> None:
    n = lower.size
    lib.gamma_relu(pointer(lower, n), pointer(upper, n), pointer(out, 4 * n, True), n)
