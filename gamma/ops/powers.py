"""Square root, reciprocal and powers with a constant exponent."""

from __future__ import annotations

import math

import numpy as np

from gamma.ops.base import Array, Float64
from gamma.ops.elementwise import ROUNDED, Elementwise
from gamma.ops.relaxation import TINY


class Sqrt(Elementwise):
    curvature = (-1,)
    image = (0.0, math.inf)
    floor = 0.0
    domain = (-TINY, math.inf)
    float32_error = ROUNDED

    def function(self, x: Array) -> Array:
        return np.sqrt(x)

    def derivative(self, x: Array) -> Array:
        return 0.5 / np.sqrt(x)


class Reciprocal(Elementwise):
    breaks = (0.0,)
    curvature = (-1, 1)
    float32_error = (2.0**-22, 2.0**-148, 0.0)

    def function(self, x: Array) -> Array:
        return 1 / x

    def derivative(self, x: Array) -> Array:
        return -1 / (x * x)

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        low, high = super().interval(lower, upper)
        pole = (lower <= 0) & (upper >= 0)
        return np.where(pole, -np.inf, low), np.where(pole, np.inf, high)


class Pow(Elementwise):
    """x ** exponent with a constant exponent, not 0, 1."""

    exponent: float = 2.0
    stationary = (0.0,)
    float32_error = (2.0**-20, 2.0**-125, 0.0)

    @property
    def _whole(self) -> bool:
        return float(self.exponent).is_integer()

    @property
    def breaks(self) -> tuple[float, ...]:  # type: ignore[override]
        return (0.0,) if self._whole else ()

    @property
    def curvature(self) -> tuple[int, ...]:  # type: ignore[override]
        p = self.exponent
        if not self._whole:
            return (-1,) if 0 < p < 1 else (1,)
        return (1, 1) if p % 2 == 0 else (-1, 1)

    @property
    def floor(self) -> float:  # type: ignore[override]
        return 0.0 if self.exponent % 2 == 0 else -math.inf

    def function(self, x: Array) -> Array:
        if self.exponent == 2.0:
            return x * x
        result: Array = np.power(x, x.dtype.type(self.exponent))
        return result

    def derivative(self, x: Array) -> Array:
        p = x.dtype.type(self.exponent)
        result: Array = p * np.power(x, p - x.dtype.type(1))
        return result

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        low, high = super().interval(lower, upper)
        if not self._whole:
            lost = lower < 0 if self.exponent > 0 else lower <= 0
        elif self.exponent < 0:
            lost = (lower <= 0) & (upper >= 0)
        else:
            lost = np.zeros(lower.shape, bool)
            low = np.maximum(low, 0.0) if self.exponent % 2 == 0 else low
        return np.where(lost, -np.inf, low), np.where(lost, np.inf, high)
