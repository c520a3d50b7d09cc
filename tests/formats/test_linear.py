"""Exact terms: decimals, sums and products, and the limits on their size."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamma.formats.linear import (
    MAX_EXPONENT,
    Linear,
    TermError,
    add,
    constant_of,
    decimal,
    multiply,
    x_key,
    y_key,
)

F = Fraction


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000))
def test_decimal_is_exact(value):
    for text in (str(value), f"{value:E}", f"{value:f}"):
        assert decimal(text) == F(Decimal(text))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_repr_of_a_float_is_read_as_the_decimal_it_shows(value):
    assert decimal(repr(value)) == F(Decimal(repr(value)))


@pytest.mark.parametrize("text", ["", ".", "-", "e5", "1e", "1e+", "0x1", "1.2.3", "1_0", "inf"])
def test_no_decimal(text):
    assert decimal(text) is None


def test_sizes_are_limited_before_they_are_computed():
    assert decimal(f"1e{MAX_EXPONENT}") == F(10**MAX_EXPONENT)
    for text in (f"1e{MAX_EXPONENT + 1}", "1e-999999999", "1e" + "9" * 1000, "9" * 10**6):
        with pytest.raises(TermError):
            decimal(text)
    huge = F(10**MAX_EXPONENT)
    with pytest.raises(TermError, match="bits"):
        multiply([huge] * 100)


def test_sums_and_products():
    x, y = x_key(0), y_key(0)
    total = add([x, F(2), y], [1, -1, -1])
    assert total == Linear({x: F(1), y: F(-1)}, F(-2))
    scaled = multiply([F(1, 3), total, F(-3)])
    assert scaled == Linear({x: F(-1), y: F(1)}, F(2))
    gone = add([scaled, Linear({x: F(1), y: F(-1)}, F(0))], [1, 1])
    assert constant_of(gone) == F(2)
    assert multiply([F(2), F(3)]) == 6
    with pytest.raises(TermError, match="product of variables"):
        multiply([x, y])
    assert constant_of(multiply([x, F(0)])) == 0
