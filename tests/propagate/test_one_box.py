"""IBP of one box in one call: dense layers in float64, entries that are 0 passed over."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gamma.network.graph import Builder, Network
from gamma.ops import Conv, Gemm, Input, Relu
from gamma.propagate import passes
from gamma.propagate.options import options_of
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.propagate.single_pass import ISAS, about
from tests.propagate.test_passes import MADE, exact

pytestmark = [
    pytest.mark.skipif(not ISAS, reason="no compiled library"),
    pytest.mark.usefixtures("none_is_narrow"),
]


def ends(network: Network, box: Box, dtype: str = "float32") -> Any:
    return passes.output_ends(network, box, options_of(network, "ibp", "real", dtype, None))


def check(network: Network, box: Box) -> None:
    """A box's ends enclose the exact ones, and are as near as sums in float32 allow."""
    low, high = exact(network, box.lower[0], box.upper[0])
    for isa in ISAS:
        with kernels.pinned(isa):
            found = ends(network, box)
            plain = ends(network, box, "float64")
        below, above = (end.ravel() for end in found)
        assert all(Fraction(f) <= a for f, a in zip(below, low, strict=True))
        assert all(a <= Fraction(f) for f, a in zip(above, high, strict=True))
        wide = (plain[1] - plain[0]).sum()
        assert (above - below).sum() <= wide * (1 + 2.0**-12) + 2.0**-24 * abs(above).sum()


def relus(rng: Any, *sizes: int) -> Network:
    """Dense layers with offsets, some of whose entries are 0 behind each ReLU."""
    made, x = Builder(Input(), (sizes[0],)), 0
    for n, m in zip(sizes, sizes[1:], strict=False):
        weight, bias = rng.standard_normal((m, n)), rng.standard_normal(m) * n**0.5
        x = made.add(Gemm(weight.astype(np.float32), bias.astype(np.float32)), x)
        x = made.add(Relu(), x) if m != sizes[-1] else x
    return made.build(x)


@pytest.mark.parametrize("make", MADE)
def test_encloses_exact_intervals(make: Any) -> None:
    """Of convolutions in float32, or not, that dense layers in float64 read."""
    rng = np.random.default_rng(7)
    network = make(rng)
    for radius in (1e-9, 0.1, 3.0):
        centre = rng.standard_normal((1, *network.input_shape))
        check(network, Box(centre - radius, centre + radius))


def test_dense_layers_have_the_bits_of_float64() -> None:
    """Of one box, and not of two."""
    rng = np.random.default_rng(4)
    network = relus(rng, 40, 30, 20, 3)
    centre = rng.standard_normal((1, 40))
    box = about(centre, np.full((1, 40), 0.5))
    two = about(np.repeat(centre, 2, 0), np.full((2, 40), 0.5))
    for isa in ISAS:
        with kernels.pinned(isa):
            one, plain = ends(network, box), ends(network, box, "float64")
            both = ends(network, two)
        assert (one[0] == plain[0]).all() and (one[1] == plain[1]).all()
        assert (both[1][0] - both[0][0] > one[1][0] - one[0][0]).all()


def test_layers_longer_than_what_is_settled_at_once() -> None:
    """More panels than one turn has; an odd number of them, and a part of one."""
    network = relus(np.random.default_rng(5), 9, 300, 21, 2)
    check(network, _box(network, 0.2))


def _box(network: Network, radius: float) -> Box:
    centre = np.random.default_rng(6).standard_normal((1, *network.input_shape))
    return Box(centre - radius, centre + radius)


def test_entries_whose_middle_is_0() -> None:
    """They have a reach; an entry that is left out has none."""
    made = Builder(Input(), (3,))
    network = made.build(made.add(Gemm(np.array([[1.0, 2.0, 4.0]], np.float32), None), 0))
    check(network, about([[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]))
    low, high = ends(network, about([[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]))
    assert low.item() <= 3 and high.item() >= 5


def test_points_that_cancel() -> None:
    """Their sums' roundings are charged by the sizes of their terms."""
    made = Builder(Input(), (3,))
    network = made.build(made.add(Gemm(np.array([[1.0, 1.0, -1.0]], np.float32), None), 0))
    check(network, about([[1.0, 2.0**-60, 1.0]], [[0.0, 0.0, 0.0]]))


def test_images_of_which_most_entries_are_0() -> None:
    """Windows pass over them and over the pads: the bits that all terms have, box by box."""
    rng = np.random.default_rng(8)
    made = Builder(Input(), (2, 6, 7))
    first = rng.standard_normal((16, 2, 3, 3)).astype(np.float32)
    x = made.add(Conv(first, np.full(16, -6.0), (1, 1), (1, 1, 1, 1)), 0)
    second = rng.standard_normal((19, 16, 3, 2)).astype(np.float32)
    y = made.add(Conv(second, None, (2, 1), (1, 0, 2, 1), dilations=(2, 1)), made.add(Relu(), x))
    network = made.build(y)
    check(network, _box(network, 0.1))
    before = ends(made.build(x), _box(network, 0.1))[1]
    assert 0.2 < (before <= 0).mean() < 1
