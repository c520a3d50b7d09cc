"""Outward rounding: the one place where gamma moves a number to its safe side.

``down`` and ``up`` move one step after a correctly rounded operation; ``to_down`` and ``to_up``
narrow float64 to float32; ``gamma_factor`` is Higham's γ_n, rounded up. Symbols: u = unit roundoff.
The steps themselves are kernels, the same bits on every instruction set.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.tensor import kernels

U32 = 2.0**-24
U64 = 2.0**-53

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


def next_up(x: float) -> float:
    """The least float64 above x."""
    return math.nextafter(x, math.inf)


def next_down(x: float) -> float:
    """The greatest float64 below x."""
    return math.nextafter(x, -math.inf)


def fraction_up(value: Fraction) -> float:
    """The least float64 >= value (inf beyond the largest)."""
    try:
        result = value.numerator / value.denominator  # correctly rounded by Python
    except OverflowError:
        return np.inf if value > 0 else -np.finfo(np.float64).max
    return next_up(result) if Fraction(result) < value else result


def fraction_down(value: Fraction) -> float:
    """The greatest float64 <= value (-inf beyond the largest)."""
    return -fraction_up(-value)


def fraction_near(value: Fraction) -> float:
    """The nearest float64, infinite beyond the largest; no bound."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


@lru_cache(maxsize=4096)
def gamma_factor(n: int, dtype: npt.DTypeLike = np.float32) -> float:
    """γ_n = n·u/(1 − n·u) of ``dtype``, rounded up to float64; inf when n·u >= 1."""
    unit = Fraction(U32) if np.dtype(dtype) == np.float32 else Fraction(U64)
    if n * unit >= 1:
        return float(np.inf)
    return fraction_up(n * unit / (1 - n * unit))


def _floats(x: npt.ArrayLike) -> Array:
    array = np.asarray(x, order="C")
    if array.dtype in (np.float32, np.float64):
        return array
    return array.astype(np.float64)  # integers and float16


def down(x: npt.ArrayLike) -> Array:
    """One step towards -inf in x's own dtype (float64 if it is neither float); NaN becomes -inf."""
    return kernels.step_down(_floats(x))


def up(x: npt.ArrayLike) -> Array:
    """One step towards +inf in x's own dtype (float64 if it is neither float); NaN becomes +inf."""
    return kernels.step_up(_floats(x))


def _wide(x: npt.ArrayLike) -> Float64:
    return np.asarray(x, dtype=np.float64, order="C")


def to_down(x: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> Array:
    """The greatest number of ``dtype`` <= x (x itself when representable); NaN becomes -inf."""
    wide = _wide(x)
    if np.dtype(dtype) == np.float32:
        return kernels.narrow_down(wide)
    return np.fmax(wide, -np.inf)


def to_up(x: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> Array:
    """The least number of ``dtype`` >= x (x itself when representable); NaN becomes +inf."""
    wide = _wide(x)
    if np.dtype(dtype) == np.float32:
        return kernels.narrow_up(wide)
    return np.fmin(wide, np.inf)


def midpoint(lower: npt.ArrayLike, upper: npt.ArrayLike) -> Float64:
    """A finite float64 between ``lower`` and ``upper``: near the middle, or near 0 if unbounded."""
    return kernels.midpoint(*_together(_wide(lower), _wide(upper)))


def radius_about(lower: npt.ArrayLike, upper: npt.ArrayLike, centre: npt.ArrayLike) -> Float64:
    """float64 r >= max(upper − centre, centre − lower, 0); 0 for a point; NaN becomes +inf."""
    # A zero difference of floats is exact (gradual underflow), so a point keeps radius 0.
    return kernels.radius_about(*_together(_wide(lower), _wide(upper), _wide(centre)))


def _together(*arrays: Float64) -> tuple[Float64, ...]:
    """The arrays broadcast to one shape."""
    if all(array.shape == arrays[0].shape for array in arrays):
        return arrays
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    return tuple(
        array if array.shape == shape else np.array(np.broadcast_to(array, shape), order="C")
        for array in arrays
    )


def two_sum(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """a + b exactly, as a rounded sum and what it lost."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """a · b exactly, as a rounded product and what it lost (no factor near the range's ends)."""
    product = a * b
    (p, q), (r, s) = _halves(a), _halves(b)
    return product, q * s - (((product - p * r) - q * r) - p * s)


def _halves(a: Float64) -> tuple[Float64, Float64]:
    """Two numbers of 26 bits with the sum a (Veltkamp)."""
    large = a * (2.0**27 + 1)
    high = large - (large - a)
    return high, a - high
