"""Rows of unsafe half-spaces: exact where they can be, and never on the unsafe side."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamma.network.exact import enclose
from gamma.network.property import LinearConstraint, Property, Region
from gamma.verify import targets
from gamma.verify.targets import Targets
from tests.verify.known import ONE, at_least, region

FRACTIONS = st.fractions(max_denominator=10**9) | st.builds(
    lambda m, e: Fraction(m) * Fraction(10) ** e, st.integers(-9, 9), st.integers(-400, 400)
)


@given(FRACTIONS)
def test_float_down_is_the_largest_float_below(value: Fraction) -> None:
    number = enclose(value)[0]
    if np.isinf(number):
        assert number < 0 and value < -Fraction(float(np.finfo(np.float64).max))
        return
    assert Fraction(number) <= value
    above = math.nextafter(number, math.inf)
    assert np.isinf(above) or Fraction(above) > value


@given(st.lists(FRACTIONS.filter(bool), min_size=1, max_size=3), FRACTIONS)
def test_rows_are_a_positive_multiple_of_the_constraint(
    coefficients: list[Fraction], bound: Fraction
) -> None:
    terms = tuple(enumerate(coefficients))
    constraint = LinearConstraint(terms, (), bound)
    targets = Targets.of(Property((region([0], [1], (constraint,)),), 1, 3))
    rows = targets.provable()
    if not len(rows):
        return  # beyond float64: such a row proves nothing
    forms = targets.rows(rows)
    found = [Fraction(v) for v in forms.rows_y[0, : len(coefficients)].tolist()]
    factors = {f / c for f, c in zip(found, coefficients, strict=True)}
    if forms.exact:
        (factor,) = factors
        assert factor > 0
        assert Fraction(float(forms.constant[0])) <= -bound * factor
    else:
        middle = min(factors)
        assert all(abs(f / middle - 1) <= Fraction(1, 2**51) for f in factors)


def test_decimals_become_whole_numbers() -> None:
    tenths = LinearConstraint(((0, Fraction(1, 10)), (1, Fraction(-7, 10))), (), Fraction(1, 100))
    forms = Targets.of(Property((region([0], [1], (tenths,)),), 1, 2)).rows([0])
    assert forms.exact
    assert forms.rows_y.tolist() == [[1.0, -7.0]]
    assert forms.scale == (10,)


def test_what_the_box_excludes_is_exact() -> None:
    tiny = Fraction(1, 10**30)

    def excluded(bound: Fraction, strict: bool) -> bool:
        # x0 + x1 <= bound on [0, 1] × [0, 1]
        sum_ = LinearConstraint((), ((0, ONE), (1, ONE)), bound, strict)
        box = region([0, 0], [1, 1], (sum_, at_least(0, ONE)))
        return bool(Targets.of(Property((box,), 2, 1)).excluded[0])

    assert excluded(-tiny, False)
    assert not excluded(Fraction(0), False)
    assert excluded(Fraction(0), True)
    assert not excluded(tiny, True)


def test_constraints_that_regions_share_are_worked_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred regions with one condition: the rows of each, from one scaling."""
    shared = (LinearConstraint(((0, Fraction(1, 3)),), (), Fraction(2, 7)),)
    box = (Fraction(0),), (Fraction(1),)
    prop = Property(tuple(Region(*box, (shared,)) for _ in range(100)), 1, 2)
    calls = []
    scale = targets._scale
    monkeypatch.setattr(targets, "_scale", lambda c: calls.append(c) or scale(c))
    found = targets.Targets.of(prop)
    rows = found.rows(found.provable())
    assert len(calls) <= 4 and len(found) == 100
    assert rows.rows_y.shape == (100, 2) and len(rows.scale) == len(rows.constant) == 100
    alone = found.rows([0])
    assert (rows.rows_y == alone.rows_y).all() and (rows.constant == alone.constant).all()
    assert set(rows.scale) == set(alone.scale) and rows.exact == alone.exact


def test_a_shared_conjunction_on_inputs_is_judged_in_each_region() -> None:
    """x_0 <= y_0 and y_0 <= 1 contradict each other where x_0 is above 1, and only there."""
    above = LinearConstraint(((0, Fraction(-1)),), ((0, Fraction(1)),), Fraction(0))
    below = LinearConstraint(((0, Fraction(1)),), (), Fraction(1))
    boxes = [((Fraction(low),), (Fraction(low + 1),)) for low in (0, 2, 0, 3)]
    for order in (boxes, boxes[::-1]):
        prop = Property(tuple(Region(*box, ((above, below),)) for box in order), 1, 1)
        wanted = [box[0][0] > 1 for box in order]
        assert targets.Targets.of(prop).excluded.tolist() == wanted
