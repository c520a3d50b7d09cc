"""Random properties of tiny networks, asked and decided exactly: `ask` compares."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

import gamma
from gamma.network.graph import Network
from gamma.network.property import Conjunction, LinearConstraint, Property, Region
from tests.exact.patterns import Pieces
from tests.verify.known import dense

F = Fraction
BAND = F(1, 10**4)
"""A verdict is owed where the question stays the same when all bounds move so far."""
STEPS = (0, 0, 1, -1, 1000, -1000)
"""Bounds beside a least value, in units of the last place."""
PROPERTIES = 20


def network(rng: np.random.Generator) -> Network:
    """Up to 3 inputs and 12 ReLUs, weights that are small dyadic numbers, inexact ones now and
    then."""
    hidden = [(4,), (8,), (12,), (4, 4), (6, 6), (4, 4, 4)][rng.integers(6)]
    sizes = [int(rng.integers(1, 4)), *hidden, int(rng.integers(1, 3))]
    scale = rng.choice([1.0, 1.0, 1 / 3])
    layers = []
    for n, m in pairwise(sizes):
        weight = rng.integers(-3, 4, (m, n)) * scale
        layers.append((weight.tolist(), (rng.integers(-4, 5, m) / 2 * scale).tolist()))
    return dense(*layers)


def constraint(rng: np.random.Generator, pieces: Pieces, outputs: int) -> LinearConstraint:
    """A form of the outputs, at most its least value over the box, or next to it, or far off."""
    row = rng.integers(-2, 3, outputs)
    row[0] = row[0] if row.any() else 1
    form = LinearConstraint(tuple((i, F(int(c))) for i, c in enumerate(row) if c), (), F(0))
    found = pieces.value(form)
    least = F(int(found.p), int(found.q))
    if rng.random() < 0.5:
        ulp = F(float(np.spacing(max(abs(float(least)), 2.0**-10))))
        return LinearConstraint(form.y, (), least + int(rng.choice(STEPS)) * ulp)
    return LinearConstraint(form.y, (), least + F(int(rng.integers(-40, 60)), 32))


def _moved(conjunction: Conjunction, by: Fraction) -> Conjunction:
    return tuple(LinearConstraint(c.y, c.x, c.bound + by) for c in conjunction)


def ask(seed: int, count: int, patience: float = 20.0) -> Counter[str]:
    """Verdicts by what is true, of so many properties; AssertionError for a wrong one."""
    rng, tally = np.random.default_rng(seed), Counter[str]()
    while sum(tally.values()) < count:
        net = network(rng)
        n, outputs = net.input_shape[0], net.output_shape[0]
        low = tuple(F(int(v), 2) for v in rng.integers(-3, 2, n))
        high = tuple(a + F(int(v), 2) for a, v in zip(low, rng.integers(0, 5, n), strict=True))
        pieces = Pieces(net, low, high)
        for _ in range(PROPERTIES):
            several = range(int(rng.integers(1, 3)))
            asked = tuple(constraint(rng, pieces, outputs) for _ in several)
            prop = Property((Region(low, high, (asked,)),), n, outputs)
            owed = pieces.reachable(_moved(asked, BAND)) == pieces.reachable(_moved(asked, -BAND))
            options: dict[str, Any] = {"guarantee": ("real", "float32")[rng.integers(2)]}
            # ReLUs alone are split now and then, with little time: no answer is owed there.
            options |= {"branch": ("auto", "relu")[int(rng.integers(4) == 0)], "threads": 1}
            owed &= options["branch"] == "auto"
            wait = patience if owed else 0.1
            result = gamma.verify(net, prop, timeout=wait, seed=int(rng.integers(100)), **options)
            true = pieces.reachable(asked)
            wrong = {"verified": true, "violated": not true}.get(result.verdict, False)
            assert not wrong, (seed, sum(tally.values()), result.verdict, options, asked)
            settled = result.verdict in ("verified", "violated")
            tally[("decided" if settled else "open") + (" owed" if owed else " beside")] += 1
    return tally
