"""S-shaped activations: the logistic function, tanh, the error function."""

from __future__ import annotations

import math

import numpy as np

from gamma.ops.base import Array
from gamma.ops.elementwise import Elementwise
from gamma.tensor import kernels


def logistic(x: Array) -> Array:
    """1/(1 + exp(-x)), without overflow."""
    small = np.exp(-abs(x))
    result: Array = np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)
    return result


def bell(x: Array) -> Array:
    """The sigmoid's derivative."""
    small = np.exp(-abs(x))
    result: Array = small / ((1 + small) * (1 + small))
    return result


class Sigmoid(Elementwise):
    breaks = (0.0,)
    c_name = "SIGMOID"
    curvature = (1, -1)
    image = (0.0, 1.0)

    def function(self, x: Array) -> Array:
        return logistic(x)

    def derivative(self, x: Array) -> Array:
        return bell(x)


class Tanh(Elementwise):
    breaks = (0.0,)
    c_name = "TANH"
    shrinks = True
    curvature = (1, -1)
    image = (-1.0, 1.0)

    def function(self, x: Array) -> Array:
        return np.tanh(x)

    def derivative(self, x: Array) -> Array:
        return 4 * bell(2 * x)


class Erf(Elementwise):
    breaks = (0.0,)
    c_name = "ERF"
    curvature = (1, -1)
    image = (-1.0, 1.0)

    def function(self, x: Array) -> Array:
        return kernels.erf(np.ascontiguousarray(x, np.float64)).reshape(x.shape).astype(x.dtype)

    def derivative(self, x: Array) -> Array:
        result: Array = x.dtype.type(2 / math.sqrt(math.pi)) * np.exp(-x * x)
        return result
