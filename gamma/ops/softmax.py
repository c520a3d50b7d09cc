"""Softmax along an axis: the exact image of a box, and planes by tangents of exp and log.

With z = x - m for any m, T = Σ (w_j z_j + b_j) >= Σ exp(z_j) (chords of exp), and any f > 0,

    p_k = exp(z_k - log Σ exp(z_j)) >= f·(1 + z_k - (T - 1) - log f)

since exp(y) >= f·(1 + y - log f) and log T <= T - 1. Above, p_k = exp(y_k) lies below a chord
s·y + t over y in [log of p's bounds], and y_k = z_k - log Σ exp(z_j) is at most
z_k - Σ q_j·(z_j - log q_j) for any probabilities q (Gibbs). These are the planes of Wei et al.
(2023, "Convex bounds on the softmax function") with free slopes f, w, s, q.

Entries that a causal mask leaves out are given so low a value that float64 sums do not see them;
their own outcome is exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.errors import UsageError
from gamma.ops.base import Array, Cut, Float64, Operator, Shape, cut_to
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import TINY, LinearCharge
from gamma.ops.ellipsotope import Ellipsotope
from gamma.ops.enclose import through_groups
from gamma.ops.rank_one import RankOne, Slopes, rank_one, times
from gamma.ops.relaxation import VALUE_ERROR
from gamma.ops.tables import NodeSlopes, Precision
from gamma.tensor import rounding

EXP_ERROR = 2.0**-42
"""Relative error of exp at a difference of two float64 numbers, from -745 to 710: the difference
itself is rounded, by at most 2^-43."""
NEAR = 600.0
"""How far entries of a group may lie apart for their powers, about the largest, to be normal."""


class Softmax(Operator):
    """y = exp(x) / Σ exp(x) along ``axis`` (counted without the batch axis).

    ``seen``: of each group the first so many entries alone take part, the others become 0 (a causal
    mask); it broadcasts to the shape without ``axis``. None: all of them.
    """

    bounded = True

    axis: int = -1
    seen: npt.NDArray[np.int64] | None = None

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if not -len(shape) <= self.axis < len(shape):
            raise UsageError(f"{self.name}: {shape} has no axis {self.axis}")
        if self.seen is not None:
            axis = self.axis % len(shape)
            outer = shape[:axis] + shape[axis + 1 :]
            fits = self.seen.ndim <= len(outer) and all(
                a in (1, b) for a, b in zip(self.seen.shape[::-1], outer[::-1], strict=False)
            )
            if not fits or self.seen.min() < 1 or self.seen.max() > shape[axis]:
                raise UsageError(
                    f"{self.name}: seen has shape {self.seen.shape}, expected counts from 1 to "
                    f"{shape[axis]} for groups {outer}"
                )
        return shape

    def mixes(self, rank: int) -> tuple[int, ...]:
        # Counts belong to groups: where some are left out, the others' are not those of the first.
        return (self.axis % rank,) if self.seen is None else tuple(range(rank))

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Softmax | None:
        axis = self.axis % len(shape)
        fits = self.seen is None or self.seen.ndim < len(shape) - dropped
        return Softmax(axis - dropped, self.seen) if alike and fits and axis >= dropped else None

    def live(self, x: Array) -> Array | None:
        """Which entries of groups x (batch, *outer, n) take part: (*outer, n); None for all."""
        if self.seen is None:
            return None
        count = np.broadcast_to(self.seen, x.shape[1:-1])
        return np.arange(x.shape[-1]) < count[..., None]

    def part(self, cut: Cut, *inputs: Shape) -> tuple[Operator, tuple[Cut, ...]] | None:
        (shape,) = inputs
        if self.axis % len(shape) != len(shape) - 1:
            return None
        seen = None if self.seen is None else cut_to(self.seen, cut, len(shape) - 1)
        return replace(self, seen=seen), (cut,)

    def along(self, ndim: int) -> int:
        """The axis in arrays (batch, *shape) of ``ndim`` axes."""
        return self.axis % (ndim - 1) + 1

    def table_bytes(self, itemsize: int, *inputs: Shape) -> int:
        (shape,) = inputs
        size, groups = math.prod(shape), math.prod(shape) // max(shape[self.axis], 1)
        # A diagonal and two vectors for each side; weight and reach of `Simplex`, and its groups'.
        planes = super().table_bytes(3 * itemsize, *inputs)
        return planes + size * (itemsize + 8) + 16 * groups

    def forward(self, *inputs: Array) -> Array:
        axis = self.along(inputs[0].ndim)
        x = np.moveaxis(inputs[0], axis, -1)
        live = self.live(x)
        x = x if live is None else np.where(live, x, x.dtype.type(-np.inf))
        with np.errstate(all="ignore"):
            powers = np.exp(x - x.max(axis=-1, keepdims=True))
            result: Array = powers / powers.sum(axis=-1, keepdims=True)
        return np.moveaxis(result, -1, axis)

    def vjp(self, gradient: Array, inputs: Sequence[Array], output: Array) -> tuple[Array, ...]:
        axis = self.along(output.ndim)
        mean = (gradient * output).sum(axis=axis, keepdims=True)
        return (output * (gradient - mean),)

    def propagate(self, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
        (x,) = inputs
        axis = self.along(x.lower.ndim)
        low, high = (np.moveaxis(end, axis, -1) for end in (x.lower, x.upper))
        live = self.live(low)
        lower, upper = _masked_image(low, high, live)
        if how.guarantee == "float32":
            noise = _masked_noise(low, high, upper, live)
            below = np.where(np.isinf(noise), -np.inf, np.maximum(lower - noise, 0.0))
            exact = noise == 0
            lower = np.where(exact, lower, rounding.down(below))
            upper = np.where(exact, upper, rounding.up(upper + noise))
        lower, upper = (np.moveaxis(end, -1, axis) for end in (lower, upper))
        return NodeBounds(lower, upper, rounding.midpoint(lower, upper))

    def unstable(self, inputs: Sequence[NodeBounds]) -> tuple[Array, ...]:
        (x,) = inputs
        axis, varies = self.along(x.lower.ndim), x.lower < x.upper
        live = self.live(np.moveaxis(varies, axis, -1))
        return (varies if live is None else varies & np.moveaxis(live[None], -1, axis),)

    def relax(
        self,
        inputs: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
        carried: LinearCharge | None = None,
        slopes: NodeSlopes | None = None,
    ) -> RankOne:
        (x,) = inputs
        axis = self.along(x.lower.ndim)
        parts = (x.lower, x.upper, x.centre, x.radius)
        low, high, centre, radius = (np.moveaxis(part, axis, -1) for part in parts)
        live = self.live(low)
        floor, ceiling = _masked_image(low, high, live)
        noise = _masked_noise(low, high, ceiling, live) if how.guarantee == "float32" else 0.0
        if live is not None:
            hidden = _hidden(_least(low, live))
            low, high, centre = (np.where(live, part, hidden) for part in (low, high, centre))
            radius = np.where(live, radius, 0.0)
        with np.errstate(all="ignore"):
            lower = _below(low, high, centre, radius, floor, how.dtype)
            upper = _above(low, high, centre, radius, floor, ceiling, how.dtype)
        total = how.guarantee == "real" and x.lower.shape[axis] > 1
        return rank_one(axis, x, after, how.dtype, lower, upper, noise, total)

    def enclose(
        self,
        inputs: Sequence[Ellipsotope],
        before: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
    ) -> Ellipsotope | None:
        table = self.relax(before, after, how)
        return through_groups(table, inputs[0], before[0], after)


def _least(lower: Float64, live: Array) -> Float64:
    """The least lower end of the entries that take part, for every group."""
    return np.asarray(np.where(live, lower, np.inf).min(axis=-1, keepdims=True))


def _hidden(least: Float64) -> Float64:
    """A value so far below the entries of a group that exp of the difference is 0 in float64."""
    return least - 2000.0 - 1e-3 * abs(least)


def _masked_image(lower: Float64, upper: Float64, live: Array | None) -> tuple[Float64, Float64]:
    """`image` of the entries that take part; the others are 0, and one alone is 1."""
    if live is None:
        return image(lower, upper)
    least = _least(lower, live)
    with np.errstate(all="ignore"):
        hidden = _hidden(least)
        low, high = image(np.where(live, lower, hidden), np.where(live, upper, hidden), least)
    alone = live.sum(axis=-1, keepdims=True) == 1
    low, high = np.where(alone, 1.0, low), np.where(alone, 1.0, high)
    return np.where(live, low, 0.0), np.where(live, high, 0.0)


def _masked_noise(lower: Float64, upper: Float64, ceiling: Float64, live: Array | None) -> Float64:
    """`float32_noise` of the entries that take part: the others, and one alone, are exact."""
    if live is None:
        return float32_noise(lower, upper, ceiling)
    least = _least(lower, live)
    low, high = np.where(live, lower, least), np.where(live, upper, least)
    noise = float32_noise(low, high, ceiling)
    exact = ~live | (live.sum(axis=-1, keepdims=True) == 1)
    return np.where(exact & np.isfinite(noise), 0.0, noise)


def image(lower: Float64, upper: Float64, least: Float64 | None = None) -> tuple[Float64, Float64]:
    """Bounds of softmax over the last axis: entry k is least at l_k and the others' upper ends.

    ``least``: of each group's lower ends, where entries are among them that take no part.
    """
    error = 4 * EXP_ERROR + rounding.gamma_factor(2 * lower.shape[-1] + 16, np.float64)
    factors = [1 + sign * error for sign in (1.0, -1.0)]
    with np.errstate(all="ignore"):
        tops = lower.max(axis=-1, keepdims=True), upper.max(axis=-1, keepdims=True)
        apart = tops[1] - (lower.min(axis=-1, keepdims=True) if least is None else least)
        near = lower.shape[-1] > 1 and bool((apart <= NEAR).all())
        found = _near(lower, upper, *tops, factors) if near else _far(lower, upper, factors)
        low, high = found[0] * (1 - 2.0**-50) - TINY, found[1] * (1 + 2.0**-50) + TINY
    return np.fmax(low, 0.0), np.fmin(high, 1.0)  # 0 and 1 for NaN


def _near(
    lower: Float64, upper: Float64, low_top: Float64, high_top: Float64, factors: Sequence[float]
) -> tuple[Float64, Float64]:
    """e_k/(e_k + Σ_{j≠k} f_j·exp(top of f - top of e)), e and f powers about their tops."""
    low, high = np.exp(lower - low_top), np.exp(upper - high_top)
    more, less = (
        f * np.exp(s * (high_top - low_top)) for f, s in zip(factors, (1, -1), strict=True)
    )
    return low / (low + _rest(high) * more), high / (high + _rest(low) * less)


def _rest(powers: Float64) -> Float64:
    """For each entry the sum of the others; where it is more than these, a sum of its own.

    Elsewhere it is at least half of the total, whose rounding counts twice then. One entry of a
    group is at most more than the others: sums of numbers >= 0 grow with them, rounded as well.
    """
    found = powers.sum(axis=-1, keepdims=True) - powers
    leads = powers > found
    rows = leads.any(axis=-1)
    if rows.any():
        first, some = leads[rows], powers[rows]
        own = np.where(first, 0.0, some).sum(axis=-1, keepdims=True)
        found[rows] = np.where(first, own, found[rows])
    return np.asarray(found)


def _far(lower: Float64, upper: Float64, factors: Sequence[float]) -> tuple[Float64, Float64]:
    """1/(1 + Σ_{j≠k} exp(x_j - x_k)), the sum taken about the largest of the others."""
    ends = []
    for own, rest, factor in zip((lower, upper), (upper, lower), factors, strict=True):
        largest, total = others(rest)
        odds = np.where(total == 0, 0.0, total * np.exp(largest - own) * factor)
        ends.append(1 / (1 + odds))
    return ends[0], ends[1]


def others(x: Float64) -> tuple[Float64, Float64]:
    """For each entry the largest of the others, and Σ exp(others - largest): 0 for no others."""
    if x.shape[-1] == 1:
        return np.zeros_like(x), np.zeros_like(x)
    first = np.arange(x.shape[-1]) == x.argmax(axis=-1)[..., None]
    rest = np.where(first, -np.inf, x)
    largest, second = x.max(axis=-1, keepdims=True), rest.max(axis=-1, keepdims=True)
    with np.errstate(all="ignore"):
        powers = np.exp(x - largest)
        without = np.exp(rest - second).sum(axis=-1, keepdims=True)
    before, behind = np.zeros_like(x), np.zeros_like(x)
    before[..., 1:] = powers[..., :-1].cumsum(axis=-1)
    behind[..., :-1] = powers[..., :0:-1].cumsum(axis=-1)[..., ::-1]
    return np.where(first, second, largest), np.where(first, without, before + behind)


def float32_noise(lower: Float64, upper: Float64, ceiling: Float64) -> Float64:
    """How far float32 executions that subtract the maximum first may lie from softmax.

    Infinite for a whole group where one entry may have overflowed.
    """
    n = lower.shape[-1]
    with np.errstate(all="ignore"):
        apart = upper.max(axis=-1, keepdims=True) - lower.min(axis=-1, keepdims=True)
    known = np.isfinite(lower).all(axis=-1, keepdims=True)
    known &= np.isfinite(upper).all(axis=-1, keepdims=True)
    share, lost = float32_errors(n, apart)
    return np.where(known, share * ceiling + lost, np.inf)


def float32_errors(n: int, apart: Float64 | float = math.inf) -> tuple[Float64, float]:
    """Of n entries that lie ``apart``: executions of each are off by a share of it and a number."""
    power = 2.0**-20 + 2.0**-23 * np.minimum(apart, 128.0)
    return 2.02 * power + rounding.gamma_factor(n + 4, np.float32), (n + 4) * 2.0**-124


def _below(
    low: Float64, high: Float64, centre: Float64, radius: Float64, floor: Float64, dtype: Any
) -> Slopes:
    """Planes below; the constant ``floor`` where that is nowhere worse."""
    top = high.max(axis=-1, keepdims=True)
    middle = (0.5 * np.exp(low - top) + 0.5 * np.exp(high - top)).sum(axis=-1, keepdims=True)
    m = top + np.log(middle)
    weight, excess = chords(low - m, high - m, dtype)
    factor = _as_rows(np.exp(0.5 * low + 0.5 * high - m), dtype)
    log, z = np.log(np.where(factor > 0, factor, 1.0)), centre - m
    heights = weight * z + excess
    total = heights.sum(axis=-1, keepdims=True)
    size = (abs(weight * z) + abs(excess)).sum(axis=-1, keepdims=True)
    sums = rounding.gamma_factor(low.shape[-1] + 8, np.float64)
    error = VALUE_ERROR * (2 + abs(log) + abs(z)) + (sums + VALUE_ERROR) * size
    value = factor * (2 - log + z - total - error) - TINY
    group = times(weight, radius).sum(axis=-1, keepdims=True)
    peak = value + factor * (abs(1 - weight) * radius + group - times(weight, radius))
    use = (factor > 0) & np.isfinite(value) & np.isfinite(total) & (peak > floor)
    return _chosen(use, factor, weight, value, floor)


def chords(low: Float64, high: Float64, dtype: Any) -> tuple[Float64, Float64]:
    """Slopes w and intercepts b: w·z + b >= exp(z) on [low, high] and a rounding of these away."""
    width = high - low
    mean = np.where(width > 0, np.expm1(width) / np.where(width > 0, width, 1.0), 1.0)
    ends = np.exp(low), np.exp(high)
    steep = np.where(width > 1, (ends[1] - ends[0]) / np.where(width > 1, width, 1.0),
                     ends[0] * mean)  # fmt: skip
    weight = _as_rows(steep, dtype)
    excess = np.full_like(low, -np.inf)
    for end, power in zip((low, high), ends, strict=True):
        line = weight * end
        excess = np.maximum(excess, power - line + (EXP_ERROR * power + 2.0**-50 * abs(line)))
    return weight, excess + TINY


def _above(
    low: Float64,
    high: Float64,
    centre: Float64,
    radius: Float64,
    floor: Float64,
    ceiling: Float64,
    dtype: Any,
) -> Slopes:
    """Planes above; the constant ``ceiling`` where that is nowhere worse."""
    chance, total, most = gibbs(low, high, centre, radius, dtype)
    steep, over = _exp_chord(floor, ceiling, dtype)
    value = steep * most + over
    value = value + 2.0**-50 * (abs(steep * most) + abs(over)) + TINY
    group = times(chance, radius).sum(axis=-1, keepdims=True)
    least = value - steep * (abs(1 - chance) * radius + group - times(chance, radius))
    use = (steep > 0) & np.isfinite(value) & np.isfinite(total) & (least < ceiling)
    return _chosen(use, steep, chance, value, ceiling)


def gibbs(
    low: Float64, high: Float64, centre: Float64, radius: Float64, dtype: Any
) -> tuple[Float64, Float64, Float64]:
    """Probabilities q of the rows' type, their sum, and log p_k <= (this) + δ_k - Σ q·δ."""
    middle = np.clip(centre, low, high)
    middle = middle - middle.max(axis=-1, keepdims=True)
    m = centre.max(axis=-1, keepdims=True)
    chance = np.exp(middle)
    chance = _as_rows(chance / chance.sum(axis=-1, keepdims=True), dtype)
    total = chance.sum(axis=-1, keepdims=True)
    log, z = np.log(np.where(chance > 0, chance, 1.0)), centre - m
    mean = times(chance, z - log).sum(axis=-1, keepdims=True) / total
    size = times(chance, abs(z) + abs(log)).sum(axis=-1, keepdims=True) / total
    sums = rounding.gamma_factor(low.shape[-1] + 8, np.float64)
    astray = (abs(1 / total - 1) + 2 * sums) * times(chance, radius).sum(axis=-1, keepdims=True)
    log_total = np.log(total)
    error = VALUE_ERROR * (abs(z) + size + abs(log_total)) + 4 * sums * (1 + size)
    return chance, total, z - mean - log_total + error + astray * (1 + 2.0**-20)


def _exp_chord(floor: Float64, ceiling: Float64, dtype: Any) -> tuple[Float64, Float64]:
    """s and t: p <= s·log p + t for p in [floor, ceiling]; s is 0 where the floor is."""
    known = floor > 0
    low, high = np.where(known, floor, 1.0), np.where(known, ceiling, 1.0)
    ends = np.log(low), np.log(high)
    width = ends[1] - ends[0]
    steep = np.where(width > 2.0**-20, (high - low) / np.where(width > 0, width, 1.0), high)
    steep = np.where(known, _as_rows(steep, dtype), 0.0)
    over = np.full_like(low, -np.inf)
    for p, log in zip((low, high), ends, strict=True):
        over = np.maximum(over, p - steep * log + (VALUE_ERROR * abs(steep * log) + 2.0**-50 * p))
    return steep, np.where(known, over, ceiling)


def _chosen(
    use: Array, factor: Float64, weight: Float64, value: Float64, constant: Float64
) -> Slopes:
    """Planes factor·(x_k - Σ weight·x), the constant elsewhere."""
    factor = np.where(use, factor, 0.0)
    weight = np.where(use.any(axis=-1, keepdims=True), weight, 0.0)
    return Slopes(factor, factor, weight, np.where(use, value, constant))


def _as_rows(slope: Float64, dtype: Any) -> Float64:
    """Rounded to the rows' type; any finite number >= 0 is valid."""
    cast = slope.astype(dtype).astype(np.float64)
    return np.where(np.isfinite(cast), cast, 0.0)
