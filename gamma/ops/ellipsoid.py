"""Ellipsoids {x: x = R·u, |u|₂ <= 1} around what blocks of symbols span, proved in float64.

Let x = Σ_b x_b with (a·x_b)² <= aᵀQ_b a for every a. For any weights w_b > 0

    (a·x)² <= (Σ_b √(aᵀQ_b a))² <= (Σ w_b)·aᵀ(Σ_b Q_b/w_b)a;

by Cauchy and Schwarz; √trace(Q_b) makes the trace least (Durieu, Walter and Polyak 2001). Q as
computed is within ``error`` of Q in the spectral norm. A Cholesky factor R of a matrix larger by
this, and by its own backward error (Higham 2002, theorem 10.3), has R·Rᵀ above the true Q.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.ops.ellipsotope import Symbols
from gamma.runtime import workers
from gamma.tensor import kernels, rounding
from gamma.tensor.eigenvalues import largest_eigenvalues

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_SLACK = 1 + 2.0**-40
_LEAST_WEIGHT = 2.0**-30
LARGE = 1 << 12
"""Entries of a matrix from which on a call for each costs little beside what it does."""
_SHARED = 4e5
"""Operations from which on threads share the vectors of a call."""


class Ellipsoids(Frozen):
    """V sets in d dimensions: Q = scale·(matrix ± error)·scale, (a·x)² <= aᵀQa for each x.

    Attributes:
        matrix: (V, d, d). error: (V,), spectral norm. scale: (V, d), powers of two.
    """

    matrix: Float64
    error: Float64
    scale: Float64

    @property
    def size(self) -> Float64:
        """About the root of each trace: (V,)."""
        diagonal = np.einsum("vii->vi", self.matrix) * self.scale**2
        root: Float64 = np.sqrt(np.maximum(diagonal, 0.0).sum(axis=-1))
        return root

    def largest(self) -> Float64:
        """At least the square of the longest vector's length: (V,)."""
        top = self.scale.max(axis=-1, initial=0.0)
        part = self.scale / np.where(top > 0, top, 1.0)[:, None]
        # Scaling by numbers of at most 1 leaves the error what it is.
        turned = self.matrix * part[:, :, None] * part[:, None, :]
        # A factorisation, and the steps that propose what it proves.
        operations = turned.size * (turned.shape[-1] / 3.0 + 40.0)
        found = _together(largest_eigenvalues, turned, operations)
        # The last term is what products that underflow lose.
        result: Float64 = (found + self.error) * top * top * _SLACK + 2.0**-1070
        return result

    def factors(self) -> Float64:
        """Columns R of each: (V, d, d), column j of R in [:, j, :], so that R·Rᵀ >= Q."""
        d = self.matrix.shape[-1]
        made = self.matrix.copy()
        diagonal = np.einsum("vii->vi", made)
        trace = diagonal.sum(axis=-1)
        empty = trace == 0
        # The factorisation's backward error, and the rounding of the diagonal.
        g = rounding.gamma_factor(4 * d + 16, np.float64)
        lift = (self.error + g * (trace + d * self.error)) * (1 + 2.0**-20)
        diagonal += np.where(empty, 1.0, lift)[:, None]
        try:
            turned = np.swapaxes(made, -1, -2)
            root = _together(np.linalg.cholesky, turned, made.size * d / 3.0)
        except np.linalg.LinAlgError:
            return np.full_like(made, np.inf)
        root[empty] = 0.0
        return np.swapaxes(root * self.scale[:, :, None], -1, -2)


def _together(run: Callable[[Any], Any], stack: Float64, operations: float) -> Float64:
    """``run`` on a stack of matrices, small ones in one call, others by threads."""
    if stack[:1].size >= LARGE:
        tasks = [partial(run, stack[v : v + 1]) for v in range(len(stack))]
        return np.concatenate(workers.run(tasks, operations=operations))
    found: Float64 = run(stack)
    return found


def around(parts: Sequence[tuple[Float64, int]], rest: Float64) -> Symbols:
    """`outer` of a node's vectors in their order as symbols: a place and a block each."""
    count, d = rest.shape
    if d * d < LARGE:
        given = [(np.ascontiguousarray(c, np.float64), n) for c, n in parts]
        work = (sum(len(c) for c, _ in given) + d) * count * d * d
        threads = workers.sharing() if count > 1 and work > _SHARED else 1
        g, backward = _sums(parts, d), rounding.gamma_factor(4 * d + 16, np.float64)
        made = kernels.balls(given, np.ascontiguousarray(rest), g, backward, threads)
        if made is not None:
            return Symbols(made, d, count)
    return placed(outer(parts, rest).factors())


def _sums(parts: Sequence[tuple[Float64, int]], d: int) -> float:
    """γ of the sums over all symbols and the entries of ``rest``."""
    return rounding.gamma_factor(sum(len(c) for c, _ in parts) + d + len(parts) + 16, np.float64)


def outer(parts: Sequence[tuple[Float64, int]], rest: Float64) -> Ellipsoids:
    """Around Σ columns·ξ + [-rest, rest] in each of V vectors of d entries.

    Args:
        parts: columns (k, V, d) and the length of their blocks. rest: (V, d).
    """
    count, d = rest.shape
    g = _sums(parts, d)
    if d * d < LARGE:
        given = [(np.ascontiguousarray(c, np.float64), n) for c, n in parts]
        made = kernels.outer(given, np.ascontiguousarray(rest), g)
        if made is not None:
            return Ellipsoids(*made)
    columns = np.concatenate([np.zeros((0, *rest.shape)), *(c for c, _ in parts)])
    lengths = np.concatenate([np.zeros(0, int), *(np.full(len(c) // n, n) for c, n in parts)])
    scale = _powers(columns, rest)
    columns /= scale
    sizes, corners = _sizes(columns, lengths), rest / scale
    largest = np.maximum(sizes.max(axis=0, initial=0.0), corners.max(axis=1, initial=0.0))
    # Any positive weights will do; these are no powers of what may underflow.
    weight = np.maximum(sizes, _LEAST_WEIGHT * largest)
    weight = np.where(largest > 0, weight, 1.0)
    total = np.where(largest > 0, weight, 0.0).sum(axis=0)
    columns *= np.repeat(1 / np.sqrt(weight), lengths, axis=0)[:, :, None]
    if d * d >= LARGE:
        squares = [partial(_square, columns[:, v]) for v in range(count)]
        matrix = np.stack(workers.run(squares, operations=columns.size * d))
    else:
        matrix = np.matmul(columns.transpose(1, 2, 0), columns.transpose(1, 0, 2))
    weight = np.maximum(corners, _LEAST_WEIGHT * largest[:, None])
    weight = np.where(largest[:, None] > 0, weight, 1.0)
    total += np.where(corners > 0, weight, 0.0).sum(axis=-1)
    diagonal = np.einsum("vii->vi", matrix)
    diagonal += corners * corners / weight
    matrix *= (total * (1 + g) * _SLACK)[:, None, None]
    trace = diagonal.sum(axis=-1)
    # |fl(YᵀY) - YᵀY| <= γ|Y|ᵀ|Y|, of norm at most γ·trace; scaling rounds each entry once more.
    error = np.where(trace > 0, 2 * g * trace * (1 + 2.0**-20) + 2.0**-1000, 0.0)
    return Ellipsoids(0.5 * (matrix + np.swapaxes(matrix, -1, -2)), error, scale)


def _square(columns: Float64) -> Float64:
    """Products of one vector's columns, summed over the symbols."""
    some = columns[columns.any(axis=1)]  # those of other places are 0
    return some.T @ some


def placed(factors: Float64) -> Symbols:
    """Ellipsoids (V, d, d) of a node's V·d entries in their order: a place and a block each."""
    count, d, _ = factors.shape
    return Symbols(np.swapaxes(factors, 0, 1).reshape(d, count * d), d, count)


def _powers(columns: Float64, rest: Float64) -> Float64:
    """Near how far each entry reaches: a power of two, 1 where it does not move."""
    far = columns.max(axis=0, initial=0.0), -columns.min(axis=0, initial=0.0)
    reach = np.maximum(rest, np.maximum(*far))
    exponent = np.frexp(np.where(reach > 0, reach, 1.0))[1]
    result: Float64 = np.ldexp(1.0, np.minimum(np.maximum(exponent, -1000), 1000))
    return result


def _sizes(columns: Float64, lengths: Indices) -> Float64:
    """About the Frobenius norm of each block: (blocks, V)."""
    squares = np.einsum("kvd,kvd->kv", columns, columns)
    starts = np.cumsum(lengths) - lengths
    summed = np.add.reduceat(squares, starts, axis=0) if len(starts) else squares
    result: Float64 = np.sqrt(summed)
    return result
