"""LogSoftmax along an axis: the exact image of a box, and planes by tangents of the logarithm.

y_k = x_k - log Σ exp(x_j). With z, T and q as for softmax (`gamma.ops.softmax`), log T <= T - 1 and
Gibbs' inequality bound it by planes from both sides; no chord of exp is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gamma.errors import UsageError
from gamma.ops.base import Array, Float64, Operator, Shape
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import TINY, LinearCharge
from gamma.ops.ellipsotope import Ellipsotope
from gamma.ops.enclose import through_groups
from gamma.ops.execution import FLOAT32_MAX, UNIT
from gamma.ops.rank_one import RankOne, Slopes, rank_one, times
from gamma.ops.relaxation import VALUE_ERROR
from gamma.ops.softmax import EXP_ERROR, chords, gibbs, others
from gamma.ops.tables import NodeSlopes, Precision
from gamma.tensor import rounding


class LogSoftmax(Operator):
    """y = x - log Σ exp(x) along ``axis`` (counted without the batch axis)."""

    axis: int = -1

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if not -len(shape) <= self.axis < len(shape):
            raise UsageError(f"{self.name}: {shape} has no axis {self.axis}")
        return shape

    def mixes(self, rank: int) -> tuple[int, ...]:
        return (self.axis % rank,)

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> LogSoftmax | None:
        axis = self.axis % len(shape)
        return LogSoftmax(axis - dropped) if alike and axis >= dropped else None

    def _along(self, ndim: int) -> int:
        return self.axis % (ndim - 1) + 1

    def table_bytes(self, itemsize: int, *inputs: Shape) -> int:
        # A diagonal and two vectors for each side.
        return super().table_bytes(3 * itemsize, *inputs)

    def forward(self, *inputs: Array) -> Array:
        axis = self._along(inputs[0].ndim)
        with np.errstate(all="ignore"):
            z = inputs[0] - inputs[0].max(axis=axis, keepdims=True)
            result: Array = z - np.log(np.exp(z).sum(axis=axis, keepdims=True))
        return result

    def vjp(self, gradient: Array, inputs: Sequence[Array], output: Array) -> tuple[Array, ...]:
        total = gradient.sum(axis=self._along(output.ndim), keepdims=True)
        return (gradient - np.exp(output) * total,)

    def propagate(self, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
        (x,) = inputs
        axis = self._along(x.lower.ndim)
        low, high = (np.moveaxis(end, axis, -1) for end in (x.lower, x.upper))
        lower, upper = image(low, high)
        if how.guarantee == "float32":
            noise = float32_noise(low, high)
            lower, upper = rounding.down(lower - noise), rounding.up(upper + noise)
        lower, upper = (np.moveaxis(end, -1, axis) for end in (lower, upper))
        return NodeBounds(lower, upper, rounding.midpoint(lower, upper))

    def unstable(self, inputs: Sequence[NodeBounds]) -> tuple[Array, ...]:
        return (np.asarray(inputs[0].lower < inputs[0].upper),)

    def relax(
        self,
        inputs: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
        carried: LinearCharge | None = None,
        slopes: NodeSlopes | None = None,
    ) -> RankOne:
        (x,) = inputs
        axis = self._along(x.lower.ndim)
        parts = (x.lower, x.upper, x.centre, x.radius)
        low, high, centre, radius = (np.moveaxis(part, axis, -1) for part in parts)
        floor, ceiling = image(low, high)
        with np.errstate(all="ignore"):
            weight, value = _below(low, high, centre, how.dtype)
            lower = _chosen(weight, value, radius, floor, 1.0)
            weight, _, value = gibbs(low, high, centre, radius, how.dtype)
            value = value + 2.0**-50 * abs(value) + TINY
            upper = _chosen(weight, value, radius, ceiling, -1.0)
        noise = float32_noise(low, high) if how.guarantee == "float32" else 0.0
        return rank_one(axis, x, after, how.dtype, lower, upper, noise)

    def enclose(
        self,
        inputs: Sequence[Ellipsotope],
        before: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
    ) -> Ellipsotope | None:
        table = self.relax(before, after, how)
        return through_groups(table, inputs[0], before[0], after)


def image(lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
    """Bounds over the last axis: entry k is least at l_k and the others' upper ends.

    -log(1 + exp(s)), s the logarithm of Σ_{j≠k} exp(x_j - x_k); its slope in s is at most its size.
    """
    ends = []
    error = 4 * EXP_ERROR + rounding.gamma_factor(2 * lower.shape[-1] + 16, np.float64)
    for own, rest, sign in ((lower, upper, 1.0), (upper, lower, -1.0)):
        largest, total = others(rest)
        with np.errstate(all="ignore"):
            apart = largest - own
            s = apart + np.log(np.where(total == 0, 1.0, total))
            found = np.where(total == 0, 0.0, -np.logaddexp(0.0, s))
            lost = error + 2.0**-50 * (abs(apart) + abs(s))
            size = abs(found)
            end = found - sign * (VALUE_ERROR * size + np.minimum(size, 1.0) * lost * 1.01 + TINY)
        ends.append(np.where(np.isnan(end), -np.inf if sign > 0 else 0.0, np.minimum(end, 0.0)))
    return ends[0], ends[1]


def float32_noise(lower: Float64, upper: Float64) -> Float64:
    """How far float32 executions that subtract the maximum first may lie from y, for each group.

    Infinite where one entry may have overflowed.
    """
    n = lower.shape[-1]
    with np.errstate(all="ignore"):
        apart = upper.max(axis=-1, keepdims=True) - lower.min(axis=-1, keepdims=True)
        known = np.isfinite(lower).all(axis=-1, keepdims=True) & (1.01 * apart <= FLOAT32_MAX)
        power = 2.0**-20 + 2.0**-23 * np.minimum(apart, 128.0)
        noise = 4 * UNIT * apart + 2 * power + rounding.gamma_factor(n + 4, np.float32)
        noise = noise + 2.0**-19 * (1 + np.log(n)) + (n + 4) * 2.0**-124
    return np.broadcast_to(np.where(known, noise, np.inf), lower.shape)


def _below(low: Float64, high: Float64, centre: Float64, dtype: np.dtype) -> tuple[Array, Float64]:
    """w and the value at the centre of z_k + 1 - T, rounded down, about m near log Σ exp."""
    top = high.max(axis=-1, keepdims=True)
    middle = (0.5 * np.exp(low - top) + 0.5 * np.exp(high - top)).sum(axis=-1, keepdims=True)
    m = top + np.log(middle)
    weight, excess = chords(low - m, high - m, dtype)
    z = centre - m
    total = (weight * z + excess).sum(axis=-1, keepdims=True)
    size = (abs(weight * z) + abs(excess)).sum(axis=-1, keepdims=True)
    sums = rounding.gamma_factor(low.shape[-1] + 8, np.float64)
    error = VALUE_ERROR * (1 + abs(z)) + (sums + VALUE_ERROR) * size
    return weight, 1 + z - total - error - TINY


def _chosen(
    weight: Float64, value: Float64, radius: Float64, constant: Float64, sign: float
) -> Slopes:
    """Planes x_k - Σ weight·x where they pass ``constant`` somewhere, the constant elsewhere."""
    group = times(weight, radius).sum(axis=-1, keepdims=True)
    reach = abs(1 - weight) * radius + group - times(weight, radius)
    use = np.isfinite(value) & np.isfinite(group) & (sign * (value - constant) + reach > 0)
    one = np.where(use, 1.0, 0.0)
    weight = np.where(use.any(axis=-1, keepdims=True), weight, 0.0)
    return Slopes(one, one, weight, np.where(use, value, constant))
