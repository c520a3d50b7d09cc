"""A property as flat arrays: which unsafe conjunctions there are and the rows that exclude them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from gamma.network.property import LinearConstraint, Property, Region

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

Terms = tuple[tuple[int, Fraction], ...]


LARGE = Fraction(2**900)
"""Sums of numbers below it do not overflow float64."""
LARGEST = float(LARGE)


@dataclass(frozen=True, eq=False)
class Rows:
    """Linear forms value = y·rows_y + x·rows_x + constant, one per unsafe half-space.

    The half-space holds exactly when the exact value is <= 0 (< 0 where ``strict``); ``constant``
    is rounded down, so a positive lower bound of the float form excludes the half-space.

    Attributes:
        rows_y: float64 (rows, outputs).
        rows_x: float64 (rows, inputs), None when no row has input terms.
        constant: float64 (rows,).
        strict: bool (rows,).
        scale: float64 (rows,), the factor by which each constraint was multiplied.
        exact: every coefficient is the float64 written here (else to relative error 2⁻⁵³).
    """

    rows_y: Float64
    rows_x: Float64 | None
    constant: Float64
    strict: Bool
    scale: Float64
    exact: bool


@dataclass(frozen=True, eq=False)
class Targets:
    """The unsafe conjunctions (targets) of all regions, in order.

    Attributes:
        region, disjunct: int64 (targets,), where a target stands in the property.
        constraints: all constraints of all targets.
        owner: int64 (constraints,), the target of a constraint.
        excluded: bool (targets,), the region alone makes a constraint on inputs impossible (exact).
    """

    region: Int64
    disjunct: Int64
    constraints: tuple[LinearConstraint, ...]
    owner: Int64
    excluded: Bool
    inputs: int
    outputs: int

    @classmethod
    def of(cls, prop: Property) -> Targets:
        """Flatten a property."""
        regions: list[int] = []
        disjuncts: list[int] = []
        constraints: list[LinearConstraint] = []
        owner: list[int] = []
        excluded: list[bool] = []
        for r, region in enumerate(prop.regions):
            for d, conjunction in enumerate(region.unsafe):
                owner += [len(regions)] * len(conjunction)
                constraints += conjunction
                regions.append(r)
                disjuncts.append(d)
                excluded.append(any(_impossible(c, region) for c in conjunction))
        return cls(
            np.array(regions, dtype=np.int64),
            np.array(disjuncts, dtype=np.int64),
            tuple(constraints),
            np.array(owner, dtype=np.int64),
            np.array(excluded, dtype=bool),
            prop.inputs,
            prop.outputs,
        )

    def __len__(self) -> int:
        return len(self.region)

    def provable(self) -> Int64:
        """Constraints with an output term that float64 can express: the rows worth bounding.

        A threshold above every float64 that a bound could exceed is not worth it.
        """
        useful = [
            i
            for i, c in enumerate(self.constraints)
            if c.y and _expressible(c) and c.bound * _scale(c) < LARGE
        ]
        return np.array(useful, dtype=np.int64)

    def attackable(self) -> Int64:
        """Targets that a point may meet and float64 can express: those worth attacking."""
        worth = ~self.excluded
        for constraint, owner in zip(self.constraints, self.owner, strict=True):
            worth[owner] &= _expressible(constraint)
        return np.flatnonzero(worth).astype(np.int64)

    def rows(self, which: Sequence[int] | Int64) -> Rows:
        """The dense rows of these constraints."""
        chosen = [self.constraints[int(i)] for i in which]
        rows_y = np.zeros((len(chosen), self.outputs))
        mixed = any(c.x for c in chosen)
        rows_x = np.zeros((len(chosen), self.inputs)) if mixed else None
        constant = np.empty(len(chosen))
        exact = True
        scales = np.ones(len(chosen))
        for i, constraint in enumerate(chosen):
            scale = _scale(constraint)
            scales[i] = max(abs(float_down(scale)), 2.0**-1000)
            exact &= _fill(rows_y[i], constraint.y, scale)
            if rows_x is not None:
                exact &= _fill(rows_x[i], constraint.x, scale)
            constant[i] = min(float_down(-constraint.bound * scale), LARGEST)
        strict = np.array([c.strict for c in chosen], dtype=bool)
        return Rows(rows_y, rows_x, constant, strict, scales, exact)


def float_down(value: Fraction) -> float:
    """The largest float64 that is at most ``value`` (-inf below the range)."""
    try:
        number = float(value)
    except OverflowError:
        return math.nextafter(math.inf, 0) if value > 0 else -math.inf
    if math.isinf(number):
        return math.nextafter(math.inf, 0) if number > 0 else -math.inf
    return number if Fraction(number) <= value else math.nextafter(number, -math.inf)


def _impossible(constraint: LinearConstraint, region: Region) -> bool:
    """A constraint on inputs alone that no point of the region's box meets (exact)."""
    if constraint.y:
        return False
    least = sum(
        (c * (region.lower[i] if c > 0 else region.upper[i]) for i, c in constraint.x),
        start=Fraction(0),
    )
    return least >= constraint.bound if constraint.strict else least > constraint.bound


def _scale(constraint: LinearConstraint) -> Fraction:
    """A positive factor that makes the coefficients exact in float64 where a small one does."""
    coefficients = [c for _, c in (*constraint.y, *constraint.x)]
    if all(_is_float(c) for c in coefficients):
        return Fraction(1)
    scale = math.lcm(*(c.denominator for c in coefficients))
    if all(abs(c * scale) < 2**53 for c in coefficients):
        return Fraction(scale)
    # Out of the comfortable range: bring the largest near 1, the rest to relative 2⁻⁵³.
    largest = max(abs(c) for c in coefficients)
    exponent = largest.numerator.bit_length() - largest.denominator.bit_length()
    if abs(exponent) < 500:
        return Fraction(1)
    return Fraction(1, 2**exponent) if exponent > 0 else Fraction(2**-exponent)


def _is_float(value: Fraction) -> bool:
    if abs(value) >= 2**500 or (value and abs(value) < Fraction(1, 2**500)):
        return False
    return Fraction(float(value)) == value


def _expressible(constraint: LinearConstraint) -> bool:
    """Every scaled coefficient is far from float64's overflow and underflow.

    The threshold may be anything: far above, every point meets it (its constant is -inf); far
    below, its constant is lowered to ``LARGE``, which still excludes what it can.
    """
    scale = _scale(constraint)
    return all(1 / LARGE < abs(c * scale) < LARGE for _, c in (*constraint.y, *constraint.x))


def _fill(row: Float64, terms: Terms, scale: Fraction) -> bool:
    """Write coefficients into a row, nearest float64; say whether all are exact."""
    exact = True
    for i, coefficient in terms:
        value = coefficient * scale
        row[i] = float(value)
        exact &= Fraction(float(value)) == value
    return exact
