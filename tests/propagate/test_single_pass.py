"""Products of a whole network's IBP in float32: what they may lose, against exact arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

import gamma
from gamma import tuning
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Conv, Gemm, Input, Relu, Sigmoid, Silu, Tanh
from gamma.propagate import dense_form, passes
from gamma.propagate import single as charges
from gamma.propagate.options import options_of
from gamma.runtime import workers
from gamma.tensor import kernels, probe
from gamma.tensor.box import Box
from gamma.tensor.kernels.passes import BLOCK, GROUP, PassNode, network_pass
from tests.propagate.test_passes import MADE, exact, scattered

ISAS = [name for name in kernels.available() if name != "numpy"]
pytestmark = pytest.mark.skipif(not ISAS, reason="no compiled library")


@pytest.fixture(autouse=True)
def none_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes of narrow networks go abreast: these take the way of wide ones."""
    monkeypatch.setattr(dense_form, "_NARROW", 0)


def ends(network: Network, box: Box, dtype: str = "float32") -> tuple[Any, Any]:
    found = passes.output_ends(network, box, options_of(network, "ibp", "real", dtype, None))
    assert found is not None
    return found


def layers(*weights: Any, biases: Sequence[Any] | None = None) -> Network:
    """Dense layers of float32 weights."""
    made, x = Builder(Input(), (len(weights[0][0]),)), 0
    for weight, bias in zip(weights, biases or [None] * len(weights), strict=True):
        x = made.add(Gemm(np.asarray(weight, np.float32), bias), x)
    return made.build(x)


def about(centre: Any, radius: Any) -> Box:
    """Boxes whose ends are these numbers, in float64."""
    centre, radius = np.atleast_2d(np.float64(centre)), np.atleast_2d(np.float64(radius))
    return Box(centre - radius, centre + radius)


def check(network: Network, box: Box) -> None:
    """Every box's ends enclose the exact ones, on every instruction set, and are finite."""
    truth = [exact(network, *ends) for ends in zip(box.lower, box.upper, strict=True)]
    for isa in ISAS:
        with kernels.pinned(isa):
            found = ends(network, box)
        for below, above, (low, high) in zip(*found, truth, strict=True):
            assert np.isfinite(below).all() and np.isfinite(above).all()
            assert all(Fraction(f) <= a for f, a in zip(below.ravel(), low, strict=True))
            assert all(a <= Fraction(f) for f, a in zip(above.ravel(), high, strict=True))


def single(network: Network, box: Box) -> bool:
    """Whether any product was taken in float32: bounds then differ from those without it."""
    with tuning.disabled("single_pass"):
        plain = ends(network, box)
    return any((a != b).any() for a, b in zip(plain, ends(network, box), strict=True))


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


def carried(rows: Any, bias: Any) -> Network:
    """The rows, and one that makes an entry of the input that no other row reads be wide."""
    weight = np.zeros((len(rows) + 1, len(rows[0]) + 1), np.float32)
    weight[:-1, :-1], weight[-1, -1] = rows, 1
    made = Builder(Input(), (weight.shape[1],))
    return made.build(made.add(Gemm(weight, np.append(bias, 0.0)), 0))


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


@pytest.mark.parametrize("count", [8, 9, 37])
@pytest.mark.parametrize("make", MADE)
def test_threads_share_few_boxes(make: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 8 boxes on, with the bits that one thread finds."""
    monkeypatch.setattr(passes, "_SHARED_OPERATIONS", 0.0)
    rng = np.random.default_rng(9)
    network = make(rng)
    centre = rng.standard_normal((count, *network.input_shape))
    box = Box(centre - 1, centre + 1)
    with workers.limited(1):
        found = ends(network, box)
    for threads in (2, 3):
        with workers.limited(threads):
            shared = ends(network, box)
        assert all((a == b).all() for a, b in zip(found, shared, strict=True))


def alike(rng: Any, count: int, n: int) -> tuple[Any, Any]:
    """Boxes of one radius, so near to each other that charges for their centres hardly differ."""
    centre = rng.standard_normal(n) + 0.05 * rng.standard_normal((count, n))
    return centre, np.broadcast_to(rng.uniform(0.5, 1.5, n), centre.shape)


def test_boxes_of_one_radius_share_their_reaches() -> None:
    """As many as 128 do, by groups of 16: bounds enclose the exact ones, hardly wider, and do not
    depend on the threads; other boxes keep the bits that they have alone."""
    rng, count = np.random.default_rng(10), 150
    network = layers(rng.standard_normal((21, 90)), rng.standard_normal((3, 21)))
    centre, radius = alike(rng, count, 90)
    radius = radius.copy()
    radius[40:44] *= 1 + 2.0**-19  # of another radius
    radius[50] = 0.0  # in float64
    centre[100] += 1e3  # its charges are others
    box = about(centre, radius)
    some = [0, 7, 31, 41, 50, 65, 90, 100, 127, 144, 149]
    for isa in ISAS:
        with kernels.pinned(isa):
            found, few = ends(network, box), ends(network, box.slice(0, 127))
            with tuning.disabled("shared_reach"):
                plain = ends(network, box)
            for threads in (1, 3, 5, 16):
                with workers.limited(threads):
                    again = ends(network, box)
                assert all((a == b).all() for a, b in zip(found, again, strict=True))
        differ = (found[0] != plain[0]).any(axis=1)
        groups = differ[:144].reshape(-1, 16).any(axis=1)
        assert groups.tolist() == [True, True, False, False, True, True, False, True, True]
        assert not differ[144:].any()
        assert (found[1] - found[0] <= (plain[1] - plain[0]) * (1 + 2.0**-22)).all()
        for b in some:
            low, high = exact(network, box.lower[b], box.upper[b])
            assert all(Fraction(f) <= a for f, a in zip(found[0][b], low, strict=True))
            assert all(a <= Fraction(f) for f, a in zip(found[1][b], high, strict=True))
        assert all((a[:127] == b).all() for a, b in zip(plain, few, strict=True))


def test_a_box_that_needs_more_than_others_of_its_radius() -> None:
    """One whose sums lose every term, among those that are charged for nothing: in each place of a
    group, and at each end of the entries."""
    blocks, count = 8, 128
    terms = np.tile([1.0] + [2.0**-25 * 0.99] * (BLOCK - 1), blocks).astype(np.float32)
    for before in (0, 3):
        n = before + terms.size
        centre, radius = np.zeros((count, n)), np.zeros((count, n))
        for place in range(0, count, 17):
            centre[place, before:] = terms * (-1) ** place
        network = carried(
            np.concatenate([np.zeros((1, before)), np.ones((1, terms.size))], 1), [0.0]
        )
        wide = np.full((count, 1), 64.0)
        box = about(np.append(centre, 0 * wide, axis=1), np.append(radius, wide, axis=1))
        with tuning.disabled("shared_reach"):
            plain = ends(network, box)
        for isa in ISAS:
            with kernels.pinned(isa):
                found = ends(network, box)
            assert (found[1] - found[0]).min() > (plain[1] - plain[0]).min()  # of all boxes
            for b in range(0, count, 17):
                low, high = exact(network, box.lower[b], box.upper[b])
                assert Fraction(found[0][b, 0]) <= low[0]
                assert high[0] <= Fraction(found[1][b, 0])


# What follows holds the charges' own arithmetic against definitions; kernels are not asked.


def summed_by(terms: int) -> list[int]:
    """Roundings of each term in a sum as the kernels write it: a dictionary per partial sum."""

    def add(one: dict[int, int], two: dict[int, int]) -> dict[int, int]:
        return {k: n + 1 for k, n in (one | two).items()}

    def group(first: int, end: int) -> dict[int, int]:
        total: dict[int, int] = {}
        for start in range(first, end, BLOCK):
            block: dict[int, int] = {}
            for k in range(start, min(start + BLOCK, end)):
                block = add(block, {k: 1})  # the product's own, unless they are fused
            total = add(total, block) if total else block
        return total

    def halves(first: int, end: int) -> dict[int, int]:
        groups = -(-(end - first) // GROUP)
        if groups == 1:
            return group(first, end)
        middle = first + (groups + 1) // 2 * GROUP
        return add(halves(first, middle), halves(middle, end))

    found = halves(0, terms)
    return [found[k] for k in range(terms)]


@pytest.mark.parametrize("terms", [1, 2, 7, 8, 9, 27, 48, 64, 65, 128, 129, 200, 784, 1025])
def test_roundings_are_those_of_the_sum(terms: int) -> None:
    assert charges.roundings_of(terms).tolist() == summed_by(terms)


def test_a_charge_covers_what_it_is_for() -> None:
    """In exact arithmetic, for any centre and reach: every rounding loses all it may."""
    kept = 1 - Fraction(1, 2**24)
    for roundings in range(1, 40):
        per_centre, per_reach = map(Fraction, charges.charge_of(roundings))
        error = Fraction(roundings, 2**24) / (1 - Fraction(roundings, 2**24))
        for c, r in ((0, 1), (1, 0)):
            away = (1 - kept) * (1 + Fraction(1, 2**28))
            needed = (r / kept + away * c + error * c) / (1 - error)
            reach = (r + (c * per_centre + r * per_reach) * kept**2) * kept
            assert reach * kept**3 >= needed  # the sum, with offsets, on the way to an end


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_every_reading_of_an_entry_is_charged(stride: int, dilation: int) -> None:
    """Groups, pads, strides and dilations: the kernel's terms, window by window."""
    shape, (kh, kw), pad = (4, 6, 9), (3, 4), 2
    made = Builder(Input(), shape)
    weight = np.ones((6, 2, kh, kw), np.float32)
    op = Conv(weight, None, (stride,) * 2, (pad,) * 4, (dilation,) * 2, 2)
    network = made.build(made.add(op, 0))
    maker = passes._Maker(network, True)
    maker.visit(network.nodes[1])
    roundings = summed_by(kh * kw * 2)
    most = np.zeros((9, 4), np.int64)
    _, height, width = network.nodes[1].shape
    for y, x, i, j, c in np.ndindex(height, width, kh, kw, 2):
        row, column = y * stride + i * dilation - pad, x * stride + j * dilation - pad
        if 0 <= row < shape[1] and 0 <= column < shape[2]:
            term = (i * kw + j) * 2 + c
            for group in range(2):
                at = column, 2 * group + c
                most[at] = max(most[at], roundings[term])
    charge = charges.charged(maker.made)[0].charge
    assert charge is not None
    for n, found in zip(most.ravel(), charge.reshape(-1, 2), strict=True):
        assert n == 0 or (found == np.float32(charges.charge_of(int(n)))).all()
    assert (most > 0).any()


@pytest.mark.parametrize("make", MADE)
def test_entries_that_are_0_in_some_boxes(make: Any) -> None:
    """Negative boxes leave other neurons dead than positive ones: no box loses a term for another,
    and each has the bits that it has alone, in turns of any length and on any number of threads."""
    rng = np.random.default_rng(8)
    network = make(rng)
    centre = 4 * rng.standard_normal((1, *network.input_shape))
    centre = centre * np.where(np.arange(70) % 7 < 5, 1, -1).reshape(-1, *[1] * centre[0].ndim)
    box = Box(centre - 1, centre + 1)
    assert single(network, box)
    check(network, box.slice(0, 7))
    for isa in ISAS:
        with kernels.pinned(isa):
            with workers.limited(1):
                found = ends(network, box)
            with workers.limited(3):
                shared = ends(network, box)
            for b in (0, 5, 66):
                alone = ends(network, box.slice(b, b + 1))
                assert (alone[0][0] == found[0][b]).all() and (alone[1][0] == found[1][b]).all()
        assert (shared[0] == found[0]).all() and (shared[1] == found[1]).all()
