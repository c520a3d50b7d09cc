"""Tangent, hyperbolic functions and their inverses."""

from __future__ import annotations

import math

import numpy as np

from gamma.ops.base import Array, Float64
from gamma.ops.elementwise import Elementwise
from gamma.ops.relaxation import TINY, VALUE_ERROR, Lines, relax

# pi/2 and pi, rounded up.
_QUARTER = math.nextafter(math.pi / 2, 2.0)
_HALF = math.nextafter(math.pi, 4.0)


class Tan(Elementwise):
    """tan(x); lines between the poles next to 0, the image of an interval between other poles."""

    breaks = (0.0,)
    curvature = (-1, 1)
    float32_error = (2.0**-20, 2.0**-20, 0.0)

    def function(self, x: Array) -> Array:
        return np.tan(x)

    def derivative(self, x: Array) -> Array:
        result: Array = 1 + np.square(np.tan(x))
        return result

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        with np.errstate(all="ignore"):
            # Ends about one multiple of pi, and no nearer to a pole than its rounding can be.
            middle = np.pi * np.rint(0.5 * (lower + upper) / np.pi)
            room = np.pi / 2 - 2.0**-40 * (1 + abs(lower) + abs(upper))
            whole = (lower > middle - room) & (upper < middle + room)
            whole &= abs(lower) + abs(upper) < 2.0**20
            low, high = self.function(lower), self.function(upper)
            low = low - (VALUE_ERROR * abs(low) + TINY)
            high = high + (VALUE_ERROR * abs(high) + TINY)
        return np.where(whole, low, -np.inf), np.where(whole, high, np.inf)

    def lines(self, lower: Float64, upper: Float64, dtype: object) -> Lines:
        low, high = self.interval(lower, upper)
        near = np.isfinite(low) & (abs(lower) < np.pi / 2) & (abs(upper) < np.pi / 2)
        inside = np.where(near, lower, 0.5), np.where(near, upper, 0.5)
        found = relax(self, *inside, dtype)  # type: ignore[arg-type]
        zero = np.zeros_like(low)
        return Lines(
            np.where(near, found.lower_slope, zero),
            np.where(near, found.lower_intercept, low),
            np.where(near, found.upper_slope, zero),
            np.where(near, found.upper_intercept, high),
        )


class Atan(Elementwise):
    c_name = "ATAN"
    breaks = (0.0,)
    curvature = (1, -1)
    image = (-_QUARTER, _QUARTER)

    def function(self, x: Array) -> Array:
        return np.arctan(x)

    def derivative(self, x: Array) -> Array:
        return 1 / (1 + x * x)


class Asin(Elementwise):
    breaks = (0.0,)
    curvature = (-1, 1)
    image = (-_QUARTER, _QUARTER)
    domain = (math.nextafter(-1.0, -2.0), math.nextafter(1.0, 2.0))

    def function(self, x: Array) -> Array:
        return np.arcsin(x)

    def derivative(self, x: Array) -> Array:
        result: Array = 1 / np.sqrt((1 - x) * (1 + x))
        return result


class Acos(Elementwise):
    breaks = (0.0,)
    curvature = (1, -1)
    direction = -1
    image = (0.0, _HALF)
    domain = Asin.domain

    def function(self, x: Array) -> Array:
        return np.arccos(x)

    def derivative(self, x: Array) -> Array:
        result: Array = -1 / np.sqrt((1 - x) * (1 + x))
        return result


class Sinh(Elementwise):
    breaks = (0.0,)
    curvature = (-1, 1)
    float32_error = (2.0**-18, 2.0**-20, 0.0)  # exp(x + log(1/2)) rounds its argument

    def float32_peak(self, reach: Float64) -> Float64:
        return np.exp(reach)

    def function(self, x: Array) -> Array:
        return np.sinh(x)

    def derivative(self, x: Array) -> Array:
        return np.cosh(x)


class Cosh(Elementwise):
    curvature = (1,)
    direction = 0
    stationary = (0.0,)
    image = (1.0, math.inf)
    float32_error = (2.0**-18, 2.0**-20, 0.0)  # exp(x + log(1/2)) rounds its argument

    def float32_peak(self, reach: Float64) -> Float64:
        return np.exp(reach)

    def function(self, x: Array) -> Array:
        return np.cosh(x)

    def derivative(self, x: Array) -> Array:
        return np.sinh(x)


class Asinh(Elementwise):
    breaks = (0.0,)
    curvature = (1, -1)

    def float32_peak(self, reach: Float64) -> Float64:
        return reach * reach + 1  # log(|x| + sqrt(x² + 1))

    def function(self, x: Array) -> Array:
        return np.arcsinh(x)

    def derivative(self, x: Array) -> Array:
        result: Array = 1 / np.hypot(x, x.dtype.type(1))
        return result


class Acosh(Elementwise):
    curvature = (-1,)
    image = (0.0, math.inf)
    domain = (math.nextafter(1.0, 0.0), math.inf)

    def float32_peak(self, reach: Float64) -> Float64:
        return reach * reach

    def function(self, x: Array) -> Array:
        return np.arccosh(x)

    def derivative(self, x: Array) -> Array:
        result: Array = 1 / np.sqrt((x - 1) * (x + 1))
        return result


class Atanh(Elementwise):
    breaks = (0.0,)
    curvature = (-1, 1)
    domain = (-1.0, 1.0)

    def function(self, x: Array) -> Array:
        return np.arctanh(x)

    def derivative(self, x: Array) -> Array:
        result: Array = 1 / ((1 - x) * (1 + x))
        return result
