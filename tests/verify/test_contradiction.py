"""Conjunctions that contradict themselves, against an exact search over a grid of points."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product

import pytest

from gamma.network.property import LinearConstraint, Property, Region
from gamma.verification.contradiction import contradictory
from gamma.verification.targets import Targets
from tests.verify.known import dense, region, verify

F = Fraction
UNIT = Region((F(0),), (F(1),), ())


def less(terms: dict[int, int], bound: int | Fraction, strict: bool = False) -> LinearConstraint:
    """Σ terms·Y <= bound."""
    return LinearConstraint(
        tuple((i, F(c)) for i, c in sorted(terms.items())), (), F(bound), strict
    )


def test_known_cases() -> None:
    forth, back = {0: 1, 1: -1}, {0: -1, 1: 1}
    assert contradictory((less(forth, 0, True), less(back, 0, True)), UNIT)
    assert contradictory((less(forth, 0, True), less(back, 0)), UNIT)
    assert not contradictory((less(forth, 0), less(back, 0)), UNIT)  # equality
    assert contradictory((less(forth, 0), less(back, F(-1, 10**30))), UNIT)
    assert not contradictory((less(forth, 0),), UNIT)
    ring = [less({i: 1, (i + 1) % 5: -1}, 0, i == 4) for i in range(5)]
    assert contradictory(tuple(ring), UNIT)
    assert not contradictory(tuple(ring[:4]), UNIT)
    huge = F(10**600)
    scaled = LinearConstraint(((0, -huge),), (), -huge)  # y >= 1
    assert contradictory((scaled, less({0: 3}, 2)), UNIT)


def test_inputs_count_with_their_box() -> None:
    # y <= x and y >= 2 with x in [0, 1].
    below = LinearConstraint(((0, F(1)),), ((0, F(-1)),), F(0))
    assert contradictory((below, less({0: -1}, -2)), UNIT)
    assert not contradictory((below, less({0: -1}, -1)), UNIT)


@pytest.mark.parametrize("seed", range(60))
def test_random_conjunctions(seed: int) -> None:
    """No point of a fine grid may meet what is called contradictory; a solved one never is."""
    rng = random.Random(seed)
    count, variables = rng.randint(2, 6), rng.randint(1, 3)
    conjunction = tuple(
        less(
            {i: c for i in range(variables) if (c := rng.randint(-2, 2))},
            F(rng.randint(-3, 3), 2),
            rng.random() < 0.5,
        )
        for _ in range(count)
    )
    grid = [F(n, 8) for n in range(-16, 17)] if variables == 1 else [F(n, 2) for n in range(-3, 4)]
    met = any(
        all(
            (total < k.bound if k.strict else total <= k.bound)
            for k in conjunction
            for total in [sum((c * y[i] for i, c in k.y), F(0))]
        )
        for y in product(grid, repeat=variables)
    )
    found = contradictory(conjunction, UNIT)
    assert not (found and met)
    # In one variable and in such small numbers the grid is fine enough to be complete.
    if variables == 1:
        assert found != met


def test_large_conjunctions_end_soon() -> None:
    rng = random.Random(1)
    many = tuple(
        less({i: rng.randint(-9, 9) or 1 for i in range(40)}, rng.randint(-9, 9)) for _ in range(60)
    )
    assert not contradictory(many, UNIT)
    wide = tuple(less({0: 1, i: -1}, 0) for i in range(1, 3000))
    assert not contradictory(wide, UNIT)


def test_the_mean_decides_what_no_constraint_does() -> None:
    # y0 = x, y1 = -x + 1/2: y0 <= 1/8 and y1 <= 1/8 are each met, their sum 1/2 <= 1/4 is not.
    net = dense(([[1.0], [-1.0]], [0.0, 0.5]))
    both = (less({0: 1}, F(1, 8)), less({1: 1}, F(1, 8)))
    prop = Property((region([0], [1], both),), 1, 2)
    assert not Targets.of(prop).excluded.any()
    result = verify(net, prop, attack=False)
    assert result.verdict == "verified"
    assert 0 < F(result.margins[0].lower) <= F(1, 8)  # the mean of y0 - 1/8 and y1 - 1/8
