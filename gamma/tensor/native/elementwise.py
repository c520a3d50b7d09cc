"""Entry by entry: arithmetic rounded outward, conversions, functions, sums: the calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.tensor._simd import ffi, lib
from gamma.tensor.native.memory import pick, pointer

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


def erf(x: Float64) -> Float64:
    out = np.empty_like(x)
    lib.gamma_erf(pointer(x, x.size), pointer(out, x.size, True), x.size)
    return out


def erfc(x: Float64) -> Float64:
    out = np.empty_like(x)
    lib.gamma_erfc(pointer(x, x.size), pointer(out, x.size, True), x.size)
    return out


def described(curve: Any) -> Any:
    """A curve in C memory."""
    made = (
        getattr(lib, f"GAMMA_{curve.name}"),
        len(curve.curvature),
        curve.narrow,
        curve.breaks,
        curve.curvature,
        curve.stationary,
        curve.image,
        *curve.errors,
        *curve.parallel,
        *curve.lean,
    )
    return ffi.new("struct gamma_curve *", made)


def image(curve: Any, lower: Float64, upper: Float64, floor: Float64, ceiling: Float64) -> None:
    n = lower.size
    lib.gamma_image(
        described(curve),
        pointer(lower, n),
        pointer(upper, n),
        pointer(floor, n, True),
        pointer(ceiling, n, True),
        n,
    )


def lines(
    curve: Any,
    lower: Float64,
    upper: Float64,
    floor: Float64,
    ceiling: Float64,
    slopes: tuple[Float64 | None, Float64 | None],
    out: Float64,
    threads: int,
) -> None:
    n = lower.size
    lib.gamma_lines(
        described(curve),
        pointer(lower, n),
        pointer(upper, n),
        pointer(floor, n),
        pointer(ceiling, n),
        *(ffi.NULL if slope is None else pointer(slope, n) for slope in slopes),
        pointer(out, 4 * n, True),
        n,
        threads,
    )


def parallel_lines(curve: Any, parts: tuple[Float64, ...], out: Float64, threads: int) -> None:
    n = out.shape[-1]
    groups = out.size // max(1, 4 * n)
    lib.gamma_parallel_lines(
        described(curve),
        *(pointer(part, groups * n) for part in parts),
        pointer(out, 4 * groups * n, True),
        pointer(np.empty(4 * n), 4 * n, True),
        groups,
        n,
        threads,
    )


def interval_mul(al: Array, au: Array, bl: Array, bu: Array, lower: Array, upper: Array) -> None:
    n = al.size
    pick("interval_mul", al)(
        pointer(al, n),
        pointer(au, n),
        pointer(bl, n),
        pointer(bu, n),
        pointer(lower, n, True),
        pointer(upper, n, True),
        n,
    )


def safe_mul_add(
    al: Array, au: Array, bl: Array, bu: Array, cl: Array, cu: Array, lower: Array, upper: Array
) -> None:
    n = al.size
    pick("safe_mul_add", al)(
        pointer(al, n),
        pointer(au, n),
        pointer(bl, n),
        pointer(bu, n),
        pointer(cl, n),
        pointer(cu, n),
        pointer(lower, n, True),
        pointer(upper, n, True),
        n,
    )


def pos_neg_split(x: Array, positive: Array, negative: Array) -> None:
    n = x.size
    pick("pos_neg_split", x)(
        pointer(x, n), pointer(positive, n, True), pointer(negative, n, True), n
    )


def step(x: Array, out: Array, up: bool) -> None:
    pick("step", x)(pointer(x, x.size), pointer(out, x.size, True), x.size, up)


def narrow(x: Float64, out: npt.NDArray[np.float32], up: bool) -> None:
    lib.gamma_narrow(pointer(x, x.size), pointer(out, x.size, True), x.size, up)


def midpoint(lower: Float64, upper: Float64, out: Float64) -> None:
    n = lower.size
    lib.gamma_midpoint(pointer(lower, n), pointer(upper, n), pointer(out, n, True), n)


def radius_about(lower: Float64, upper: Float64, centre: Float64, out: Float64) -> None:
    n = lower.size
    lib.gamma_radius_about(
        pointer(lower, n), pointer(upper, n), pointer(centre, n), pointer(out, n, True), n
    )


def dot(x: Array, y: Array) -> float:
    return float(pick("dot", x)(pointer(x, x.size), pointer(y, x.size), x.size))


def sum(x: Array) -> float:
    return float(pick("sum", x)(pointer(x, x.size), x.size))


def f16_down(x: npt.NDArray[np.float32], out: npt.NDArray[np.uint16]) -> None:
    lib.gamma_f16_down(pointer(x, x.size), pointer(out, x.size, True), x.size)


def f16_up(x: npt.NDArray[np.float32], out: npt.NDArray[np.uint16]) -> None:
    lib.gamma_f16_up(pointer(x, x.size), pointer(out, x.size, True), x.size)


def f16_to_f32(x: npt.NDArray[np.uint16], out: npt.NDArray[np.float32]) -> None:
    lib.gamma_f16_to_f32(pointer(x, x.size), pointer(out, x.size, True), x.size)
