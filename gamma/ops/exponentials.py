"""Exponential, logarithm, and the activations that are made of them: ELU, softplus."""

from __future__ import annotations

import math

import numpy as np

from gamma.ops.base import Array, Float64
from gamma.ops.elementwise import Elementwise
from gamma.ops.relaxation import Piece
from gamma.ops.sigmoids import logistic


class Exp(Elementwise):
    c_name = "EXP"
    curvature = (1,)
    image = (0.0, math.inf)
    float32_error = (2.0**-20, 2.0**-125, 0.0)

    def function(self, x: Array) -> Array:
        return np.exp(x)

    def derivative(self, x: Array) -> Array:
        return np.exp(x)


class Log(Elementwise):
    curvature = (-1,)
    domain = (0.0, math.inf)

    def function(self, x: Array) -> Array:
        return np.log(x)

    def derivative(self, x: Array) -> Array:
        return 1 / x


class Elu(Elementwise):
    alpha: float = 1.0
    breaks = (0.0,)
    curvature = (1, 0)

    @property
    def stationary(self) -> tuple[float, ...]:  # type: ignore[override]
        return (0.0,)

    @property
    def float32_error(self) -> tuple[float, float, float]:  # type: ignore[override]
        return (2.0**-20, 2.0**-20 * max(1.0, abs(self.alpha)), 0.0)

    def pieces(self, lower: Float64, upper: Float64) -> list[Piece]:
        sign = 1.0 if self.alpha >= 0 else -1.0
        return [Piece(p.low, p.high, p.curvature * sign) for p in super().pieces(lower, upper)]

    def function(self, x: Array) -> Array:
        alpha = x.dtype.type(self.alpha)
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, x.dtype.type(0))))

    def derivative(self, x: Array) -> Array:
        alpha = x.dtype.type(self.alpha)
        return np.where(x > 0, 1, alpha * np.exp(np.minimum(x, x.dtype.type(0)))).astype(x.dtype)


class Softplus(Elementwise):
    c_name = "SOFTPLUS"
    curvature = (1,)
    image = (0.0, math.inf)
    float32_error = (2.0**-20, 2.0**-20, 2.0**-22)

    def float32_peak(self, reach: Float64) -> Float64:
        return np.exp(reach)  # the standard spells it out: log(exp(x) + 1)

    def function(self, x: Array) -> Array:
        result: Array = np.maximum(x, x.dtype.type(0)) + np.log1p(np.exp(-abs(x)))
        return result

    def derivative(self, x: Array) -> Array:
        return logistic(x)
