"""Outward rounding against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamma.tensor import rounding

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SINGLE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@pytest.mark.parametrize("n", (0, 1, 2, 7, 100, 12345, 10**6, 2**23))
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_gamma_factor_is_rounded_up(n: int, dtype: type) -> None:
    u = Fraction(1, 2**24 if dtype is np.float32 else 2**53)
    exact = n * u / (1 - n * u)
    value = rounding.gamma_factor(n, dtype)
    assert Fraction(value) >= exact
    assert n == 0 or Fraction(rounding.next_down(value)) < exact


def test_gamma_factor_of_endless_sums_is_infinite() -> None:
    assert rounding.gamma_factor(2**24, np.float32) == np.inf
    assert rounding.gamma_factor(2**24 - 1, np.float32) == 2.0**24 - 1
    assert rounding.gamma_factor(2**53, np.float64) == np.inf
    assert rounding.gamma_factor(0) == 0.0


@given(st.fractions())
def test_fractions_are_enclosed(value: Fraction) -> None:
    low, high = rounding.fraction_down(value), rounding.fraction_up(value)
    assert Fraction(low) <= value <= Fraction(high)
    assert high == low or high == rounding.next_up(low)


def test_huge_fractions() -> None:
    huge = Fraction(10) ** 400
    largest = np.finfo(np.float64).max
    assert (rounding.fraction_down(huge), rounding.fraction_up(huge)) == (largest, np.inf)
    assert (rounding.fraction_down(-huge), rounding.fraction_up(-huge)) == (-np.inf, -largest)
    assert rounding.fraction_up(1 / huge) == 5e-324 and rounding.fraction_down(1 / huge) == 0


@given(FINITE)
def test_narrowing_is_tight(x: float) -> None:
    low, high = float(rounding.to_down(x)), float(rounding.to_up(x))
    assert low <= x <= high
    if x == float(np.float64(np.float32(x) if abs(x) < 3.4e38 else np.inf)):
        assert low == high == x
    else:
        with np.errstate(over="ignore"):
            assert np.nextafter(np.float32(low), np.float32(np.inf)) == np.float32(high)


def test_narrowing_of_special_values() -> None:
    x = np.array([1e300, -1e300, np.inf, -np.inf, np.nan, 1e-300, 0.0])
    largest, least = float(np.finfo(np.float32).max), 2.0**-149
    low, high = rounding.to_down(x), rounding.to_up(x)
    assert low.dtype == high.dtype == np.float32
    assert low.tolist() == [largest, -np.inf, np.inf, -np.inf, -np.inf, 0.0, 0.0]
    assert high.tolist() == [np.inf, -largest, np.inf, -np.inf, np.inf, least, 0.0]
    assert rounding.to_down(x, np.float64)[0] == 1e300


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_one_step(dtype: type) -> None:
    x = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45], dtype)
    low, high = rounding.down(x), rounding.up(x)
    assert low.dtype == high.dtype == dtype
    ordinary = np.isfinite(x)
    assert (low[ordinary] < x[ordinary]).all() and (x[ordinary] < high[ordinary]).all()
    assert low[6] == low[5] == -np.inf and high[6] == high[4] == np.inf
    # An overflowed end comes back to the largest number, which is still on its safe side.
    assert low[4] == np.finfo(dtype).max and high[5] == -np.finfo(dtype).max


@given(FINITE, FINITE)
def test_midpoint_and_radius(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    middle = float(rounding.midpoint(low, high))
    assert low <= middle <= high
    radius = float(rounding.radius_about(low, high, middle))
    reach = max(Fraction(high) - Fraction(middle), Fraction(middle) - Fraction(low))
    assert radius == np.inf or Fraction(radius) >= reach
    if low == high:
        assert radius == 0


@given(SINGLE)
def test_points_have_no_radius(x: float) -> None:
    assert float(rounding.radius_about(x, x, rounding.midpoint(x, x))) == 0


def test_unbounded_intervals() -> None:
    low, high = np.array([-np.inf, 5.0, -np.inf]), np.array([np.inf, np.inf, -2.0])
    middle = rounding.midpoint(low, high)
    assert np.isfinite(middle).all() and (low <= middle).all() and (middle <= high).all()
    assert (rounding.radius_about(low, high, middle) == np.inf).all()
