"""Boxes cut by linear bounds: what lies beyond is proved (Clip-and-Verify: Zhou et al. 2025).

A row says  value >= a·(x - c) + d  on a box. An unsafe input has value <= 0, so that it meets
a·(x - c) + d <= 0: the box shrinks to the inputs that can. With M the least value over the box, an
input with a_i > 0 has x_i <= l_i - M/a_i, and one with a_i < 0 has x_i >= u_i - M/a_i. Every
operation is rounded so that the box that is left is the larger one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor import rounding

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]

PASSES = 2
"""How often all rows cut: each pass starts from what the one before left."""


class Cuts(Frozen):
    """Rows about boxes: a (rows, inputs), c (rows, inputs), d (rows,).

    ``strict``: bool (rows,), the unsafe inputs of the row have value < 0 and not only <= 0.
    ``begin``: where the rows of each group begin; a group's unsafe inputs meet all of its rows.
    ``weight``: (groups, most rows), of the sum at a group's end, all 0 where there is none; lost
    when groups are chosen.
    """

    a: Float64
    c: Float64
    d: Float64
    strict: Bool
    begin: Int64
    weight: Float64 | None = None

    @property
    def group(self) -> Int64:
        """The group of each row."""
        return np.repeat(np.arange(len(self.begin)), self.count)

    @property
    def count(self) -> Int64:
        """How many rows each group has."""
        found: Int64 = np.diff(np.append(self.begin, len(self.d)))
        return found

    def take(self, groups: Bool) -> Cuts:
        """The chosen groups alone."""
        rows, count = np.repeat(groups, self.count), self.count[groups]
        begin = np.cumsum(count) - count
        return Cuts(self.a[rows], self.c[rows], self.d[rows], self.strict[rows], begin)

    def twice(self) -> Cuts:
        """All groups, and all of them once more."""
        each = np.tile(np.arange(len(self.d)), 2)
        begin = np.concatenate((self.begin, self.begin + len(self.d)))
        return Cuts(self.a[each], self.c[each], self.d[each], self.strict[each], begin)


def least(cuts: Cuts, lower: Float64, upper: Float64) -> Float64:
    """Sound lower bounds (rows,) of rows over boxes (rows, inputs)."""
    corner = np.where(cuts.a > 0, lower, upper) - cuts.c
    terms = cuts.a * corner
    g = rounding.gamma_factor(terms.shape[1] + 8, np.float64)
    size = abs(terms).sum(axis=1) + abs(cuts.d)
    value = cuts.d + terms.sum(axis=1) - size * g * (1 + 2.0**-40) - 2.0**-1000
    found: Float64 = np.where(np.isnan(value), -np.inf, value)
    return found


def clip(cuts: Cuts, lower: Float64, upper: Float64) -> tuple[Float64, Float64, Bool]:
    """Boxes (groups, inputs) cut by their rows, and which of them are proved: nothing is left."""
    group, empty = cuts.group, np.zeros(len(lower), bool)
    with np.errstate(all="ignore"):
        for number in range(PASSES + 1):
            value = least(cuts, lower[group], upper[group])
            beyond = np.isfinite(value) & np.where(cuts.strict, value >= 0, value > 0)
            empty |= np.logical_or.reduceat(beyond, cuts.begin)
            if number == PASSES:
                break
            low, high = _cut(cuts, value, lower[group], upper[group])
            lower = np.maximum.reduceat(low, cuts.begin)
            upper = np.minimum.reduceat(high, cuts.begin)
            crossed = np.asarray((lower > upper).any(axis=1))
            empty |= crossed
            lower = np.where(crossed[:, None], upper, lower)
    return lower, upper, empty


def _cut(cuts: Cuts, value: Float64, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
    """Each row's box, cut by that row; ``value`` is its least value there."""
    # `least` takes γ(n + 8) of the terms where n + 4 roundings happen: the quotient's is covered.
    room = np.maximum(-value, 0.0)[:, None] / abs(cuts.a)
    room = np.where(np.isnan(room), np.inf, room)  # rows that overflow cut nothing
    high = np.minimum(upper, np.nextafter(lower + room, np.inf))
    low = np.maximum(lower, np.nextafter(upper - room, -np.inf))
    # A coefficient of 0 cuts nothing.
    return np.where(cuts.a < 0, low, lower), np.where(cuts.a > 0, high, upper)
