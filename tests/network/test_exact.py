"""Directed rounding of fractions at the edges of float64."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

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
