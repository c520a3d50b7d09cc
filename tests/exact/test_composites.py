"""Enclosures of functions of several steps against fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from msgspec.structs import astuple

from gamma.ops.composite import Composite, Step, Times
from gamma.ops.enclosures import Enclosure, scaled
from gamma.ops.linear import Scale


def cancelling(seed: int, count: int = 200) -> list[tuple[float, float, float]]:
    """x, scale and a shift that is nearly minus their product."""
    rng = np.random.default_rng(seed)
    x, scale = rng.uniform(0.1, 3, count), rng.uniform(0.1, 10, count)
    shift = -(scale * x) * (1 + rng.integers(-2, 3, count) * 2.0**-52)
    return list(zip(x.tolist(), scale.tolist(), shift.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(2))
def test_a_shift_that_cancels_a_product(seed: int) -> None:
    """What rounding the product lost is no part of a result near zero."""
    one = np.ones(1)
    for x, scale, shift in cancelling(seed):
        point = Enclosure(np.array([x]), np.array([x]), one, one, 0 * one)
        found = scaled(Scale(np.array([scale]), np.array([shift])), point, False)
        exact = Fraction(scale) * Fraction(x) + Fraction(shift)
        assert Fraction(float(found.low[0])) <= exact <= Fraction(float(found.high[0]))


def test_a_function_at_its_zero() -> None:
    """x·(scale·x + shift) at single points."""
    for x, scale, shift in cancelling(2, 50):
        line = Scale(np.array([scale]), np.array([shift]))
        op = Composite((Step(line, (0,)), Step(Times(), (0, 1))))
        low, high = op.interval(np.array([x]), np.array([x]))
        exact = Fraction(x) * (Fraction(scale) * Fraction(x) + Fraction(shift))
        assert Fraction(float(low[0])) <= exact <= Fraction(float(high[0]))
        lines = op.lines(np.array([x]), np.array([x]), np.float64)
        slope, least, slope_up, most = (Fraction(float(part[0])) for part in astuple(lines))
        assert slope * Fraction(x) + least <= exact <= slope_up * Fraction(x) + most
