"""Rows over groups of values that sum to one: any number may be taken off all of a group.

Σ_k a_k·p_k = Σ_k (a_k - c)·p_k + c where Σ p_k = 1. What the planes of softmax give away grows with
the coefficients' sizes, so c is their mean, weighted by the planes' gaps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.ops.charges import TINY
from gamma.tensor import rounding

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_SLACK = 1 + 2.0**-20


class Simplex(Frozen, eq=True):
    """Groups (B, *outer, n) of such values about their centres m.

    Attributes:
        weight: of the mean, in the rows' type; in a group they sum to 1, or all are 0.
        short: 1 - Σ m, float64 (B, *outer); ``doubt``: what it is off by, at most.
        reach: at least |p - m|.
    """

    weight: Array
    short: Float64
    doubt: Float64
    reach: Float64

    @classmethod
    def of(cls, centre: Float64, reach: Float64, gap: Float64, dtype: np.dtype[Any]) -> Simplex:
        """From arrays (B, *outer, n); ``gap``: between the planes below and above."""
        size = np.where(np.isfinite(gap) & (gap > 0), gap, 0.0)
        total = size.sum(axis=-1, keepdims=True)
        weight = np.where(total > 0, size / np.where(total > 0, total, 1.0), 0.0).astype(dtype)
        g = rounding.gamma_factor(centre.shape[-1] + 2, np.float64)
        doubt = g * (1 + abs(centre).sum(axis=-1)) * _SLACK
        return cls(weight, 1 - centre.sum(axis=-1), doubt, reach)

    def shifted(self, rows: Array, d: Float64, box: Indices) -> Array:
        """Rows (R, *outer, n) less numbers, which go into d (R,)."""
        number, made = self._chosen(rows, box)
        c, short = number[..., 0].astype(np.float64), self.short[box]
        axes = tuple(range(1, c.ndim))
        g = rounding.gamma_factor(short[:1].size + 2, np.float64)
        lost = (abs(c) * (self.doubt[box] + g * abs(short))).sum(axis=axes)
        # Each difference was rounded once.
        unit = float(np.finfo(rows.dtype).eps) / 2
        lost += unit * (abs(made) * self.reach[box]).sum(axis=(*axes, rows.ndim - 1))
        d += (c * short).sum(axis=axes) - (lost * _SLACK + TINY)
        d -= abs(d) * 2.0**-50
        return made

    def moved(self, rows: Array, values: Array, box: Indices) -> Array:
        """Values (R, *outer, n) about m whose sums with the rows are what `shifted` makes them."""
        number, _ = self._chosen(rows, box)
        off = self.short[box][..., None] - values.sum(axis=-1, keepdims=True)
        result: Array = values + np.where(number != 0, self.weight[box] * off, 0.0)
        return result

    def _chosen(self, rows: Array, box: Indices) -> tuple[Array, Array]:
        """A number for each group (R, *outer, 1), 0 where none costs no more; the rows less it."""
        weight = self.weight[box]
        with np.errstate(all="ignore"):
            mean = np.einsum("...n,...n->...", weight, rows)[..., None]
            made = rows - mean
            cost = np.einsum("...n,...n->...", weight, abs(rows) - abs(made))[..., None]
        number = np.where(cost > 0, mean, 0)
        return number, np.where(cost > 0, made, rows)
