"""Conditions of a property file in disjunctive normal form, exact.

A bound on a single input is kept apart from the other half-spaces: it will tighten a region's box.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise, repeat
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct

from gamma.errors import GammaError, UnsupportedError
from gamma.formats.bulk import Comparisons
from gamma.formats.linear import ONE, ZERO, Linear, Term, add, as_linear
from gamma.network.columns import fractions
from gamma.network.property import LinearConstraint

MINUS_ONE = -ONE
MAX_LITERALS = 600_000
MAX_ASSERTIONS = 4_000_000
MAX_WORK = 8 * MAX_LITERALS
MAX_ABSORBED = 256
MAX_TEXT_UNCOUNTED = 4 << 20
COMMENT = re.compile(r";[^\n]*")

Fail = Callable[[type[GammaError], int, str], GammaError]
"""Builds the error for a position in the file: fail(kind, position, message)."""


class Bound(NamedTuple):
    """X_variable <= value (upper) or X_variable >= value, strict or not, stated at a position."""

    variable: int
    upper: bool
    value: Fraction
    strict: bool
    at: int


Atom = Bound | LinearConstraint


class Formula(Struct):
    """A disjunction of conjunctions. No disjunct: false. An empty conjunction: true."""

    disjuncts: list[list[Atom]]
    at: int

    @property
    def size(self) -> int:
        """Number of atoms, counting an empty conjunction as one."""
        return sum(len(part) or 1 for part in self.disjuncts)


Part = Formula | Atom
"""A condition; the commonest, a single comparison, is no more than its atom."""


def formula_of(part: Part, at: int = 0) -> Formula:
    """Any condition as a Formula; ``at`` places an atom that states no position."""
    if isinstance(part, Formula):
        return part
    return Formula([[part]], part.at if isinstance(part, Bound) else at)


def comparison(operator: str, left: Term, right: Term, at: int) -> Part:
    """The condition ``left operator right`` for <=, <, >=, > and =. Consumes its terms."""
    if operator == "=":
        pair = [as_linear(left), as_linear(right)]
        atoms: list[Atom] = []
        for one in ("<=", ">="):
            formula = formula_of(comparison(one, as_linear(pair[0]), as_linear(pair[1]), at))
            if not formula.disjuncts:
                return formula
            atoms += formula.disjuncts[0]
        return Formula([atoms], at)
    strict = operator in ("<", ">")
    less = operator[0] == "<"
    if isinstance(left, int) and isinstance(right, Fraction):
        return simple(left, less, right, strict, at)
    if isinstance(left, Fraction) and isinstance(right, int):
        return simple(right, not less, left, strict, at)
    if isinstance(left, int) and isinstance(right, int) and left < 0 and right < 0:
        if left != right:  # Y against Y, the other common case
            plus, minus = (-1 - left, -1 - right) if less else (-1 - right, -1 - left)
            terms = ((plus, ONE), (minus, MINUS_ONE))
            if minus < plus:
                terms = terms[::-1]
            return LinearConstraint(terms, (), ZERO, strict)
    return _half_space(add([left, right], [1, -1] if less else [-1, 1]), strict, at)


def simple(key: int, less: bool, value: Fraction, strict: bool, at: int) -> Atom:
    """A variable against a constant."""
    if key >= 0:
        return Bound(key, less, value, strict, at)
    y = ((-1 - key, ONE if less else MINUS_ONE),)
    return LinearConstraint(y, (), value if less else -value, strict)


def conjunctions(found: Comparisons) -> list[list[Atom]]:
    """Conjunctions read in bulk: what `comparison` makes of each of them, soon."""
    x, named = found.letter == ord("X"), found.other >= 0
    numerator = np.where(x | found.upper, found.numerator, -found.numerator)
    variable, upper, at = found.variable, found.upper, found.at
    values = fractions(numerator, found.denominator)
    of_x = [values[row] for row in np.flatnonzero(x).tolist()]
    ends = zip(variable[x].tolist(), upper[x].tolist(), of_x, repeat(False), at[x].tolist())
    y = ~x & ~named
    signs = [ONE if less else MINUS_ONE for less in upper[y].tolist()]
    terms = [(term,) for term in zip(variable[y].tolist(), signs, strict=True)]
    of_y = [values[row] for row in np.flatnonzero(y).tolist()]
    pairs = np.stack([upper, variable, found.other])[:, named].T.tolist()
    atoms: tuple[Iterator[Any], ...] = (
        map(Bound._make, ends),
        map(LinearConstraint, terms, repeat(()), of_y),
        (comparison("<=" if less else ">=", -1 - a, -1 - b, 0) for less, a, b in pairs),
    )
    kinds = np.where(x, 0, np.where(named, 2, 1)).tolist()
    row = [next(atoms[kind]) for kind in kinds]
    return [row[a:b] for a, b in pairwise([*found.group.tolist(), len(row)])]


def _half_space(term: Term, strict: bool, at: int) -> Part:
    """term <= 0 (strict: < 0)."""
    linear = term if isinstance(term, Linear) else as_linear(term)
    bound = -linear.constant
    if not linear.coefficients:
        return Formula([[]] if (bound > 0 if strict else bound >= 0) else [], at)
    x = [(key, value) for key, value in linear.coefficients.items() if key >= 0]
    y = [(-1 - key, value) for key, value in linear.coefficients.items() if key < 0]
    if not y and len(x) == 1:
        index, scale = x[0]
        return Bound(index, scale > 0, bound / scale, strict, at)
    return LinearConstraint(tuple(sorted(y)), tuple(sorted(x)), bound, strict)


class Logic:
    """And, or: formulas of one file combined, within limits on the result and on all the work."""

    def __init__(self, fail: Fail) -> None:
        self.fail = fail
        self.work = 0

    def disjunction(self, parts: Sequence[Part], at: int) -> Formula:
        """Any of the parts."""
        disjuncts: list[list[Atom]] = []
        for part in parts:
            if isinstance(part, Formula):
                disjuncts += part.disjuncts
            else:
                disjuncts.append([part])
        result = Formula(disjuncts, at)
        self.check_size(result.size, at)
        return result

    def conjunction(self, parts: Sequence[Part], at: int) -> Formula:
        """All of the parts; the product of disjunctions is sized before it is formed."""
        common: list[Atom] = []
        factors: list[Formula] = []
        for part in parts:
            if not isinstance(part, Formula):
                common.append(part)
            elif len(part.disjuncts) == 1:
                common += part.disjuncts[0]
            elif not part.disjuncts:
                return Formula([], at)
            else:
                factors.append(part)
        if not factors:
            self.check_size(len(common), at)
            return Formula([common], at)
        product = self._product(factors, at) if len(factors) > 1 else factors[0].disjuncts
        self.check_size(sum(map(len, product)) + len(product) * len(common), at)
        return Formula([common + one for one in product] if common else product, at)

    def _product(self, factors: Sequence[Formula], at: int) -> list[list[Atom]]:
        """The disjuncts of a product, as sets of atoms: what repeats stays as it is."""
        numbers = _Numbers()
        product: list[frozenset[int]] = [frozenset()]
        seen: set[frozenset[frozenset[int]]] = set()
        numbered = [
            [frozenset(map(numbers.of, part)) for part in factor.disjuncts] for factor in factors
        ]
        numbers.rank()
        for terms in numbered:
            if (whole := frozenset(terms)) in seen:
                continue
            seen.add(whole)
            terms = list(dict.fromkeys(terms))
            atoms = sum(map(len, product)), sum(map(len, terms))
            size = len(product) * (atoms[1] + 1) + len(terms) * atoms[0]
            self.check_size(size, at)
            self.work += 2 * size  # and each compared with those of its left side
            product = _absorbed(
                [numbers.tightest(left | right) for left in product for right in terms]
            )
        return [[numbers.atoms[number] for number in sorted(term)] for term in product]

    def check_size(self, size: int, at: int) -> None:
        """Count comparisons before they are made. Raises UnsupportedError for too many."""
        self.work += size
        if size > MAX_LITERALS or self.work > MAX_WORK:
            message = (
                f"the condition needs {min(size, 10**12)} comparisons as a disjunction of "
                f"conjunctions, gamma takes {MAX_LITERALS}: split the property into several files"
            )
            if size <= MAX_LITERALS:
                message = (
                    f"nested and, or: written out they need over {MAX_WORK} comparisons: "
                    "split the property into several files"
                )
            raise self.fail(UnsupportedError, at, message)


class _Numbers:
    """Equal atoms under one number, whatever their positions."""

    def __init__(self) -> None:
        self.atoms: list[Atom] = []
        self.sides: list[int] = []  # atoms with one left side differ in their thresholds alone
        self.ranks: list[int] = []  # of them the one with the least rank implies the others
        self._sides: dict[object, int] = {}
        self._known: dict[object, int] = {}
        self._objects: dict[int, int] = {}

    def of(self, atom: Atom) -> int:
        number = self._objects.get(id(atom))
        if number is None:
            key = atom[:4] if isinstance(atom, Bound) else atom
            number = self._known.setdefault(key, len(self.atoms))
            if number == len(self.atoms):
                self.atoms.append(atom)
                side = atom[:2] if isinstance(atom, Bound) else (atom.y, atom.x, None)
                self.sides.append(self._sides.setdefault(side, len(self._sides)))
            self._objects[id(atom)] = number
        return number

    def tightest(self, term: frozenset[int]) -> frozenset[int]:
        """The conjunction without atoms that another one with the same left side implies."""
        best: dict[int, int] = {}
        for number in term:
            other = best.setdefault(self.sides[number], number)
            if self.ranks[number] < self.ranks[other]:
                best[self.sides[number]] = number
        return frozenset(best.values()) if len(best) < len(term) else term

    def rank(self) -> None:
        """Order all atoms by their thresholds, the tightest first."""
        ordered = sorted(range(len(self.atoms)), key=lambda number: _looseness(self.atoms[number]))
        self.ranks = [0] * len(ordered)
        for place, number in enumerate(ordered):
            self.ranks[number] = place


def _looseness(atom: Atom) -> tuple[Fraction, bool]:
    """Of two atoms with the same left side the one with less implies the other."""
    if isinstance(atom, Bound):
        return atom.value if atom.upper else -atom.value, not atom.strict
    return atom.bound, not atom.strict


def _absorbed(terms: list[frozenset[int]]) -> list[frozenset[int]]:
    """Without repetitions, and, of few, without those that another term implies (A or A and B)."""
    distinct = list(dict.fromkeys(terms))
    if len(distinct) > MAX_ABSORBED:
        return distinct
    least: list[frozenset[int]] = []
    for term in sorted(distinct, key=len):
        if not any(other <= term for other in least):
            least.append(term)
    kept = set(least)
    return [term for term in distinct if term in kept]


def check_length(text: str, fail: Fail) -> None:
    """Refuse a text with too many comparisons before any time or memory goes into reading it.

    Assertions of a single comparison cost little and are not counted, up to ``MAX_ASSERTIONS``.
    """
    if len(text) <= MAX_TEXT_UNCOUNTED:
        return
    bare = COMMENT.sub("", text) if ";" in text else text
    assertions = bare.count("assert")
    count = bare.count("<") + bare.count(">") - assertions
    if assertions > MAX_ASSERTIONS:
        raise fail(UnsupportedError, 0, f"{assertions} assertions, gamma takes {MAX_ASSERTIONS}")
    if count > MAX_LITERALS:
        message = f"over {count} comparisons, gamma takes {MAX_LITERALS}: split the property"
        raise fail(UnsupportedError, 0, message)
