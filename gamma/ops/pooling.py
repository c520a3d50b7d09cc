"""Maximum over an axis; MaxPool is a Gather of the windows followed by this."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.ops import affine_interval
from gamma.ops.base import Array, Float64, Operator, Shape
from gamma.ops.bounds import NodeBounds, clean
from gamma.ops.charges import LinearCharge
from gamma.ops.tables import NodeSlopes, Pick, Precision, picked
from gamma.tensor.rounding import gamma_factor


class MaxLines(Frozen, eq=True):
    """Bounds of max over the last axis (here moved last): x_pick below, slopes·x + intercept above.

    pick: int64 (batch, *outer); slope: float64 (batch, *outer, k); intercept (batch, *outer).
    """

    pick: Array
    slope: Float64
    intercept: Float64


class ReduceMax(Operator):
    """y = max over ``axis`` (counted without the batch axis); the axis is dropped.

    ``aim``: what y is compared with: entries that stay below it need no better bounds.
    """

    axis: int = -1
    aim: float = -math.inf

    def _axis(self, rank: int) -> int:
        return self.axis % rank

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if not -len(shape) <= self.axis < len(shape):
            raise UsageError(f"ReduceMax: {shape} has no axis {self.axis}")
        axis = self._axis(len(shape))
        return (*shape[:axis], *shape[axis + 1 :])

    def mixes(self, rank: int) -> tuple[int, ...]:
        return (self.axis % (rank + 1),)

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> ReduceMax | None:
        axis = self.axis % (len(shape) + 1)
        return replace(self, axis=axis - dropped) if alike and axis >= dropped else None

    def _last(self, x: Array) -> Array:
        return np.moveaxis(x, self._axis(x.ndim - 1) + 1, -1)

    def forward(self, *inputs: Array) -> Array:
        result: Array = self._last(inputs[0]).max(axis=-1)
        return result

    def vjp(self, gradient: Array, inputs: Sequence[Array], output: Array) -> tuple[Array, ...]:
        x = self._last(inputs[0])
        pick = x.argmax(axis=-1)
        spread = np.zeros(x.shape, gradient.dtype)
        np.put_along_axis(spread, pick[..., None], gradient[..., None], axis=-1)
        return (self._back(spread, inputs[0].ndim),)

    def _back(self, last: Array, ndim: int) -> Array:
        return np.ascontiguousarray(np.moveaxis(last, -1, self._axis(ndim - 1) + 1))

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        """Exact image of a box."""
        return self._last(lower).max(axis=-1), self._last(upper).max(axis=-1)

    def stray(self, x: NodeBounds) -> Float64:
        """0, or infinite where an entry may have overflowed: a NaN is the maximum or is not."""
        lost = np.isinf(self._last(x.lower)) | np.isinf(self._last(x.upper))
        return np.where(lost.any(axis=-1), np.inf, 0.0)

    def interval_bounds(self, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
        (x,) = inputs
        lower, upper = self.interval(x.lower, x.upper)
        if how.guarantee == "float32":
            noise = self.stray(x)
            lower, upper = lower - noise, upper + noise
        return affine_interval.centred(*clean(lower, upper, self.name))

    def unstable(self, inputs: Sequence[NodeBounds]) -> tuple[Array, ...]:
        (x,) = inputs
        low, high = self._last(x.lower), self._last(x.upper)
        floor = np.maximum(low.max(axis=-1, keepdims=True), self.aim)
        # One dominating entry: the maximum is that entry, nothing is left to gain.
        rivals = (high > floor) & (low < high)
        several = (self.aim > -math.inf) | ((high > floor).sum(axis=-1, keepdims=True) > 1)
        return (np.asarray(self._back(rivals & several, x.lower.ndim)),)

    def relax(
        self,
        inputs: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
        carried: LinearCharge | None = None,
        slopes: NodeSlopes | None = None,
    ) -> Pick:
        return picked(self, after, inputs[0], how)

    def lines(self, lower: Float64, upper: Float64, dtype: object) -> MaxLines:
        """Below: the entry with the highest midpoint. Above: with c = max lower,

        max(x) <= c + sum of relu(x_i - c) <= c + sum of chords; where one entry dominates this is
        that entry itself, and where the constant max upper is lower at the midpoint, the constant.
        """
        low, high = self._last(lower), self._last(upper)
        middle = 0.5 * low + 0.5 * high
        pick = middle.argmax(axis=-1)
        floor = low.max(axis=-1, keepdims=True)
        reach = high - floor
        with np.errstate(all="ignore"):
            chord = np.where(reach > 0, reach / (high - low), 0.0)
        chord = np.where(np.isfinite(chord) & (low < high), chord, reach > 0)
        slope = np.minimum(chord, 1.0).astype(dtype).astype(np.float64)  # type: ignore[call-overload]
        # relu(x - c) <= s·x + t on [l, u] needs t >= max(-s·l, u - c - s·u) (both ends, convex).
        with np.errstate(invalid="ignore"):
            each = np.maximum(-slope * low, reach - slope * high)
            error = 2.0**-48 * (abs(slope * low) + abs(slope * high) + abs(reach) + abs(floor))
            linear = (each + error).sum(axis=-1) + floor[..., 0]
            # A sum along a strided axis runs in order, so its error grows with the window.
            sums = gamma_factor(2 * low.shape[-1] + 32, np.float64)
            linear += sums * (abs(each).sum(axis=-1) + abs(linear))
            at_middle = (slope * middle).sum(axis=-1) + linear
        ceiling = high.max(axis=-1)
        constant = ~(at_middle < ceiling)
        slope = np.where(constant[..., None], 0.0, slope)
        return MaxLines(pick, slope, np.where(constant, ceiling, linear))
