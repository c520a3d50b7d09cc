"""The unsafe set of a region as matrix rows, the form in which the walks take it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gamma.errors import PropertyError
from gamma.network.exact import Float64, enclose

Terms = tuple[tuple[int, Fraction], ...]


class Constraint(Protocol):
    """sum(c·Y_i) + sum(c·X_j) <= bound (strict: <)."""

    @property
    def y(self) -> Terms: ...
    @property
    def x(self) -> Terms: ...
    @property
    def bound(self) -> Fraction: ...
    @property
    def strict(self) -> bool: ...


@dataclass(frozen=True, eq=False)
class ConstraintRows:
    """Rows C_y·Y + C_x·X <= bound, one per constraint, conjunctions one after another.

    Each row is the constraint times a positive factor that makes its coefficients whole numbers
    where they then fit into float64. A conjunction is excluded by a lower bound on one of its
    rows that is above the row's bound (at or above it when the row is strict).

    Attributes:
        y: float64 (rows, outputs).
        x: float64 (rows, inputs), or None when no constraint names an input.
        bounds: the exact right-hand sides.
        strict: bool (rows,).
        conjunction: int64 (rows,), the index into ``Region.unsafe`` of each row.
        exact: bool (rows,). Where False a coefficient was rounded to nearest, an error of at most
            2^-53 times its magnitude (2^-1075 below the normal range).
    """

    y: Float64
    x: Float64 | None
    bounds: tuple[Fraction, ...]
    strict: npt.NDArray[np.bool_]
    conjunction: npt.NDArray[np.int64]
    exact: npt.NDArray[np.bool_]


def constraint_rows(
    unsafe: Sequence[Sequence[Constraint]], inputs: int, outputs: int
) -> ConstraintRows:
    """Build the rows of a disjunction of conjunctions."""
    flat = [(k, constraint) for k, conjunction in enumerate(unsafe) for constraint in conjunction]
    y = np.zeros((len(flat), outputs))
    x = np.zeros((len(flat), inputs)) if any(c.x for _, c in flat) else None
    exact = np.ones(len(flat), dtype=np.bool_)
    bounds = []
    for row, (_, constraint) in enumerate(flat):
        factor = _whole_factor(constraint.y + constraint.x)
        bounds.append(constraint.bound * factor)
        exact[row] = _fill(y[row], constraint.y, factor)
        if x is not None:
            exact[row] &= _fill(x[row], constraint.x, factor)
    return ConstraintRows(
        y=y,
        x=x,
        bounds=tuple(bounds),
        strict=np.array([constraint.strict for _, constraint in flat], dtype=np.bool_),
        conjunction=np.array([k for k, _ in flat], dtype=np.int64),
        exact=exact,
    )


def _whole_factor(terms: Terms) -> Fraction:
    """The positive factor that makes the coefficients coprime integers; 1 when those are large."""
    if not terms:
        return Fraction(1)
    scale = math.lcm(*(c.denominator for _, c in terms))
    divisor = math.gcd(*(int(c * scale) for _, c in terms))
    largest = max(abs(int(c * scale)) // divisor for _, c in terms)
    return Fraction(scale, divisor) if largest <= 2**53 else Fraction(1)


def _fill(row: Float64, terms: Terms, factor: Fraction) -> bool:
    """Write the scaled coefficients into a row; whether all of them are exact."""
    exact = True
    for index, coefficient in terms:
        scaled = coefficient * factor
        below, above = enclose(scaled)
        if math.isinf(below) or math.isinf(above):
            raise PropertyError(
                "a coefficient of the unsafe set is beyond float64: divide the constraint by it"
            )
        exact &= below == above
        row[index] = float(scaled)
    return exact
