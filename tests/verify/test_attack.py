"""The search itself: it stays inside the region and finds what is there."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gamma.network.property import Ball, LinearConstraint, Property
from gamma.verification.attack import Attack
from gamma.verification.effort import LONG, QUICK
from gamma.verification.moves import Mover, into_ball
from gamma.verification.objective import Float32, Objective
from gamma.verification.replay import Replay
from gamma.verification.result import Counterexample
from gamma.verification.targets import Targets
from tests.verify.known import ONE, at_least, at_most, dense, hat, ramp, reaches, region


def recorded(prop: Property, net) -> list[Float32]:  # type: ignore[no-untyped-def]
    """Every point the attack offers when all of them are refused."""
    seen: list[Float32] = []

    def refuse(_: int, x: Float32) -> Counterexample | None:
        seen.append(x.copy())
        return None

    targets = Targets.of(prop)
    search = Attack(net, prop, targets, refuse)
    search.run(targets.attackable(), QUICK)
    seen += [x for _, x in search.best.values()]
    return seen


def test_every_offered_point_lies_in_the_exact_box() -> None:
    low, high = Fraction(1, 10), Fraction(3, 10)  # no float32 numbers
    net = ramp()
    prop = Property((region([low], [high], (at_least(0, Fraction(0)),)),), 1, 1)
    points = recorded(prop, net)
    assert points
    for x in points:
        assert x.dtype == np.float32
        assert low <= Fraction(float(x[0])) <= high


@pytest.mark.parametrize("norm", ["1", "2"])
def test_every_offered_point_lies_in_the_ball(norm: str) -> None:
    net = dense(([[1.0, -1.0, 2.0]], [0.0]))
    ball = Ball(norm, (Fraction(1, 2),) * 3, Fraction(1, 3))
    box = region([Fraction(1, 6)] * 3, [Fraction(5, 6)] * 3, (at_least(0, Fraction(0)),))
    prop = Property((box,), 3, 1, balls=(ball,))
    for x in recorded(prop, net):
        assert ball.holds(x.astype(np.float64))


def test_whole_inputs_stay_whole() -> None:
    net = dense(([[1.0]], [0.0]))
    box = region([Fraction(-5, 2)], [Fraction(5, 2)], (at_least(0, Fraction(2)),))
    prop = Property((box,), 1, 1, integers=frozenset({0}))
    targets = Targets.of(prop)
    found = Attack(net, prop, targets, Replay(net, prop)).run(targets.attackable(), QUICK)
    assert found is not None
    assert found.x.tolist() == [2.0]


def test_a_thin_conjunction_between_inputs_and_outputs_is_found() -> None:
    # Unsafe: y within 2^-12 of 1/3 and x1 within 2^-12 of x0: a sliver of a square.
    net = dense(([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
    width, third = Fraction(1, 2**12), Fraction(1, 3)
    near = (
        at_least(0, third - width),
        at_most(0, third + width),
        LinearConstraint((), ((0, ONE), (1, -ONE)), width),
        LinearConstraint((), ((0, -ONE), (1, ONE)), width),
    )
    prop = Property((region([0, 0], [1, 1], near),), 2, 1)
    targets = Targets.of(prop)
    search = Attack(net, prop, targets, Replay(net, prop))
    found = search.run(targets.attackable(), QUICK) or search.run(targets.attackable(), LONG)
    assert found is not None
    assert all(c.holds(found.x.astype(np.float64), found.y) for c in near)


def test_an_interval_without_float32_uses_the_nearest_and_says_so() -> None:
    point = Fraction(1, 10)
    net = ramp()
    prop = Property((region([point], [point], (at_least(0, Fraction(0)),)),), 1, 1)
    targets = Targets.of(prop)
    found = Attack(net, prop, targets, Replay(net, prop)).run(targets.attackable(), QUICK)
    assert found is not None
    assert found.outside == 1
    assert found.x[0] == np.float32(0.1)


def test_the_objective_is_the_worst_constraint_and_its_gradient_is_right() -> None:
    net = dense(([[1.0, 2.0], [3.0, -1.0]], [0.5, 0.25]))
    constraint = LinearConstraint(((0, ONE), (1, -ONE)), ((1, Fraction(1, 2)),), Fraction(1, 4))
    prop = Property((region([-1, -1], [1, 1], (constraint, at_most(1, ONE))),), 2, 2)
    objective = Objective.of(net, Targets.of(prop), np.array([0]))
    x = np.array([[0.5, -0.25], [-0.5, 0.75], [1.0, 1.0]], np.float32)
    which = np.zeros(3, dtype=np.int64)
    y = objective.outputs(x)
    first = y[:, 0] - y[:, 1] + x[:, 1] / 2 - 0.25
    second = y[:, 1] - 1
    values, slope, _ = objective.descend(which, x, soft=False)
    assert values.tolist() == np.maximum(first, second).tolist()
    rows = np.where((first >= second)[:, None], [[-2.0, 3.5]], [[3.0, -1.0]])
    assert slope.tolist() == rows.tolist()


def test_soft_weights_are_a_mixture() -> None:
    prop = Property((region([-1], [1], (at_least(0, ONE), at_most(0, ONE))),), 1, 1)
    objective = Objective.of(ramp(), Targets.of(prop), np.array([0]))
    x = np.array([[0.25], [0.75]], np.float32)
    hard, _, _ = objective.descend(np.zeros(2, np.int64), x, soft=False)
    soft, slope, _ = objective.descend(np.zeros(2, np.int64), x, soft=True)
    assert hard.tolist() == soft.tolist()
    assert (abs(slope) <= 1).all()


def test_movers_step_down_and_stay_within_one() -> None:
    random = np.random.default_rng(0)
    slope = np.array([[3.0, -2.0, 0.0], [0.0, 0.0, 0.0], [np.nan, 1.0, np.inf]])
    for adaptive in (False, True):
        mover = Mover(slope.shape, adaptive)
        for _ in range(5):
            step = mover.direction(slope.copy(), random)
            assert np.isfinite(step).all()
            assert (abs(step) <= 1).all()
        assert step[0, 0] < 0 < step[0, 1]
        assert step[1].any()  # a vanishing gradient is left at random


def test_into_ball_keeps_inner_points() -> None:
    ball = Ball("2", (Fraction(0), Fraction(0)), ONE)
    x = np.array([[0.5, 0.5], [3.0, 4.0]], np.float32)
    moved = into_ball(ball, x)
    assert moved[0].tolist() == [0.5, 0.5]
    assert ball.holds(moved[1].astype(np.float64))


def test_the_peak_of_a_hat_is_reached_exactly() -> None:
    net = hat()
    prop = reaches(net, ONE)
    targets = Targets.of(prop)
    found = Attack(net, prop, targets, Replay(net, prop)).run(targets.attackable(), QUICK)
    assert found is not None
    assert found.x.tolist() == [0.0]
