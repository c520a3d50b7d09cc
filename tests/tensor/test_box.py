"""Input sets: exact enclosure of the ends, clipping, batches, refusals."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamma.errors import UsageError
from gamma.tensor import Box

NUMBERS = st.floats(-1e300, 1e300, allow_subnormal=True)


@given(NUMBERS, st.floats(0, 1e300))
def test_ends_enclose_and_are_tight(x: float, epsilon: float) -> None:
    box = Box.linf([x], epsilon)
    low, high = Fraction(x) - Fraction(epsilon), Fraction(x) + Fraction(epsilon)
    assert Fraction(box.lower[0]) <= low and high <= Fraction(box.upper[0])
    assert Fraction(np.nextafter(box.lower[0], np.inf)) > low
    assert Fraction(np.nextafter(box.upper[0], -np.inf)) < high


def test_per_entry_radius_and_clip() -> None:
    box = Box.linf([0.0, 0.5, 1.0], [0.25, 0.0, 0.25], clip=(0, 1))
    assert box.lower.tolist() == [0.0, 0.5, 0.75] and box.upper.tolist() == [0.25, 0.5, 1.0]
    assert box.norm == "inf" and box.radius is None and box.shape == (3,)
    with pytest.raises(UsageError, match="nothing"):
        Box.linf([5.0], 0.1, clip=(0, 1))
    with pytest.raises(UsageError, match="clip"):
        Box.linf([0.5], 0.1, clip=(1, 0))


@pytest.mark.parametrize(("make", "norm"), ((Box.l2, "2"), (Box.l1, "1")))
def test_balls_keep_centre_and_radius(make: type, norm: str) -> None:
    ball = make([0.1, 0.2], 0.5)
    assert ball.norm == norm and ball.radius == 0.5
    assert ball.center is not None and ball.center.tolist() == [0.1, 0.2]
    for centre, low, high in zip((0.1, 0.2), ball.lower, ball.upper, strict=True):
        assert Fraction(low) <= Fraction(centre) - Fraction(1, 2)
        assert Fraction(centre) + Fraction(1, 2) <= Fraction(high)


def test_batches() -> None:
    flat = Box.linf(np.zeros(6), 1).batched((2, 3))
    assert flat.shape == (1, 2, 3)
    assert Box.linf(np.zeros((4, 6)), 1).batched((2, 3)).shape == (4, 2, 3)
    many = Box.l2(np.zeros((4, 2, 3)), 1).batched((2, 3))
    assert many.shape == (4, 2, 3) and many.slice(1, 3).shape == (2, 2, 3)
    assert many.slice(1, 3).center is not None
    with pytest.raises(UsageError, match="takes"):
        Box.linf(np.zeros(5), 1).batched((2, 3))


def test_refusals() -> None:
    cases = (
        (lambda: Box(np.array([1.0]), np.array([0.0])), "above upper"),
        (lambda: Box(np.array([np.nan]), np.array([0.0])), "NaN"),
        (lambda: Box(np.array([0.0]), np.array([np.inf])), "infinite"),
        (lambda: Box(np.zeros(2), np.zeros(3)), "shapes"),
        (lambda: Box.linf(["a"], 0.1), "dtype"),
        (lambda: Box.linf([0.0], -0.1), "negative"),
        (lambda: Box(np.zeros(1), np.zeros(1), norm="3"), "norm"),
        (lambda: Box(np.zeros(1), np.zeros(1), norm="2"), "radius"),
    )
    for make, message in cases:
        with pytest.raises(UsageError, match=message):
            make()


@pytest.mark.parametrize("norm", ["2", "1"])
def test_a_ball_that_misses_its_interval_is_no_set_to_bound(norm: str) -> None:
    low, high = np.zeros((2, 2)), np.ones((2, 2))
    centre = np.array([[2.0, 1.0], [2.0, 2.0]])
    touching = Box(low, high, norm, centre, 2.0 if norm == "1" else math.nextafter(2**0.5, 2))
    assert touching.batched((2,)) is touching
    less = Box(low, high, norm, centre, math.nextafter(2, 0) if norm == "1" else 2**0.5 - 2**-50)
    with pytest.raises(UsageError, match=r"box 1: no point .* holds no input"):
        less.batched((2,))
