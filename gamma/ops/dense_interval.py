"""Interval propagation through dense layers: one C call, tiles or two BLAS products, by size."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.ops.affine import cast_bytes, cast_weight
from gamma.ops.affine_interval import stepped
from gamma.ops.bounds import NodeBounds
from gamma.runtime import choices
from gamma.tensor import kernels, rounding

if TYPE_CHECKING:
    from gamma.ops.linear import Gemm
    from gamma.ops.tables import Precision

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
# Inputs of a layer that are 0 in all boxes are left out when at most this share is live, and there
# are enough of them to look.
_LIVE, _SOME_TERMS = 0.8, 128
_ROWS = 16
_WIDE = np.dtype(np.float64)


def fused(op: Gemm, inputs: Sequence[NodeBounds], dtype: npt.DTypeLike) -> NodeBounds | None:
    """The linear rule, in one call of the C library."""
    x = inputs[0]
    if x.lower.ndim != 2 or op.weight_error is not None:
        return None
    weight, bias, row_sum, factors = constants_of(op)
    if few_boxes(op, len(x.lower)):
        done = kernels.dense_interval(weight, bias, row_sum, x.lower, x.upper, x.centre, factors)
    elif in_tiles(op):
        kind = np.dtype(np.float32 if _single(op, dtype) else np.float64)
        forward = op.cached("forward", lambda: _transposed(op, np.float64, False, True))
        sizes = op.cached(f"forward.{kind.char}", lambda: _transposed(op, kind, True, True))
        made_up = _made_up_by(op.terms) if kind == np.float32 else (1.0, 0.0)
        live = _LIVE if tuning.enabled("compress") else -1.0
        lower, upper, centre = map(np.ascontiguousarray, (x.lower, x.upper, x.centre))
        done = kernels.dense_boxes(
            forward, sizes, bias, row_sum, lower, upper, centre, (*factors, *made_up, live)
        )
    else:
        done = None
    return None if done is None else stepped(*done, op.name)


def copies(op: Gemm, how: Precision, boxes: int, shape: tuple[int, ...]) -> dict[Hashable, int]:
    """`Operator.copies` of the interval step, by the way that it takes; not of its gates."""
    m, n = op.weight.shape
    found = cast_bytes(op.weight, op.weight.dtype) | op.stray_copies(how)  # for sums of its rows
    single = _single(op, how.dtype)
    kind = np.dtype(np.float32 if single else np.float64)
    sizes = m * n * kind.itemsize
    if how.guarantee == "float32":  # for what an execution strays by
        found = found | {"weight.d.abs": m * n * 8}
    if len(shape) > 1:
        return found | cast_bytes(op.weight, _WIDE) | {f"weight.{kind.char}.abs": sizes}
    if few_boxes(op, boxes):
        return found
    if in_tiles(op) and how.guarantee == "real" and not op.inexact:
        wide, narrow = (n * kernels.padded(m, t) * t.itemsize for t in (_WIDE, kind))
        return found | {"forward": wide, f"forward.{kind.char}": narrow}
    return found | {"transposed": m * n * 8, f"transposed.abs.{single}": sizes}


def constants_of(op: Gemm) -> tuple[Array, Float64 | None, Float64, tuple[float, float]]:
    """What the step needs of the weight's rows, made once: see `_constants`."""
    return op.cached("dense.interval", partial(_constants, op))  # type: ignore[no-any-return]


def _constants(op: Gemm) -> tuple[Array, Float64 | None, Float64, tuple[float, float]]:
    """Weight as stored; bias and Σ|W| per row (rounded up) in float64; γ of sums, uncertainty."""
    weight = cast_weight(op, op.weight, "weight", op.weight.dtype, False)
    step = max(1, (1 << 20) // max(1, 8 * weight.shape[1]))  # a large weight is never cast whole
    parts = [
        abs(weight[start : start + step].astype(np.float64)).sum(axis=1)
        for start in range(0, len(weight), step)
    ]
    total = np.concatenate(parts) * (1 + 2.0**-20)
    bias = None if op.bias is None else np.ascontiguousarray(op.bias, dtype=np.float64)
    return weight, bias, total, (rounding.gamma_factor(op.terms + 4, np.float64), op.uncertainty)


def few_boxes(op: Gemm, count: int) -> bool:
    """Whether a dense layer's weight is read once for ``count`` boxes, not multiplied twice."""
    dtype = "d" if op.weight.itemsize == 8 else "f"
    return choices.choose("interval.dense", dtype, count) == "fused"


def in_tiles(op: Gemm) -> bool:
    """Whether a dense layer's interval step over many boxes is one call, on one thread."""
    size = op.weight.size
    return tuning.enabled("fused_boxes") and choices.choose("interval.boxes", "", size) == "tiled"


def products(
    op: Gemm, centres: Sequence[Float64], radii: Sequence[Float64], dtype: npt.DTypeLike
) -> tuple[Float64, Float64]:
    """`gamma.ops.affine_interval.products` of a dense layer.

    With ``dtype`` float32 the products of radii are rounded in float32 and made up for.
    """
    single, flat = _single(op, dtype), centres[0].ndim == 2
    if flat and few_boxes(op, len(centres[0])):
        if tuning.enabled("fused_interval"):
            weight = cast_weight(op, op.weight, "weight", op.weight.dtype, False)
            return kernels.interval_affine(weight, centres[0], radii[0])
    elif flat and tuning.enabled("fused_layers"):
        return _dense_products(op, centres[0], radii[0], single)
    if not single:
        return op.linear(centres), op.linear(radii, absolute=True)
    narrowed = [kernels.narrow_up(r) for r in radii]
    return op.linear(centres), _made_up(op.linear(narrowed, absolute=True), op.terms)


def _single(op: Gemm, dtype: npt.DTypeLike) -> bool:
    """Whether radii are multiplied in float32; images lose more by the narrowing than they gain."""
    return (
        np.dtype(dtype) == np.float32
        and op.exact_in(np.float32)
        and tuning.enabled("narrow_spread")
    )


def _dense_products(
    op: Gemm, centre: Float64, radius: Float64, single: bool
) -> tuple[Float64, Float64]:
    """`_products` of many boxes; entries of the input that are 0 in all of them are left out."""
    weight = op.cached("transposed", lambda: _transposed(op, np.float64, False))
    kind = np.float32 if single else np.float64
    size = op.cached(f"transposed.abs.{single}", lambda: _transposed(op, kind, True))
    if tuning.enabled("compress") and op.terms >= _SOME_TERMS:
        live = radius.max(axis=0) != 0
        if np.count_nonzero(live) <= _LIVE * len(live):
            live |= centre.any(axis=0)
            kept = np.flatnonzero(live)
            weight, size = np.take(weight, kept, axis=0), np.take(size, kept, axis=0)
            centre, radius = np.take(centre, kept, axis=1), np.take(radius, kept, axis=1)
    if not single:
        return np.matmul(centre, weight), np.matmul(radius, size)
    reach = kernels.narrow_up(radius)
    return np.matmul(centre, weight), _made_up(np.matmul(reach, size), op.terms)


def _transposed(op: Gemm, dtype: npt.DTypeLike, absolute: bool, padded: bool = False) -> Array:
    """The weight as (in, out) in ``dtype``: rows of dead inputs are left out without a search."""
    m, n = op.weight.shape
    turned = np.zeros((n, kernels.padded(m, np.dtype(dtype)) if padded else m), dtype)
    for start in range(0, m, _ROWS):  # so many lines of the weight stay in cache while it turns
        turned[:, start : start + _ROWS][:, : m - start] = op.weight[start : start + _ROWS].T
    return np.abs(turned, out=turned) if absolute else turned


def _made_up(spread: Array, n: int) -> Float64:
    """A float32 sum of n products >= 0, so enlarged that it is not below the exact sum."""
    factor, least = _made_up_by(n)
    wide: Float64 = np.multiply(spread, factor, dtype=np.float64)
    wide += least
    return wide


def _made_up_by(n: int) -> tuple[float, float]:
    """Factor and addend of `_made_up`."""
    return (1 + rounding.gamma_factor(n + 1, np.float32)) * (1 + 2.0**-50), n * 2.0**-148
