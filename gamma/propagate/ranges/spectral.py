"""Certified upper bounds on spectral norms: roots of the largest eigenvalues of Gram matrices."""

from __future__ import annotations

import math
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.runtime import workers
from gamma.tensor import rounding
from gamma.tensor.eigenvalues import frobenius, largest_eigenvalue

Float64 = npt.NDArray[np.float64]

FULL = 1536
"""Inputs up to which the Gram matrix of a layer's columns is taken."""
BLOCK = 128
"""Rows taken together where the inputs are more."""
PANEL = 1024
"""Terms of one float32 sum."""
PADDING = 16
CHUNK = 1 << 17
"""Entries that stay in the cache."""
LEAST = {np.dtype(np.float32): 2.0**-149, np.dtype(np.float64): 2.0**-1074}
"""The least number > 0 of a type."""
NARROW = 2.0**-8
"""Share of a square that what float32 may have lost of it may be."""
_SLACK = 1 + 2.0**-40


class Read(Frozen):
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


class Gram(Frozen):
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

    def forms(self, w: npt.NDArray[Any]) -> tuple[Float64, Float64]:
        """At least ‖wᵀR‖ for the exact R and every row w of (r, k), and at least ‖w‖.

        Products in the type of ``w``; again in float64 for rows of which float32 says too little:
        that cancel, that are too small or too large.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            found, slack, length = self._squares(w)
            weak = ~(slack <= found * NARROW)
            if w.dtype != np.float64 and weak.any():
                again = self._squares(w[weak].astype(np.float64))
                found[weak], slack[weak], length[weak] = again
            root = np.sqrt(np.maximum(found + slack, 0.0)) * _SLACK
            best = np.minimum(root, length * self.frobenius)
            result: Float64 = (best + length * self.lost) * _SLACK + 2.0**-1000
        return np.where(np.isnan(result), np.inf, result), length

    def _squares(self, w: npt.NDArray[Any]) -> tuple[Float64, Float64, Float64]:
        """‖wᵀR‖², what that may be off by, and at least ‖w‖; NaN where they do not fit the type."""
        k = len(self.matrix)
        g = rounding.gamma_factor(2 * k + 8, w.dtype) * _SLACK
        lost = 4 * k * LEAST[w.dtype]  # below the least number
        power, most = self._sizes
        scaled = (self.matrix / power).astype(w.dtype)
        found = np.einsum("ij,ij->i", w @ scaled, w).astype(np.float64)
        square = np.einsum("ij,ij->i", w, w).astype(np.float64) * (1 + g) + lost
        length = np.sqrt(square) * _SLACK
        # |w|ᵀ|G̃||w| is at most the largest row sum of |G̃| times ‖w‖².
        slack = (self.error / power + 2 * g * most) * square
        slack = (slack + lost * (1 + k * (length + square))) * _SLACK
        return np.where(np.isinf(found), np.nan, found) * power, slack * power, length

    @cached_property
    def _sizes(self) -> tuple[float, float]:
        """A power of two p, at least about the largest entry of |G|, and at least ‖|G|‖/p."""
        size = abs(self.matrix)
        largest = float(size.max(initial=0.0))
        power = math.ldexp(1.0, max(min(math.frexp(largest)[1], 1000), -1000))
        most = float((size.sum(axis=1) / power).max(initial=0.0))
        share = self.frobenius / math.sqrt(power)  # its ** would raise where this one overflows
        return power, min(most, share * share) * _SLACK


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
    """RᵀR (``columns``) or RRᵀ of the rows [start, stop): short sums in the matrix's own type."""
    n, dtype = matrix.n, matrix.dtype
    side = n if columns else stop - start
    # Rows that do not begin a power of two apart: they would share lines of the cache.
    total, part = np.zeros((2, side, side + PADDING), dtype)[..., :side]
    plain, sums, reach = 0.0, 0, np.zeros(n)
    factor = gain.astype(dtype)
    for first in range(start, stop, PANEL):
        R = matrix.rows(np.arange(first, min(first + PANEL, stop)), dtype)
        R *= factor
        if centred:
            plain += float(np.einsum("ij,ij->i", R, R).sum(dtype=np.float64))
            R -= R.mean(axis=1, keepdims=True, dtype=np.float64).astype(dtype)
        reach += _reach(R)
        for piece in [R] if columns else np.split(R, range(PANEL, n, PANEL), axis=1):
            np.matmul(*((piece.T, piece) if columns else (piece, piece.T)), out=part)
            total += part
            sums += 1
    unit = 2.0**-24 if dtype == np.float32 else 2.0**-53
    tiny = n * (stop - start) * 2.0**-148
    g = rounding.gamma_factor(PANEL + 2 + sums, dtype)
    wide = (1 + 2 * rounding.gamma_factor(n + PANEL + 8, dtype)) * _SLACK
    squares = (float(np.trace(total, dtype=np.float64)) * (1 + 2 * g) + tiny) * _SLACK
    # |fl(RᵀR) - RᵀR| <= γ|R|ᵀ|R|, whose norm is at most the trace, and max |R|ᵀ(|R|1).
    error = (g * min(squares, float(reach.max()) * wide) + tiny) * _SLACK
    # Entries of the gain, products and differences were rounded once each.
    size = math.sqrt(squares) * _SLACK
    plain = math.sqrt(plain * wide + tiny) * (1 + 2 * unit) * _SLACK if centred else size
    lost = 4 * unit * (size + plain) + 2.0**-70 * math.sqrt(n * (stop - start))
    return Gram(total.astype(np.float64), error, size, lost, plain)


def _reach(R: npt.NDArray[Any]) -> Float64:
    """|R|ᵀ(|R|1), up to rounding."""
    n, step = R.shape[1], max(1, CHUNK // R.shape[1])
    sizes, one, total = np.empty((step, n), R.dtype), np.ones(n, R.dtype), np.zeros(n)
    for first in range(0, len(R), step):
        rows = R[first : first + step]
        size = np.abs(rows, out=sizes[: len(rows)])
        total += (size @ one) @ size
    return total
