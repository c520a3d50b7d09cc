"""Rows of unsafe half-spaces: exact where they can be, and never on the unsafe side."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gamma
from gamma import ops
from gamma.errors import ResourceError
from gamma.network.exact import enclose
from gamma.network.graph import Builder
from gamma.network.property import LinearConstraint, Property, Region
from gamma.verification import targets
from gamma.verification.targets import (
    LARGE,
    STEP,
    Targets,
    _below,
    _expressible,
    _fill,
    _is_float,
    _scale,
)
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


def many(count: int) -> Property:
    """Regions whose conjunctions are all different."""
    regions = []
    for k in range(count):
        y = tuple((i, Fraction(10 * k + i + 1, 1000)) for i in range(2))
        pair = LinearConstraint(y, (), Fraction(k, 7)), LinearConstraint(y[:1], (), Fraction(1))
        regions.append(Region((Fraction(0),) * 2, (Fraction(1),) * 2, (pair,)))
    return Property(tuple(regions), 2, 2)


def test_the_clock_is_looked_at_while_targets_are_worked_on() -> None:
    prop = many(STEP)
    late = Targets.of(prop, late=lambda: True)
    assert len(late) == STEP and len(late.constraints) == 2 * STEP
    assert len(late.means) < 256  # then nothing more is worked out

    def out() -> None:
        raise ResourceError("late")

    clocked = Targets.of(prop, check=out)
    assert len(clocked.means) == STEP
    for work in (clocked.attackable, clocked.provable, clocked.askable):
        with pytest.raises(ResourceError):
            work()
    with pytest.raises(ResourceError):
        clocked.rows(range(STEP))


@pytest.mark.parametrize("method", ["auto", "crown"])
def test_many_targets_end_with_the_time(method: str) -> None:
    builder = Builder(ops.Input(), (2,), "x")
    net = builder.build(builder.add(ops.Gemm(np.eye(2, dtype=np.float32), None), 0))
    result = gamma.verify(net, many(2 * STEP), method=method, timeout=1e-6)
    assert result.verdict == "timeout" and result.conjunctions == 2 * STEP


def test_scales_are_those_of_fractions() -> None:
    """Short cuts on whole numbers against the same questions asked of fractions."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        n = int(rng.integers(-(2**60), 2**60)) >> int(rng.integers(0, 60))
        big = 10 ** int(rng.integers(0, 400)) if rng.random() < 0.3 else 1
        d = int(rng.choice([1, 2**40, 1000, 3, 2**450])) * (big if rng.random() < 0.5 else 1)
        value = Fraction(n * big, d)
        wide = abs(value) >= 2**500 or (value and abs(value) < Fraction(1, 2**500))
        assert _is_float(value) == (not wide and Fraction(float(value)) == value)
        constraint = LinearConstraint(((0, value),), (), value)
        scale = _scale(constraint)
        assert _expressible(constraint, scale) == (1 / LARGE < abs(value * scale) < LARGE)
        assert _below(value, scale) == (value * scale < LARGE)
        if _expressible(constraint, scale):
            row = np.zeros(1)
            exact = _fill(row, constraint.y, scale)
            assert row[0] == float(value * scale)
            assert exact == (Fraction(row[0]) == value * scale)
