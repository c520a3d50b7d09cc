"""Balls of which some entries cannot move: the norm is over the others, and nothing escapes."""

from __future__ import annotations

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
    weight, centre, radius = r.normal(size=(3, 12)).astype(np.float32), r.normal(size=12), 0.5
    moves = np.arange(12) % 3 == 0
    value = centre + np.where(moves, 0.0, away * r.choice([-1, 1], size=12) / 12)
    reach = np.where(moves, radius, 0.0)
    b = Builder(ops.Input(), (12,))
    net = b.build(b.add(ops.Gemm(weight), 0))
    box = Box(value - reach, value + reach, norm, centre, radius)
    free = weight[:, moves].astype(np.float64)
    size = np.sqrt((free**2).sum(axis=1)) if norm == "2" else abs(free).max(axis=1)
    middle = weight.astype(np.float64) @ value
    found = bounds(net, box, dtype="float64")
    assert (found.lower <= middle - radius * size + 1e-12).all()
    assert (found.upper >= middle + radius * size - 1e-12).all()
    assert np.allclose(found.upper - found.lower, 2 * radius * size, rtol=1e-9)
