"""Balls of which some entries cannot move: the norm is over the others, and nothing escapes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gamma import bounds, ops
from gamma.network.graph import Builder
from gamma.tensor.box import Box


@pytest.mark.parametrize("away", [0.0, 0.25])
@pytest.mark.parametrize("norm", ["2", "1"])
def test_the_ball_is_over_what_moves(norm: str, away: float) -> None:
    """w·x over the set is known: also where a fixed entry is not the ball's centre."""
    r = np.random.default_rng(0)
    weight, radius = r.normal(size=(3, 12)).astype(np.float32), 0.5
    centre = np.round(r.normal(size=12) * 256) / 256  # ends of the box are exact
    moves = np.arange(12) % 3 == 0
    value = centre + np.where(moves, 0.0, away * r.choice([-1, 1], size=12) / 12)
    reach = np.where(moves, radius, 0.0)
    b = Builder(ops.Input(), (12,))
    net = b.build(b.add(ops.Gemm(weight), 0))
    box = Box(value - reach, value + reach, norm, centre, radius)
    free = weight[:, moves].astype(np.float64)
    size = np.sqrt((free**2).sum(axis=1)) if norm == "2" else abs(free).max(axis=1)
    found = bounds(net, box, dtype="float64")
    for row, low, high in zip(weight, found.lower, found.upper, strict=True):
        exact = sum(
            Fraction(float(w)) * Fraction(float(x)) for w, x in zip(row, value, strict=True)
        )
        part = [Fraction(float(w)) for w in row[moves]]
        square = sum(w * w for w in part) if norm == "2" else max(abs(w) for w in part) ** 2
        for gap in (exact - Fraction(float(low)), Fraction(float(high)) - exact):
            assert gap >= 0 and gap**2 >= Fraction(radius) ** 2 * square
    assert np.allclose(found.upper - found.lower, 2 * radius * size, rtol=1e-9)
