"""Rows with assumptions on their way up: slopes, multipliers β, and what Adam remembers of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma.ops.hinges import Factors, HingeRows
from gamma.propagate.rows.own import Tape

if TYPE_CHECKING:
    from gamma.propagate.cases import Cases, CaseWalk, Entries

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# A step of β, in coefficients' typical size.
_BETA_RATE = 0.2


class Climb:
    """The ascent of some cases: a descent, a step along its gradients, and again.

    Attributes:
        cases: those that still climb; their slopes are in ``slopes`` until `write`.
    """

    def __init__(self, walk: CaseWalk, cases: Cases) -> None:
        self.walk, self.cases = walk, cases.take(np.arange(len(cases.question)))
        self.entries = walk.entries(self.cases)
        self.slopes = walk.slopes(self.cases, self.entries)
        self._moments = {
            i: (np.zeros_like(s.slope), np.zeros_like(s.slope)) for i, s in self.slopes.items()
        }
        self._memory = np.zeros((2, *cases.beta.shape))
        # Node -> of the coefficients that arrive there (rows,): what β is measured in.
        self._size: dict[int, Float64] = {}

    def descend(self, check: Callable[[], None] | None) -> tuple[Tape, Float64]:
        """What a sound descent leaves behind, and its lower bounds."""
        tape = Tape()
        return tape, self.walk.descend(self.cases, self.entries, self.slopes, tape, check)

    def step(self, tape: Tape, x: dict[int, Array], factors: Factors) -> None:
        """Move slopes and β along the gradients at trajectories ``x``."""
        zeros, nodes = np.zeros(len(self.cases.question), np.int64), self.walk.nodes
        source = {index: self.walk.made.network.nodes[index].inputs[0] for index in nodes}
        for index, given in self.slopes.items():
            if index in tape.passed:
                rows = tape.passed[index][0]
                given.ascend(rows, x[source[index]], zeros, self._moments[index], factors)
        for k, entry in self.entries.items():
            index = nodes[k]
            if index in tape.passed:
                if index not in self._size:
                    self._size[index] = abs(tape.passed[index][0]).mean(axis=1)
                z = x[source[index]][entry.row, entry.column]
                z = z + self.walk.tables.hinge(index).centre[0, entry.column]
                self._raise_beta(entry, -entry.sign * z, self._size[index][entry.row], factors)

    def _raise_beta(
        self, entry: Entries, gradient: Float64, size: Float64, factors: Factors
    ) -> None:
        """A step of Adam's up the gradient, in units of ``size``; β stays >= 0."""
        beta, memory = self.cases.beta, self._memory
        at = entry.row, entry.depth
        momentum, fresh, kept, new, rate = factors
        mean = memory[0][at] = momentum * memory[0][at] + fresh * gradient
        square = memory[1][at] = kept * memory[1][at] + new * gradient**2
        move = mean / np.sqrt(np.maximum(square, 1e-300))
        moved = beta[at] + rate * _BETA_RATE * np.maximum(size, beta[at]) * move
        beta[at] = np.where(np.isfinite(moved), np.maximum(moved, 0.0), 0.0)

    def take(self, rows: Indices) -> None:
        """Go on with these rows alone."""
        self.cases = self.cases.take(rows)
        self.entries = self.walk.entries(self.cases)
        moments = self._moments.items()
        self._moments = {i: (first[rows], second[rows]) for i, (first, second) in moments}
        for k, index in enumerate(self.walk.nodes):
            given, own = self.slopes[index], self.entries.get(k)
            self.slopes[index] = HingeRows(given.lines, given.slope[rows], own and own.phases)
        self._memory = self._memory[:, rows]
        self._size = {index: size[rows] for index, size in self._size.items()}

    def write(self, cases: Cases, rows: Indices, which: Array) -> None:
        """Write slopes and β of those rows that are chosen, at ``rows`` of ``cases``."""
        at = rows[which]
        cases.beta[at] = self.cases.beta[which]
        for k, index in enumerate(self.walk.nodes):
            mine = self.slopes[index].slope[which].take(self.walk.places[k], 1)
            cases.slope[at, self.walk.first[k] : self.walk.first[k + 1]] = mine
