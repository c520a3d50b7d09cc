"""Functions that end somewhere, behind values that reach just there: bounds stay finite.

A rounding outward beyond the end of a domain would leave nothing known.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

import gamma
from gamma.network.graph import Builder, Network
from gamma.ops import Abs, Asin, Clip, Exp, Input, Log, Operator, Pow, ReduceSum, Relu, Sqrt
from gamma.propagate import METHODS

GUARANTEES = ("real", "float32")


def chain(operators: Sequence[Operator], size: int = 6) -> Network:
    builder = Builder(Input(), (size,), "x")
    node = 0
    for op in operators:
        node = builder.add(op, node)
    return builder.build(node)


def around(radius: float, size: int = 6) -> tuple[gamma.Box, list[np.ndarray]]:
    """A box that holds 0, and float32 points of it: ends, corners, 0, others."""
    rng = np.random.default_rng(3)
    ends = rng.uniform(0.1, 1, (2, size)).astype(np.float32) * np.float32(radius)
    low, high = -ends[0], ends[1]
    inside = [np.where(rng.random(size) < 0.5, low, high) for _ in range(10)]
    return gamma.Box(low, high), [low, high, np.zeros(size, np.float32), *inside]


@pytest.mark.parametrize("guarantee", GUARANTEES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("root", [Sqrt(), None])
def test_roots_of_sums_of_squares(method: str, guarantee: str, root: Operator | None) -> None:
    """The length of a vector (and its square) around 0."""
    network = chain([Pow(2.0), ReduceSum((0,)), *([root] if root else [])])
    for radius in (1e-30, 0.5, 3.0, 1e15):
        box, points = around(radius)
        out = gamma.bounds(network, box, method=method, guarantee=guarantee)
        low, high = out.lower.item(), out.upper.item()
        assert 0 <= low and np.isfinite(high)
        for x in points:
            square = sum((Fraction(float(v)) ** 2 for v in x), Fraction(0))
            ends = [Fraction(e) ** 2 if root else Fraction(e) for e in (low, high)]
            assert ends[0] <= square <= ends[1]
            if guarantee == "float32":
                for order in (x, x[::-1]):
                    total = np.float32(0)
                    for v in order:
                        total += v * v
                    assert low <= float(np.sqrt(total) if root else total) <= high


def test_a_sum_that_may_overflow_is_unbounded() -> None:
    """Behind an infinity nothing is known, a sum of squares or not."""
    network = chain([Pow(2.0), ReduceSum((0,))])
    box, _ = around(1e19)
    out = gamma.bounds(network, box, method="ibp", guarantee="float32")
    assert out.lower.item() == -np.inf and out.upper.item() == np.inf
    assert np.isfinite(gamma.bounds(network, box, method="ibp").upper).all()


@pytest.mark.parametrize("guarantee", GUARANTEES)
@pytest.mark.parametrize(
    "operators",
    [
        (Abs(), Pow(1.5)),
        (Relu(), Sqrt()),
        (Relu(), ReduceSum((0,), True, 0.25), Sqrt()),
        (Clip(-1.0, 1.0), Asin()),
        (Clip(0.0, 4.0), Pow(0.5)),
        (Pow(4.0), Pow(2.5)),
        (Clip(-2.0, 2.0), Exp(), Log()),
    ],
    ids=lambda ops: "-".join(op.name for op in ops),
)
def test_ends_of_a_domain_are_reached(operators: tuple[Operator, ...], guarantee: str) -> None:
    network = chain(operators)
    box, points = around(4.0)
    for method in ("ibp", "crown", "forward"):
        out = gamma.bounds(network, box, method=method, guarantee=guarantee)
        assert np.isfinite(out.lower).all() and np.isfinite(out.upper).all()
        for x in points:
            y = network.forward(x[None], np.float64)[0]
            room = 2.0**-48 * (1 + abs(y))  # what the evaluation in float64 may err by
            assert ((out.lower - room <= y) & (y <= out.upper + room)).all()


def test_sums_of_what_may_be_negative_are_left_alone() -> None:
    network = chain([ReduceSum((0,), True, 0.5)])
    box, points = around(1.0)
    out = gamma.bounds(network, box, method="ibp")
    for x in points:
        total = sum((Fraction(float(v)) for v in x), Fraction(0)) / 2
        assert Fraction(out.lower.item()) <= total <= Fraction(out.upper.item())
    assert out.lower.item() < 0
    flipped = chain([Relu(), ReduceSum((0,), True, -0.5)])
    assert gamma.bounds(flipped, box, method="ibp").lower.item() < -0.1
