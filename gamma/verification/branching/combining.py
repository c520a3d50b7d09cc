"""Rows of a conjunction added up: what none of them excludes alone, their sum may.

An unsafe input of a group has every row's value <= 0, and so every sum of them with weights >= 0.
The weights that are best for the rows' linear forms on a box solve a linear programme; a few steps
of exponentiated gradient (Kivinen and Warmuth 1997) come near, and the mean of the inputs met on
the way comes near the programme's own solution, the input at which the largest row is least.
Weights are hints: the sum is bounded with all of its roundings.
"""

from __future__ import annotations

import numpy as np

from gamma.tensor import rounding
from gamma.verification.branching.clipping import Cuts, Float64

STEPS = 16


def combined(cuts: Cuts, lower: Float64, upper: Float64) -> tuple[Cuts, Float64]:
    """Cuts with a sum of its rows added to each group of several, and a point of each group.

    The sums hold on the boxes (groups, inputs). The points (groups, inputs) lie in them.
    """
    group, count = cuts.group, cuts.count
    points = np.where(cuts.a > 0, lower[group], upper[group])[cuts.begin]
    several = count > 1
    if not several.any():
        return cuts, points
    part = cuts.take(several)
    low, high = lower[several], upper[several]
    a, d, there = _padded(part)
    c = part.c[part.begin]
    with np.errstate(all="ignore"):
        weight, points[several] = _weights(a, d, there, c, low, high)
        total = _sum(weight, a, d, np.maximum(abs(low - c), abs(high - c)))
    strict = np.logical_and.reduceat(part.strict, part.begin)
    weights = np.zeros((len(count), weight.shape[1]))
    weights[several] = weight
    at = (cuts.begin + count)[several]
    begin = cuts.begin + np.cumsum(several) - several
    return Cuts(
        np.insert(cuts.a, at, total[0], axis=0),
        np.insert(cuts.c, at, c, axis=0),
        np.insert(cuts.d, at, total[1]),
        np.insert(cuts.strict, at, strict),
        begin,
        weights,
    ), points


def _padded(cuts: Cuts) -> tuple[Float64, Float64, Float64]:
    """Rows (groups, most rows, inputs), constants, and 1.0 where there is a row."""
    slot = np.arange(len(cuts.d)) - np.repeat(cuts.begin, cuts.count)
    shape = len(cuts.begin), int(cuts.count.max())
    a, d, there = np.zeros((*shape, cuts.a.shape[1])), np.zeros(shape), np.zeros(shape)
    at = cuts.group, slot
    a[at], d[at], there[at] = cuts.a, cuts.d, 1.0
    return a, d, there


def _weights(
    a: Float64, d: Float64, there: Float64, c: Float64, low: Float64, high: Float64
) -> tuple[Float64, Float64]:
    """Weights (groups, rows) for which the sum's least value is large, and points in the boxes."""
    middle, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    form = a * half[:, None, :]
    value = d + np.einsum("grn,gn->gr", a, middle - c)
    # Rows may be in different units.
    size = np.maximum(abs(form).sum(axis=2) + abs(value), 1e-300)
    form, value = form / size[..., None], value / size
    weight = there / there.sum(axis=1, keepdims=True)
    best, least = weight, np.full(len(a), -np.inf)
    mean, steps = np.zeros_like(middle), 0.0
    for step in range(STEPS):
        slope = np.einsum("gr,grn->gn", weight, form)
        found = (weight * value).sum(axis=1) - abs(slope).sum(axis=1)
        better = found > least
        least = np.where(better, found, least)
        best = np.where(better[:, None], weight, best)
        corner = -np.sign(slope)
        rate = 2.0 / np.sqrt(step + 1.0)
        mean, steps = mean + rate * corner, steps + rate
        met = np.einsum("grn,gn->gr", form, corner) + value
        weight = weight * np.exp(rate * (met - met.max(axis=1, keepdims=True)))
        weight = weight / weight.sum(axis=1, keepdims=True)
    best = np.where(np.isfinite(best), best, 0.0) / size
    mean = np.where(np.isfinite(mean), mean, 0.0)
    points = np.clip(middle + half * (mean / steps), low, high)
    return best, points


def _sum(weight: Float64, a: Float64, d: Float64, reach: Float64) -> tuple[Float64, Float64]:
    """Coefficients and a sound constant of the weighted sums of rows; ``reach``: of |x - c|."""
    g = rounding.gamma_factor(a.shape[1] + 8, np.float64) * (1 + 2.0**-40)
    total = np.einsum("gr,grn->gn", weight, a)
    doubt = (np.einsum("gr,grn->gn", weight, abs(a)) * g + 2.0**-1000) * reach
    charge = (weight * abs(d)).sum(axis=1) * g + doubt.sum(axis=1) * (1 + 2.0**-40) + 2.0**-1000
    return total, (weight * d).sum(axis=1) - charge
