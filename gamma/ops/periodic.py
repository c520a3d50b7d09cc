"""Sine and cosine: the breaks and extremes move with the interval."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from gamma.ops.base import Array, Float64
from gamma.ops.elementwise import Elementwise
from gamma.ops.relaxation import TINY, Piece

# Longer intervals are bounded by the constants ±1.
_LONGEST = 2 * math.pi


class Sin(Elementwise):
    """sin(x)."""

    phase: ClassVar[float] = 0.0  # zeros (inflections) at phase + k·pi; convex below the first
    image = (-1.0, 1.0)
    absolute_error = 2.0**-46
    slope_error = 2.0**-46
    float32_error = (2.0**-20, 2.0**-20, 2.0**-24)

    def function(self, x: Array) -> Array:
        return np.sin(x)

    def derivative(self, x: Array) -> Array:
        return np.cos(x)

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        with np.errstate(all="ignore"):
            a, b = self.function(lower), self.function(upper)
            error = self.absolute_error + TINY
            low, high = np.minimum(a, b) - error, np.maximum(a, b) + error
            for sign in (1.0, -1.0):
                # Extremes at phase + sign·pi/2 + 2·pi·k; widened, so that none is missed.
                slack = 2.0**-40 * (1 + np.maximum(abs(lower), abs(upper)))
                first = self.phase + sign * math.pi / 2
                k = np.ceil((lower - slack - first) / (2 * math.pi))
                inside = first + 2 * math.pi * k <= upper + slack
                if sign > 0:
                    high = np.where(inside, 1.0, high)
                else:
                    low = np.where(inside, -1.0, low)
        far = ~(np.maximum(abs(lower), abs(upper)) < 2.0**20)
        low, high = np.where(far, -1.0, low), np.where(far, 1.0, high)
        return np.maximum(low, -1.0), np.minimum(high, 1.0)

    def pieces(self, lower: Float64, upper: Float64) -> list[Piece]:
        start = np.floor((lower - self.phase) / math.pi)
        short = (upper - lower <= _LONGEST) & (np.maximum(abs(lower), abs(upper)) < 2.0**20)
        found = []
        for step in range(4):
            k = start + step
            # The first piece starts at the interval's own end: a rounded k may lie just above it.
            low = lower if step == 0 else np.maximum(lower, self.phase + k * math.pi)
            high = np.minimum(upper, self.phase + (k + 1) * math.pi)
            # Between zeros k and k + 1 the sine is concave for even k. Long intervals get a
            # piece without a usable tangent: the infinite end makes every line fail.
            bend = np.where(k % 2 == 0, -1.0, 1.0)
            low = np.where(short, low, lower)
            high = np.where(short, high, np.inf if step == 0 else -np.inf)
            if (low <= high).any():
                found.append(Piece(low, high, bend))
        return found


class Cos(Sin):
    """cos(x) = sin(x + pi/2)."""

    phase: ClassVar[float] = -math.pi / 2

    def function(self, x: Array) -> Array:
        return np.cos(x)

    def derivative(self, x: Array) -> Array:
        return -np.sin(x)
