"""Consecutive dense steps of a descent as one call of the C library.

An executor, not a second rule: it is given the tables that the step-by-step descent would use.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.ops import Gemm
from gamma.ops.affine import cast_weight
from gamma.ops.tables import Diagonal
from gamma.propagate.facts import facts_of
from gamma.propagate.rows.tables import Tables, chosen
from gamma.tensor import kernels

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Scratch memory of a block of rows on their way down: a share of the second-level cache.
_SCRATCH_BYTES = 256 << 10
# A product with one entry costs what some of a dense one do; small weights are not worth a look.
_SPARSE, _SPARSE_FROM = 1 / 12, 1 << 14


class DenseChain:
    """The steps of one walk's tables, described to the C library as they are first needed."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._possible = tuning.enabled("fused_walk") and tables.box.norm == "inf"
        self._chain: kernels.Chain | None = None
        self._ready: set[int] = set()
        # Activations whose lines are not parallel.
        self._apart: set[int] = set()
        self._lock = threading.Lock()
        self._sequential = facts_of(tables.network).sequential

    def reaches(self, last: int) -> bool:
        """Whether rows over node ``last`` go down to the input in one call; then it is set up."""
        if not (self._possible and last and self._sequential[last]):
            return False
        with self._lock:  # a step that is set twice would free tables another thread reads
            return self._set_up(last)

    def two_sided(self, last: int) -> bool:
        """Whether rows over node ``last`` and their negatives take the same lines all the way.

        Then one descent bounds both as well as two (`gamma.propagate.rows.opposite`).
        """
        if not tuning.enabled("parallel_lines") or not self.reaches(last):
            return False
        return self._apart.isdisjoint(range(last + 1))

    def run(
        self, last: int, rows: Array, d: Float64, opposite: Float64 | None, box: Indices
    ) -> None:
        """Take rows (rows, size) over node ``last`` down to the input; d gets their bounds.

        ``opposite`` gets those of the negated rows.
        """
        assert self._chain is not None
        self._chain.run(last, rows, d, box, _SCRATCH_BYTES, opposite)

    @property
    def used(self) -> bool:
        """Whether any row went down by it."""
        return bool(self._ready)

    def forget(self, index: int) -> None:
        """The tables of ``index`` and its readers were dropped."""
        self._ready -= {index, *self.tables.network.consumers[index]}

    def _set_up(self, last: int) -> bool:
        tables = self.tables
        if self._chain is None:
            steps, boxes = tables.network.output + 1, len(tables.box.lower)
            self._chain = kernels.chain(steps, boxes, tables.how.dtype)
            self._possible = self._chain is not None
            if self._chain is None:
                return False
        for index in range(last + 1):
            if index not in self._ready:
                if not self._set_step(self._chain, index):
                    return False
                self._ready.add(index)
        return True

    def _set_step(self, chain: kernels.Chain, index: int) -> bool:
        """Describe one node to the chain; False when its weight is better left to the BLAS."""
        tables, node = self.tables, self.tables.network.nodes[index]
        if index == 0:
            chain.pay(0, node.size, tables.radius(0), None)
        elif (op := node.op.dense) is not None:
            whole = sparse(op, tables.how.dtype)
            if whole is None and not op.tiled(tables.how.dtype):
                return False
            charge = None if tables.carried(index) else tables.charge(index)
            rows, columns = tables.kept(index)
            count = len(op.weight) if rows is None else len(rows)
            if charge is None:
                chain.pay(index, count, None, None)
            else:
                chain.pay(index, count, charge.weight, charge.loss)
            if whole is None:
                chain.product(index, *self._padded(op, rows, columns))
            else:
                chain.sparse(index, part_of(whole, rows, columns))
        elif node.op.keeps_order:  # a change of shape: nothing moves, nothing is charged
            chain.pay(index, node.size, None, None)
        else:
            table = tables.relaxation(index)
            assert isinstance(table, Diagonal)
            low, high, below, above = table.parts
            chain.relax(index, low.shape[1], (low, high), (below, above), table.loss)
            self._apart.add(index)
            if np.array_equal(low, high):
                self._apart.remove(index)
                chain.strip(index, tables.strips(index))
        return True

    def _padded(self, op: Gemm, rows: Indices | None, columns: Indices | None) -> tuple[Array, int]:
        """`Tables.weight` with rows padded to whole 64 bytes, and its width without them."""
        dtype = self.tables.how.dtype
        if columns is None:
            width = int(op.weight.shape[1])
            weight = op.padded(dtype)
        else:
            width = len(columns)
            spare = kernels.padded(width, dtype) - width
            columns = np.concatenate((columns, np.zeros(spare, columns.dtype)))
            weight = cast_weight(op, op.weight, "weight", dtype, False)
        return chosen(weight, rows, columns), width


def sparse(op: Gemm, dtype: np.dtype[Any]) -> kernels.Sparse | None:
    """The weight by what is not 0 in it, where that is little."""
    if op.weight.size < _SPARSE_FROM or not tuning.enabled("sparse_weights"):
        return None
    found: kernels.Sparse | None = op.cached(f"sparse.{dtype.char}", lambda: _nonzeros(op, dtype))
    return found


def _nonzeros(op: Gemm, dtype: np.dtype[Any]) -> kernels.Sparse | None:
    few = np.count_nonzero(op.weight) <= _SPARSE * op.weight.size
    return nonzeros(op, dtype) if few else None


def nonzeros(op: Gemm, dtype: np.dtype[Any], full: float = 1.0) -> kernels.Sparse:
    """The weight by what is not 0 in it; by all of it, where that is a share above ``full``."""
    weight = op.weight
    whole = np.count_nonzero(weight) > full * weight.size
    rows, places = np.nonzero(np.ones(weight.shape, bool) if whole else weight)
    starts = np.searchsorted(rows, np.arange(len(weight) + 1)).astype(np.int64)
    values = np.ascontiguousarray(weight[rows, places], dtype)
    return kernels.Sparse(starts, places.astype(np.int32), values, int(weight.shape[1]))


def part_of(whole: kernels.Sparse, rows: Indices | None, columns: Indices | None) -> kernels.Sparse:
    """The entries of a matrix at ``rows`` and ``columns`` (None: all)."""
    starts, places, values, width = whole
    if rows is not None:
        counts = np.diff(starts)[rows]
        ends = np.cumsum(counts)
        # Entry e of row k lies at starts[row] + (e - the entries before row k).
        taken = np.arange(int(counts.sum())) + np.repeat(starts[rows] - ends + counts, counts)
        starts, places, values = np.append(0, ends), places[taken], values[taken]
    if columns is not None:
        where = np.full(width, -1, np.int32)
        where[columns] = np.arange(len(columns))
        kept = where[places] >= 0
        starts = np.append(0, np.cumsum(kept))[starts]
        places, values, width = where[places[kept]], values[kept], len(columns)
    return kernels.Sparse(starts, places, values, width)
