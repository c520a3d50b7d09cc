"""Directed rounding of fractions at the edges of float64."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamma.network.exact import enclose, enclose_rows, exact_fractions

F = Fraction
TINY = 5e-324
LARGEST = sys.float_info.max


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (F(0), (0.0, 0.0)),
        (F(1, 10**400), (0.0, TINY)),
        (F(-1, 10**400), (-TINY, 0.0)),
        (F(TINY) * F(3, 2), (TINY, 2 * TINY)),
        (F(10**400), (LARGEST, math.inf)),
        (F(-(10**400)), (-math.inf, -LARGEST)),
        (F(LARGEST) + 1, (LARGEST, math.inf)),
        (F(LARGEST), (LARGEST, LARGEST)),
        (F(2**53 + 1), (2.0**53, 2.0**53 + 2)),
    ],
)
def test_edges(value, expected):
    assert enclose(value) == expected


@given(st.fractions() | st.floats(-1e300, 1e300).map(F))
def test_tightest(value):
    below, above = enclose(value)
    assert F(below) <= value <= F(above)
    assert above in (below, math.nextafter(below, math.inf))
    assert (below == above) == (F(float(value)) == value)


def test_rows_and_back():
    rows = [exact_fractions([[0.1, -0.0], [3.0, 1e-300]]), (F(1, 3), F(2), F(3), F(4))]
    below, above = enclose_rows(rows, 4)
    assert below[0].tolist() == above[0].tolist() == [0.1, 0.0, 3.0, 1e-300]
    assert below[1, 0] < 1 / F(3) < above[1, 0]


@given(st.lists(st.fractions() | st.floats(-1e300, 1e300).map(F) | st.integers().map(F)))
def test_a_table_is_what_its_values_are(values):
    below, above = enclose_rows([values], len(values))
    assert list(zip(below[0].tolist(), above[0].tolist(), strict=True)) == list(
        map(enclose, values)
    )


@given(st.integers(-(2**53), 2**53), st.integers(1, 2**53), st.integers(-1, 1))
def test_a_quotient_within_a_hair_of_a_float(top, bottom, step):
    near = F(top, bottom)
    values = [near, F(float(near)) + F(step, 2**60), F(top + step, bottom)]
    below, above = enclose_rows([values], 3)
    assert list(zip(below[0].tolist(), above[0].tolist(), strict=True)) == list(
        map(enclose, values)
    )


FINITE = st.floats(allow_nan=False, allow_infinity=False) | st.floats(
    width=32, min_value=-9, max_value=9
)
STEPS = st.fractions() | st.sampled_from(
    [F(0), F(3, 100), F(-8, 255), F(1, 3**40), F(2**70), F(10**400)]
)


@given(st.lists(FINITE), STEPS)
def test_floats_and_a_step_as_fractions(values, step):
    found = exact_fractions(values, step)
    expected = [F(value) + step for value in values]
    ratios = [(value.numerator, value.denominator) for value in found]
    assert ratios == [(value.numerator, value.denominator) for value in expected]


def test_whole_numbers_and_more_values_than_are_taken_at_once(monkeypatch):
    monkeypatch.setattr("gamma.network.exact.CHUNK", 3)
    rows = [[3, F(1, 3), -(10**400), F(0)], [F(2**60 + 1), 2, F(-1, 3), 7]]
    below, above = enclose_rows(rows, 4)
    for k, row in enumerate(rows):
        ends = list(zip(below[k].tolist(), above[k].tolist(), strict=True))
        assert ends == [enclose(F(value)) for value in row]
    values = [0.1, -0.0, 1e300, 5.0]
    assert exact_fractions(values, F(1, 3)) == tuple(F(value) + F(1, 3) for value in values)


def test_values_that_repeat_are_one_object():
    values = np.tile([0.25, 0.5, -0.1], 700)
    found = exact_fractions(values, F(1, 3))
    assert list(found) == [F(value) + F(1, 3) for value in values.tolist()]
    assert len({id(value) for value in found}) == 3


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_no_fraction_of_what_is_not_finite(value):
    with pytest.raises((OverflowError, ValueError)):
        exact_fractions([0.5, value])
