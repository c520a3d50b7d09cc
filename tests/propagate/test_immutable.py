"""What was proved stays what was proved: nobody can write to bounds that a walk hands out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.network.graph import Builder, Network
from gamma.ops import Gemm, Input, Relu, Reshape, Sigmoid
from gamma.propagate import (
    CheckpointedBounds,
    Domain,
    Specification,
    bounds,
    linear_bounds,
    lower_bounds,
)
from gamma.propagate.options import Options
from gamma.propagate.walks import walk
from gamma.tensor.box import Box

METHODS = ("ibp", "crown-ibp", "crown")


def network(activation: Any) -> Network:
    rng = np.random.default_rng(0)
    b = Builder(Input(), (2, 2))
    made = b.add(Reshape((4,)), 0)
    for shape in ((6, 4), (5, 6)):
        made = b.add(
            activation, b.add(Gemm(rng.normal(size=shape), rng.normal(size=shape[0])), made)
        )
    return b.build(b.add(Gemm(rng.normal(size=(3, 5))), made))


def box() -> Box:
    centre = np.random.default_rng(1).normal(size=(2, 2, 2))
    return Box(centre - 0.25, centre + 0.25)


def arrays(known: Any) -> Iterator[Any]:
    for name in ("lower", "upper", "centre", "spread", "noise"):
        if getattr(known, name) is not None:
            yield getattr(known, name)


def refuses(array: Any) -> None:
    before = np.array(array)
    with pytest.raises(ValueError, match="read-only"):
        array[...] = 0
    assert np.array_equal(before, array)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("activation", (Relu(), Sigmoid()), ids=("one call", "node by node"))
def test_bounds_of_every_node(method: str, activation: Any) -> None:
    net, given = network(activation), box()
    made = walk(net, Domain(given), Options(method, dtype=np.dtype(np.float64)))
    made.output()
    for index in range(net.output + 1):
        for array in arrays(made.ask(index)):
            refuses(array)
    given.lower[...] -= 1  # the caller's own array stays the caller's


def test_bounds_in_a_store() -> None:
    net = network(Sigmoid())
    store = CheckpointedBounds(net, box(), 2)
    for index in (net.output, 3, 1, 0):
        for array in arrays(store[index]):
            refuses(array)


def test_results() -> None:
    net, given = network(Relu()), box()
    for tensor in bounds(net, given, intermediate=True).values():
        refuses(tensor.lower)
        refuses(tensor.upper)
    lines = linear_bounds(net, given)
    for array in (lines.lower_coefficients, lines.lower_constant):
        refuses(array)
    for array in (lines.upper_coefficients, lines.upper_constant):
        refuses(array)
    asked = Specification(np.eye(3), None, np.zeros(3), np.zeros(3, np.int64))
    refuses(lower_bounds(net, given, asked).lower)


def test_tightened_bounds_are_new_arrays() -> None:
    """Who kept the interval bounds keeps them."""
    with tuning.disabled("fused_network"):
        made = walk(network(Relu()), Domain(box()), Options("ibp"))
    known = made.bounds[2]
    lower, upper, kept = known.lower, known.upper, np.array(known.lower)
    known.intersect(lower + 0.01 * (upper - lower), upper, "here")
    assert np.array_equal(lower, kept)
    refuses(known.lower)
