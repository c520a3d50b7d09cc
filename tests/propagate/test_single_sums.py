"""Sums of two values in float32, in IBP of a whole network: against exact arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Gemm, Input, Relu, Tanh
from gamma.propagate import passes
from gamma.propagate import single as charges
from gamma.tensor.kernels.passes import BLOCK, GROUP
from tests.propagate.single_pass import ISAS, about, check, ends, layers, single

pytestmark = [
    pytest.mark.skipif(not ISAS, reason="no compiled library"),
    pytest.mark.usefixtures("none_is_narrow"),
]


def added(
    first: Any, second: Any, offset: Any, signs: tuple[int, int] = (1, -1), op: Any = None
) -> Network:
    """A sum of two dense layers, the second with an offset, and a layer that adds all of it."""
    made = Builder(Input(), (len(first[0]),))
    one = made.add(Gemm(np.asarray(first, np.float32), None), 0)
    two = made.add(Gemm(np.asarray(second, np.float32), np.asarray(offset, np.float32)), 0)
    total = made.add(op or Relu(), made.add(Add(signs), one, two))
    return made.build(made.add(Gemm(np.ones((2, len(first)), np.float32), None), total))


@pytest.mark.parametrize("offset", [0.0, 300.0, 1e9])
def test_sums_of_two_values(offset: float) -> None:
    """Both in float32; or one in float64, and then the other too, which was left in float32."""
    rng = np.random.default_rng(12)
    first, second = rng.standard_normal((2, 19, 30))
    network = added(first, second, offset * rng.choice([-1, 1], 19))
    centre = rng.standard_normal((9, 30))
    box = about(centre, np.full((9, 30), 0.5))
    check(network, box)
    assert single(network, box)
    found = ends(network, box)
    with tuning.disabled("single_pass"):
        plain = ends(network, box)
    assert (found[1] - found[0] <= (plain[1] - plain[0]) * (1 + 2.0**-14)).all()
    for b in range(9):
        alone = ends(network, box.slice(b, b + 1))
        assert (alone[0][0] == found[0][b]).all() and (alone[1][0] == found[1][b]).all()


def test_a_function_behind_a_sum() -> None:
    """Where it bends: no interval of sums holds the values."""
    rng = np.random.default_rng(14)
    first, second = rng.uniform(0, 0.1, (2, 19, 30))
    network = added(first, second, np.zeros(19), (1, 1), Tanh())
    box = about(rng.uniform(0.9, 1, (5, 30)), np.full((5, 30), 0.1))
    check(network, box)
    assert single(network, box)


def test_values_that_a_sum_reads_are_charged_for_its_rounding() -> None:
    network = added(np.eye(3), np.eye(3), np.zeros(3))
    maker = passes._Maker(network, True)
    for node in network.nodes[1:]:
        maker.visit(node)
    for node in charges.charged(maker.made)[1:3]:
        assert node.charge is not None
        assert (node.charge >= charges.charge_of(1)).all()


def test_sums_of_centres_that_lose_every_term() -> None:
    """1, then less than half a unit in its last place: a block's sum stays 1."""
    blocks = 5
    centre = np.tile([1.0] + [2.0**-25 * 0.99] * (BLOCK - 1), blocks).astype(np.float32)
    radius = np.zeros(centre.size)
    radius[0] = 0.125 * blocks
    network = layers(np.ones((1, centre.size)), np.ones((1, 1)))
    box = about(np.stack([centre, -centre]), radius)
    check(network, box)
    assert single(network, box)


def test_sums_of_radii_that_lose_every_term() -> None:
    radius = np.tile([1.0] + [2.0**-25 * 0.99] * (BLOCK - 1), 3)
    network, box = layers(np.ones((1, radius.size))), about(np.zeros(radius.size), radius)
    check(network, box)
    assert single(network, box)


def test_a_sum_of_entries_behind_whole_vectors() -> None:
    """1 + 2^-25 - 1 is nothing; the entries are the last of seven."""
    centre = np.array([0, 0, 0, 0, 1, 2.0**-25 * 0.99, 1])
    network = layers([[1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, -1]])
    box = about(np.stack([centre, -centre]), [1, 0, 0, 0, 0, 0, 0])
    check(network, box)
    assert single(network, box)


def test_a_sum_of_hidden_values() -> None:
    """1 and what is lost beside it, one by one and in blocks of eight, and -1 in the next group:
    more than what values of an inner layer have for roundings of their own."""
    lost = 0.99 * 2.0**-24
    weight = np.zeros((GROUP + 2, 2))
    weight[:, 1] = [1, *[lost] * 7, *[lost / 8] * (GROUP - 8), 0, -1]
    weight[GROUP, 0] = 1
    rows = np.ones((2, GROUP + 2))
    rows[0] = weight[:, 0]
    rows[1, GROUP] = 0
    network = layers(weight, rows)
    box = about([[0, 1], [0, -1]], [[1, 0], [1, 0]])
    check(network, box)
    assert single(network, box)


def test_a_sum_of_the_last_hidden_values() -> None:
    """The same of offsets, which are exact: 1 and what is lost beside it behind whole panels."""
    count = GROUP + 7
    offset = np.zeros(count)
    offset[GROUP:] = [1, *[0.99 * 2.0**-24] * 6]
    rows = np.ones((3, count))
    rows[0] = np.arange(count) == 0
    rows[1:, 0] = 0
    rows[2] *= -1
    network = layers(rows[:1].T, rows, biases=[offset, None])
    box = about([[0]], [[1]])
    check(network, box)
    assert single(network, box)
