"""Piecewise linear activations: ReLU and its relatives, clipping, absolute value, sign."""

from __future__ import annotations

import math

import numpy as np

from gamma.errors import UsageError
from gamma.ops.base import Array, Float64, Shape
from gamma.ops.elementwise import EXACT, ROUNDED, Elementwise
from gamma.ops.relaxation import TINY, Lines
from gamma.ops.tables import NodeSlopes

# Ends of a ReLU's input that lie so near to -1 times each other take the slope of those that do: no
# rounding decides it, and neurons of opposite sign (a - b, b - a) have the same.
EVEN = 1 + 2.0**-18


class Relu(Elementwise):
    shrinks = True
    breaks = (0.0,)
    curvature = (0, 0)
    image = (0.0, math.inf)
    hinge = True
    float32_error = EXACT

    def function(self, x: Array) -> Array:
        result: Array = np.maximum(x, x.dtype.type(0))
        return result

    def derivative(self, x: Array) -> Array:
        return (x > 0).astype(x.dtype)

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        low, high = np.maximum(lower, 0.0), np.maximum(upper, 0.0)
        return self._known(lower, upper, low, high)

    def lines(self, lower: Float64, upper: Float64, dtype: object) -> Lines:
        """Adaptive lower slope (1 where upper > -lower · EVEN), chord above; closed forms."""
        unstable = (lower < 0) & (upper > 0)
        active = lower >= 0
        lower_slope = self._below(lower, upper)
        with np.errstate(all="ignore"):
            chord = upper / (upper - lower)
        unbounded = unstable & ~(np.isfinite(lower) & np.isfinite(upper))
        chord = np.where(unstable & ~unbounded, chord, active).astype(dtype)  # type: ignore[call-overload]
        slope = np.minimum(chord.astype(np.float64), 1.0)
        low, high = np.where(unstable, lower, 0.0), np.where(unstable, upper, 0.0)
        with np.errstate(invalid="ignore"):
            intercept = np.maximum(-slope * low, high - slope * high)
            intercept = intercept * (1 + 2.0**-40) + 2.0**-1000 + 2.0**-50 * slope * high
        intercept = np.where(unstable, np.where(unbounded, np.inf, intercept), 0.0)
        return Lines(lower_slope, np.zeros_like(lower_slope), slope, intercept)

    def _below(self, lower: Float64, upper: Float64) -> Float64:
        kept = (lower >= 0) | ((upper > 0) & (upper > -lower * EVEN))
        return kept.astype(np.float64)

    def own_slopes(self, lower: Float64, upper: Float64, dtype: object) -> NodeSlopes:
        """Below: the chord above stays."""
        return NodeSlopes(self._below(lower, upper).reshape(len(lower), -1))

    def lines_of(self, slopes: NodeSlopes, lower: Float64, upper: Float64, dtype: object) -> Lines:
        """Given slopes for the neurons that cross 0; the others are exact.

        max(x, 0) - s·x is convex: it is least at 0 or an end, and greatest at an end.
        """
        own = self.lines(lower, upper, dtype)
        bounded = (lower < 0) & (upper > 0) & np.isfinite(lower) & np.isfinite(upper)
        low, high = np.where(bounded, lower, 0.0), np.where(bounded, upper, 0.0)
        found = [own.lower_slope, own.lower_intercept, own.upper_slope, own.upper_intercept]
        for at, given in ((0, slopes.lower), (2, slopes.upper)):
            if given is None:
                continue
            slope = np.asarray(given, np.float64).reshape(lower.shape).astype(dtype)  # type: ignore[call-overload]
            slope = slope.astype(np.float64)
            ends = -slope * low, high - slope * high
            error = 2.0**-50 * (abs(slope) * (high - low) + high) + TINY
            if at == 0:
                least = np.minimum(*ends)
                line = np.where(least < 0, least - error, 0.0)
            else:
                line = np.maximum(*ends) + error
            use = bounded & np.isfinite(line)
            found[at] = np.where(use, slope, found[at])
            found[at + 1] = np.where(use, line, found[at + 1])
        return Lines(*found)

    def contacts(self, lines: Lines, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        """Points (below, above) where the lines touch: an end of the interval, or 0."""
        slope = lines.lower_slope
        gaps = np.stack((-slope * lower, np.zeros_like(lower), upper - slope * upper))
        low = np.choose(gaps.argmin(axis=0), (lower, np.zeros_like(lower), upper))
        left = -lines.upper_slope * lower >= upper - lines.upper_slope * upper
        return low, np.where(left, lower, upper)


class LeakyRelu(Elementwise):
    alpha: float = 0.01
    breaks = (0.0,)
    curvature = (0, 0)
    float32_error = ROUNDED

    @property
    def stationary(self) -> tuple[float, ...]:  # type: ignore[override]
        return (0.0,)

    def function(self, x: Array) -> Array:
        return np.where(x >= 0, x, x * x.dtype.type(self.alpha))

    def derivative(self, x: Array) -> Array:
        return np.where(x >= 0, 1.0, self.alpha).astype(x.dtype)


class PRelu(Elementwise):
    """max(x, 0) + slope·min(x, 0); ``slope`` broadcasts to the node's shape."""

    slope: Array
    alike = False

    def shape(self, *inputs: Shape) -> Shape:
        try:
            fits = np.broadcast_shapes(self.slope.shape, inputs[0]) == inputs[0]
        except ValueError:
            fits = False
        if not fits:
            raise UsageError(f"PRelu: slope {self.slope.shape} does not broadcast to {inputs[0]}")
        return inputs[0]

    breaks = (0.0,)
    curvature = (0, 0)
    stationary = (0.0,)
    float32_error = ROUNDED

    def function(self, x: Array) -> Array:
        if x.ndim == 0:
            return x  # only asked at the stationary point 0
        return np.where(x >= 0, x, x * self.slope.astype(x.dtype))

    def derivative(self, x: Array) -> Array:
        return np.where(x >= 0, x.dtype.type(1), self.slope.astype(x.dtype))


class Clip(Elementwise):
    min: float = -math.inf
    max: float = math.inf

    @property
    def image(self) -> tuple[float, float]:  # type: ignore[override]
        return (min(self.min, self.max), self.max)

    @property
    def float32_error(self) -> tuple[float, float, float]:  # type: ignore[override]
        stored = all(float(np.float32(e)) == e for e in (self.min, self.max))
        return EXACT if stored else ROUNDED  # a float32 execution rounds its constants

    @property
    def breaks(self) -> tuple[float, ...]:  # type: ignore[override]
        ends = (self.min, self.max)
        return tuple(sorted({e for e in ends if math.isfinite(e)}))

    @property
    def curvature(self) -> tuple[int, ...]:  # type: ignore[override]
        return (0,) * (len(self.breaks) + 1)

    def function(self, x: Array) -> Array:
        result: Array = np.minimum(np.maximum(x, x.dtype.type(self.min)), x.dtype.type(self.max))
        return result

    def derivative(self, x: Array) -> Array:
        return ((x > self.min) & (x < self.max)).astype(x.dtype)


class Abs(Elementwise):
    breaks = (0.0,)
    curvature = (0, 0)
    stationary = (0.0,)
    image = (0.0, math.inf)
    float32_error = EXACT

    def function(self, x: Array) -> Array:
        return abs(x)

    def derivative(self, x: Array) -> Array:
        return np.sign(x)


class Sign(Elementwise):
    jumps = True
    image = (-1.0, 1.0)
    float32_error = EXACT

    def function(self, x: Array) -> Array:
        return np.sign(x)

    def derivative(self, x: Array) -> Array:
        return np.zeros_like(x)

    def lines(self, lower: Float64, upper: Float64, dtype: object) -> Lines:
        """Constants: a jump has no slope worth having."""
        low, high = self.interval(lower, upper)
        zero = np.zeros_like(low)
        return Lines(zero, low, zero, high)


class HardSigmoid(Elementwise):
    """max(0, min(1, alpha·x + beta))."""

    alpha: float = 0.2
    beta: float = 0.5
    image = (0.0, 1.0)
    curvature = (0, 0, 0)

    # Where the result is between 0 and 1, |alpha·x| is at most 1 + |beta|: errors scale with it.
    @property
    def absolute_error(self) -> float:  # type: ignore[override]
        return 2.0**-45 * (1.0 + abs(self.beta))

    @property
    def float32_error(self) -> tuple[float, float, float]:  # type: ignore[override]
        return (2.0**-22, 2.0**-21 * (1.0 + abs(self.beta)), 0.0)

    @property
    def breaks(self) -> tuple[float, ...]:  # type: ignore[override]
        if self.alpha == 0:  # a constant: the breaks only have to be in order
            return (0.0, 1.0)
        return tuple(sorted((-self.beta / self.alpha, (1 - self.beta) / self.alpha)))

    def function(self, x: Array) -> Array:
        line = x.dtype.type(self.alpha) * x + x.dtype.type(self.beta)
        result: Array = np.clip(line, x.dtype.type(0), x.dtype.type(1))
        return result

    def derivative(self, x: Array) -> Array:
        line = self.alpha * x + self.beta
        return np.where((line > 0) & (line < 1), self.alpha, 0.0).astype(x.dtype)
