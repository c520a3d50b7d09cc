"""Outward rounding: the one place where gamma moves a number to its safe side.

``down`` and ``up`` move one step after a correctly rounded operation; ``to_down`` and ``to_up``
narrow float64 to float32; ``gamma_factor`` is Higham's γ_n, rounded up. Symbols: u = unit roundoff.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

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


@lru_cache(maxsize=4096)
def _gamma_factor(n: int, unit: Fraction) -> float:
    if n * unit >= 1:
        return float(np.inf)
    return fraction_up(n * unit / (1 - n * unit))


def gamma_factor(n: int, dtype: npt.DTypeLike = np.float32) -> float:
    """γ_n = n·u/(1 − n·u) of ``dtype``, rounded up to float64; inf when n·u >= 1."""
    unit = Fraction(U32) if np.dtype(dtype) == np.float32 else Fraction(U64)
    return _gamma_factor(int(n), unit)


def down(x: npt.ArrayLike) -> Array:
    """One step towards -inf in x's own dtype; NaN becomes -inf."""
    return _step(np.asarray(x), -np.inf)


def up(x: npt.ArrayLike) -> Array:
    """One step towards +inf in x's own dtype; NaN becomes +inf."""
    return _step(np.asarray(x), np.inf)


def _step(values: Array, direction: float) -> Array:
    limit = values.dtype.type(direction)
    with np.errstate(all="ignore"):
        result = np.asarray(np.nextafter(values, limit))
    if np.isnan(result).any():
        result[np.isnan(result)] = limit
    return result


def to_down(x: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> Array:
    """The greatest number of ``dtype`` <= x (x itself when representable); NaN becomes -inf."""
    return _narrow(x, np.dtype(dtype), -np.inf)


def to_up(x: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> Array:
    """The least number of ``dtype`` >= x (x itself when representable); NaN becomes +inf."""
    return _narrow(x, np.dtype(dtype), np.inf)


def _narrow(x: npt.ArrayLike, dtype: np.dtype[Any], direction: float) -> Array:
    wide = np.asarray(x, dtype=np.float64)
    with np.errstate(all="ignore"):
        near = wide.astype(dtype)
        # A float32 overflow rounds to inf, which is on the wrong side of one of the two ends.
        wrong = near > wide if direction < 0 else near < wide
        result = np.where(wrong, np.nextafter(near, dtype.type(direction)), near)
    return np.where(np.isnan(result), dtype.type(direction), result)


def midpoint(lower: npt.ArrayLike, upper: npt.ArrayLike) -> Float64:
    """A finite float64 between ``lower`` and ``upper``: near the middle, or near 0 if unbounded."""
    low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    with np.errstate(all="ignore"):
        middle = 0.5 * low + 0.5 * high
    middle = np.where(np.isfinite(middle), middle, 0.0)
    # Halving may lose a bit of a subnormal: the middle may then step out of a point interval.
    return np.minimum(np.maximum(middle, low), high)


def radius_about(lower: npt.ArrayLike, upper: npt.ArrayLike, centre: npt.ArrayLike) -> Float64:
    """float64 r >= max(upper − centre, centre − lower), and r >= 0; NaN becomes +inf."""
    low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    middle = np.asarray(centre, dtype=np.float64)
    with np.errstate(all="ignore"):
        above, below = high - middle, middle - low
    widest = np.maximum(np.maximum(above, below), 0.0)
    # A zero difference of floats is exact (gradual underflow), so a point keeps radius 0.
    return np.where(widest == 0, 0.0, up(widest))
