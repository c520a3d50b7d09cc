"""Certified upper bounds on spectral norms: roots of the largest eigenvalues of Gram matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.runtime import workers
from gamma.tensor import rounding
from gamma.tensor.eigenvalues import frobenius, largest_eigenvalue

Float64 = npt.NDArray[np.float64]

FULL = 1536
"""Inputs up to which the Gram matrix of a layer's columns is taken."""
BLOCK = 128
"""Rows taken together where the inputs are more."""
PANEL = 768
"""Rows behind one float32 sum."""
_SLACK = 1 + 2.0**-40


@dataclass(frozen=True, eq=False)
class Read:
    """Rows as they read a vector: ``rows`` within ``lost`` (norm of the whole) of the exact ones.

    ``size``: at least their Frobenius norm; ``plain``: before a mean was taken off.
    """

    rows: Float64
    size: float
    lost: float
    plain: float


def read(rows: Float64, gain: Float64, centred: bool) -> Read:
    """M = rows·diag(gain), less a number of each row's own where what it reads sums to 0.

    Any number is valid there: Σ_j (m_j - μ) z_j = Σ_j m_j z_j.
    """
    made = rows * gain
    size = plain = frobenius(made)
    if centred:
        made -= made.mean(axis=1, keepdims=True)
        size = frobenius(made)
    # Products round by 2^-53 of themselves, the difference by 2^-53 of itself.
    return Read(made, size, 2.0**-52 * (plain + size), plain)


@dataclass(frozen=True, eq=False)
class Gram:
    """G = R·Rᵀ within ``error`` (spectral norm) of the read rows' own.

    Attributes:
        frobenius: at least ‖R‖_F. lost, plain: as in `Read`.
    """

    matrix: Float64
    error: float
    frobenius: float
    lost: float
    plain: float

    def norm(self) -> float:
        """At least the spectral norm of the exact rows."""
        top = largest_eigenvalue(self.matrix) + self.error
        return min(math.sqrt(max(top, 0.0)) * _SLACK, self.frobenius) * _SLACK + self.lost

    def forms(self, w: Float64) -> Float64:
        """At least ‖wᵀR‖ for the exact R and every row w of (r, k)."""
        with np.errstate(invalid="ignore", over="ignore"):
            found = np.einsum("ij,ij->i", w @ self.matrix, w)
            square = np.einsum("ij,ij->i", w, w) * _SLACK
            k = len(self.matrix)
            g = rounding.gamma_factor(2 * k + 8, np.float64) * _SLACK
            # |w|ᵀ|G̃||w| <= ‖w‖²·‖R‖_F² (1 + ...): its entries are at most products of norms.
            slack = (self.error + 2 * g * self.frobenius**2) * square
            root = np.sqrt(np.maximum(found + slack, 0.0) * _SLACK)
            length = np.sqrt(square) * _SLACK
            best = np.minimum(root, length * self.frobenius)
            result: Float64 = (best + length * self.lost) * _SLACK + 2.0**-1000
        return np.where(np.isnan(result), np.inf, result)


def gram(found: Read) -> Gram:
    """The Gram matrix of read rows."""
    R, size = np.ascontiguousarray(found.rows), found.size
    error = rounding.gamma_factor(R.shape[1] + 2, np.float64) * size**2 * _SLACK + 2.0**-1000
    with np.errstate(over="ignore", invalid="ignore"):
        made = R @ R.T
    return Gram(0.5 * (made + made.T), error * 2, size, found.lost, found.plain)


def of_layer(matrix: Any, gain: Float64, centred: bool) -> tuple[float, float]:
    """At least the spectral norm of a whole `Matrix` as it reads such a vector, and at least the
    Frobenius norm before a mean is taken off.

    Where the inputs are many, blocks of rows: ‖M‖² <= Σ ‖M_b‖².
    """
    if matrix.n <= FULL:
        whole = _gram(matrix, gain, centred, True, 0, matrix.m)
        return whole.norm() * _SLACK, whole.plain * _SLACK
    spans = [(start, min(start + BLOCK, matrix.m)) for start in range(0, matrix.m, BLOCK)]
    norms = workers.run([partial(_block, matrix, gain, centred, *span) for span in spans])
    found, plain = (math.hypot(*sizes) for sizes in zip(*norms, strict=True))
    return found * _SLACK, plain * _SLACK


def _block(matrix: Any, gain: Float64, centred: bool, start: int, stop: int) -> tuple[float, float]:
    """Spectral norm of the rows [start, stop), and Frobenius norm before a mean is off."""
    found = _gram(matrix, gain, centred, False, start, stop)
    return found.norm(), found.plain


def _gram(matrix: Any, gain: Float64, centred: bool, columns: bool, start: int, stop: int) -> Gram:
    """RᵀR (``columns``) or RRᵀ of the rows [start, stop).

    Short sums in the matrix's own type, added in float64.
    """
    n, dtype = matrix.n, matrix.dtype
    side = n if columns else stop - start
    total, squares, plain, sums = np.zeros((side, side)), 0.0, 0.0, 0
    wide = (1 + rounding.gamma_factor(n + 4, dtype)) * _SLACK
    unit = 2.0**-24 if dtype == np.float32 else 2.0**-53
    factor = gain.astype(dtype)
    for first in range(start, stop, PANEL):
        R = matrix.rows(np.arange(first, min(first + PANEL, stop)), dtype) * factor
        plain += float(np.einsum("ij,ij->i", R, R).sum(dtype=np.float64)) * wide
        if centred:
            R -= R.mean(axis=1, keepdims=True, dtype=np.float64).astype(dtype)
        squares += float(np.einsum("ij,ij->i", R, R).sum(dtype=np.float64)) * wide
        for part in [R] if columns else np.split(R, range(PANEL, n, PANEL), axis=1):
            total += part.T @ part if columns else part @ part.T
            sums += 1
    # A short sum of products errs by γ of them, the float64 sum of these by another.
    g = rounding.gamma_factor(PANEL + 2, dtype) + rounding.gamma_factor(sums, np.float64)
    error = (g * squares + n * (stop - start) * 2.0**-148) * _SLACK
    # Entries of the gain, products and differences were rounded once each.
    size, plain = math.sqrt(squares) * _SLACK, math.sqrt(plain) * (1 + 2 * unit) * _SLACK
    lost = 4 * unit * (size + plain) + 2.0**-70 * math.sqrt(n * (stop - start))
    return Gram(total, error, size, lost, plain)
