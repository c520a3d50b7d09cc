"""Interval steps: products of centres and radii, and what makes bounds of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.runtime import pool
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import F64, FLOATS, check, padded, refuse

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
# Entries whose memory is not worth the pool's question whether it is.
_FEW = 1024


def interval_affine(W: Array, centre: Float64, radius: Float64) -> tuple[Float64, Float64]:
    """(W·centre, |W|·radius) with W read once, plain float64 sums (charge g64_n for each).

    W f (m, n); centre, radius float64 (B, n); both results float64 (B, m). For large B a BLAS
    product is faster.
    """
    if W.dtype not in FLOATS or W.ndim != 2:
        raise refuse("W", f"{W.dtype} {W.shape}", "float32 or float64 of shape (m, n)")
    m, n = W.shape
    B = centre.shape[0]
    check("W", W, W.dtype, (m, n))
    check("centre", centre, F64, (B, n))
    check("radius", radius, F64, (B, n))
    z, spread = np.empty((B, m)), np.empty((B, m))
    backend.current.interval_affine(W, centre, radius, z, spread)
    return z, spread


def dense_interval(
    W: Array,
    bias: Float64 | None,
    row_sum: Float64,
    lower: Float64,
    upper: Float64,
    centre: Float64,
    factors: tuple[float, float],
) -> tuple[Float64, int] | None:
    """Interval step of a dense layer in one call; None without the compiled library.

    Args:
        W: f (m, n). bias: float64 (m,) or None. row_sum: float64 (m,), at least Σ|W|.
        lower, upper, centre: float64 (B, n) of the input.
        factors: γ of float64 sums of n terms, relative uncertainty of W.

    Returns:
        float64 (5, B, m): centre, spread, noise, lower, upper as `gamma.propagate.interval` defines
        them; and how many ends contradict each other (0, or something is badly wrong).
    """
    if not backend.compiled:
        return None
    out = np.empty((5, len(lower), len(W)))
    return out, backend.current.dense_interval(W, bias, row_sum, lower, upper, centre, out, factors)


def dense_boxes(
    forward: Float64,
    sizes: Array,
    bias: Float64 | None,
    row_sum: Float64,
    lower: Float64,
    upper: Float64,
    centre: Float64,
    factors: tuple[float, float, float, float, float],
) -> tuple[Float64, int] | None:
    """`dense_interval` of many boxes by products; None without the compiled library.

    Args:
        forward: float64 (n, ·), Wᵀ. sizes: f (n, ·), |W|ᵀ, in the type that radii are multiplied
            in. Both `padded`.
        factors: those of `dense_interval`; factor and addend that make up for the rounding of sums
            with ``sizes``; the share of inputs that are not 0 up to which the others are left out.
    """
    if not backend.compiled:
        return None
    n, m = lower.shape[1], len(row_sum)
    check("forward", forward, F64, (n, padded(m, F64)))
    check("sizes", sizes, sizes.dtype, (n, padded(m, sizes.dtype)))
    out = pool.empty((5, len(lower), m), F64)
    args = (forward, sizes, bias, row_sum, lower, upper, centre)
    return out, backend.current.dense_boxes(*args, out, factors)


def interval_finish(
    z: Float64,
    spread: Float64,
    bias: Float64 | None,
    row_sum: Float64,
    centres: Sequence[Float64],
    factors: tuple[float, float],
) -> tuple[Float64, int] | None:
    """What an interval step does to its products; None without the compiled library.

    Args:
        z, spread: L·centre and |L|·radius, float64 (B, ...); overwritten by the centre of the
            result and its spread. bias: float64 of one box's entries, or None. row_sum: the same
            entries, at least |L|·1.
        centres: of the inputs, float64 (B, ...).
        factors: γ of float64 sums, relative uncertainty of L.

    Returns:
        float64 (3, B, ...): noise, lower, upper as `gamma.propagate.interval` defines them; and how
        many ends contradict each other (0, or something is badly wrong).
    """
    if not backend.compiled:
        return None
    found = largest(centres[0])
    for more in centres[1:]:
        found = np.maximum(found, largest(more))
    out = pool.empty((3, *z.shape), F64)
    return out, backend.current.finish(bias, row_sum, found, (z, spread, *out), factors)


def sum_interval(
    centres: Sequence[Float64],
    radii: Sequence[Float64],
    signs: Sequence[int],
    row_sum: Float64,
    factors: tuple[float, float],
) -> tuple[Float64, int] | None:
    """Interval step of Σ ±x_i in one call; None without the compiled library.

    Args:
        centres, radii: of each input, float64 (B, ...). signs: 1 or -1 for each.
        row_sum, factors: as in `interval_finish`.

    Returns:
        float64 (5, B, ...): centre, spread, noise, lower, upper; and how many ends contradict.
    """
    if not backend.compiled:
        return None
    for array in (*centres, *radii):
        check("centres and radii", array, F64, centres[0].shape)
    check("row_sum", row_sum, F64, centres[0].shape[1:])
    if not len(centres) == len(radii) == len(signs) > 0:
        raise refuse("signs", signs, f"one of each of {len(centres)} inputs")
    out = np.empty((5, *centres[0].shape))
    return out, backend.current.sum_interval(centres, radii, signs, row_sum, out, factors)


def largest(x: Float64) -> Float64:
    """At least max |x| of each box; x float64 (B, ...), result (B,)."""
    check("x", x, F64, x.shape)
    out = np.empty(len(x))
    backend.current.largest(x.reshape(len(x), -1), out)
    return out


def relu(lower: Float64, upper: Float64) -> Float64:
    """max(·, 0) of both ends, a point between them, the radius about it: float64 (4, *shape)."""
    check("lower", lower, F64, lower.shape)
    check("upper", upper, F64, lower.shape)
    shape = (4, *lower.shape)
    out = np.empty(shape) if lower.size < _FEW else pool.empty(shape, F64)
    backend.current.relu(lower, upper, out)
    return out
