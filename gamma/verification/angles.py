"""Cosines of vectors that are known up to a distance, by exact arithmetic on the floats given."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from gamma.tensor.rounding import fraction_down, fraction_up

Float64 = npt.NDArray[np.float64]


def cosine_below(u: Float64, distance: float, own: float) -> float:
    """At most the cosine of any vector within ``distance`` of ``u`` with any within ``own`` of it.

    -1 where nothing better is known.
    """
    if not (math.isfinite(distance) and math.isfinite(own) and np.isfinite(u).all()):
        return -1.0
    length = root_below(exact_dot(u, u))
    reach = Fraction(distance) + Fraction(own)
    if not reach < length:
        return -1.0
    return fraction_down(root_below(1 - (reach / length) ** 2))


def cosine_above(u: Float64, own: float, v: Float64, other: float) -> float:
    """At least the cosine of any vector within ``own`` of ``u`` with any within ``other`` of ``v``.

    1 where nothing better is known.
    """
    if not (math.isfinite(own) and math.isfinite(other)):
        return 1.0
    if not (np.isfinite(u).all() and np.isfinite(v).all()):
        return 1.0
    (low_u, high_u), (low_v, high_v) = _lengths(u), _lengths(v)
    a, b = Fraction(own), Fraction(other)
    product = exact_dot(u, v) + a * high_v + b * high_u + a * b
    if product < 0:
        return min(1.0, fraction_up(product / ((high_u + a) * (high_v + b))))
    if not (a < low_u and b < low_v):
        return 1.0
    return min(1.0, fraction_up(product / ((low_u - a) * (low_v - b))))


def root_below(square: Fraction) -> Fraction:
    """A number at most √square, within 2^-80 of it relatively."""
    if square <= 0:
        return Fraction(0)
    bits = square.denominator.bit_length() - square.numerator.bit_length()
    shift = 2 * max(0, 90 + bits // 2)
    return Fraction(math.isqrt((square.numerator << shift) // square.denominator), 1 << shift // 2)


def exact_dot(u: Float64, v: Float64) -> Fraction:
    """Σ u_i v_i, exactly."""
    (a, low_a), (b, low_b) = _integers(u), _integers(v)
    total = sum(x * y for x, y in zip(a, b, strict=True))
    return Fraction(total) * Fraction(2) ** (low_a + low_b)


def _integers(u: Float64) -> tuple[list[int], int]:
    """Whole numbers n_i and an exponent e with u_i = n_i·2^e."""
    mantissa, exponent = np.frexp(u)
    whole = (mantissa * 2.0**53).astype(np.int64).tolist()
    low = int(exponent.min())
    shifts = (exponent - low).tolist()
    return [n << shift for n, shift in zip(whole, shifts, strict=True)], low - 53


def _lengths(u: Float64) -> tuple[Fraction, Fraction]:
    """Lower and upper bound of the Euclidean norm."""
    low = root_below(exact_dot(u, u))
    return low, low * (1 + Fraction(1, 1 << 70)) + Fraction(1, 1 << 1000)
