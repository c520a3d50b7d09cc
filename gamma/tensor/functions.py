"""Enclosures of increasing functions and of quotients.

Transcendental functions are evaluated in float64, widened by 2⁻⁴⁴ of their size and 2⁻¹⁰⁰⁰, and cut
to the function's range; the C library and NumPy err by a few ulp, 2⁻⁵⁰ of the value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor.rounding import down, up

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


class Monotone(Frozen, eq=True):
    """An increasing function: float64 evaluation good to 2⁻⁴⁴, and its range."""

    evaluate: Callable[[Float64], Float64]
    least: float
    most: float


def _sigmoid(x: Float64) -> Float64:
    # Either form alone loses the small tail; the halves meet at 0.
    tail = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, tail) / (1.0 + tail)


EXP = Monotone(np.exp, 0.0, np.inf)
TANH = Monotone(np.tanh, -1.0, 1.0)
SIGMOID = Monotone(_sigmoid, 0.0, 1.0)
SQRT = Monotone(np.sqrt, 0.0, np.inf)


def monotone(function: Monotone, lower: Array, upper: Array) -> tuple[Float64, Float64]:
    """float64 ends that enclose the function on [lower, upper]."""
    with np.errstate(all="ignore"):
        low = function.evaluate(lower.astype(np.float64))
        high = function.evaluate(upper.astype(np.float64))
        low = low - (np.abs(low) * 2.0**-44 + 2.0**-1000)
        high = high + (np.abs(high) * 2.0**-44 + 2.0**-1000)
    low, high = down(low), up(high)
    # A lower end of +inf (an overflow of exp) is only known to be at least the largest number.
    low = np.minimum(low, np.finfo(np.float64).max)
    return np.maximum(low, function.least), np.minimum(high, function.most)


def divide(al: Array, au: Array, bl: Array, bu: Array) -> tuple[Array, Array]:
    """[al, au] / [bl, bu], one step outward; the whole line where the divisor contains 0."""
    with np.errstate(all="ignore"):
        quotients = (al / bl, al / bu, au / bl, au / bu)
        lower = np.minimum(np.minimum(*quotients[:2]), np.minimum(*quotients[2:]))
        upper = np.maximum(np.maximum(*quotients[:2]), np.maximum(*quotients[2:]))
        zero = (bl <= 0) & (bu >= 0)
    infinity = al.dtype.type(np.inf)
    return np.where(zero, -infinity, down(lower)), np.where(zero, infinity, up(upper))
