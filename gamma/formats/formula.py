"""Conditions of a property file in disjunctive normal form, exact.

A bound on a single input is kept apart from the other half-spaces: it will tighten a region's box.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from gamma.errors import GammaError, UnsupportedError
from gamma.formats.linear import ONE, ZERO, Linear, Term, add, as_linear
from gamma.network.property import LinearConstraint

MINUS_ONE = -ONE
MAX_LITERALS = 1_000_000
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


@dataclass(slots=True)
class Formula:
    """A disjunction of conjunctions. No disjunct: false. An empty conjunction: true."""

    disjuncts: list[list[Atom]]
    at: int

    @property
    def size(self) -> int:
        """Number of atoms, counting an empty conjunction as one."""
        return sum(len(part) or 1 for part in self.disjuncts)


def comparison(operator: str, left: Term, right: Term, at: int) -> Formula:
    """The formula ``left operator right`` for <=, <, >=, > and =. Consumes its terms."""
    if operator == "=":
        pair = [as_linear(left), as_linear(right)]
        atoms: list[Atom] = []
        for one in ("<=", ">="):
            formula = comparison(one, as_linear(pair[0]), as_linear(pair[1]), at)
            if not formula.disjuncts:
                return formula
            atoms += formula.disjuncts[0]
        return Formula([atoms], at)
    strict = operator in ("<", ">")
    less = operator[0] == "<"
    if isinstance(left, int) and isinstance(right, Fraction):
        return Formula([[_simple(left, less, right, strict, at)]], at)
    if isinstance(left, Fraction) and isinstance(right, int):
        return Formula([[_simple(right, not less, left, strict, at)]], at)
    if isinstance(left, int) and isinstance(right, int) and left < 0 and right < 0:
        if left != right:  # Y against Y, the other common case
            plus, minus = (-1 - left, -1 - right) if less else (-1 - right, -1 - left)
            terms = ((plus, ONE), (minus, MINUS_ONE))
            if minus < plus:
                terms = terms[::-1]
            return Formula([[LinearConstraint(terms, (), ZERO, strict)]], at)
    return _half_space(add([left, right], [1, -1] if less else [-1, 1]), strict, at)


def _simple(key: int, less: bool, value: Fraction, strict: bool, at: int) -> Atom:
    """A variable against a constant."""
    if key >= 0:
        return Bound(key, less, value, strict, at)
    y = ((-1 - key, ONE if less else MINUS_ONE),)
    return LinearConstraint(y, (), value if less else -value, strict)


def _half_space(term: Term, strict: bool, at: int) -> Formula:
    """term <= 0 (strict: < 0)."""
    linear = term if isinstance(term, Linear) else as_linear(term)
    bound = -linear.constant
    if not linear.coefficients:
        return Formula([[]] if (bound > 0 if strict else bound >= 0) else [], at)
    x = [(key, value) for key, value in linear.coefficients.items() if key >= 0]
    y = [(-1 - key, value) for key, value in linear.coefficients.items() if key < 0]
    if not y and len(x) == 1:
        index, scale = x[0]
        return Formula([[Bound(index, scale > 0, bound / scale, strict, at)]], at)
    return Formula([[LinearConstraint(tuple(sorted(y)), tuple(sorted(x)), bound, strict)]], at)


def disjunction(parts: Sequence[Formula], at: int, fail: Fail) -> Formula:
    """Any of the parts."""
    disjuncts = [conjunction for part in parts for conjunction in part.disjuncts]
    result = Formula(disjuncts, at)
    check_size(result.size, at, fail)
    return result


def conjunction(parts: Sequence[Formula], at: int, fail: Fail) -> Formula:
    """All of the parts; the product of disjunctions is sized before it is formed."""
    if any(not part.disjuncts for part in parts):
        return Formula([], at)
    common = [a for part in parts if len(part.disjuncts) == 1 for a in part.disjuncts[0]]
    result = Formula([common], at)
    for part in parts:
        if len(part.disjuncts) == 1:
            continue
        size = len(result.disjuncts) * part.size + len(part.disjuncts) * result.size
        check_size(size, at, fail)
        product = [left + right for left in result.disjuncts for right in part.disjuncts]
        result = Formula(product, at)
    return result


def check_size(size: int, at: int, fail: Fail) -> None:
    if size > MAX_LITERALS:
        message = (
            f"the condition needs {size} comparisons as a disjunction of conjunctions, "
            f"gamma takes {MAX_LITERALS}: split the property into several files"
        )
        raise fail(UnsupportedError, at, message)


def check_length(text: str, fail: Fail) -> None:
    """Refuse a text with too many comparisons before any time or memory goes into reading it."""
    if len(text) <= MAX_TEXT_UNCOUNTED:
        return
    bare = COMMENT.sub("", text)
    count = bare.count("<") + bare.count(">")
    if count > MAX_LITERALS:
        message = f"{count} comparisons, gamma takes {MAX_LITERALS}: split the property"
        raise fail(UnsupportedError, 0, message)
