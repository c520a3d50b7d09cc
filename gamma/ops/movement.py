"""Operators that move entries and compute nothing: exact in both directions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.errors import UsageError
from gamma.ops.affine import Linear
from gamma.ops.base import Array, Mask, Operator, Shape
from gamma.ops.bounds import NodeBounds

# Uses of one entry that are added one assignment after another; more are summed run by run.
_MOST_ROUNDS = 16


class Reshape(Linear):
    """The same entries in row-major order under another shape (also Flatten, Squeeze...)."""

    keeps_order = True

    target: Shape

    @property
    def unit(self) -> bool:
        return True

    @property
    def moves(self) -> bool:
        return True

    @property
    def independent(self) -> bool:
        return True

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if math.prod(shape) != math.prod(self.target):
            raise UsageError(f"Reshape: {shape} does not hold the entries of {self.target}")
        return self.target

    def restricted(self, shape: Shape, source: Mask, kept: Mask) -> tuple[Reshape, Hashable]:
        return Reshape(shape), None  # kept entries stay in row-major order

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Reshape | None:
        return Reshape(shape[dropped:])

    def neutral(self, shape: Shape) -> bool:
        return shape == self.target

    def moved(self, inputs: Sequence[NodeBounds]) -> NodeBounds:
        # Nothing to compute; passing it costs nothing either.
        x, shape = inputs[0], (len(inputs[0].lower), *self.target)
        return NodeBounds(x.lower.reshape(shape), x.upper.reshape(shape), x.centre.reshape(shape))

    def after(self, previous: Operator) -> Linear | None:
        if isinstance(previous, Reshape):
            return self
        if isinstance(previous, Gather):
            return Gather(previous.index, self.target, previous.fill)
        return None

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        return inputs[0].reshape(inputs[0].shape[0], *self.target)

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        return (rows.reshape(rows.shape[0], *shapes[0]),)


class Transpose(Linear):
    """Axes in another order; ``perm`` counts axes without the batch axis."""

    perm: tuple[int, ...]

    def restricted(self, shape: Shape, source: Mask, kept: Mask) -> tuple[Transpose, Hashable]:
        return self, id(self)

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Transpose | None:
        if not alike or self.perm[:dropped] != tuple(range(dropped)):
            return None
        return Transpose(tuple(p - dropped for p in self.perm[dropped:]))

    @property
    def unit(self) -> bool:
        return True

    @property
    def moves(self) -> bool:
        return True

    @property
    def independent(self) -> bool:
        return True

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if sorted(self.perm) != list(range(len(shape))):
            raise UsageError(f"Transpose: {self.perm} does not order the axes of {shape}")
        return tuple(shape[p] for p in self.perm)

    @property
    def turns(self) -> str:
        if self.perm == (1, 2, 0):
            return "last"
        return "first" if self.perm == (2, 0, 1) else ""

    def neutral(self, shape: Shape) -> bool:
        return self.perm == tuple(range(len(self.perm)))

    def after(self, previous: Operator) -> Linear | None:
        if isinstance(previous, Transpose):
            return Transpose(tuple(previous.perm[p] for p in self.perm))
        if isinstance(previous, Gather):
            index = previous.index.reshape(previous.target).transpose(self.perm)
            return Gather(np.ascontiguousarray(index).reshape(-1), index.shape, previous.fill)
        return None

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        return np.ascontiguousarray(inputs[0].transpose(0, *(p + 1 for p in self.perm)))

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        back = np.argsort(self.perm)
        return (np.ascontiguousarray(rows.transpose(0, *(int(p) + 1 for p in back))),)


class Gather(Linear):
    """y.flat[i] = x.flat[index[i]], or ``fill`` where the index is -1; any pure movement.

    Slice, Pad, Expand, Tile, Split, Resize (nearest) and Gather with constant indices are all
    this one record.
    """

    index: npt.NDArray[np.int64]
    target: Shape
    fill: float = 0.0

    def restricted(self, shape: Shape, source: Mask, kept: Mask) -> tuple[Gather, Hashable]:
        rank = np.cumsum(source.reshape(-1)) - 1
        chosen = self.index.reshape(-1)[kept.reshape(-1)]
        chosen = np.where(chosen >= 0, rank[chosen], -1)
        return Gather(chosen, shape, self.fill), chosen.tobytes()

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Gather | None:
        return replace(self, target=shape[dropped:])

    @property
    def unit(self) -> bool:
        return True

    @property
    def moves(self) -> bool:
        return True

    @property
    def independent(self) -> bool:
        return self.adjoint_terms <= 1

    @property
    def adjoint_terms(self) -> int:
        def most() -> int:
            used = self.index[self.index >= 0]
            return int(np.bincount(used).max()) if used.size else 1

        return int(self.cached("adjoint_terms", most))

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        size = math.prod(shape)
        if self.index.size != math.prod(self.target):
            raise UsageError(f"Gather: {self.index.size} indices for the shape {self.target}")
        if self.index.size and (self.index.max() >= size or self.index.min() < -1):
            raise UsageError(f"Gather: an index is outside the {size} entries of {shape}")
        return self.target

    def after(self, previous: Operator) -> Linear | None:
        if isinstance(previous, Reshape):
            return self  # indices count entries in row-major order, whatever the shape
        if not isinstance(previous, Gather):
            return None
        own = self.index.reshape(-1)
        earlier = previous.index.reshape(-1)
        filled, below = own < 0, earlier < 0
        if filled.any() and below.any() and self.fill != previous.fill:
            return None
        fill = self.fill if filled.any() else previous.fill
        return Gather(np.where(filled, -1, earlier[own]), self.target, fill)

    def neutral(self, shape: Shape) -> bool:
        index = self.index.reshape(-1)
        return shape == self.target and bool((index == np.arange(index.size)).all())

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        flat = inputs[0].reshape(inputs[0].shape[0], -1)
        return _taken(flat, self.index.reshape(-1)).reshape(flat.shape[0], *self.target)

    def offset(self) -> Array | None:
        if self.fill == 0.0 or (self.index >= 0).all():
            return None
        where = np.where(self.index.reshape(self.target) >= 0, 0.0, self.fill)
        return where.astype(np.float64)

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        (shape,) = shapes
        flat = rows.reshape(rows.shape[0], -1)
        result = np.zeros((rows.shape[0], math.prod(shape)), rows.dtype)
        if self.adjoint_terms > _MOST_ROUNDS:
            order, first, targets = self.cached("runs", self._runs)
            result[:, targets] = np.add.reduceat(flat[:, order], first, axis=1)
            return (result.reshape(rows.shape[0], *shape),)
        # Uses of one entry are added in rounds, so that each round is a plain assignment.
        for source, target in self._rounds():
            result[:, target] += _taken(flat, source)
        return (result.reshape(rows.shape[0], *shape),)

    def _runs(self) -> tuple[Array, Array, Array]:
        """Output entries in the order of the input entries they read, where the run of each input
        entry starts, and these input entries."""
        index = self.index.reshape(-1)
        outputs = np.flatnonzero(index >= 0)
        order = outputs[np.argsort(index[outputs], kind="stable")]
        first = np.flatnonzero(np.diff(index[order], prepend=-1))
        return order, first, index[order][first]

    def _rounds(self) -> list[tuple[Array, Array | slice]]:
        """Pairs (output entries, input entries), no input entry twice within a pair.

        Input entries that are most of a run are the run, and output entries are -1 at the others.
        """

        def split() -> list[tuple[Array, Array | slice]]:
            index = self.index.reshape(-1)
            outputs = np.flatnonzero(index >= 0)
            order = outputs[np.argsort(index[outputs], kind="stable")]
            targets = index[order]
            first: Array = np.flatnonzero(np.diff(targets, prepend=-1))
            starts = np.zeros(targets.size, np.int64)
            starts[first] = first
            rank = np.arange(targets.size) - np.maximum.accumulate(starts)
            rounds = int(rank.max()) + 1 if rank.size else 0
            return [_as_run(order[rank == k], targets[rank == k]) for k in range(rounds)]

        return self.cached("rounds", split)  # type: ignore[no-any-return]


def _taken(flat: Array, index: npt.NDArray[np.int64]) -> Array:
    """The columns ``index`` of (rows, n), 0 where that is -1."""
    made = np.empty((len(flat), len(index)), flat.dtype)
    if flat.shape[1]:
        flat.take(index, axis=1, out=made, mode="clip")  # "raise" would buffer the result
    if (index < 0).any():
        made[:, index < 0] = 0
    return made


def _as_run(source: Array, target: Array) -> tuple[Array, Array | slice]:
    """Columns to columns in rising order; see `Gather._rounds`."""
    start, stop = int(target[0]), int(target[-1]) + 1
    if stop - start > 2 * len(target):
        return source, target
    run = np.full(stop - start, -1)
    run[target - start] = source
    return run, slice(start, stop)
