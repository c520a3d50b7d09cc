"""Blocks of rows: the coefficients of many linear forms over one node, dense or in windows.

`Dense` rows are flat over the node's entries, `gamma.propagate.rows.windows.Windows` hold what a
row can reach on an image. The descent (`gamma.propagate.rows.descend`) treats both alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.ops import Linear
from gamma.runtime import pool
from gamma.tensor import kernels

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Shape = tuple[int, ...]

# Tables of a node, flat (B, size) and, when asked for, as images (B, height, width, channels).
Images = Callable[[], tuple[Array, ...]]


class Block(Protocol):
    """Rows over one node; ``array`` holds the coefficients, a row each along the first axis."""

    @property
    def array(self) -> Array: ...

    def relax(self, d: Float64, box: Indices, tables: tuple[Array, ...], images: Images) -> Block:
        """Pass lines (`gamma.ops.tables.Diagonal`); may overwrite the rows. d gets constants."""

    def pay(self, d: Float64, box: Indices, weight: Float64, images: Images) -> Block:
        """d -= |rows|·weight."""

    def through(self, op: Linear, shapes: Sequence[Shape], out: Shape) -> tuple[Block, ...]:
        """Rows over a linear operator's output to rows over its inputs; may share memory."""

    def plus(self, other: Block) -> Block:
        """The sum of two blocks over one node; may overwrite either."""

    def copy(self) -> Block:
        """The same rows in memory of their own."""

    def negated_too(self) -> Block:
        """These rows followed by their negatives."""

    def take(self, rows: Indices) -> Block:
        """Some of the rows, in memory of their own."""

    def negated_from(self, first: int) -> Block:
        """The same rows, negated from ``first`` on, in memory of their own."""

    def dense(self) -> Array:
        """The rows as (rows, size) in the node's own order, C-contiguous."""


# Node -> the rows over it that are on their way down.
Frontier = dict[int, Block]


class Dense(Frozen):
    """Rows (rows, size), C-contiguous."""

    array: Array

    def relax(self, d: Float64, box: Indices, tables: tuple[Array, ...], images: Images) -> Dense:
        low, high, below, above = tables
        kernels.relax_rows(self.array, d, box, low, high, below, above)
        return self

    def pay(self, d: Float64, box: Indices, weight: Float64, images: Images) -> Dense:
        kernels.abs_dot_rows(self.array, d, box, weight)
        return self

    def through(self, op: Linear, shapes: Sequence[Shape], out: Shape) -> tuple[Block, ...]:
        count = len(self.array)
        parts = op.adjoint(self.array.reshape(count, *out), shapes)
        return tuple(dense(part, math.prod(s)) for part, s in zip(parts, shapes, strict=True))

    def plus(self, other: Block) -> Dense:
        # In place: the other block is not needed again.
        return Dense(np.add(self.array, other.dense(), out=self.array))

    def copy(self) -> Dense:
        return Dense(self.array.copy())

    def negated_too(self) -> Dense:
        return Dense(negated_too(self.array))

    def take(self, rows: Indices) -> Dense:
        return Dense(taken(self.array, rows))

    def negated_from(self, first: int) -> Dense:
        return Dense(negated_from(self.array, first))

    def dense(self) -> Array:
        return self.array


def dense(rows: Array, size: int) -> Dense:
    """Rows of any shape (rows, ...) with ``size`` entries each."""
    return Dense(np.ascontiguousarray(rows).reshape(len(rows), size))


def unit(neurons: Array, size: int, dtype: np.dtype[Any]) -> Dense:
    """One coefficient 1 per row, at flat index ``neurons`` of a node of ``size`` entries."""
    rows = np.zeros((len(neurons), size), dtype)
    rows[np.arange(len(neurons)), neurons] = 1
    return Dense(rows)


def negated_too(array: Array) -> Array:
    """Rows followed by their negatives."""
    both = pool.empty((2 * len(array), *array.shape[1:]), array.dtype)
    both[: len(array)] = array
    np.negative(array, out=both[len(array) :])
    return both


def taken(array: Array, rows: Indices) -> Array:
    """A copy of some rows."""
    made = pool.empty((len(rows), *array.shape[1:]), array.dtype)
    return array.take(rows, axis=0, out=made, mode="clip")  # "raise" would buffer the result


def negated_from(array: Array, first: int) -> Array:
    """A copy of rows, negated from ``first`` on."""
    made = pool.empty(array.shape, array.dtype)
    made[:first] = array[:first]
    np.negative(array[first:], out=made[first:])
    return made


def blocks_of(frontier: Mapping[int, Array], rows: slice | Indices) -> Frontier:
    """Dense blocks of the chosen rows: copies, for a descent overwrites them."""
    return {
        index: dense(np.array(array[rows], order="C"), array.shape[1])
        for index, array in frontier.items()
    }
