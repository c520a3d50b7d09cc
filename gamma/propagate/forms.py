"""Rows of the linear forms that an operator's relaxation asks for (`gamma.ops.bounds.Forms`).

The mean and the first-order variance of a group of neurons vary far less than the sum of what its
neurons may: as few rows as groups bound them through all earlier layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.ops.bounds import Forms
from gamma.ops.charges import TINY
from gamma.propagate.rows.block import Frontier, dense
from gamma.tensor import rounding

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def both_signs(
    source: int, weights: Array, block: slice, dtype: np.dtype[Any]
) -> tuple[Frontier, Indices]:
    """Rows over node ``source`` of the forms ``block``, then of their negatives, and their boxes.

    ``weights`` are (B, G, K, n), numbers of float32; forms count in that order.
    """
    batch, groups, forms, n = weights.shape
    flat = weights.reshape(-1, n)[block]
    number = np.arange(batch * groups * forms)[block] // forms
    box, group = np.divmod(number, groups)
    rows = np.zeros((len(flat), groups, n), dtype)
    rows[np.arange(len(flat)), group] = flat
    return {source: dense(rows, groups * n).negated_too()}, np.concatenate((box, box))


def about_zero(weights: Array, centre: Float64, parts: Sequence[Float64]) -> Forms:
    """Bounds of Σ w·x from those of ±Σ w·(x - centre), block by block those of both signs."""
    shape, n = weights.shape[:3], weights.shape[3]
    lower, negated = (
        np.concatenate([part.reshape(2, -1)[sign] for part in parts]).reshape(shape)
        for sign in (0, 1)
    )
    terms = weights * centre.reshape(len(centre), -1, 1, n)
    middle = terms.sum(axis=-1)
    sums = rounding.gamma_factor(n + 8, np.float64)
    error = sums * abs(terms).sum(axis=-1) + 2.0**-50 * (abs(lower) + abs(negated)) + TINY
    return Forms(
        weights, rounding.down(lower + middle - error), rounding.up(middle - negated + error)
    )
