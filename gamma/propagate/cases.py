"""Rows under assumptions about single ReLUs (β-CROWN: Wang et al. 2021), over one walk's bounds.

Sub-problems of branch and bound differ in which ReLUs they assume to be on one side of 0. They
share the bounds and tables of the whole; a row carries its assumptions, their multipliers β and its
slopes. Each step is a sound descent, and the forward sweep between two steps raises slopes and β.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from gamma.ops.hinges import Factors, HingeRows, Phases
from gamma.propagate.alpha import Ascent
from gamma.propagate.rows.descend import Multipliers, Tape, blocks_of
from gamma.propagate.rows.sweep import trajectory
from gamma.propagate.walks import Walk

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# A step of β, in coefficients' typical size.
_BETA_RATE = 0.2


class Cases(Struct):
    """A batch of rows, each a sub-problem.

    Attributes:
        question: int64 (rows,), what is asked. slope: (rows, ReLUs), lower slopes of the ReLUs
            that cross 0, in [0, 1]. relu: int64 (rows, depth), numbers of the ReLUs assumed to be
            on one side, -1 for none. sign: int8 (rows, depth), -1 or +1. beta: (rows, depth).
    """

    question: Indices
    slope: Array
    relu: Indices
    sign: npt.NDArray[np.int8]
    beta: Float64

    def take(self, rows: Array) -> Cases:
        """The chosen rows (copies)."""
        slope, relu = self.slope[rows], self.relu[rows]
        return Cases(self.question[rows], slope, relu, self.sign[rows], self.beta[rows])


class _Entries(NamedTuple):
    """Assumptions about ReLUs of one node: entries of a block of rows, and of `Cases.relu`."""

    row: Indices
    depth: Indices
    column: Indices
    sign: npt.NDArray[np.int8]


class CaseWalk:
    """How rows with assumptions go down from one walk over one box.

    The rows (``frontier``, ``d``) are questions, as `gamma.propagate.questions.question` or
    `Walk.both_signs` make them. ReLUs that cross 0 are numbered from the input to the rows' last
    node, `last`; `first` has where a node's begin.
    """

    def __init__(
        self, made: Walk, frontier: Mapping[int, Array], d: Float64, how: Ascent | None = None
    ) -> None:
        self.made, self.tables, self.how = made, made.descent.tables, how or Ascent()
        made.adopt()
        network = made.network
        self._asked = frontier, d
        self.last = max(frontier)
        self.nodes = [
            index
            for index in range(1, min(self.last + 1, network.output))
            if network.nodes[index].op.hinge and (self.tables.hinge(index).free > 0).any()
        ]
        self.places = [np.flatnonzero(self.tables.hinge(i).free[0] > 0) for i in self.nodes]
        counts = [len(place) for place in self.places]
        self.first = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        self.layer = np.repeat(np.arange(len(self.nodes)), counts)
        self.place = np.concatenate([np.zeros(0, np.int64), *self.places])
        self._lay_out()

    def _lay_out(self) -> None:
        """Where a node's lines find their slopes: a case's own, then those that none can move."""
        fixed = [self.tables.hinge(index).fixed[0] for index in self.nodes]
        rest = [np.delete(f, place) for f, place in zip(fixed, self.places, strict=True)]
        self._rest = np.concatenate([np.zeros(0, self.tables.how.dtype), *rest])
        self._columns, at = [], self.relus
        for k, (place, others) in enumerate(zip(self.places, rest, strict=True)):
            columns = np.empty(len(place) + len(others), np.int64)
            mine = np.zeros(len(columns), bool)
            mine[place] = True
            columns[mine] = np.arange(self.first[k], self.first[k + 1])
            columns[~mine] = np.arange(at, at + len(others))
            at += len(others)
            self._columns.append(columns)

    @property
    def relus(self) -> int:
        """Number of the ReLUs that cross 0."""
        return int(self.first[-1])

    def start(self, questions: Indices) -> Cases:
        """Nothing is assumed yet; slopes are the walk's own."""
        own = [
            self.tables.hinge(i).fixed[0, p] for i, p in zip(self.nodes, self.places, strict=True)
        ]
        dtype = self.tables.how.dtype
        slope = np.concatenate([np.zeros(0, dtype), *own]).astype(dtype)
        count = len(questions)
        none = np.zeros((count, 0))
        return Cases(
            questions,
            np.repeat(slope[None], count, axis=0),
            none.astype(np.int64),
            none.astype(np.int8),
            none,
        )

    def lower(self, cases: Cases, check: Callable[[], None] | None = None) -> Float64:
        """Sound lower bounds (rows,) with the slopes and multipliers that the cases have."""
        entries = self._entries(cases)
        return self._descend(cases, entries, self._slopes(cases, entries), None, check)

    def ascend(
        self,
        cases: Cases,
        steps: int,
        check: Callable[[], None] | None = None,
        kept: Cases | None = None,
    ) -> tuple[Float64, Array]:
        """Raise bounds by ``steps`` descents; slopes and β of ``cases`` move, in place.

        Returns the best bounds (rows,), and what each ReLU's relaxation cost the row at last
        (rows, ReLUs), which says where to split. ``kept``, a copy of the cases, is given the
        slopes and β of these bounds.
        """
        best = np.full(len(cases.question), -np.inf)
        entries = self._entries(cases)
        slopes = self._slopes(cases, entries)
        moments = {i: (np.zeros_like(s.slope), np.zeros_like(s.slope)) for i, s in slopes.items()}
        memory = np.zeros((2, *cases.beta.shape))
        size: dict[int, Float64] = {}
        zeros = np.zeros(len(best), np.int64)
        for step in range(steps):
            tape = Tape()
            lower = self._descend(cases, entries, slopes, tape, check)
            if kept is not None:
                self._keep(kept, lower > best, slopes, cases.beta)
            best = np.fmax(best, lower)
            x = trajectory(self.tables, tape, zeros)
            if step + 1 == steps:
                break
            factors = self.how.factors(step)
            for index, given in slopes.items():
                if index in tape.passed:
                    source = self.made.network.nodes[index].inputs[0]
                    given.ascend(tape.passed[index][0], x[source], zeros, moments[index], factors)
            for k, entry in entries.items():
                index = self.nodes[k]
                if index in tape.passed:
                    if k not in size:  # of the coefficients that arrive: what β is measured in
                        size[k] = abs(tape.passed[index][0]).mean(axis=1)[entry.row]
                    source = self.made.network.nodes[index].inputs[0]
                    z = x[source][entry.row, entry.column]
                    z = z + self.tables.hinge(index).centre[0, entry.column]
                    self._raise_beta(cases.beta, entry, -entry.sign * z, memory, size[k], factors)
        every = np.ones(len(best), bool)
        self._keep(cases, every, slopes, cases.beta)
        return best, self._costs(cases, tape, x)

    def _keep(
        self, cases: Cases, which: Array, slopes: dict[int, HingeRows], beta: Float64
    ) -> None:
        """Write slopes and β of the rows ``which`` into ``cases``."""
        cases.beta[which] = beta[which]
        for k, index in enumerate(self.nodes):
            mine = slopes[index].slope[which].take(self.places[k], 1)
            cases.slope[which, self.first[k] : self.first[k + 1]] = mine

    def _entries(self, cases: Cases) -> dict[int, _Entries]:
        """What is assumed about ReLUs, by the number of their node."""
        row, depth = np.nonzero(cases.relu >= 0)
        relu, sign = cases.relu[row, depth], cases.sign[row, depth]
        layer = self.layer[relu]
        found = {}
        for k in np.unique(layer):
            mine = layer == k
            column = self.place[relu[mine]]
            found[int(k)] = _Entries(row[mine], depth[mine], column, sign[mine])
        return found

    def _slopes(self, cases: Cases, entries: dict[int, _Entries]) -> dict[int, HingeRows]:
        """Each row's lines of each node."""
        found, count = {}, len(cases.question)
        every = np.empty((count, self.relus + len(self._rest)), self.tables.how.dtype)
        every[:, : self.relus], every[:, self.relus :] = cases.slope, self._rest
        for k, index in enumerate(self.nodes):
            hinge = self.tables.hinge(index)
            slope = np.take(every, self._columns[k], 1, mode="clip")
            phases = None
            if k in entries:
                entry = entries[k]
                phases = Phases(entry.row, entry.column, entry.sign > 0)
            found[index] = HingeRows(hinge, slope, phases)
        return found

    def _descend(
        self,
        cases: Cases,
        entries: dict[int, _Entries],
        slopes: dict[int, HingeRows],
        tape: Tape | None,
        check: Callable[[], None] | None,
    ) -> Float64:
        frontier, d = self._asked
        multipliers = {
            self.made.network.nodes[self.nodes[k]].inputs[0]: Multipliers(
                e.row, e.column, cases.beta[e.row, e.depth], e.sign, np.zeros(len(e.row))
            )
            for k, e in entries.items()
        }
        rows = blocks_of(frontier, cases.question)
        return self.made.descent.run(
            rows,
            d[cases.question],
            np.zeros(len(cases.question), np.int64),
            check,
            slopes=slopes,
            multipliers=multipliers,
            tape=tape,
        )

    @staticmethod
    def _raise_beta(
        beta: Float64,
        entry: _Entries,
        gradient: Float64,
        memory: Float64,
        size: Float64,
        factors: Factors,
    ) -> None:
        """A step of Adam's up the gradient, in units of ``size``; β stays >= 0."""
        at = entry.row, entry.depth
        momentum, fresh, kept, new, rate = factors
        mean = memory[0][at] = momentum * memory[0][at] + fresh * gradient
        square = memory[1][at] = kept * memory[1][at] + new * gradient**2
        move = mean / np.sqrt(np.maximum(square, 1e-300))
        moved = beta[at] + rate * _BETA_RATE * np.maximum(size, beta[at]) * move
        beta[at] = np.where(np.isfinite(moved), np.maximum(moved, 0.0), 0.0)

    def _costs(self, cases: Cases, tape: Tape, x: dict[int, Array]) -> Array:
        """What each relaxation costs at the trajectory: A·(relu(z) - line(z)), 0 where assumed."""
        found = np.zeros((len(cases.question), self.relus), self.tables.how.dtype)
        for k, index in enumerate(self.nodes):
            if index not in tape.passed:
                continue
            rows, table, _ = tape.passed[index]
            assert isinstance(table, HingeRows)
            source = self.made.network.nodes[index].inputs[0]
            place, lines = self.places[k], table.lines
            known = self.made.bounds[source]
            keep = self.tables.columns(index)
            neurons = place if keep is None else keep[place]
            ends = (e.reshape(len(e), -1)[0, neurons] for e in (known.lower, known.upper))
            low, high = (end.astype(rows.dtype) for end in ends)
            a, slope, z = (np.take(e, place, 1) for e in (rows, table.slope, x[source]))
            z += lines.centre[0, place]
            np.clip(z, low, high, out=z)
            line = np.where(a >= 0, slope * z, (z - low) * (high / (high - low)))
            np.multiply(a, np.maximum(z, 0) - line, out=found[:, self.first[k] : self.first[k + 1]])
        row, depth = np.nonzero(cases.relu >= 0)
        found[row, cases.relu[row, depth]] = 0.0
        return found
