"""Unsafe conjunctions (clauses) as rows, the form in which sub-problems carry them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.propagate import Specification
from gamma.tensor.rounding import fraction_near
from gamma.verification.targets import Int64, Rows, Targets, distinct

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class Clauses(Frozen):
    """The open targets of a property, those of a region next to each other.

    A clause is excluded where one of its rows has a positive lower bound (at least 0 when strict).

    Attributes:
        target: int64 (clauses,), indices into `Targets`. region: int64 (clauses,).
        start: int64 (clauses + 1,), clause c has the rows start[c]..start[c + 1].
        rows: all rows. unit: float64 (rows,), a row divided by it is in the property's units.
        slots: int64 (regions, most clauses of one), clause numbers, -1 where there are fewer.
    """

    target: Int64
    region: Int64
    start: Int64
    rows: Rows
    unit: Float64
    slots: Int64

    @classmethod
    def of(cls, targets: Targets, which: Int64, regions: int) -> Clauses:
        """The clauses of the targets ``which`` that have rows on outputs."""
        questions = targets.askable()
        owner = targets.question_owner[questions]
        provable = distinct(targets.question_owner[targets.provable()])
        which = np.intersect1d(which, provable)
        kept = np.isin(owner, which)
        questions, owner = questions[kept], owner[kept]
        start = np.asarray(np.searchsorted(owner, np.append(which, len(targets))), np.int64)
        region = targets.region[which]
        order = np.arange(len(which)) - np.searchsorted(region, region)
        slots = np.full((regions, int(order.max(initial=-1)) + 1), -1)
        slots[region, order] = np.arange(len(which))
        rows = targets.rows(questions)
        unit = np.array([1.0 if s == 1 else fraction_near(s) for s in rows.scale])
        return cls(which, region, start, rows, unit, slots)

    def __len__(self) -> int:
        return len(self.target)

    def members(self, clause: Int64) -> tuple[Int64, Int64]:
        """Rows of these clauses one after the other, and where each one's begin."""
        first, count = self.start[clause], self.start[clause + 1] - self.start[clause]
        begin = np.cumsum(count) - count
        rows = np.arange(int(count.sum())) - np.repeat(begin - first, count)
        return rows, begin

    def specification(self, rows: Int64, box: Int64) -> Specification:
        """The rows as questions about boxes."""
        given = self.rows
        inputs = None if given.rows_x is None else given.rows_x[rows]
        return Specification(given.rows_y[rows], inputs, given.constant[rows], box, given.exact)

    def limit(self, rows: Int64) -> Float64:
        """The least lower bounds of these rows that exclude what they stand for."""
        return np.where(self.rows.strict[rows], 0.0, np.nextafter(0.0, 1.0))

    def excluded(self, rows: Int64, lower: Float64) -> Bool:
        """Whether lower bounds of these rows exclude what they stand for."""
        done: Bool = np.isfinite(lower) & (lower >= self.limit(rows))
        return done

    def in_units(self, rows: Int64, lower: Float64) -> Float64:
        """Lower bounds of these rows in the property's units, still lower bounds."""
        unit = self.unit[rows]
        with np.errstate(all="ignore"):
            value = lower / unit
            down = np.nextafter(value - abs(value) * 2.0**-50, -np.inf)
        down = np.where(np.isfinite(unit) & (unit > 0) & ~np.isnan(down), down, -np.inf)
        same: Float64 = np.where(unit == 1, lower, down)
        return same
