"""Layer and root-mean-square normalisation over the trailing axes: images of a box, planes.

y_i = c_i / sqrt(mean(c²) + epsilon), where c = x - mean(x) (layer normalisation; Ba et al. 2016) or
c = x (root mean square; Zhang and Sennrich 2019). Gain and bias are a `Scale` behind it.

Of one entry against the d - 1 others: Σ c_j² = k·c_i² + W, where W is what the others alone scatter
about their own mean (k = d/(d - 1)), or their sum of squares (k = 1). y_i increases in c_i and
shrinks as W grows, and |y_i| <= sqrt(d/k) for every input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from gamma.errors import UsageError
from gamma.ops.base import Array, Float64, Operator, Shape
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import TINY, LinearCharge
from gamma.ops.ellipsotope import Ellipsotope
from gamma.ops.execution import FLOAT32_MAX, UNIT
from gamma.ops.normalized import normalized
from gamma.ops.quotient import Quotients, forms, group, met, quotients, quotients_at_once, sharing
from gamma.ops.tables import NodeSlopes, Precision
from gamma.tensor import kernels, rounding

LARGEST = 2.0**480
"""Entries up to here have squares, and sums of squares, in the range of float64."""


class Normalize(Operator):
    """y = c / sqrt(mean(c²) + epsilon) over the axes from ``axis`` on (without the batch axis).

    ``centred``: c = x - mean(x), else c = x. Raises UsageError for a negative epsilon.
    """

    normalizes = True

    axis: int = -1
    epsilon: float = 1e-5
    centred: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.epsilon < math.inf:
            raise UsageError(f"{self.name}: epsilon {self.epsilon}, expected a number >= 0")

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if not -len(shape) <= self.axis < len(shape):
            raise UsageError(f"{self.name}: {shape} has no axis {self.axis}")
        return shape

    def mixes(self, rank: int) -> tuple[int, ...]:
        return tuple(range(self.axis % rank, rank))

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Normalize | None:
        axis = self.axis % len(shape)
        return replace(self, axis=axis - dropped) if alike and axis >= dropped else None

    def grouped(self, x: Array) -> Array:
        """(batch, *shape) as (batch, *outer, d): what is normalised together is the last axis."""
        first = self.axis % (x.ndim - 1) + 1
        return x.reshape(*x.shape[:first], -1)

    def table_bytes(self, itemsize: int, *inputs: Shape) -> int:
        # A diagonal and two vectors for each side.
        return super().table_bytes(3 * itemsize, *inputs)

    def forward(self, *inputs: Array) -> Array:
        x = self.grouped(inputs[0])
        with np.errstate(all="ignore"):
            c = x - x.mean(axis=-1, keepdims=True) if self.centred else x
            root = np.sqrt((c * c).mean(axis=-1, keepdims=True) + x.dtype.type(self.epsilon))
            y = np.where(root == 0, x.dtype.type(0), c / root)  # where no bound says anything
        result: Array = y.reshape(inputs[0].shape)
        return result

    def vjp(self, gradient: Array, inputs: Sequence[Array], output: Array) -> tuple[Array, ...]:
        g, x, y = (self.grouped(part) for part in (gradient, inputs[0], output))
        c = x - x.mean(axis=-1, keepdims=True) if self.centred else x
        root = np.sqrt((c * c).mean(axis=-1, keepdims=True) + self.epsilon)
        g = g - y * (g * y).mean(axis=-1, keepdims=True)
        g = g - g.mean(axis=-1, keepdims=True) if self.centred else g
        return ((g / root).reshape(gradient.shape).astype(gradient.dtype, copy=False),)

    def propagate(self, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
        x = inputs[0]
        low, high = self.grouped(x.lower), self.grouped(x.upper)
        lower, upper = self.image(low, high)
        if how.guarantee == "float32":
            square = least_square(low, high, self.centred) + self.epsilon
            noise = self.float32_noise(low, high, np.maximum(-lower, upper), square)
            lower, upper = rounding.down(lower - noise), rounding.up(upper + noise)
        lower, upper = lower.reshape(x.lower.shape), upper.reshape(x.lower.shape)
        return NodeBounds(lower, upper, rounding.midpoint(lower, upper))

    def unstable(self, inputs: Sequence[NodeBounds]) -> tuple[Array, ...]:
        return (np.asarray(inputs[0].lower < inputs[0].upper),)

    def forms(self, inputs: Sequence[NodeBounds]) -> Array:
        return forms(self._groups(inputs[0]), self.centred)

    def relax(
        self,
        inputs: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
        carried: LinearCharge | None = None,
        slopes: NodeSlopes | None = None,
    ) -> Quotients:
        x, inside = self._groups(inputs[0]), self._groups(after)
        if how.guarantee == "real":
            made = quotients_at_once(x, inside, self.epsilon, self.centred, after.forms, how.dtype)
            if made is not None:
                return made
        with np.errstate(all="ignore"):
            known = group(x, self.epsilon, self.centred, self.least(x), after.forms)
            noise: Float64 | float = 0.0
            if how.guarantee == "float32":
                floor, ceiling = met(self.image(x.lower, x.upper), known)
                reach = np.maximum(-floor, ceiling)
                noise = self.float32_noise(x.lower, x.upper, reach, known.least)
            else:  # the node's own bounds are in the image, and hold no noise
                floor, ceiling = met((inside.lower, inside.upper), known)
            return quotients(x, inside, known, floor, ceiling, noise, how.dtype)

    def enclose(
        self,
        inputs: Sequence[Ellipsotope],
        before: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
    ) -> Ellipsotope | None:
        (x,), (known,) = inputs, before
        about = NodeBounds(known.lower, known.upper, x.middle.reshape(known.lower.shape))
        inside, noise = self._groups(about), None
        if how.guarantee == "float32":
            out = self._groups(after)
            reach = np.maximum(-out.lower, out.upper)
            noise = self.float32_noise(inside.lower, inside.upper, reach, self.least(inside))
        return normalized(self, x, inside, noise)

    def least(self, x: NodeBounds) -> Float64:
        """At most mean(c²) + epsilon in groups (batch, G, d): (batch, G, 1)."""
        return (least_square(x.lower, x.upper, self.centred) + self.epsilon) * (1 - 2.0**-52)

    def _groups(self, x: NodeBounds) -> NodeBounds:
        """Bounds as (batch, groups, d)."""
        d = self.grouped(x.lower).shape[-1]
        lower, upper, centre, radius = (
            part.reshape(len(x.lower), -1, d) for part in (x.lower, x.upper, x.centre, x.radius)
        )
        return NodeBounds(lower, upper, centre, _radius=radius)

    def image(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        """Bounds of y (batch, *outer, d), infinite where x may lie outside the domain (0/0)."""
        d = lower.shape[-1]
        low, high = (np.ascontiguousarray(end.reshape(-1, d)) for end in (lower, upper))
        groups = kernels.Groups(low, high, self.centred, self.epsilon)
        image = kernels.normal_image(groups, sharing(low.size))
        if image is not None:
            return image[0].reshape(lower.shape), image[1].reshape(lower.shape)
        share = d / (d - 1) if self.centred and d > 1 else 1.0
        with np.errstate(all="ignore"):
            if self.centred:
                own, others = _about_mean(lower, upper)
            else:
                own, others = (lower, upper), _squares(lower, upper)
            cap = rounding.up(np.sqrt(np.float64(d - 1 if self.centred else d)))
            low, high = self._least(np.stack((own[0], -own[1])), others, share, cap)
            high = -high
            defined = self.epsilon + least_square(lower, upper, self.centred) > 0
        return np.where(defined, low, -np.inf), np.where(defined, high, np.inf)

    def _least(
        self, c: Float64, others: tuple[Float64, Float64], share: float, cap: Float64
    ) -> Float64:
        """y at c, with the others' W where it is least; never below -cap."""
        d = c.shape[-1]
        scatter = np.where(c >= 0, others[1], others[0])
        square = (share * c * c + scatter) / d + self.epsilon
        away = np.where(c >= 0, 1.0, -1.0)
        square = np.maximum(square * (1 + away * 2.0**-49) + away * TINY, 0.0)
        y = c / np.sqrt(square) - TINY
        known = (abs(c) <= LARGEST) & (scatter <= LARGEST**2)
        return np.where(known & (y >= -cap), np.minimum(y, cap), -cap)

    def float32_noise(
        self, lower: Float64, upper: Float64, reach: Float64, square: Float64
    ) -> Float64:
        """How far float32 executions may lie from y: (batch, *outer, d); see `float32_errors`.

        ``reach``: at least |y|.
        """
        share, shift = self.float32_errors(lower, upper, square)
        return reach * share + shift

    def float32_errors(
        self, lower: Float64, upper: Float64, square: Float64
    ) -> tuple[Float64, Float64]:
        """A share of |y| (batch, *outer, 1) and a number (batch, *outer, d): float32 executions lie
        no further from y than both together.

        ``square``: at most mean(c²) + epsilon, (batch, *outer, 1).
        They may take the variance in one pass (mean of squares less square of the mean) or in two,
        sums in any order, and x·s - mean·s for (x - mean)·s. Infinite for a whole group where the
        executed variance may not be positive, or where a number may leave the range of float32.
        docs/numerics.md derives it.
        """
        d = lower.shape[-1]
        with np.errstate(all="ignore"):
            size = np.maximum(abs(lower), abs(upper))
            squares = (size * size).sum(axis=-1, keepdims=True) * (1 + 2.0**-20)
            mean = size.mean(axis=-1, keepdims=True) * (1 + 2.0**-20)
            most = size.max(axis=-1, keepdims=True)
            sums = (8 if self.centred else 1) * rounding.gamma_factor(d + 8, np.float32)
            # Of a sum of squares alone the error is a share of it, at every point.
            scale = squares / d / square
            own = (2.0**-18 + sums) * (scale if self.centred else np.fmin(scale, 1.0))
            left = 1 - (own + (2 * UNIT * self.epsilon + 2.0**-122) / square) * (1 + 2.0**-50)
            root = 1 / np.sqrt(square)
            astray = (1 / np.sqrt(left) - 1) * (1 + 2.0**-20) + 2.0**-18
            astray = np.where(left > 0, astray, np.inf)
            shift = sums * mean + 8 * UNIT * size + 2.0**-147 if self.centred else 0.0 * size
            shift = shift * root * (1 + astray) * (1 + 2.0**-20) + 2.0**-140
            share = astray * (1 + 2.0**-20)
            peak = np.maximum(4 * squares + self.epsilon, 2 * most * root * (1 + astray))
            known = (peak <= FLOAT32_MAX) & np.isfinite(share)
            known &= np.isfinite(shift).all(axis=-1, keepdims=True)
        return np.where(known, share, np.inf), np.where(known, shift, np.inf)


def least_square(lower: Float64, upper: Float64, centred: bool) -> Float64:
    """At most mean(c²), for every point of the box: (batch, *outer, 1), never below 0.

    Centred, d·mean(c²) = Σ (x_j - t)² - d·(mean(x) - t)² for any t.
    """
    d = lower.shape[-1]
    if centred:
        t = _middle(lower, upper)
        lower, upper = rounding.down(lower - t), rounding.up(upper - t)
    near = np.maximum(np.maximum(lower, -upper), 0.0)
    total = (near * near).sum(axis=-1, keepdims=True)
    error = rounding.gamma_factor(d + 8, np.float64) * total
    if centred:
        ends = [end.sum(axis=-1, keepdims=True) for end in (lower, upper)]
        size = np.maximum(abs(lower), abs(upper)).sum(axis=-1, keepdims=True)
        g = rounding.gamma_factor(d + 8, np.float64) * size
        far = np.maximum(abs(ends[0]), abs(ends[1])) + g
        total = total - far * far / d * (1 + 2.0**-40)
    found = (total - error) / d * (1 - 2.0**-40) - TINY
    return np.where(found > 0, found, 0.0)


def _middle(lower: Float64, upper: Float64) -> Float64:
    """A number near the mean of every group; any would be valid."""
    middle = (0.5 * lower + 0.5 * upper).mean(axis=-1, keepdims=True)
    return np.where(np.isfinite(middle), middle, 0.0)


def _squares(lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
    """The least and greatest sum of the other entries' squares."""
    near = np.maximum(np.maximum(lower, -upper), 0.0)
    far = np.maximum(abs(lower), abs(upper))
    g = rounding.gamma_factor(lower.shape[-1] + 4, np.float64)
    return _others(near * near) * (1 - g), _others(far * far) * (1 + g)


def _about_mean(
    lower: Float64, upper: Float64
) -> tuple[tuple[Float64, Float64], tuple[Float64, Float64]]:
    """Ends of c_i = x_i - mean(x), and of the others' Σ (x_j - t)² - (d - 1)·(mean - t)².

    The mean is the others' own; any t is valid.
    """
    d = lower.shape[-1]
    if d == 1:
        zero = np.zeros_like(lower)
        return (zero, zero), (zero, zero)
    t = _middle(lower, upper)
    low, high = rounding.down(lower - t), rounding.up(upper - t)
    near = np.maximum(np.maximum(low, -high), 0.0)
    far = np.maximum(abs(low), abs(high))
    g = rounding.gamma_factor(2 * d + 16, np.float64)
    *sums, sizes = _others(np.stack((low, high, far)))
    lost = g * sizes
    own = tuple(
        (end * (d - 1) - rest - sign * (lost + g * d * abs(end))) / d
        for end, rest, sign in ((low, sums[1], 1.0), (high, sums[0], -1.0))
    )
    below = np.maximum(np.maximum(sums[0], -sums[1]) - lost, 0.0)
    above = np.maximum(abs(sums[0]), abs(sums[1])) + lost
    squares = _others(np.stack((near * near, far * far)))
    error = g * (squares[1] + above * above / (d - 1)) + TINY
    least = squares[0] - above * above / (d - 1) - error
    return (own[0], own[1]), (
        np.maximum(least, 0.0),
        squares[1] - below * below / (d - 1) + error,
    )


def _others(x: Float64) -> Float64:
    """For each entry the sum of the others along the last axis."""
    before, behind = np.zeros_like(x), np.zeros_like(x)
    before[..., 1:] = x[..., :-1].cumsum(axis=-1)
    behind[..., :-1] = x[..., :0:-1].cumsum(axis=-1)[..., ::-1]
    result: Float64 = before + behind
    return result
