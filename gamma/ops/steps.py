"""Functions that are constant between jumps: rounding to whole numbers.

Rounding is exact, in float64 as in float32. Between x - 1 and x (for floor) a line of slope 1 is
known for any interval; over short ones the least and the greatest value are better.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gamma.ops.base import Array, Float64
from gamma.ops.elementwise import EXACT, Elementwise
from gamma.ops.relaxation import Lines

# Where floats are whole numbers anyway and x - 1 is not exact.
_WHOLE = 2.0**52


class _Rounding(Elementwise):
    """x + below <= f(x) <= x + above."""

    below: ClassVar[float]
    above: ClassVar[float]
    curvature = (1,)  # any: its input's bounds decide how tight it is
    jumps = True
    float32_error = EXACT

    def derivative(self, x: Array) -> Array:
        return np.zeros_like(x)

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        return self._known(lower, upper, self.function(lower), self.function(upper))

    def lines(self, lower: Float64, upper: Float64, dtype: object) -> Lines:
        """The line of slope 1 where it is higher at the middle, constants elsewhere."""
        low, high = self.interval(lower, upper)
        with np.errstate(all="ignore"):
            middle = 0.5 * lower + 0.5 * upper
            usable = np.maximum(abs(lower), abs(upper)) < _WHOLE
            rises = usable & (middle + self.below > low)
            falls = usable & (middle + self.above < high)
        return Lines(
            rises.astype(np.float64),
            np.where(rises, self.below, low),
            falls.astype(np.float64),
            np.where(falls, self.above, high),
        )


class Floor(_Rounding):
    below = -1.0
    above = 0.0

    def function(self, x: Array) -> Array:
        return np.floor(x)


class Ceil(_Rounding):
    below = 0.0
    above = 1.0

    def function(self, x: Array) -> Array:
        return np.ceil(x)


class Round(_Rounding):
    """To the nearest whole number, halves to even ones."""

    below = -0.5
    above = 0.5

    def function(self, x: Array) -> Array:
        return np.rint(x)
