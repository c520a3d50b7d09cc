"""A property as flat arrays: which unsafe conjunctions there are and the rows that exclude them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from msgspec import field

from gamma.frozen import Frozen
from gamma.network.exact import enclose
from gamma.network.property import Conjunction, LinearConstraint, Property, Region
from gamma.verification.contradiction import contradictory

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

Terms = tuple[tuple[int, Fraction], ...]
T = TypeVar("T")


def distinct(values: Int64) -> Int64:
    """The different values, ascending: `numpy.unique`, which imports numpy.ma unless an index is
    asked for, and that takes longer than a small verdict.
    """
    return np.unique(values, return_index=True)[0]


LARGE = Fraction(2**900)
"""Sums of numbers below it do not overflow float64."""
STEP = 4096
"""Constraints between two looks at the clock: some 50 ms."""
LARGEST = float(LARGE)


class Rows(Frozen):
    """Linear forms value = y·rows_y + x·rows_x + constant, one per unsafe half-space.

    The half-space holds exactly when the exact value is <= 0 (< 0 where ``strict``); ``constant``
    is rounded down, so a positive lower bound of the float form excludes the half-space.

    Attributes:
        rows_y: float64 (rows, outputs).
        rows_x: float64 (rows, inputs), None when no row has input terms.
        constant: float64 (rows,).
        strict: bool (rows,).
        scale: the factor by which each constraint was multiplied.
        exact: every coefficient is the float64 written here (else to relative error 2⁻⁵³).
    """

    rows_y: Float64
    rows_x: Float64 | None
    constant: Float64
    strict: Bool
    scale: tuple[Fraction, ...]
    exact: bool

    def unscaled(self, lower: Float64) -> Float64:
        """Lower bounds of the scaled rows in the units of the property, still lower bounds."""
        return np.array(
            [
                value
                if scale == 1 or not math.isfinite(value)
                else enclose(Fraction(value) / scale)[0]
                for value, scale in zip(lower.tolist(), self.scale, strict=True)
            ]
        )


class Targets(Frozen):
    """The unsafe conjunctions (targets) of all regions, in order.

    Attributes:
        region, disjunct: int64 (targets,), where a target stands in the property.
        constraints: all constraints of all targets.
        owner: int64 (constraints,), the target of a constraint; ascending.
        excluded: bool (targets,), no input of the region and no output meets the target, whatever
            the network does (exact).
        means: the mean of the constraints of each target that has several. It holds where they all
            do, so that a bound of it excludes them together. mean_owner: their targets.
    """

    region: Int64
    disjunct: Int64
    constraints: tuple[LinearConstraint, ...]
    owner: Int64
    excluded: Bool
    inputs: int
    outputs: int
    means: tuple[LinearConstraint, ...] = ()
    mean_owner: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    check: Callable[[], None] = field(default=lambda: None)
    _scales: dict[int, Fraction] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        prop: Property,
        late: Callable[[], bool] = lambda: False,
        check: Callable[[], None] = lambda: None,
    ) -> Targets:
        """Flatten a property.

        Once it is ``late``, means and contradictions are left out. ``check`` is called now and then
        where the targets are worked on; what it raises ends that.
        """
        regions: list[int] = []
        disjuncts: list[int] = []
        constraints: list[LinearConstraint] = []
        owner: list[int] = []
        excluded: list[bool] = []
        means: list[LinearConstraint] = []
        mean_owner: list[int] = []
        # Of conjunctions on outputs alone, by their constraints: regions share these.
        known: dict[tuple[int, ...], tuple[LinearConstraint, bool]] = {}
        hurry = False
        for r, region in enumerate(prop.regions):
            for d, conjunction in enumerate(region.unsafe):
                owner += [len(regions)] * len(conjunction)
                constraints += conjunction
                hurry = hurry or (len(regions) % 256 == 255 and late())
                empty = not hurry and any(_impossible(c, region) for c in conjunction)
                if len(conjunction) > 1 and not hurry:
                    key = tuple(map(id, conjunction))
                    if key not in known or any(c.x for c in conjunction):
                        known[key] = _mean(conjunction), contradictory(conjunction, region)
                    mean, contradicts = known[key]
                    empty = empty or contradicts
                    means.append(mean)
                    mean_owner.append(len(regions))
                regions.append(r)
                disjuncts.append(d)
                excluded.append(empty)
        return cls(
            np.array(regions, dtype=np.int64),
            np.array(disjuncts, dtype=np.int64),
            tuple(constraints),
            np.array(owner, dtype=np.int64),
            np.array(excluded, dtype=bool),
            prop.inputs,
            prop.outputs,
            tuple(means),
            np.array(mean_owner, dtype=np.int64),
            check,
        )

    def __len__(self) -> int:
        return len(self.region)

    @cached_property
    def questions(self) -> tuple[LinearConstraint, ...]:
        """What may be bounded: the constraints, then the means."""
        return self.constraints + self.means

    @cached_property
    def question_owner(self) -> Int64:
        """The target (questions,) that each of the questions excludes."""
        return np.concatenate([self.owner, self.mean_owner])

    @cached_property
    def _expressible(self) -> Bool:
        return np.array(self._each(lambda c: _expressible(c, self._scale(c))), dtype=bool)

    def _scale(self, constraint: LinearConstraint) -> Fraction:
        """`_scale` of one of the questions, worked out once."""
        found = self._scales.get(id(constraint))
        if found is None:
            found = self._scales[id(constraint)] = _scale(constraint)
        return found

    def _each(self, function: Callable[[LinearConstraint], T]) -> list[T]:
        """A function of every question, computed once where regions share a constraint."""
        known: dict[int, T] = {}
        for question in self.questions:
            if id(question) not in known:
                if len(known) % STEP == STEP - 1:
                    self.check()
                known[id(question)] = function(question)
        return [known[id(question)] for question in self.questions]

    def provable(self) -> Int64:
        """Questions with an output term that float64 can express, region by region.

        A threshold above every float64 that a bound could exceed is not worth it.
        """
        useful = self._each(lambda c: bool(c.y) and _below(c.bound, self._scale(c)))
        rows = np.flatnonzero(self._expressible & np.array(useful, dtype=bool)).astype(np.int64)
        return rows[np.argsort(self.question_owner[rows], kind="stable")]

    def askable(self) -> Int64:
        """Questions that float64 can express, also those on inputs alone, target by target."""
        rows = np.flatnonzero(self._expressible).astype(np.int64)
        return rows[np.argsort(self.question_owner[rows], kind="stable")]

    def attackable(self) -> Int64:
        """Targets that a point may meet and float64 can express: those worth attacking."""
        worth = ~self.excluded
        worth[self.owner[~self._expressible[: len(self.constraints)]]] = False
        return np.flatnonzero(worth).astype(np.int64)

    def rows(self, which: Sequence[int] | Int64) -> Rows:
        """The dense rows of these questions, each constraint worked out once."""
        chosen = [self.questions[int(i)] for i in which]
        places: dict[int, int] = {}
        place = np.array([places.setdefault(id(c), len(places)) for c in chosen], dtype=np.int64)
        distinct = list({id(c): c for c in chosen}.values())
        made = self._rows(distinct)
        if len(distinct) == len(chosen):
            return made
        rows_x = None if made.rows_x is None else made.rows_x[place]
        scale = tuple(made.scale[i] for i in place.tolist())
        return Rows(
            made.rows_y[place], rows_x, made.constant[place], made.strict[place], scale, made.exact
        )

    def _rows(self, chosen: Sequence[LinearConstraint]) -> Rows:
        rows_y = np.zeros((len(chosen), self.outputs))
        mixed = any(c.x for c in chosen)
        rows_x = np.zeros((len(chosen), self.inputs)) if mixed else None
        constant = np.empty(len(chosen))
        exact = True
        scales = []
        for i, constraint in enumerate(chosen):
            if i % STEP == STEP - 1:
                self.check()
            scale = self._scale(constraint)
            scales.append(scale)
            exact &= _fill(rows_y[i], constraint.y, scale)
            if rows_x is not None:
                exact &= _fill(rows_x[i], constraint.x, scale)
            constant[i] = min(enclose(-constraint.bound * scale)[0], LARGEST)
        strict = np.array([c.strict for c in chosen], dtype=bool)
        return Rows(rows_y, rows_x, constant, strict, tuple(scales), exact)


def _mean(conjunction: Conjunction) -> LinearConstraint:
    """The mean of constraints; its value is at most the largest of theirs."""
    share = Fraction(1, len(conjunction))

    def terms(parts: Sequence[Terms]) -> Terms:
        total: dict[int, Fraction] = {}
        for index, c in (term for part in parts for term in part):
            total[index] = total.get(index, Fraction(0)) + share * c
        return tuple(sorted((index, c) for index, c in total.items() if c))

    return LinearConstraint(
        terms([c.y for c in conjunction]),
        terms([c.x for c in conjunction]),
        share * sum((c.bound for c in conjunction), start=Fraction(0)),
        any(c.strict for c in conjunction),
    )


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
    if all(abs(c.numerator) * (scale // c.denominator) < 2**53 for c in coefficients):
        return Fraction(scale)
    # Out of the comfortable range: bring the largest near 1, the rest to relative 2⁻⁵³.
    largest = max(abs(c) for c in coefficients)
    exponent = largest.numerator.bit_length() - largest.denominator.bit_length()
    if abs(exponent) < 500:
        return Fraction(1)
    return Fraction(1, 2**exponent) if exponent > 0 else Fraction(2**-exponent)


def _is_float(value: Fraction) -> bool:
    n, d = abs(value.numerator), value.denominator
    if d & (d - 1):
        return False  # no power of two
    if n < 2**53 and d < 2**400:
        return True
    if n >= 2**500 * d or (n and n * 2**500 < d):
        return False
    return Fraction(float(value)) == value


def _below(bound: Fraction, scale: Fraction) -> bool:
    """bound·scale < LARGE, by the numbers' lengths where these decide."""
    n, d = bound.numerator * scale.numerator, bound.denominator * scale.denominator
    return n <= 0 or n.bit_length() - d.bit_length() < 899 or Fraction(n, d) < LARGE


def _expressible(constraint: LinearConstraint, scale: Fraction) -> bool:
    """Every scaled coefficient is far from float64's overflow and underflow.

    The threshold may be anything: far above, every point meets it (its constant is -inf); far
    below, its constant is lowered to ``LARGE``, which still excludes what it can.
    """

    def inside(c: Fraction) -> bool:
        n, d = abs(c.numerator) * scale.numerator, c.denominator * scale.denominator
        length = n.bit_length() - d.bit_length()
        return n > 0 and (abs(length) < 899 or 1 / LARGE < Fraction(n, d) < LARGE)

    return all(inside(c) for _, c in (*constraint.y, *constraint.x))


def _fill(row: Float64, terms: Terms, scale: Fraction) -> bool:
    """Write coefficients into a row, nearest float64; say whether all are exact."""
    exact = True
    for i, coefficient in terms:
        n, d = coefficient.numerator * scale.numerator, coefficient.denominator * scale.denominator
        whole, rest = divmod(n, d)
        if rest == 0 and abs(whole) < 2**53:
            row[i] = whole
            continue
        row[i] = value = n / d  # correctly rounded
        exact &= Fraction(value) == Fraction(n, d)
    return exact
