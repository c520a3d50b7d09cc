"""Affine forms of a node in the input: where rows of later nodes may end before they reach it.

Rows of all neurons of a node v that every path passes say, for inputs x and δ = x - (its centre),

    M·δ + below <= v - (its centre) <= M·δ + above,

one matrix for both sides; where the two sides' rows differ, the difference times the radius is in
the constants. A row a over v is then at least (a·M)·δ + max(a, 0)·below + min(a, 0)·above: one
product takes the place of the walk through all nodes before v (affine arithmetic: Stolfi and de
Figueiredo 1997). The constants are summed by their size, a loss that rows which go on do not have.
So only first bounds of inner neurons end there; other affine forms, neurons that decide much,
outputs and questions have rows that go all the way, and the loss does not grow from node to node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import TINY, UNDERFLOW, inflated, outward_constant, sum_up
from gamma.ops.tables import add_constants
from gamma.tensor import rounding

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AffineForms:
    """Forms of the n neurons of a node in the m inputs that vary.

    Attributes:
        matrix: (B, n, m). columns: int64 (m,), of the flat input; ``size`` of them in all.
        below, above: float64 (B, n), about the node's centre. loss: float64 (B,).
    """

    matrix: Array
    columns: Indices
    size: int
    below: Float64
    above: Float64
    loss: Float64

    def back(self, rows: Array, d: Float64, box: Indices) -> Array:
        """Rows (R, n) over the node to rows (R, size) over the input; d gets the constants."""
        up, down = np.maximum(rows, 0), np.minimum(rows, 0)
        add_constants(up, down, d, box, self.below, self.above)
        d -= self.loss[box]
        made = np.zeros((len(rows), self.size), rows.dtype)
        some = np.flatnonzero(rows.any(axis=0))  # rows of one position know nothing of the others
        for one in np.unique(box):
            at = np.flatnonzero(box == one)
            made[np.ix_(at, self.columns)] = rows[np.ix_(at, some)] @ self.matrix[one][some]
        return made


def affine_forms(
    lower: tuple[Array, Float64],
    negated: tuple[Array, Float64],
    node: NodeBounds,
    source: NodeBounds,
    columns: Indices,
) -> AffineForms:
    """Forms from rows of all neurons and of their negatives.

    Args:
        lower, negated: rows (B, n, m) and constants (B, n): v >= rows·δ + constant, and of -v.
        node, source: bounds of v and of the input; ``columns``: the inputs that vary.
    """
    dtype, batch = lower[0].dtype, len(lower[0])
    n, m = lower[0].shape[1:]
    reach = inflated(source.radius.reshape(batch, -1)[:, columns])
    centre = node.centre.reshape(batch, -1)
    matrix = (0.5 * lower[0] - 0.5 * negated[0]).astype(dtype)
    # What the product with a row loses: sums of n terms in the rows' type.
    product = rounding.gamma_factor(n + 4, dtype) * (1 + 2.0**-20)
    rounded = product * np.einsum("bnm,bm->bn", abs(matrix), reach, dtype=np.float64)
    ends = []
    for rows, constant, sign, side in ((*lower, -1.0, 1), (*negated, 1.0, -1)):
        apart = abs(rows.astype(np.float64) - side * matrix.astype(np.float64))
        charge = np.einsum("bnm,bm->bn", apart, reach) + rounded
        charge = charge * (1 + rounding.gamma_factor(m + 8, np.float64)) * (1 + 2.0**-40)
        made = outward_constant(side * constant, np.zeros_like(charge), centre, charge, sign)
        ends.append(np.where(np.isnan(made), sign * np.inf, made))
    loss = 2 * n * UNDERFLOW[dtype] * sum_up(reach) + TINY
    size = source.lower[0].size
    return AffineForms(matrix, columns, size, ends[0], ends[1], loss)


def largest_gaps(op: Any, inside: NodeBounds) -> npt.NDArray[np.bool_]:
    """Neurons (B, size) whose lines are furthest apart: all others' gaps are a small share.

    None where ``op`` is no activation. Only a choice: bounds of any neuron are proved.
    """
    batch = len(inside.lower)
    if not (op.diagonal and hasattr(op, "lines")):
        return np.zeros((batch, inside.lower[0].size), bool)
    lines = op.lines(inside.lower, inside.upper, np.float64)
    gap = (lines.upper_slope - lines.lower_slope) * inside.centre
    gap = (gap + lines.upper_intercept - lines.lower_intercept).reshape(batch, -1)
    gap = np.where(np.isfinite(gap), np.maximum(gap, 0.0), np.inf)
    order = np.argsort(gap, axis=1)
    total = np.take_along_axis(gap, order, axis=1).cumsum(axis=1)
    chosen = np.empty_like(gap, bool)
    np.put_along_axis(chosen, order, total > SMALL_GAPS * total[:, -1:], axis=1)
    return chosen | ~np.isfinite(gap)


SMALL_GAPS = 0.1
"""Share of all gaps that neurons without rows of their own may have."""
