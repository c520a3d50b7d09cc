"""Activations that multiply their argument by a gate: GELU, SiLU (Swish), HardSwish."""

from __future__ import annotations

import math

import numpy as np

from gamma.ops.base import Array, Float64
from gamma.ops.elementwise import Elementwise
from gamma.ops.sigmoids import bell, logistic
from gamma.tensor import kernels

# Extremes and inflections, to float64 accuracy (tests check the sign changes around them).
_GELU_MINIMUM = -0.7517915246935645
_TANH_GELU_MINIMUM = -0.7524614220710162
_TANH_GELU_INFLECTION = 1.4185040087908284
_SILU_MINIMUM = -1.2784645427610738
_SILU_INFLECTION = 2.3993572805154676


class Gelu(Elementwise):
    """x·Φ(x); ``approximate`` "none" (exact, by erfc) or "tanh" (its usual tanh formula)."""

    approximate: str = "none"
    slope_error = 2.0**-44
    # The gate's absolute error is multiplied by x, and so are the roundings around it.
    float32_error = (2.0**-20, 2.0**-126, 2.0**-19)
    shrinks = True
    curvature = (-1, 1, -1)

    @property
    def absolute_error(self) -> float:  # type: ignore[override]
        # A rounded argument costs more than VALUE_ERROR relatively where it is large. That of erfc
        # costs 2z²u: from x = -22 on, where the function is below 2^-360. That of the sigmoid,
        # some five roundings of it: from -128 on, where it is below 2^-181, and not by 2^-42.
        return 2.0**-300 if self.approximate == "none" else 2.0**-220

    @property
    def c_name(self) -> str:  # type: ignore[override]
        return "GELU" if self.approximate == "none" else "GELU_TANH"

    def float32_peak(self, reach: Float64) -> Float64:
        return reach if self.approximate == "none" else reach * reach * reach + reach

    @property
    def breaks(self) -> tuple[float, ...]:  # type: ignore[override]
        edge = math.sqrt(2.0) if self.approximate == "none" else _TANH_GELU_INFLECTION
        return (-edge, edge)

    @property
    def stationary(self) -> tuple[float, ...]:  # type: ignore[override]
        return (_GELU_MINIMUM if self.approximate == "none" else _TANH_GELU_MINIMUM,)

    @property
    def image(self) -> tuple[float, float]:  # type: ignore[override]
        return (-0.16997121 if self.approximate == "none" else -0.1700408, math.inf)

    @property
    def third(self) -> float:  # type: ignore[override]
        # φ(x)·(x³ - 4x) is largest, 0.7788, where x⁴ - 7x² + 4 = 0.
        return 0.78 if self.approximate == "none" else math.inf

    def second(self, x: Float64) -> Float64:
        result: Float64 = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi) * (2 - x * x)
        return result

    def function(self, x: Array) -> Array:
        wide = np.asarray(x, np.float64)
        if self.approximate == "tanh":
            return (wide * logistic(2 * _tanh_gelu_argument(wide))).astype(x.dtype)
        tail = kernels.erfc(np.ascontiguousarray(wide * -math.sqrt(0.5))).reshape(x.shape)
        return (0.5 * wide * tail).astype(x.dtype)

    def derivative(self, x: Array) -> Array:
        wide = np.asarray(x, np.float64)
        if self.approximate == "tanh":
            inner = 2 * _tanh_gelu_argument(wide)
            steep = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * wide * wide)
            low, high = logistic(inner), logistic(-inner)
            return (low + wide * low * high * steep).astype(x.dtype)
        cdf = 0.5 * kernels.erfc(np.ascontiguousarray(wide * -math.sqrt(0.5))).reshape(x.shape)
        density = np.exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
        return (cdf + wide * density).astype(x.dtype)


def _tanh_gelu_argument(x: Array) -> Array:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)


class Silu(Elementwise):
    """x·sigmoid(x), also called Swish."""

    c_name = "SILU"
    breaks = (-_SILU_INFLECTION, _SILU_INFLECTION)
    shrinks = True
    curvature = (-1, 1, -1)
    stationary = (_SILU_MINIMUM,)
    image = (-0.27846455, math.inf)
    slope_error = 2.0**-44
    # x·sigmoid(x) multiplies the sigmoid's absolute error by x (onnxruntime's is 0 below -18);
    # x/(1 + exp(-x)) is -0 as soon as exp overflows, where the function is still -2^-121.
    float32_error = (2.0**-20, 2.0**-119, 2.0**-19)

    def function(self, x: Array) -> Array:
        return x * logistic(x)

    def derivative(self, x: Array) -> Array:
        result: Array = logistic(x) + x * bell(x)
        return result


class HardSwish(Elementwise):
    """x·max(0, min(1, x/6 + 1/2))."""

    breaks = (-3.0, 3.0)
    shrinks = True
    curvature = (0, 1, 0)
    stationary = (-1.5,)
    image = (-0.375, math.inf)
    slope_error = 2.0**-48
    float32_error = (2.0**-22, 2.0**-126, 2.0**-22)

    def float32_peak(self, reach: Float64) -> Float64:
        return 6 * reach + 3  # x·min(max(x + 3, 0), 6)/6: the product comes before the division

    def function(self, x: Array) -> Array:
        result: Array = (
            x * np.clip(x + x.dtype.type(3), x.dtype.type(0), x.dtype.type(6)) / x.dtype.type(6)
        )
        return result

    def derivative(self, x: Array) -> Array:
        middle = (2 * x + 3) / 6
        return np.where(x < -3, 0.0, np.where(x > 3, 1.0, middle)).astype(x.dtype)
