"""IBP of dense layers, narrow or of mostly zeros, with boxes abreast, against exact arithmetic and
the walk."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gamma import tuning
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.ops import Gemm, Input, Relu, Sigmoid
from gamma.propagate import abreast as passes
from gamma.propagate import bounds, dense_form
from gamma.propagate.abreast import ends_abreast, sums_of
from gamma.propagate.options import Options
from gamma.propagate.walks import walk
from gamma.runtime import workers
from gamma.tensor import kernels
from gamma.tensor.box import Box
from gamma.tensor.kernels.abreast import abreast

pytestmark = pytest.mark.skipif(kernels.isa == "numpy", reason="no compiled library")
native = pytest.importorskip("gamma.tensor.native.abreast")
WIDE = np.dtype(np.float64)
ISAS = [name for name in kernels.available() if name != "numpy"]
SIZES = (3, 9, 40, 16, 31, 12, 5)
# Layers behind which no activation comes.
PLAIN = (0, 3)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of small networks count as mostly zeros, whatever is in them."""
    monkeypatch.setattr(dense_form, "_ONE_BY_ONE", 0.0)


def network(
    seed: int, dtype: Any = np.float32, sizes: tuple[int, ...] = SIZES, zeros: float = 0.7
) -> Network:
    rng = np.random.default_rng(seed)
    builder, node = Builder(Input(), sizes[:1]), 0
    for k, (n, m) in enumerate(zip(sizes, sizes[1:], strict=False)):
        weight = rng.standard_normal((m, n)).astype(dtype)
        weight[rng.random(weight.shape) < zeros] = 0
        bias = rng.standard_normal(m).astype(dtype) if k != 1 else None
        node = builder.add(Gemm(weight, bias), node)
        if k not in PLAIN and k < len(sizes) - 2:
            node = builder.add(Relu(), node)
    return builder.build(node)


def boxes(seed: int, count: int, inputs: int = SIZES[0], radius: float = 0.3) -> Box:
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((count, inputs))
    wide = rng.choice([0.0, 1e-9, radius], centre.shape)
    return Box(centre - wide, centre + wide)


def ends(net: Network, box: Box) -> Any:
    found = ends_abreast(net, box, lambda: None)
    assert found is not None
    return found


def exact(net: Network, box: Box, b: int) -> tuple[list[Fraction], list[Fraction]]:
    """Interval arithmetic in fractions."""
    low, high = ([Fraction(v) for v in e[b].tolist()] for e in (box.lower, box.upper))
    for node in net.nodes[1:]:
        if isinstance(node.op, Gemm):
            bias = np.zeros(node.size) if node.op.bias is None else node.op.bias
            rows = [
                [(j, Fraction(float(w))) for j, w in enumerate(row) if w] for row in node.op.weight
            ]
            shift = [Fraction(float(c)) for c in bias]
            low, high = (
                [
                    c + sum(w * (x if (w > 0) == up else y)[j] for j, w in r)
                    for r, c in zip(rows, shift, strict=True)
                ]
                for x, y, up in ((low, high, True), (high, low, True))
            )
        else:
            low, high = ([max(v, Fraction(0)) for v in e] for e in (low, high))
    return low, high


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("count", (1, 8, 9, 33))
@pytest.mark.parametrize("zeros", (0.7, 0.3, 0.0))
def test_ends_hold_those_of_exact_intervals(isa: str, dtype: Any, count: int, zeros: float) -> None:
    for seed in range(4):
        net, box = network(seed, dtype, zeros=zeros), boxes(seed, count)
        with kernels.pinned(isa):
            lower, upper = ends(net, box)
        with tuning.disabled("sparse_weights"):
            known = walk(net, box, Options(method="ibp", dtype=WIDE)).bounds
        plain = known[net.output]
        size = sum(abs(node.lower).sum() + abs(node.upper).sum() for node in known)
        for apart in (lower - plain.lower, plain.upper - upper):  # no wider
            assert (-1e-14 * size <= apart).all() and (apart <= 1e-10 * size).all()
        for b in range(0, count, 7):
            low, high = exact(net, box, b)
            for k in range(SIZES[-1]):
                assert Fraction(lower[b, k]) <= low[k] and high[k] <= Fraction(upper[b, k])


@pytest.mark.parametrize("isa", ISAS)
def test_a_box_has_the_same_bits_alone_and_for_any_threads(isa: str, monkeypatch: Any) -> None:
    net, box = network(5), boxes(5, 70)
    monkeypatch.setattr(passes, "_CALL_PRODUCTS", 1e4)  # several calls
    with kernels.pinned(isa):
        lower, upper = ends(net, box)
        for b in (0, 15, 16, 69):
            alone = ends(net, box.slice(b, b + 1))
            assert (alone[0] == lower[b]).all() and (alone[1] == upper[b]).all()
        for threads in (1, 3):
            with workers.limited(threads):
                other = ends(net, box)
            assert (other[0] == lower).all() and (other[1] == upper).all()
        found = bounds(net, box, method="ibp", dtype="float64")
    assert (found.lower == lower).all() and (found.upper == upper).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("relu", (False, True))
def test_sums_pay_for_their_rounding(isa: str, relu: bool) -> None:
    """Points: a sum of many terms about 1, of which each is rounded, in layer after layer."""
    rng = np.random.default_rng(0)
    for terms in (2, 3, 4, 11):
        builder, node = Builder(Input(), (terms,)), 0
        for m in (terms, terms, 3):
            weight = rng.uniform(0.5, 1.5, (m, terms)).astype(np.float64)
            shift = rng.uniform(0.5, 1.5, m) * (1e3 if relu else -0.7 * terms)
            node = builder.add(Gemm(weight, shift), node)
            node = builder.add(Relu(), node) if relu and m == terms and terms != 3 else node
        net, x = builder.build(node), rng.uniform(0.9, 1.1, (40, terms))
        box = Box(x, x)
        with kernels.pinned(isa):
            lower, upper = ends(net, box)
        for b in range(40):
            low, high = exact(net, box, b)
            assert low == high
            for k in range(3):
                assert Fraction(lower[b, k]) <= low[k] <= Fraction(upper[b, k])


@pytest.mark.parametrize("isa", ISAS)
def test_radii_pay_for_their_rounding(isa: str) -> None:
    """Inputs about 0, whose centres round nothing: every end is a radius."""
    rng = np.random.default_rng(1)
    for relu in (False, True):
        builder, node = Builder(Input(), (4,)), 0
        for m, n in ((8, 4), (8, 8), (3, 8)):
            node = builder.add(Gemm(rng.uniform(0.5, 1.5, (m, n))), node)
            node = builder.add(Relu(), node) if relu and m == 8 else node
        net, reach = builder.build(node), rng.uniform(0.5, 1.5, (40, 4))
        box = Box(-reach, reach)
        with kernels.pinned(isa):
            lower, upper = ends(net, box)
        for b in range(40):
            low, high = exact(net, box, b)
            for k in range(3):
                assert Fraction(lower[b, k]) <= low[k] and high[k] <= Fraction(upper[b, k])


def held(isa: str, weights: list[Any], relu: bool, box: Box, shift: float = 0.0) -> bool:
    """Whether ends of a network of layers, ``shift`` added by the last, hold those of box 0."""
    builder, node = Builder(Input(), box.lower.shape[1:]), 0
    for k, weight in enumerate(weights):
        last = k + 1 == len(weights)
        node = builder.add(Gemm(weight, np.full(len(weight), shift) if last else None), node)
        node = builder.add(Relu(), node) if relu and not last else node
    net = builder.build(node)
    with kernels.pinned(isa):
        lower, upper = ends(net, box)
    low, high = exact(net, box, 0)
    return Fraction(lower[0, 0]) <= low[0] and high[0] <= Fraction(upper[0, 0])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("relu", (False, True))
def test_sums_pay_for_terms_that_they_lose(isa: str, relu: bool) -> None:
    """Of 1 + 63·0.999·2⁻⁵³ a float64 sum keeps 1: of radii, and of centres in layer after layer."""
    point, reach = Box(np.ones((1, 64)), np.ones((1, 64))), np.ones((1, 64))
    for sign in (1.0, -1.0):
        rows = np.full((64, 64), sign * 0.999 * 2.0**-53)
        rows[:, 0] = 1
        assert held(isa, [rows, np.eye(64)], relu, Box(-reach, reach))
        for layers in (2, 3, 5):
            assert held(isa, [rows] * layers, relu, point)
        rows[:, -1] = -1  # the first cancels
        assert held(isa, [rows, np.eye(64)[:1]], relu and sign > 0, point)


@pytest.mark.parametrize("isa", ISAS)
def test_sums_pay_for_their_offset(isa: str) -> None:
    for sign in (1.0, -1.0):
        point = np.full((1, 1), sign * 2.0**-55)
        assert held(isa, [np.ones((1, 1))] * 2, False, Box(point, point), 1.0)


@pytest.mark.parametrize("isa", ISAS)
def test_sums_pay_for_underflow(isa: str) -> None:
    """2⁻⁶⁰⁰ · 2⁻⁶⁰⁰ is 0 in float64, but not times what comes behind."""
    builder, node = Builder(Input(), (1,)), 0
    for weight in (2.0**-600, 2.0**-600, 2.0**500, 2.0**500):
        node = builder.add(Gemm(np.full((1, 1), weight)), node)
    net, box = builder.build(node), Box(np.ones((1, 1)), np.ones((1, 1)))
    with kernels.pinned(isa):
        lower, upper = ends(net, box)
    assert lower[0, 0] <= 2.0**-200 <= upper[0, 0]


@pytest.mark.parametrize("isa", ISAS)
def test_what_leaves_the_range_is_left_to_the_walk(isa: str) -> None:
    """Sums whose parts overflow, with ends that no sum of the numbers holds."""
    huge = np.full((1, 1), 1e200)
    for first in (huge, -huge):
        builder, node = Builder(Input(), (1,)), 0
        for weight in (first, huge, -np.ones((1, 1))):
            node = builder.add(Gemm(weight), node)
            node = builder.add(Relu(), node) if weight is huge else node
        net, box = builder.build(node), Box(np.ones((2, 1)), np.full((2, 1), 2.0))
        with kernels.pinned(isa):
            assert ends_abreast(net, box, lambda: None) is None
            found = bounds(net, box, method="ibp")
        truth = -np.inf if first is huge else 0.0
        assert (found.lower <= truth).all() and (found.upper >= truth).all()
    net = network(1)
    wide = Box(np.full((3, 3), -1.7e308), np.full((3, 3), 1.7e308))
    with kernels.pinned(isa):
        assert ends_abreast(net, wide, lambda: None) is None


@pytest.mark.parametrize("isa", ISAS)
def test_radii_that_leave_the_range_are_left_to_the_walk(isa: str) -> None:
    """A radius that overflows about a centre of 0, then meets a weight of 0: 0·∞, cut at 0."""
    first, last = [[2.0, 0.0], [1.0, 1.0], [0.0, 1.0]], [[0.0, 0.0, 0.0, 1.0]]
    for relu in (False, True):
        builder = Builder(Input(), (2,))
        node = builder.add(Gemm(np.array(first)), 0)
        node = builder.add(Gemm(np.array([[1.0, 1.0, 1.0]] * 3 + [[0.0, 1.0, 1.0]])), node)
        node = builder.add(Relu(), node) if relu else node
        net, reach = builder.build(builder.add(Gemm(np.array(last)), node)), [[1.7e308, 1.0]] * 8
        with kernels.pinned(isa):
            found = bounds(net, Box(-np.array(reach), np.array(reach)), method="ibp")
        # At (1e308, 1) it is 1e308 + 2.
        assert (found.lower <= (0.0 if relu else -1e308)).all() and (found.upper > 1e308).all()


def test_slots_are_read_before_they_are_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for together, zeros in product((1, 3, 1 << 20), (0.7, 0.0)):
        monkeypatch.setattr(passes, "_TOGETHER", together)
        net = network(8, zeros=zeros)
        form = dense_form.form_of(net, WIDE)
        assert form is not None
        sums = sums_of(net, form)
        assert sums is not None and len(sums.to) == sum(SIZES[1:])
        made: list[Any] = list(range(sums.inputs)) + [None] * (sums.slots - sums.inputs)
        for k, (to, kind) in enumerate(zip(sums.to, sums.kind, strict=True)):
            terms = slice(*sums.weight.starts[k : k + 2])
            value = sums.charge[k, 0]
            for place, weight in zip(
                sums.weight.places[terms], sums.weight.values[terms], strict=True
            ):
                value += weight * made[place]
            if kind == 2:
                assert abs(value - float(net_at(net)[to])) < 1e-9
            else:
                made[to] = value if kind else 2 * max(value, 0.0)


def net_at(net: Network) -> Any:
    """The outputs at 0, 1, 2, ..."""
    x = np.arange(float(net.nodes[0].size))
    for node in net.nodes[1:]:
        if isinstance(node.op, Gemm):
            x = node.op.weight.astype(float) @ x + (0 if node.op.bias is None else node.op.bias)
        else:
            x = np.maximum(x, 0)
    return x


def test_which_networks_have_boxes_abreast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_form, "_NARROW", 0)
    net, box = network(9), boxes(9, 2)
    assert ends_abreast(net, box, lambda: None) is not None
    with tuning.disabled("sparse_weights"):
        assert ends_abreast(net, box, lambda: None) is None
    with kernels.pinned("numpy"):
        assert ends_abreast(net, box, lambda: None) is None
    builder = Builder(Input(), (1,))
    tiny = builder.build(
        builder.add(
            Gemm(np.full((1, 1), 5e-324)),
            builder.add(Relu(), builder.add(Gemm(np.ones((1, 1))), 0)),
        )
    )
    assert ends_abreast(tiny, boxes(1, 1, 1), lambda: None) is None  # no number is half of it
    monkeypatch.setattr(dense_form, "_ONE_BY_ONE", 1e9)
    assert ends_abreast(network(9), box, lambda: None) is None


def test_sums_of_the_same_numbers_come_together() -> None:
    """Up to 4 of more than 4 terms, none of which takes a slot that they read."""
    for zeros in (0.7, 0.0):
        net = network(3, zeros=zeros)
        form = dense_form.form_of(net, WIDE)
        assert form is not None
        sums = sums_of(net, form)
        assert sums is not None
        reads = [tuple(part) for part in np.split(sums.weight.places, sums.weight.starts[1:-1])]
        rows = native.together(sums)
        for k in range(len(rows)):
            alike = 1
            while alike < 4 and k + alike < len(rows) and reads[k + alike] == reads[k]:
                alike += 1
            assert rows[k] == (alike if len(reads[k]) > 4 else 1)
        assert zeros > 0 or (rows == 4).sum() > sum(m - 3 for m in SIZES[2:]) - 1
        taken = [k for k, part in enumerate(reads) if len(part) > 4 and sums.kind[k] != 2]
        own = replace(sums, to=sums.to.copy())
        own.to[taken] = [reads[k][0] for k in taken]
        assert zeros > 0 or (rows[taken] > 1).any()
        assert taken and (native.together(own)[taken] == 1).all()


def test_narrow_networks_take_several_boxes_abreast(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, as node by node; one box, wider layers and smooth functions in other ways."""
    asked = []
    monkeypatch.setattr(passes, "ends_abreast", lambda *given: asked.append(given))
    monkeypatch.setattr(dense_form, "_ONE_BY_ONE", 1e9)  # no weight is of mostly zeros
    net = network(4, zeros=0.0)
    for count, fits in ((1, False), (4, False), (5, True)):
        bounds(net, boxes(4, count), method="ibp")
        assert bool(asked) == fits
    asked.clear()
    monkeypatch.setattr(dense_form, "_NARROW", 10)
    bounds(network(4, zeros=0.0), boxes(4, 9), method="ibp")
    builder, node = Builder(Input(), (3,)), 0
    for m, n in ((5, 3), (5, 5)):
        node = builder.add(Sigmoid(), builder.add(Gemm(np.ones((m, n), np.float32)), node))
    bounds(builder.build(node), boxes(4, 9), method="ibp")
    assert not asked


def test_sums_that_do_not_fit_are_refused() -> None:
    net = network(2)
    form = dense_form.form_of(net, WIDE)
    assert form is not None
    sums = sums_of(net, form)
    assert sums is not None and abreast(sums) is not None
    for bad in (
        replace(sums, to=sums.to + sums.slots),
        replace(sums, kind=sums.kind + np.uint8(3)),
        replace(sums, slots=1),
        replace(sums, charge=sums.charge[:-1]),
        replace(sums, weight=sums.weight._replace(width=1)),
    ):
        with pytest.raises(UsageError):
            abreast(bad)
    made, box = abreast(sums), boxes(2, 4)
    assert made is not None
    with pytest.raises(UsageError):
        made.ends(box.lower, box.upper, np.empty((2, 4, SIZES[-1])), (0, 5), 1)
