"""Rows under assumptions about single ReLUs (β-CROWN: Wang et al. 2021), over one walk's bounds.

Sub-problems of branch and bound differ in which ReLUs they assume to be on one side of 0. They
share the bounds and tables of the whole; a row carries its assumptions, their multipliers β and its
slopes. Each step is a sound descent, and the forward sweep between two steps raises slopes and β.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.ops import Relu
from gamma.ops.tables import HingeRows, Phases
from gamma.propagate.alpha import Ascent
from gamma.propagate.questions import question
from gamma.propagate.rows.descend import Multipliers, Tape, blocks_of
from gamma.propagate.rows.sweep import trajectory
from gamma.propagate.specification import Specification
from gamma.propagate.walks import Walk

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# A step of β, in coefficients' typical size.
_BETA_RATE = 0.2


@dataclass
class Cases:
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


class CaseWalk:
    """How rows with assumptions go down from one walk over one box.

    ReLUs that cross 0 are numbered through the network; `first` has where a node's begin.
    """

    def __init__(self, made: Walk, specification: Specification, how: Ascent | None = None) -> None:
        self.made, self.tables, self.how = made, made.descent.tables, how or Ascent()
        made.adopt()
        network = made.network
        self._asked = question(made, specification)
        self.nodes = [
            index
            for index in range(1, network.output)
            if isinstance(network.nodes[index].op, Relu)
            and (self.tables.hinge(index).free > 0).any()
        ]
        self.places = [np.flatnonzero(self.tables.hinge(i).free[0] > 0) for i in self.nodes]
        counts = [len(place) for place in self.places]
        self.first = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        self.layer = np.repeat(np.arange(len(self.nodes)), counts)
        self.place = np.concatenate([np.zeros(0, np.int64), *self.places])

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
        return self._descend(cases, self._slopes(cases), None, check)

    def ascend(
        self, cases: Cases, steps: int, check: Callable[[], None] | None = None
    ) -> tuple[Float64, Array]:
        """Raise bounds by ``steps`` descents; slopes and β of ``cases`` move, in place.

        Returns the best bounds (rows,), and what each ReLU's relaxation cost the row at last
        (rows, ReLUs), which says where to split.
        """
        best = np.full(len(cases.question), -np.inf)
        slopes = self._slopes(cases)
        moments = {i: (np.zeros_like(s.slope), np.zeros_like(s.slope)) for i, s in slopes.items()}
        mean, square = np.zeros_like(cases.beta), np.zeros_like(cases.beta)
        zeros = np.zeros(len(best), np.int64)
        for step in range(steps):
            tape = Tape()
            lower = self._descend(cases, slopes, tape, check)
            best = np.fmax(best, lower)
            x = trajectory(self.tables, tape, zeros)
            if step + 1 == steps:
                break
            factors = self.how.factors(step)
            for index, given in slopes.items():
                if index in tape.passed:
                    source = self.made.network.nodes[index].inputs[0]
                    given.ascend(tape.passed[index][0], x[source], zeros, moments[index], factors)
            self._raise_beta(cases, tape, x, mean, square, step)
        for k, index in enumerate(self.nodes):
            cases.slope[:, self.first[k] : self.first[k + 1]] = slopes[index].slope[
                :, self.places[k]
            ]
        return best, self._costs(cases, tape, x)

    def _slopes(self, cases: Cases) -> dict[int, HingeRows]:
        """Each row's lines of each node."""
        found = {}
        zeros = np.zeros(len(cases.question), np.int64)
        for k, index in enumerate(self.nodes):
            hinge = self.tables.hinge(index)
            slope = np.repeat(hinge.fixed, len(zeros), axis=0)
            slope[:, self.places[k]] = cases.slope[:, self.first[k] : self.first[k + 1]]
            row, depth = self._of_node(cases, k)
            phases = None
            if len(row):
                relu = cases.relu[row, depth]
                phases = Phases(row, self.place[relu], cases.sign[row, depth] > 0)
            found[index] = HingeRows(hinge, slope, phases)
        return found

    def _of_node(self, cases: Cases, k: int) -> tuple[Indices, Indices]:
        """Rows and depths of the assumptions about the k-th node."""
        row, depth = np.nonzero((cases.relu >= self.first[k]) & (cases.relu < self.first[k + 1]))
        return row, depth

    def _multipliers(self, cases: Cases) -> dict[int, Multipliers]:
        found = {}
        for k, index in enumerate(self.nodes):
            row, depth = self._of_node(cases, k)
            if len(row):
                relu = cases.relu[row, depth]
                found[self.made.network.nodes[index].inputs[0]] = Multipliers(
                    row,
                    self.place[relu],
                    cases.beta[row, depth],
                    cases.sign[row, depth],
                    np.zeros(len(row)),
                )
        return found

    def _descend(
        self,
        cases: Cases,
        slopes: dict[int, HingeRows],
        tape: Tape | None,
        check: Callable[[], None] | None,
    ) -> Float64:
        frontier, d = self._asked
        rows = blocks_of(frontier, cases.question)
        return self.made.descent.run(
            rows,
            d[cases.question],
            np.zeros(len(cases.question), np.int64),
            check,
            slopes=slopes,
            multipliers=self._multipliers(cases),
            tape=tape,
        )

    def _raise_beta(
        self, cases: Cases, tape: Tape, x: dict[int, Array], mean: Array, square: Array, step: int
    ) -> None:
        """A step of Adam's up -S·(z - 0), in units of the coefficients that arrive."""
        momentum, fresh, memory, new, rate = self.how.factors(step)
        for k, index in enumerate(self.nodes):
            row, depth = self._of_node(cases, k)
            if not len(row) or index not in tape.passed:
                continue
            relu, at = cases.relu[row, depth], (row, depth)
            source = self.made.network.nodes[index].inputs[0]
            column = self.place[relu]
            z = x[source][row, column] + self.tables.hinge(index).centre[0, column]
            gradient = -cases.sign[at] * z
            mean[at] = momentum * mean[at] + fresh * gradient
            square[at] = memory * square[at] + new * gradient**2
            arrived = abs(tape.passed[index][0]).mean(axis=1)[row]
            size = np.maximum(arrived, cases.beta[at])
            move = rate * _BETA_RATE * size * mean[at] / np.sqrt(np.maximum(square[at], 1e-300))
            moved = np.where(np.isfinite(move), cases.beta[at] + move, 0.0)
            cases.beta[at] = np.maximum(moved, 0.0)

    def _costs(self, cases: Cases, tape: Tape, x: dict[int, Array]) -> Array:
        """What each relaxation costs at the trajectory: A·(relu(z) - line(z)), 0 where assumed."""
        found = np.zeros((len(cases.question), self.relus))
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
            low, high = (e.reshape(len(e), -1)[0, neurons] for e in (known.lower, known.upper))
            a = rows[:, place]
            z = np.clip(x[source][:, place] + lines.centre[0, place], low, high)
            above = high * (z - low) / (high - low)
            line = np.where(a >= 0, table.slope[:, place] * z, above)
            found[:, self.first[k] : self.first[k + 1]] = a * (np.maximum(z, 0) - line)
        row, depth = np.nonzero(cases.relu >= 0)
        found[row, cases.relu[row, depth]] = 0.0
        return found
