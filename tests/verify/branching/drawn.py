"""Tiny networks and properties of them whose least value is their bound, or next to it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from gamma.network.graph import Network
from gamma.network.property import Conjunction, LinearConstraint
from tests.exact.cells import Cell
from tests.exact.cells import least as least_value
from tests.verify.known import dense

F = Fraction


def network(rng: np.random.Generator) -> Network:
    """Two inputs, up to 8 ReLUs, weights that are small dyadic numbers, inexact ones now and then.

    Zeros and whole numbers make neurons meet in corners of the box and in each other.
    """
    sizes = [2, *rng.integers(1, 5, rng.integers(1, 3)), int(rng.integers(1, 4))]
    scale = rng.choice([1.0, 1.0, 1 / 3])
    layers = []
    for n, m in zip(sizes, sizes[1:], strict=False):
        weight = rng.integers(-3, 4, (m, n)) * scale
        bias = rng.integers(-4, 5, m) / 2 * scale
        layers.append((weight.tolist(), bias.tolist()))
    return dense(*layers)


def conjunctions(
    rng: np.random.Generator, found: list[Cell], outputs: int
) -> tuple[Conjunction, ...]:
    """Some unsafe sets; the bound of a single constraint is its least value or next to it."""
    unsafe = []
    for _ in range(rng.integers(1, 4)):
        constraints = []
        for _ in range(rng.integers(1, 3)):
            row = rng.integers(-2, 3, outputs)
            row[0] = row[0] if row.any() else 1
            y = tuple((i, F(int(c))) for i, c in enumerate(row) if c)
            constraints.append(LinearConstraint(y, (), F(0)))
        bounds = []
        for constraint in constraints:
            value = least_value(found, constraint)
            ulp = F(float(np.spacing(max(abs(float(value)), 1e-3))))
            near = value + int(rng.choice([0, 1, -1, -1, -(10**6), -(10**12)])) * ulp
            bounds.append(near if rng.random() < 0.7 else value + F(int(rng.integers(-3, 2))))
        unsafe.append(
            tuple(LinearConstraint(c.y, (), b) for c, b in zip(constraints, bounds, strict=True))
        )
    return tuple(unsafe)


def region(rng: np.random.Generator) -> tuple[tuple[F, F], tuple[F, F]]:
    low = [F(int(v), 2) for v in rng.integers(-4, 2, 2)]
    high = [a + F(int(v), 2) for a, v in zip(low, rng.integers(0, 6, 2), strict=True)]
    return (low[0], low[1]), (high[0], high[1])
