"""Planes about c/√v: c an entry less its group's mean, or as it is; v its mean square + epsilon.

With δ = x - x0 and w = 1/√v,

    c = c0 + δ - mean(δ)   (c0 + δ where nothing is subtracted)
    v is from 0 to Σ δ²/d above v0 + Σ tilt·δ,   tilt = (2/d)·c0
    w is between its chord over v's bounds and the parallel tangent, both of slope -λ
    c·w = s·w + ω·(c - s) + (c - s)·(w - ω),   for any ω and s; s is c0, rounded

The last product is at most as large as its factors. A row over c·w meets c, entry by entry, and w
with one coefficient for each group, Σ row·s, in which terms of both signs cancel: only what is left
of it pays for the gap between the lines of w. (Two steps of a McCormick relaxation; the
intermediate value w stays inside.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.frozen import Frozen
from gamma.ops.bounds import Forms, NodeBounds
from gamma.ops.charges import TINY, UNDERFLOW, outward_constant, sum_up
from gamma.ops.rank_one import times
from gamma.runtime import workers
from gamma.tensor import kernels, rounding

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_SHARED = 1 << 12
"""Entries from which on threads share the groups of a call: some 100 µs."""


class Quotients(Frozen, eq=True):
    """Lines of every entry of a node, as rows meet them, and what underflow costs (B,)."""

    planes: kernels.Planes
    loss: Float64

    def back(self, rows: Array, d: Float64, box: Indices) -> tuple[Array, ...]:
        # Each entry chooses its side: its constant, and whether it takes the plane.
        taken = np.ascontiguousarray(rows)
        kernels.pass_planes(self.planes, taken, d, box)
        return (taken,)

    def forward(self, rows: Array, inputs: tuple[Array, ...], box: Indices) -> Array:
        x = np.ascontiguousarray(inputs[0], rows.dtype).reshape(rows.shape)
        return kernels.plane_lines(self.planes, rows, x, box)


class Group(Frozen, eq=True):
    """What is known of c and v in groups (B, G, n).

    Attributes:
        centre: c0. lower, upper: of c. astray: at least |c - c0 - δ + Σ shared·δ|.
        least, most: of v (B, G, 1). base: v0. shared: 1/n as rows have it, or 0.
        tilt: slopes of v. below, above: v - base - Σ tilt·δ lies from -below to above.
    """

    centre: Float64
    lower: Float64
    upper: Float64
    astray: Float64
    least: Float64
    most: Float64
    base: Float64
    shared: float
    tilt: Float64
    below: Float64
    above: Float64


def forms(x: NodeBounds, centred: bool) -> Array:
    """Weights (B, G, K, n) whose forms say how v, and the mean, move about ``x``'s centre.

    Numbers of float32, so that rows of any type hold them.
    """
    c = x.centre - x.centre.mean(axis=-1, keepdims=True) if centred else x.centre
    n = c.shape[-1]
    tilt = np.asarray(2 / n * c).astype(np.float32)
    if not centred:
        return tilt[..., None, :]
    return np.stack((tilt, np.full_like(tilt, 1 / n)), axis=-2)


def group(
    x: NodeBounds,
    epsilon: float,
    centred: bool,
    least: Float64,
    known: Forms | None,
    square: Float64 | float = np.inf,
) -> Group:
    """Bounds of c and v on ``x`` (B, G, n); ``least`` is a lower bound of v.

    ``square``: at least mean(δ²), δ less its mean where c is, if more is known than the box.
    """
    n, radius, c = x.lower.shape[-1], x.radius, x.centre
    weights = forms(x, centred) if known is None else known.weights
    made = _at_once(x, epsilon, centred, weights, known, square)
    if made is not None:
        return replace(made, least=np.fmax(least, made.least))
    weights = weights.astype(np.float64)
    low, high = _moves(weights, x, known)
    sums, shared = _sums(2 * n), 0.0
    lost = astray = np.zeros_like(radius)
    reach = radius, radius
    if centred:
        c = c - c.mean(axis=-1, keepdims=True)
        lost = sums * abs(x.centre).mean(axis=-1, keepdims=True) + 2.0**-52 * abs(x.centre)
        total, shared = radius.sum(axis=-1, keepdims=True), float(np.float32(1 / n))
        astray = (abs(shared - 1 / n) + 2.0**-52 / n) * total * (1 + sums) + lost
        most = (radius * (1 - 1 / n) + (total - radius) / n) * (1 + sums) + sums * total / n
        slack = astray + 2.0**-50 * (radius + abs(low[..., 1:]) + abs(high[..., 1:]))
        reach = (
            np.fmin(most + lost, radius + high[..., 1:] + slack),
            np.fmin(most + lost, radius - low[..., 1:] + slack),
        )
    base = (c * c).mean(axis=-1, keepdims=True) + epsilon
    tilt = weights[..., 0, :]
    off = abs(tilt - 2 / n * c) + 2.0**-50 * abs(tilt) + 2 / n * lost
    error = (lost * (2 * abs(c) + lost)).mean(axis=-1, keepdims=True)
    error = error + times(off, radius).sum(axis=-1, keepdims=True)
    error = error * (1 + sums) + (sums + 2.0**-50) * base + TINY
    curve = (radius * radius).mean(axis=-1, keepdims=True) * (1 + sums)
    curve = np.fmin(curve, square) + error
    return Group(
        centre=c,
        lower=rounding.down(c - reach[0]),
        upper=rounding.up(c + reach[1]),
        astray=astray,
        least=np.fmax(least, (base + low[..., :1] - error) * (1 - 2.0**-50)),
        most=(base + high[..., :1] + curve) * (1 + 2.0**-50),
        base=base,
        shared=shared,
        tilt=tilt,
        below=error,
        above=curve,
    )


def _at_once(
    x: NodeBounds,
    epsilon: float,
    centred: bool,
    weights: Array,
    known: Forms | None,
    square: Float64 | float,
) -> Group | None:
    """`group` in one call of the C library; None without it."""
    if kernels.isa == "numpy":
        return None
    count, groups, n = x.lower.shape
    parts = (x.lower, x.upper, x.centre, x.radius)
    low, high, centre, radius = (np.ascontiguousarray(part.reshape(-1, n)) for part in parts)
    made = kernels.groups(
        kernels.Groups(low, high, centred, epsilon, centre, radius),
        np.ascontiguousarray(weights.reshape(count * groups, -1, n)),
        None if known is None else (known.lower, known.upper),
        np.ascontiguousarray(square).reshape(-1) if isinstance(square, np.ndarray) else None,
        sharing(low.size),
    )
    if made is None:
        return None
    middle, lower, upper, astray, tilt = made[0].reshape(5, count, groups, n)
    least, most, base, below, above = made[1].reshape(5, count, groups, 1)
    return Group(
        centre=middle,
        lower=lower,
        upper=upper,
        astray=astray,
        least=least,
        most=most,
        base=base,
        shared=float(np.float32(1 / n)) if centred else 0.0,
        tilt=tilt,
        below=below,
        above=above,
    )


def _moves(weights: Float64, x: NodeBounds, known: Forms | None) -> tuple[Float64, Float64]:
    """Bounds (B, G, K) of Σ w·(x - centre): of the box, and of the rows where there are any."""
    sums = _sums(2 * weights.shape[-1])
    reach = times(abs(weights), x.radius[..., None, :]).sum(axis=-1) * (1 + sums)
    if known is None:
        return -reach, reach
    terms = weights * x.centre[..., None, :]
    middle, error = terms.sum(axis=-1), sums * abs(terms).sum(axis=-1) + TINY
    low, high = known.lower - middle, known.upper - middle
    error = error + 2.0**-50 * (abs(middle) + abs(known.lower) + abs(known.upper))
    return np.fmax(-reach, low - error), np.fmin(reach, high + error)


def met(image: tuple[Float64, Float64], known: Group) -> tuple[Float64, Float64]:
    """Bounds of c/√v that are in ``image`` as well, infinite where that is."""
    ends = []
    for c, bound in ((known.lower, image[0]), (-known.upper, -image[1])):
        end = c / np.sqrt(np.where(c >= 0, known.most, known.least))
        end = np.fmax(bound, end - 2.0**-50 * abs(end) - TINY)
        ends.append(np.where(np.isfinite(bound), end, bound))
    return ends[0], -ends[1]


def quotients(
    x: NodeBounds,
    after: NodeBounds,
    known: Group,
    floor: Float64,
    ceiling: Float64,
    noise: Float64 | float,
    dtype: np.dtype[Any],
) -> Quotients:
    """Planes where they are above ``floor`` (below ``ceiling``) at the centre, else these.

    ``noise``: how far an execution may lie from the function.
    """
    n, radius = x.radius.shape[-1], x.radius
    w = reciprocal(known, radius, dtype)
    root, steep, tilt, gap = w.root, w.steep, w.tilt, w.gap
    reach = np.maximum(known.upper - steep, steep - known.lower) * (1 + 2.0**-50)
    rest = reach * w.stray + root * known.astray
    slide = times(abs(tilt), radius).sum(axis=-1, keepdims=True)
    wide = np.maximum(abs(gap[0]), abs(gap[1]))
    # Entry by entry what rows lose: their sums over the group are taken in their own type.
    lost = root * (radius + known.shared * radius.sum(axis=-1, keepdims=True))
    lost = (lost + abs(steep) * (slide + wide)) * rounding.gamma_factor(n + 6, dtype)
    line, charge = known.centre * root, (rest + lost) * (1 + 2.0**-20)
    sides = []
    for sign, bound in ((-1.0, floor), (1.0, ceiling)):
        across = np.where(sign * steep < 0, gap[0], gap[1]) * steep
        use = sign * (line + across - bound) + charge < 0
        use &= np.isfinite(lost + line)
        cost = np.where(use, charge, 0.0) + noise
        made = outward_constant(
            np.where(use, line, bound), np.zeros_like(line), after.centre, cost, sign
        )
        made = np.where(np.isnan(made), sign * np.inf, made)
        sides.append((use.astype(dtype), np.ascontiguousarray(made.reshape(len(made), -1))))
    (below, low), (above, high) = sides
    some = (below + above).any(axis=-1, keepdims=True)
    root, steep, tilt = (np.where(some, part, 0.0) for part in (root, steep, tilt))
    ends = np.where(some, gap[0], 0.0), np.where(some, gap[1], 0.0)
    each = times(np.where(some, 4 + root, 0.0), radius).sum(axis=-1, keepdims=True)
    loss = sum_up(each + np.where(some, n * (slide + wide), 0.0))
    loss = 2 * UNDERFLOW[dtype] * loss + TINY
    planes = kernels.Planes(
        root=root.astype(dtype)[..., 0],
        steep=np.ascontiguousarray(steep, dtype),
        tilt=np.ascontiguousarray(tilt, dtype),
        shared=known.shared,
        below=np.ascontiguousarray(below).reshape(len(below), -1),
        above=np.ascontiguousarray(above).reshape(len(above), -1),
        gap=(np.ascontiguousarray(ends[0][..., 0]), np.ascontiguousarray(ends[1][..., 0])),
        lower_const=low,
        upper_const=high,
        sums=_sums(root.shape[1]),
    )
    return Quotients(planes, loss)


def sharing(entries: int) -> int:
    """Threads of a call over the groups of a node of so many entries."""
    return workers.sharing() if entries > _SHARED else 1


def quotients_at_once(
    x: NodeBounds,
    after: NodeBounds,
    epsilon: float,
    centred: bool,
    known: Forms | None,
    dtype: np.dtype[Any],
) -> Quotients | None:
    """`quotients` between the node's own bounds ``after``, with all that they ask for, in one call
    of the C library; None without it."""
    count, groups, n = x.lower.shape
    if kernels.isa == "numpy":
        return None
    parts = x.lower, x.upper, x.centre, x.radius, after.lower, after.upper, after.centre
    low, high, centre, radius, floor, ceiling, middle = (
        np.ascontiguousarray(part.reshape(-1, n)) for part in parts
    )
    given = kernels.Groups(
        low,
        high,
        centred,
        epsilon,
        centre,
        radius,
        rounding.gamma_factor(n + 6, dtype),
        dtype == np.float32,
        rounding.gamma_factor(groups * n + 8, np.float64),
    )
    weights = forms(x, centred) if known is None else known.weights
    made = kernels.quotients(
        given,
        np.ascontiguousarray(weights.reshape(len(given.lower), -1, n)),
        None if known is None else (known.lower, known.upper),
        (floor, ceiling),
        middle,
        sharing(low.size),
    )
    if made is None:
        return None
    lines, each = made
    steep, tilt, below, above, low, high = lines.reshape(6, count, groups * n)
    root, *gap, loss = each.reshape(4, count, groups)
    root, steep, tilt, below, above = (
        part.astype(dtype, copy=False) for part in (root, steep, tilt, below, above)
    )
    planes = kernels.Planes(
        root=root,
        steep=steep.reshape(count, groups, n),
        tilt=tilt.reshape(count, groups, n),
        shared=float(np.float32(1 / n)) if centred else 0.0,
        below=below,
        above=above,
        gap=(gap[0], gap[1]),
        lower_const=low,
        upper_const=high,
        sums=_sums(groups),
    )
    return Quotients(planes, 2 * UNDERFLOW[dtype] * sum_up(loss) + TINY)


class Reciprocal(Frozen, eq=True):
    """1/√v - root is from gap[0] to gap[1] less Σ tilt·δ, and never larger than ``stray``.

    ``steep`` is c0; all are rounded as rows have them.
    """

    root: Float64
    steep: Float64
    tilt: Float64
    gap: tuple[Float64, Float64]
    stray: Float64


def reciprocal(known: Group, radius: Float64, dtype: np.dtype[Any]) -> Reciprocal:
    """The lines of 1/√v between its ends."""
    largest, smallest = 1 / np.sqrt(known.least), 1 / np.sqrt(known.most)
    root = _as_rows(0.5 * largest + 0.5 * smallest, dtype)
    steep = _as_rows(known.centre, dtype)
    slope = 1 / (known.least * np.sqrt(known.most) + known.most * np.sqrt(known.least))
    tilt = _as_rows(slope * known.tilt, dtype)
    gap = _gap(known, slope, tilt, root, radius)
    stray = np.maximum(largest - root, root - smallest) * (1 + 2.0**-40) + 2.0**-50 * root
    return Reciprocal(root, steep, tilt, gap, stray)


def _gap(
    known: Group, slope: Float64, tilt: Float64, root: Float64, radius: Float64
) -> tuple[Float64, Float64]:
    """Bounds of 1/√v - root + Σ tilt·δ, by the lines of ``slope`` less in v than 0."""
    mean = times(abs(tilt - slope * known.tilt), radius).sum(axis=-1, keepdims=True)
    mean = mean * (1 + _sums(radius.shape[-1])) + 2.0**-50 * slope * times(
        abs(known.tilt), radius
    ).sum(axis=-1, keepdims=True)
    touch, far = 3 * np.cbrt(0.25 * slope), slope * (known.base + known.above)
    low = touch - far - root - mean
    low = low - 2.0**-48 * (touch + far + root + mean) - TINY
    high = np.asarray(-np.inf)
    for v in (known.least, known.most):
        parts = 1 / np.sqrt(v), slope * (v - known.base), slope * known.below
        end = parts[0] + parts[1] + parts[2] - root + mean
        size = parts[0] + abs(parts[1]) + parts[2] + root + mean
        high = np.fmax(high, end + 2.0**-48 * size + TINY)
    return low, high


def _sums(n: int) -> float:
    """What a float64 sum of n products, and a few operations more, err by."""
    return rounding.gamma_factor(n + 16, np.float64)


def _as_rows(slope: Float64, dtype: np.dtype[Any]) -> Float64:
    """Rounded to the rows' type; any finite number is valid."""
    return slope.astype(dtype).astype(np.float64)
