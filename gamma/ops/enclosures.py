"""Enclosures of a function's value and derivative over cells, operation by operation.

Interval arithmetic on the pair (forward automatic differentiation), with what a float32 execution
of each operation may add; `gamma.ops.composite` bounds functions of several steps with it.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import astuple

from gamma.frozen import Frozen
from gamma.ops.base import Float64
from gamma.ops.elementwise import Elementwise
from gamma.ops.execution import overflowed
from gamma.ops.linear import Scale
from gamma.ops.relaxation import SLOPE_ERROR, TINY

_FLT_MAX = float(np.finfo(np.float32).max)
# Of each rounded float64 operation here, with a wide margin.
ROUNDING = 2.0**-49


class Enclosure(Frozen):
    """Values and derivatives over cells, and how far a float32 execution strays from the values."""

    low: Float64
    high: Float64
    steep_low: Float64
    steep_high: Float64
    noise: Float64


def numbers(op: Scale) -> tuple[float, float]:
    shift = 0.0 if op.shift is None else float(op.shift.reshape(-1)[0])
    return float(op.scale.reshape(-1)[0]), shift


def outward(low: Float64, high: Float64) -> tuple[Float64, Float64]:
    """Rounded outward; NaN says nothing."""
    low = low - (abs(low) * ROUNDING + TINY)
    high = high + (abs(high) * ROUNDING + TINY)
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


def fixed(value: float, like: Float64, rounded: bool) -> Enclosure:
    """A constant; a float32 execution rounds it."""
    exact = np.full_like(like, value)
    with np.errstate(over="ignore", under="ignore"):
        noise = np.full_like(like, abs(float(np.float32(value)) - value) if rounded else 0.0)
    zero = np.zeros_like(like)
    return Enclosure(exact, exact, zero, zero, noise)


def negated(a: Enclosure) -> Enclosure:
    return Enclosure(-a.high, -a.low, -a.steep_high, -a.steep_low, a.noise)


def _size(a: Enclosure) -> Float64:
    return np.maximum(abs(a.low), abs(a.high))


def _charged(low: Float64, high: Float64, carried: Float64, own: float, rounded: bool) -> Float64:
    """Noise of a result: what its operands carry, its own roundings, overflow of float32."""
    if not rounded:
        return np.zeros_like(low)
    size = np.maximum(abs(low), abs(high))
    noise = carried * (1 + own + 2.0**-40) + size * own + 2.0**-147
    return np.where(size + noise < 0.99 * _FLT_MAX, noise, np.inf)


def add(a: Enclosure, b: Enclosure, rounded: bool) -> Enclosure:
    low, high = outward(a.low + b.low, a.high + b.high)
    steep = outward(a.steep_low + b.steep_low, a.steep_high + b.steep_high)
    return Enclosure(low, high, *steep, _charged(low, high, a.noise + b.noise, 2.0**-23, rounded))


def scaled(op: Scale, a: Enclosure, rounded: bool) -> Enclosure:
    scale, shift = numbers(op)
    ends = np.minimum(scale * a.low, scale * a.high), np.maximum(scale * a.low, scale * a.high)
    steep = (
        np.minimum(scale * a.steep_low, scale * a.steep_high),
        np.maximum(scale * a.steep_low, scale * a.steep_high),
    )
    product = np.maximum(abs(ends[0]), abs(ends[1]))
    # A shift may cancel the product: what rounding it lost counts by its own size.
    error = product * (op.scale_error * 1.001 + ROUNDING) + float(np.max(op.shift_error)) + TINY
    low, high = outward(ends[0] + shift - error, ends[1] + shift + error)
    slack = np.maximum(abs(steep[0]), abs(steep[1])) * op.scale_error * 1.001
    steep = outward(steep[0] - slack, steep[1] + slack)
    if not rounded:
        return Enclosure(low, high, *steep, np.zeros_like(low))
    error, offset, peak, offset_peak = (float(np.max(v)) for v in astuple(op.executed))
    reach = _size(a) + a.noise
    carried = (abs(scale) + error) * a.noise + error * _size(a) + offset
    noise = np.where(np.isfinite(carried), carried * (1 + 2.0**-40), np.inf)
    formed = peak * reach + offset_peak
    return Enclosure(low, high, *steep, overflowed(noise, formed))


def _hull(a: tuple[Float64, Float64], b: tuple[Float64, Float64]) -> tuple[Float64, Float64]:
    """The product of two intervals; 0 · inf is 0 only where the other is exactly 0."""
    parts = np.stack([x * y for x in a for y in b])
    lost = np.isnan(parts).any(axis=0)
    low, high = parts.min(axis=0), parts.max(axis=0)
    return outward(np.where(lost, -np.inf, low), np.where(lost, np.inf, high))


def product(a: Enclosure, b: Enclosure, rounded: bool) -> Enclosure:
    low, high = _hull((a.low, a.high), (b.low, b.high))
    one = _hull((a.low, a.high), (b.steep_low, b.steep_high))
    two = _hull((b.low, b.high), (a.steep_low, a.steep_high))
    steep = outward(one[0] + two[0], one[1] + two[1])
    carried = _size(a) * b.noise + _size(b) * a.noise + a.noise * b.noise
    return Enclosure(low, high, *steep, _charged(low, high, carried, 2.0**-22, rounded))


def inverse(b: Enclosure) -> tuple[tuple[Float64, Float64], tuple[Float64, Float64], Float64]:
    """Value, derivative and Lipschitz constant of 1/b."""
    near = np.minimum(abs(b.low), abs(b.high)) - b.noise
    pole = ((b.low <= 0) & (b.high >= 0)) | ~(near > 0)
    value = outward(1 / b.high, 1 / b.low)
    steep = outward(-1 / np.square(np.minimum(abs(b.low), abs(b.high))),
                     -1 / np.square(_size(b)))  # fmt: skip
    wide = np.where(pole, -np.inf, value[0]), np.where(pole, np.inf, value[1])
    steep = np.where(pole, -np.inf, steep[0]), np.where(pole, np.inf, steep[1])
    return wide, steep, np.where(pole, np.inf, 1 / np.square(near) * (1 + 2.0**-40))


def through(
    a: Enclosure,
    value: tuple[Float64, Float64],
    outer: tuple[Float64, Float64],
    lipschitz: Float64,
    rounded: bool,
    own: Float64 | float = 0.0,
) -> Enclosure:
    """A function's value and the chain rule; ``own`` is the function's own float32 noise."""
    steep = _hull(outer, (a.steep_low, a.steep_high))
    carried = np.where(a.noise == 0, 0.0, lipschitz * a.noise) + own
    return Enclosure(*value, *steep, _charged(*value, carried, 2.0**-23, rounded))


def elementwise(op: Elementwise, a: Enclosure, rounded: bool) -> Enclosure:
    low, high = op.interval(a.low, a.high)
    outer = derivative_range(op, a.low, a.high)
    if not rounded:
        return through(a, (low, high), outer, np.zeros_like(low), False)
    wide = a.low - a.noise, a.high + a.noise
    ends = op.interval(*wide)
    steep = derivative_range(op, *wide)
    lipschitz = np.maximum(abs(steep[0]), abs(steep[1]))
    reach = np.maximum(abs(wide[0]), abs(wide[1]))
    own = overflowed(op.float32_noise(*wide, *ends), op.float32_peak(reach))
    jump = np.where(a.noise > 0, ends[1] - ends[0], 0.0)  # never strays further than the image
    made = through(a, (low, high), outer, lipschitz, True, own)
    other = _charged(low, high, jump + own, 2.0**-23, True)
    # Behind an infinity nothing is known, not even of a bounded function.
    noise = np.where(np.isfinite(a.noise), np.fmin(made.noise, other), np.inf)
    return Enclosure(low, high, made.steep_low, made.steep_high, noise)


def derivative_range(op: Elementwise, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
    """An enclosure of f' over [lower, upper]: on a piece of one curvature it is monotone.

    At a break, where the derivative may jump, both neighbours count as well.
    """
    low, high = np.full_like(lower, np.inf), np.full_like(lower, -np.inf)
    for piece in op.pieces(lower, upper):
        exists = piece.low <= piece.high
        points = [piece.low, piece.high, np.nextafter(piece.low, np.inf),
                  np.nextafter(piece.high, -np.inf)]  # fmt: skip
        for point in points:
            steep = op.derivative(point)
            error = abs(steep) * SLOPE_ERROR + op.slope_error + TINY
            low = np.where(exists, np.minimum(low, steep - error), low)
            high = np.where(exists, np.maximum(high, steep + error), high)
    values = op.interval(lower, upper)  # infinite across a pole or outside the domain
    lost = np.isnan(low) | np.isnan(high) | (low > high) | ~np.isfinite(values[0] + values[1])
    lost |= op.jumps
    return np.where(lost, -np.inf, low), np.where(lost, np.inf, high)
