"""Rows under assumptions about single ReLUs (β-CROWN: Wang et al. 2021), over one walk's bounds.

Sub-problems of branch and bound differ in which ReLUs they assume to be on one side of 0. They
share the bounds and tables of the whole; a row carries its assumptions, their multipliers β and its
slopes. Each step is a sound descent, and the forward sweep between two steps raises slopes and β.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from gamma.ops.hinges import HingeRows, Phases
from gamma.propagate.alpha import Ascent
from gamma.propagate.climb import Climb
from gamma.propagate.rows.ascent import DenseAscent
from gamma.propagate.rows.block import blocks_of
from gamma.propagate.rows.own import Multipliers, Tape
from gamma.propagate.rows.sweep import trajectory
from gamma.propagate.walks import Walk
from gamma.tensor import kernels

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Rows that are settled are dropped when no more than this share of the rows is left.
_KEEP_FROM = 0.75


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

    def climbers(self, owner: Indices | None = None) -> kernels.Climbers:
        """The same for the C library; ``owner`` as in `CaseWalk.lower`."""
        relu, sign = map(np.ascontiguousarray, (self.relu, self.sign))
        return kernels.Climbers(self.question, self.slope, owner, None, relu, sign, self.beta)


class Entries(NamedTuple):
    """Assumptions about ReLUs of one node: entries of a block of rows, and of `Cases.relu`."""

    row: Indices
    depth: Indices
    column: Indices
    sign: npt.NDArray[np.int8]

    @property
    def phases(self) -> Phases:
        """The same, as the node's lines take it."""
        return Phases(self.row, self.column, self.sign > 0)


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

    def lower(
        self, cases: Cases, check: Callable[[], None] | None = None, owner: Indices | None = None
    ) -> Float64:
        """Sound lower bounds (rows,) with the slopes and multipliers that the cases have.

        ``owner``: the row of ``cases.slope`` of each case, where several share one.
        """
        if self._dense is not None:
            one = np.zeros((1, 5))
            rows = cases.climbers(owner)
            return self._dense.run(self.last, self._question, rows, one, check)
        entries = self.entries(cases)
        return self.descend(cases, entries, self.slopes(cases, entries, owner), None, check)

    @cached_property
    def _dense(self) -> DenseAscent | None:
        """All steps of an ascent in the C library, where that can be."""
        made = None
        if len(self._asked[0]) == 1:
            made = DenseAscent.of(self.tables, self.made.network.output, assumes=True)
        return made if made is not None and made.reaches(self.last) else None

    @cached_property
    def _question(self) -> tuple[Array, Float64]:
        """What is asked, as rows over the last node."""
        frontier, d = self._asked
        rows = frontier[self.last]
        return np.ascontiguousarray(rows.reshape(len(rows), -1)), d

    def ascend(
        self,
        cases: Cases,
        steps: int,
        check: Callable[[], None] | None = None,
        kept: Cases | None = None,
        limit: Float64 | None = None,
    ) -> tuple[Float64, Array]:
        """Raise bounds by ``steps`` descents; slopes and β of ``cases`` move, in place.

        Returns the best bounds (rows,), and what each ReLU's relaxation cost the row at last
        (rows, ReLUs), which says where to split. ``kept``, a copy of the cases, is given the
        slopes and β of these bounds. Rows whose bounds reach ``limit`` (rows,) need no more
        steps: they cost nothing, and what their own slopes and β become means nothing.
        """
        if self._dense is not None:
            cost = np.zeros((len(cases.question), self.relus), self.tables.how.dtype)
            best = self._dense.run(
                self.last,
                self._question,
                cases.climbers(),
                self.how.all_factors(steps),
                check,
                limit=limit,
                cost=cost,
                kept=None if kept is None else (kept.slope, kept.beta),
            )
            return best, cost
        best = np.full(len(cases.question), -np.inf)
        cost = np.zeros((len(best), self.relus), self.tables.how.dtype)
        rows, climb = np.arange(len(best)), Climb(self, cases)
        for step in range(steps):
            tape, lower = climb.descend(check)
            if kept is not None:
                climb.write(kept, rows, lower > best[rows])
            best[rows] = np.fmax(best[rows], lower)
            x = trajectory(self.tables, tape, np.zeros(len(rows), np.int64))
            if step + 1 == steps:
                cost[rows] = self._costs(climb.cases, tape, x)
                break
            climb.step(tape, x, self.how.factors(step))
            if limit is not None:
                settled = np.isfinite(best[rows]) & (best[rows] >= limit[rows])
                left = np.flatnonzero(~settled)
                if len(left) < _KEEP_FROM * len(rows):
                    rows = rows[left]
                    if not len(rows):
                        return best, cost
                    climb.take(left)
        climb.write(cases, rows, np.ones(len(rows), bool))
        return best, cost

    def entries(self, cases: Cases) -> dict[int, Entries]:
        """What is assumed about ReLUs, by the number of their node."""
        row, depth = np.nonzero(cases.relu >= 0)
        relu, sign = cases.relu[row, depth], cases.sign[row, depth]
        layer = self.layer[relu]
        found = {}
        for k in np.unique(layer):
            mine = layer == k
            column = self.place[relu[mine]]
            found[int(k)] = Entries(row[mine], depth[mine], column, sign[mine])
        return found

    def slopes(
        self, cases: Cases, entries: dict[int, Entries], owner: Indices | None = None
    ) -> dict[int, HingeRows]:
        """Each row's lines of each node; ``owner`` as in `lower`."""
        found, count = {}, len(cases.slope)
        every = np.empty((count, self.relus + len(self._rest)), self.tables.how.dtype)
        every[:, : self.relus], every[:, self.relus :] = cases.slope, self._rest
        for k, index in enumerate(self.nodes):
            hinge, own = self.tables.hinge(index), entries.get(k)
            slope = np.take(every, self._columns[k], 1, mode="clip")
            slope = slope if owner is None else slope.take(owner, 0)
            found[index] = HingeRows(hinge, slope, own and own.phases)
        return found

    def descend(
        self,
        cases: Cases,
        entries: dict[int, Entries],
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

    def _costs(self, cases: Cases, tape: Tape, x: dict[int, Array]) -> Array:
        """What each relaxation costs at the trajectory: A·(relu(z) - line(z)).

        Where a side is assumed, minus the distance from 0, where the trajectory is on the other one
        or a multiplier charges it for being inside: 0 everywhere means that the bound is reached.
        """
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
        for k, entry in self.entries(cases).items():
            index = self.nodes[k]
            if index in tape.passed:
                z = x[self.made.network.nodes[index].inputs[0]][entry.row, entry.column]
                z = z + self.tables.hinge(index).centre[0, entry.column]
                number = cases.relu[entry.row, entry.depth]
                off = (entry.sign * z < 0) | (cases.beta[entry.row, entry.depth] > 0)
                found[entry.row, number] = np.where(off, -abs(z), 0)
        return found
