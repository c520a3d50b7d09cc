"""Exact linear terms of a property file: decimals as fractions, sums of X_i and Y_j.

A term is one of three Python types, the first two so that the common case ``(<= X_3 0.5)`` costs
nothing: a Fraction (a constant), an int (a variable, see ``x_key`` and ``y_key``) or a Linear.
"""

from __future__ import annotations

import re
from fractions import Fraction

from msgspec import Struct

ZERO, ONE = Fraction(0), Fraction(1)
# Decimals longer than this are no measurement but an attack on the arithmetic behind.
MAX_DIGITS = 2000
MAX_EXPONENT = 2000
MAX_BITS = 40_000

DECIMAL = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?")


class TermError(Exception):
    """A term that cannot be read exactly; the reader adds file, line and column."""


class Linear(Struct):
    """sum(coefficients[key]·variable) + constant."""

    coefficients: dict[int, Fraction]
    constant: Fraction


Term = Fraction | int | Linear


def x_key(index: int) -> int:
    """The key of X_index."""
    return index


def y_key(index: int) -> int:
    """The key of Y_index (negative, so that one integer names any variable)."""
    return -1 - index


def decimal(text: str) -> Fraction | None:
    """The exact value of a decimal such as ``-1.25e-3``; None when ``text`` is not one."""
    if len(text) > MAX_DIGITS and text[:1] in "+-.0123456789":
        raise TermError(f"a number of {len(text)} characters, expected at most {MAX_DIGITS}")
    match = DECIMAL.fullmatch(text)
    if match is None:
        return None
    sign, whole, part, exponent = match.groups()
    digits = whole + (part or "")
    if not digits:
        return None
    power = -len(part or "")
    if exponent is not None:
        if len(exponent) > 6 or abs(int(exponent)) > MAX_EXPONENT:
            raise TermError(f"exponent of {_clip(text)} is beyond ±{MAX_EXPONENT}")
        power += int(exponent)
    value = int(digits)
    if sign == "-":
        value = -value
    return Fraction(value, 10**-power) if power < 0 else Fraction(value * 10**power)


def _clip(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def as_linear(term: Term) -> Linear:
    """The term as a Linear that the caller may change."""
    if isinstance(term, Fraction):
        return Linear({}, term)
    if isinstance(term, int):
        return Linear({term: ONE}, ZERO)
    return Linear(dict(term.coefficients), term.constant)


def add(terms: list[Term], signs: list[int]) -> Term:
    """sum(sign·term). Operands that are Linear are consumed: their storage may be reused."""
    if all(isinstance(term, Fraction) for term in terms):
        total = ZERO
        for term, sign in zip(terms, signs, strict=True):
            assert isinstance(term, Fraction)
            total += term if sign > 0 else -term
        return _bounded(total)
    # the largest operand is reused, so that deep chains of sums stay linear in their length
    first = max(range(len(terms)), key=lambda k: _length(terms[k]))
    head = terms[first]
    result = head if isinstance(head, Linear) and signs[first] > 0 else as_linear(head)
    if signs[first] < 0:
        result = _scaled(result, -ONE)
    for k, (term, sign) in enumerate(zip(terms, signs, strict=True)):
        if k != first:
            _accumulate(result, term, sign)
    _bounded(result.constant)
    return result


def multiply(terms: list[Term]) -> Term:
    """The product, consuming its factors; TermError when two of them have variables."""
    scale, variable = ONE, None
    for term in terms:
        constant = constant_of(term)
        if constant is not None:
            scale = _bounded(scale * constant)
        elif variable is not None:
            raise TermError("a product of variables, expected a linear term: gamma reads no other")
        else:
            variable = term
    if variable is None:
        return scale
    return _scaled(variable if isinstance(variable, Linear) else as_linear(variable), scale)


def constant_of(term: Term) -> Fraction | None:
    """The value of a term without variables, None of any other."""
    if isinstance(term, Fraction):
        return term
    if isinstance(term, Linear) and not term.coefficients:
        return term.constant
    return None


def _length(term: Term) -> int:
    return len(term.coefficients) if isinstance(term, Linear) else 0


def _scaled(linear: Linear, scale: Fraction) -> Linear:
    if scale == 0:
        return Linear({}, ZERO)
    for key, coefficient in linear.coefficients.items():
        linear.coefficients[key] = _bounded(coefficient * scale)
    linear.constant = _bounded(linear.constant * scale)
    return linear


def _accumulate(result: Linear, term: Term, sign: int) -> None:
    if isinstance(term, Fraction):
        result.constant += term if sign > 0 else -term
        return
    pairs = [(term, ONE)] if isinstance(term, int) else list(term.coefficients.items())
    for key, coefficient in pairs:
        total = result.coefficients.get(key, ZERO) + (coefficient if sign > 0 else -coefficient)
        if total:
            result.coefficients[key] = _bounded(total)
        else:
            result.coefficients.pop(key, None)
    if isinstance(term, Linear):
        result.constant += term.constant if sign > 0 else -term.constant


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise TermError(f"a constant that needs more than {MAX_BITS} bits to be exact")
    return value
