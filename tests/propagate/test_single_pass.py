"""Products of a whole network's IBP in float32: what they may lose, against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

import gamma
from gamma import tuning
from gamma.errors import UsageError
from gamma.network.graph import Builder
from gamma.ops import Gemm, Input, Relu, Sigmoid, Silu, Tanh
from gamma.propagate import passes
from gamma.propagate import single as charges
from gamma.tensor import kernels, probe
from gamma.tensor.box import Box
from gamma.tensor.kernels.passes import PassNode, network_pass
from tests.propagate.single_pass import ISAS, about, carried, check, ends, layers, single
from tests.propagate.test_passes import MADE, scattered

pytestmark = [
    pytest.mark.skipif(not ISAS, reason="no compiled library"),
    pytest.mark.usefixtures("none_is_narrow"),
]


@pytest.mark.parametrize("make", MADE)
def test_encloses_exact_intervals(make: Any) -> None:
    """Boxes of all kinds, side by side: each takes float32 or not by itself."""
    rng = np.random.default_rng(3)
    network = make(rng)
    size = (6, *network.input_shape)
    centre = rng.standard_normal(size) * 10.0 ** rng.integers(-2, 2, size)
    radius = rng.choice([0.0, 1e-9, 0.1, 3.0], size)
    radius[0], radius[1] = 0.0, 3.0
    box = Box(centre - radius, centre + radius)
    check(network, box)
    assert single(network, box)
    found = ends(network, box)
    for b in range(6):
        alone = ends(network, box.slice(b, b + 1))
        assert (alone[0][0] == found[0][b]).all() and (alone[1][0] == found[1][b]).all()


def test_zeros_of_weights_are_passed_over() -> None:
    """The same bits as with them, of any number of boxes."""
    rng = np.random.default_rng(11)
    network = scattered(rng)
    maker = passes._Maker(network, True)
    for node in network.nodes[1:]:
        maker.visit(node)
    assert all(node.lines is not None for node in maker.made[1:])
    centre = rng.standard_normal((9, *network.input_shape))
    box = Box(centre - 1, centre + 1)
    assert single(network, box)
    for isa in ISAS:
        for count in (1, 3, 9):
            with kernels.pinned(isa):
                found = ends(network, box.slice(0, count))
                with tuning.disabled("sparse_weights"):
                    plain = ends(network, box.slice(0, count))
            assert all((a == b).all() for a, b in zip(found, plain, strict=True))


def test_lines_that_do_not_fit() -> None:
    """Lines lie inside a panel, each in its block, and follow each other."""
    weight = np.zeros((1, 2, 1, 1, 12, 8))
    weight[0, :, 0, 0, [1, 9], 0] = 1
    own = charges.in_float32(weight, None)
    assert own["lines"].tolist() == [1, 9, 1, 9]
    assert own["ends"].tolist() == [[[0, 1, 2], [2, 3, 4]]]
    node = PassNode((9, 1, 1), (0,), weight=weight, row_sum=np.ones((1, 2, 1, 1, 8)), **own)
    first, second = charges.charged([PassNode((12, 1, 1)), node])
    assert network_pass([first, second], (1, 1)) is not None
    for lines, found in (
        ([1, 12, 1, 9], [0, 1, 2, 2, 3, 4]),
        ([9, 1, 1, 9], [0, 1, 2, 2, 3, 4]),
        ([1, 9, 1, 9], [0, 1, 2, 1, 3, 4]),
        ([1, 9, 1], [0, 1, 2, 2, 3, 4]),
        ([1, 9, 1, 9], [0, 2, 1, 2, 3, 4]),
    ):
        wrong = np.array(lines), np.array(found).reshape(1, 2, 3)
        with pytest.raises(UsageError, match="kernel argument lines"):
            network_pass([first, replace(second, lines=wrong[0], ends=wrong[1])], (1, 1))


def test_centres_that_float32_does_not_hold() -> None:
    rng = np.random.default_rng(0)
    centre = 1 + rng.integers(1, 8, 200) * 2.0**-26
    network = layers(rng.standard_normal((7, 200)), rng.standard_normal((2, 7)))
    check(network, about(np.stack([centre, -centre]), np.full(200, 0.2)))


def test_products_below_the_normal_range() -> None:
    """Every product of a radius and of a centre is half the least number, or less."""
    weight = np.full((2, 64), np.float32(2.0**-107))
    weight[1] = 1
    box = about(np.full(64, 1.25 * 2.0**-44), np.full(64, 2.0**-44))
    network = layers(weight)
    check(network, box)
    assert single(network, box)


@pytest.mark.parametrize(
    ("weight", "size", "bias"),
    [(2.0**30, 1e36, 0.0), (1e36, 1e20, 0.0), (1.0, 1.0, 1.7e308), (1e-44, 1e-30, 0.0)],
)
def test_numbers_beyond_float32(weight: float, size: float, bias: float) -> None:
    """Sums that would overflow, or be nothing but what underflow leaves, are taken in float64."""
    rng = np.random.default_rng(1)
    first = np.full((3, 20), np.float32(weight)) * rng.choice([-1, 1], (3, 20))
    network = layers(first, np.eye(3), biases=[np.full(3, bias), None])
    box = about(rng.standard_normal((2, 20)) * size, np.full((2, 20), size))
    if not bias:
        check(network, box)
    assert not single(network, box) or bias


def test_a_layer_in_float64_behind_one_in_float32() -> None:
    """Offsets make centres large: the next layer's charges for them would show."""
    rng = np.random.default_rng(5)
    first, second = rng.standard_normal((40, 30)), rng.standard_normal((20, 40))
    shift = rng.standard_normal(40).astype(np.float32) * np.float32(1e9)
    network = layers(first, second, biases=[shift, None])
    box = about(rng.standard_normal((4, 30)), np.full((4, 30), 0.5))
    check(network, box)
    with tuning.disabled("single_pass"):
        plain = ends(network, box)
    found = ends(network, box)
    assert (found[1] - found[0] <= (plain[1] - plain[0]) * (1 + 2.0**-14)).all()


def test_rounding_in_float64_behind_a_layer_in_float32() -> None:
    """2⁻⁵ is lost with every addition beyond 2⁴⁹; only the sum of the centres is known."""
    n, shift = 2048, 2.0**40 + 2.0**-5
    network = layers(np.ones((n, 1)), np.ones((1, n)), biases=[np.full(n, shift), None])
    for isa in ISAS:
        with kernels.pinned(isa):
            low, high = ends(network, about([0.0], [0.5]))
        assert Fraction(low.item()) <= n * (Fraction(shift) - Fraction(1, 2))
        assert n * (Fraction(shift) + Fraction(1, 2)) <= Fraction(high.item())


def test_what_shows_is_not_taken() -> None:
    """Points and tiny boxes have the very bounds that they have without."""
    rng = np.random.default_rng(2)
    network = layers(rng.standard_normal((9, 50)), rng.standard_normal((3, 9)))
    for radius in (0.0, 1e-12, 1e-4):
        assert not single(network, about(rng.standard_normal((3, 50)), np.full((3, 50), radius)))
    box = about(rng.standard_normal((3, 50)), np.full((3, 50), 0.3))
    assert single(network, box)
    (low, high), wide = ends(network, box), ends(network, box, "float64")
    assert (high - low <= (wide[1] - wide[0]) * (1 + 2.0**-14)).all()


def test_what_shows_in_front_of_a_function() -> None:
    """As much as radii in float32 lose node by node, where that is more than elsewhere and the
    function flattens it."""
    rng = np.random.default_rng(3)
    kinds = Sigmoid(), Sigmoid(), Tanh(), Silu()
    for op, size, share in zip(
        kinds, (50, 784, 2000, 784), (1.0, 784 / 512, 2.0, 1.0), strict=True
    ):
        made = Builder(Input(), (size,))
        weight = rng.standard_normal((9, size)).astype(np.float32)
        network = made.build(made.add(op, made.add(Gemm(weight, None), 0)))
        maker = passes._Maker(network, True)
        for node in network.nodes[1:]:
            maker.visit(node)
        known = charges.charged(maker.made)
        assert known[1].shows == share * 2.0**-15
        limit = known[0].rate / known[1].shows
        for radius, taken in ((1.01 * limit, True), (0.99 * limit, False)):
            box = about(np.ones((1, size)), np.full((1, size), radius))
            check(network, box)
            assert single(network, box) == taken


def test_rows_of_float64_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow networks have ends in float64, of products in float32 unless float64 was named or the
    probe of float32's products failed."""
    rng = np.random.default_rng(6)
    network = layers(rng.standard_normal((9, 50)), rng.standard_normal((3, 9)))
    box = about(rng.standard_normal((3, 50)), np.full((3, 50), 0.3))
    found, plain = (
        gamma.bounds(network, box, method="ibp", dtype=kind) for kind in ("auto", "float64")
    )
    assert found.lower.dtype == plain.lower.dtype == np.float64
    assert (found.lower == ends(network, box)[0]).all() and (found.upper != plain.upper).any()
    assert (plain.upper == ends(network, box, "float64")[1]).all()
    monkeypatch.setattr(probe, "float32_failures", lambda: ("a product",))
    again = gamma.bounds(network, box, method="ibp")
    assert (again.lower == plain.lower).all() and (again.upper == plain.upper).all()


def test_weights_that_float32_does_not_hold() -> None:
    made = Builder(Input(), (3,))
    x = made.add(Relu(), made.add(Gemm(np.full((4, 3), 0.1), None), 0))
    network = made.build(made.add(Gemm(np.full((2, 4), 1 / 3), None), x))
    assert not single(network, about(np.zeros((1, 3)), np.ones((1, 3))))


def test_offsets_of_float64_and_roundings_of_ends() -> None:
    """Behind 1 + some 2^-24 an offset, its sum and an end each lose up to half a unit."""
    rng = np.random.default_rng(4)
    n = 1500
    network = carried(
        rng.uniform(-1, 1, (n, 1)) * 2.0**-12, rng.uniform(1, 1.02, n) * rng.choice([-1, 1], n)
    )
    box = about([rng.uniform(-1, 1), 0.0], [2.0**-12, 200.0])
    check(network, box)
    assert single(network, box)


def behind_float32(doubt: float, width: int, offset: float, charge: float) -> list[PassNode]:
    """A sum of one term and an offset in float32, with such charges, that float64 reads."""
    one = np.zeros((1, 1, 1, 1, 1, 8))
    one[..., 0] = 1
    own = charges.in_float32(one, None)
    own["shift"] = np.zeros((1, 1, 8, 2), np.float32)
    own["shift"][..., 0] = offset
    plain = {"weight": one, "row_sum": np.ones((1, 1, 1, width, 8))}
    first, second = {**plain, **own}, {**plain, "factors": (0.0, doubt)}
    shape = 1, 1, width
    nodes = [PassNode(shape), PassNode(shape, (0,), **first), PassNode(shape, (1,), **second)]
    charged = np.full((width, 1, 2), charge, np.float32)
    return [replace(node, charge=charged) for node in charges.charged(nodes)]


@pytest.mark.parametrize(("offset", "most"), [(0.51, 0.5), (0, 0.9)])
def test_rounded_centres_and_reaches_in_float64(offset: float, most: float) -> None:
    """Between an end near 0 and one near 1 a centre loses most, between -1 and 1 a reach does: more
    than the charge, which covers what the ends do."""
    rng, n = np.random.default_rng(7), 4096
    offset = float(np.float32(offset))
    centre = rng.uniform(-1e-3, 1e-3, (1, n)).astype(np.float32).astype(np.float64)
    radius = rng.uniform(0.9 * most, most, (1, n)).astype(np.float32).astype(np.float64)
    lower, upper = centre - radius, centre + radius  # exact, as the sums with 1 are
    nodes, ends = behind_float32(0.0, n, offset, 2.0**-25), np.empty((2, 1, n))
    for isa in ISAS:
        with kernels.pinned(isa):
            made = network_pass(nodes, (0, 1))
            assert made is not None
            made.run(lower, upper, ends, (0, 1), (1, 1))
        assert (ends[0] <= lower + offset).all()
        assert (upper + offset <= ends[1]).all()
        assert (ends[1] - ends[0] < upper - lower + 2.0**-20).all()


def test_doubtful_weights_behind_a_layer_in_float32() -> None:
    """A weight that is half itself away at most; of the centres only their sum is known."""
    nodes = behind_float32(0.5, 1, 0.0, 0.0)
    for isa in ISAS:
        with kernels.pinned(isa):
            made, ends = network_pass(nodes, (1, 1)), np.empty((2, 1, 1))
            assert made is not None
            made.run(np.array([[3.0]]), np.array([[5.0]]), ends, (0, 1), (1, 1))
        assert ends[0] <= 4 - 1.5 * 1 - 0.5 * 4
        assert ends[1] >= 4 + 1.5 * 1 + 0.5 * 4


def test_charges_that_do_not_fit() -> None:
    """Products in float32 need the charges of every node, and offsets."""
    one = np.zeros((1, 1, 1, 1, 1, 8))
    one[..., 0] = 1
    own = charges.in_float32(one, None)
    node = PassNode((1, 1, 1), (0,), weight=one, row_sum=np.ones((1, 1, 1, 1, 8)), **own)
    nodes = charges.charged([PassNode((1, 1, 1)), node])
    assert network_pass(nodes, (1, 1)) is not None
    for first, second in (
        (replace(nodes[0], charge=None), nodes[1]),
        (nodes[0], replace(nodes[1], shift=None)),
        (nodes[0], replace(nodes[1], shift=own["shift"][..., :1])),
        (replace(nodes[0], charge=np.zeros((1, 1, 2))), nodes[1]),
    ):
        with pytest.raises(UsageError, match="kernel argument"):
            network_pass((first, second), (1, 1))


def test_centres_of_float64_that_are_nothing_in_float32() -> None:
    """2^-128 times 2^40, behind weights that float32 does not hold."""
    made = Builder(Input(), (2,))
    first = np.array([[2.0**-128, 0.0], [0.0, 0.1]])
    x = made.add(Gemm(first, None), 0)
    network = made.build(
        made.add(Gemm(np.array([[2.0**40, 0.0], [0.0, 1.0]], np.float32), None), x)
    )
    box = about([1.0, 0.0], [0.0, 1.0])
    check(network, box)
    assert single(network, box)
