"""Planes whose slopes are a diagonal less a product of two vectors, and rows that pass them.

Functions that divide a vector by a sum over it, softmax and root-mean-square normalisation, have
such derivatives. Within each group of n entries, output k is bounded by

    d_k·(x_k - c_k) - h_k·Σ_j w_j·(x_j - c_j) + (a constant),

so a row passes in O(n) instead of O(n²). Any d, h, w are valid: the operator proves the constant
for these very numbers; what rounding them in rows costs is added here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import TINY, UNDERFLOW, outward_constant, sum_up
from gamma.ops.simplex import Simplex
from gamma.ops.tables import add_constants
from gamma.tensor import rounding

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Slopes(Frozen, eq=True):
    """One side's planes: arrays (B, *outer, n), the group's axis last.

    ``value``: at the input's centre, rounded outward; a table keeps it as a constant (B, size).
    """

    diagonal: Array
    share: Array
    weight: Array
    value: Float64

    def at(self, x: Array, box: Indices) -> Array:
        """The planes without their constants, at points (R, *outer, n) about the centre."""
        d, h, w = (_of(part, box) for part in (self.diagonal, self.share, self.weight))
        result: Array = d * x - h * (w * x).sum(axis=-1, keepdims=True)
        return result

    def back(self, rows: Array, box: Indices) -> Array:
        """Rows (R, *outer, n) times the slopes."""
        d, h, w = (_of(part, box) for part in (self.diagonal, self.share, self.weight))
        result: Array = rows * d - (rows * h).sum(axis=-1, keepdims=True) * w
        return result


def _of(table: Array, box: Indices) -> Array:
    return table if len(table) == 1 else table[box]


class RankOne(Frozen, eq=True):
    """`Slopes` of both sides over groups along ``axis`` of the node's ``shape``.

    ``simplex``: the node's groups sum to one.
    """

    shape: tuple[int, ...]
    axis: int
    lower: Slopes
    upper: Slopes
    loss: Float64
    simplex: Simplex | None = None

    def _grouped(self, flat: Array) -> Array:
        return np.moveaxis(flat.reshape(len(flat), *self.shape), self.axis, -1)

    def _flat(self, grouped: Array) -> Array:
        return np.moveaxis(grouped, -1, self.axis).reshape(len(grouped), -1)

    def sides(self, x: Array) -> tuple[Array, Array]:
        """Both sides' planes of the first box, without constants, at points (R, size)."""
        grouped, first = self._grouped(x), np.zeros(1, np.int64)
        return self._flat(self.lower.at(grouped, first)), self._flat(self.upper.at(grouped, first))

    def absolute(self) -> RankOne:
        """Planes that are at least the sizes of these planes' terms, for points >= 0."""
        below, above = (
            Slopes(abs(s.diagonal), -abs(s.share), abs(s.weight), s.value)
            for s in (self.lower, self.upper)
        )
        return RankOne(self.shape, self.axis, below, above, self.loss)

    def back(self, rows: Array, d: Float64, box: Indices) -> tuple[Array, ...]:
        if self.simplex is not None:
            rows = self._flat(self.simplex.shifted(self._grouped(rows), d, box))
        up, down = np.maximum(rows, 0), np.minimum(rows, 0)
        add_constants(up, down, d, box, self.lower.value, self.upper.value)
        passed = self.lower.back(self._grouped(up), box)
        return (self._flat(passed + self.upper.back(self._grouped(down), box)),)

    def forward(self, rows: Array, inputs: tuple[Array, ...], box: Indices) -> Array:
        x = self._grouped(inputs[0])
        low, high = (self._flat(side.at(x, box)) for side in (self.lower, self.upper))
        low, high = low + self.lower.value[box], high + self.upper.value[box]
        if self.simplex is None:
            return np.where(rows >= 0, low, high)
        grouped, nothing = self._grouped(rows), np.zeros(len(rows))
        used = self._flat(self.simplex.shifted(grouped, nothing, box))
        values = self._grouped(np.where(used >= 0, low, high))
        return self._flat(self.simplex.moved(grouped, values, box))


def rank_one(
    axis: int,
    x: NodeBounds,
    after: NodeBounds,
    dtype: np.dtype[Any],
    lower: Slopes,
    upper: Slopes,
    noise: Float64 | float = 0.0,
    total: bool = False,
) -> RankOne:
    """Tables of planes whose slopes are numbers of ``dtype``; ``axis`` counts the batch axis.

    ``noise`` (B, *outer, n) is how far an execution may lie from the function. ``total``: the
    node's groups sum to exactly one.
    """
    radius, centre = (np.moveaxis(part, axis, -1) for part in (x.radius, after.centre))
    n = radius.shape[-1]
    factor = rounding.gamma_factor(n + 4, dtype) * (1 + 2.0**-20)
    sides, loss = [], np.full(len(radius), TINY)
    for side, sign in ((lower, -1.0), (upper, 1.0)):
        size = times(abs(side.weight), radius).sum(axis=-1, keepdims=True)
        reach = times(abs(side.diagonal), radius) + times(abs(side.share), size)
        value, zero = side.value + sign * noise, np.zeros_like(side.value)
        made = outward_constant(value, zero, centre, factor * reach, sign)
        made = np.where(np.isnan(made), sign * np.inf, made)
        flat = np.ascontiguousarray(np.moveaxis(made, -1, axis).reshape(len(made), -1))
        diagonal, share, weight = (
            np.ascontiguousarray(part, dtype=dtype)
            for part in (side.diagonal, side.share, side.weight)
        )
        sides.append(Slopes(diagonal, share, weight, flat))
        lost = times(2 + n * abs(side.weight), radius)
        loss = loss + 2 * UNDERFLOW[dtype] * sum_up(lost)
    reach, gap = np.moveaxis(after.radius, axis, -1), upper.value - lower.value
    simplex = Simplex.of(centre, reach, gap, dtype) if total else None
    return RankOne(after.centre.shape[1:], axis, sides[0], sides[1], loss, simplex)


def times(factor: Float64, radius: Float64) -> Float64:
    """factor·radius where a zero factor asks nothing of an infinite radius."""
    with np.errstate(invalid="ignore"):
        return np.where(factor == 0, 0.0, factor * radius)
