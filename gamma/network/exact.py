"""From exact fractions to floating point, in a chosen direction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import chain, islice
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from gamma.network.columns import Int64, fractions
from gamma.tensor.rounding import down, next_down, next_up, two_product, up

Float64 = npt.NDArray[np.float64]
ZERO = Fraction(0)
TOP, BOTTOM = attrgetter("numerator"), attrgetter("denominator")
CHUNK = 1 << 16  # numbers whose columns exist at once


def enclose(value: Fraction) -> tuple[float, float]:
    """The largest float64 <= value and the smallest >= value (equal when value is a float64).

    Beyond the range of float64 one of the two is infinite.
    """
    numerator, denominator = value.numerator, value.denominator
    try:
        nearest = numerator / denominator  # correctly rounded for integers of any size
    except OverflowError:
        largest = next_down(math.inf)
        return (largest, math.inf) if numerator > 0 else (-math.inf, -largest)
    found, scale = nearest.as_integer_ratio()
    difference = found * denominator - numerator * scale
    if difference == 0:
        return nearest, nearest
    if difference > 0:
        return next_down(nearest), nearest
    return nearest, next_up(nearest)


def enclose_rows(rows: Sequence[Sequence[Fraction | int]], width: int) -> tuple[Float64, Float64]:
    """``enclose`` for a table: two float64 arrays (rows, width), one where all is exact."""
    below, above = np.empty(len(rows) * width), np.empty(len(rows) * width)
    values = chain.from_iterable(rows)
    for start in range(0, len(below), CHUNK):
        part = slice(start, start + CHUNK)
        below[part], above[part] = _enclosed(list(islice(values, CHUNK)))
    if np.array_equal(below, above):
        above = below
    return below.reshape(len(rows), width), above.reshape(len(rows), width)


def _enclosed(values: list[Fraction | int]) -> tuple[Float64, Float64]:
    """``enclose`` of every value, as two columns."""
    try:
        top, bottom = (np.array(list(map(part, values)), np.float64) for part in (TOP, BOTTOM))
    except OverflowError:
        top, bottom = np.full((2, len(values)), np.inf)
    # Whole numbers below 2^53 are exact, and what their quotient lost has a sign that is exact.
    fit = (abs(top) < 2**53) & (bottom < 2**53)
    top, bottom = np.where(fit, top, 0), np.where(fit, bottom, 1)
    nearest = top / bottom
    product, lost = two_product(nearest, bottom)
    rest = top - product
    below = np.where(rest < lost, down(nearest), nearest)
    above = np.where(rest > lost, up(nearest), nearest)
    for index in np.flatnonzero(~fit).tolist():
        below[index], above[index] = enclose(Fraction(values[index]))
    return below, above


def exact_fractions(values: npt.ArrayLike, step: Fraction = ZERO) -> tuple[Fraction, ...]:
    """Every entry of a finite float array, flattened row-major, as the fraction it is, plus step.

    Equal ones may be one object.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    parts = (flat[start : start + CHUNK] for start in range(0, len(flat), CHUNK))
    return tuple(chain.from_iterable(_moved(part, step) for part in parts))


def _moved(values: Float64, step: Fraction) -> list[Fraction]:
    """The values plus step."""
    top, bottom, fit = _ratios(values)
    p, q = step.as_integer_ratio()
    near = max(abs(p), q) < 2**62
    p, q = (p, q) if near else (0, 1)
    # In float64, whose rounding the distance to 2^63 covers.
    size = np.maximum(abs(top) * float(q) + bottom * float(abs(p)), bottom * float(q))
    fit &= near & (size < 2.0**62)
    top, bottom = np.where(fit, top, 0), np.where(fit, bottom, 1)
    top, bottom = top * q + bottom * p, bottom * q
    divisor = np.gcd(top, bottom)
    found = fractions(top // divisor, bottom // divisor)
    for index in np.flatnonzero(~fit).tolist():
        found[index] = Fraction(float(values[index])) + step
    return found


def _ratios(values: Float64) -> tuple[Int64, Int64, npt.NDArray[np.bool_]]:
    """Numerators and denominators, coprime, of float64 numbers, and where 63 bits hold both."""
    fit = abs(values) < 2.0**53
    mantissa, exponent = np.frexp(np.where(fit, values, 0))
    top = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = np.frexp((top & -top).astype(np.float64))[1] - 1  # the lowest bit that is set
    places = 53 - exponent  # values are top / 2^places
    excess = np.where(top == 0, places, np.minimum(lowest, places))
    places = (places - excess).astype(np.int64)
    return top >> excess, 1 << np.minimum(places, 62), fit & (places <= 62)
