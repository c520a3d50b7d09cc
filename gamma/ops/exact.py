"""Constants joined without any rounding: what fusing two operators is allowed to do."""

from __future__ import annotations

import numpy as np

from gamma.ops.base import Array


def narrow(array: Array) -> Array:
    """The same numbers in float32 when all of them are float32 numbers."""
    if array.dtype != np.float64:
        return array
    with np.errstate(over="ignore", under="ignore"):
        small = array.astype(np.float32)
    return small if bool((small == array).all()) else array


def exact_sum(a: Array | None, b: Array | None) -> Array | None:
    """a + b (broadcast) when float64 holds it exactly, else None; an absent operand is zero."""
    if a is None or b is None:
        return b if a is None else a
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        total = x + y
        part = total - x
        lost = (x - (total - part)) + (y - part)  # TwoSum
    return narrow(total) if bool((lost == 0).all() and np.isfinite(total).all()) else None


def exact_product(a: Array, b: Array) -> Array | None:
    """a · b (broadcast) when it is exact: float32 factors, whose product fits float64."""
    x, y = narrow(a), narrow(b)
    if x.dtype != np.float32 or y.dtype != np.float32:
        return None
    return narrow(x.astype(np.float64) * y.astype(np.float64))


def along_axis(values: Array, axis: int, length: int) -> Array | None:
    """Values (length,) when the array broadcasts as one number per entry of ``axis`` (from the
    end, negative), else None."""
    if values.size == 1:
        return np.full(length, values.reshape(-1)[0])
    if values.ndim < -axis or values.shape[axis] != values.size or values.size != length:
        return None
    return values.reshape(-1)
