"""Numbers and bars on the screen: a copied bound is still a bound."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from gamma.cli.picture import above, bar, below, interval, table

FLOATS = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)


@given(FLOATS)
@example(9.999995)
@example(-9.999995e-300)
@example(0.1)
def test_printed_bounds_are_outward(value: float) -> None:
    assert Fraction(below(value)) <= Fraction(value) <= Fraction(above(value))


def test_infinite_bounds_print() -> None:
    assert (below(float("-inf")), above(float("inf"))) == ("-inf", "inf")


def test_bars_fill_their_cells() -> None:
    assert bar(1.0, 10, True) == "█" * 10
    assert bar(0.0, 10, True).strip() == ""
    assert bar(0.5, 10, False) == "#####"
    assert len(bar(float("inf"), 10, True)) == 10


def test_intervals_stay_on_the_axis() -> None:
    assert interval(0.0, 1.0, (0.0, 1.0), 10, False) == "|--------|"
    assert interval(0.5, 0.5, (0.0, 1.0), 11, False) == " " * 5 + "|"
    assert len(interval(float("-inf"), 1.0, (0.0, 1.0), 10, True)) == 10


def test_tables_align() -> None:
    lines = table([("a", "1"), ("bb", "22")], ("name", "n"), (False, True))
    assert lines == ["name   n", "a      1", "bb    22"]
