"""IBP of a whole network in one call of the C library: exact interval arithmetic judges."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from typing import Any

import flint
import numpy as np
import pytest
from flint import arb, fmpq
from msgspec.structs import replace

import gamma
from gamma import telemetry, tuning
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.ops import (
    Add,
    Conv,
    Elementwise,
    Elu,
    Erf,
    Exp,
    Gelu,
    Gemm,
    Input,
    Relu,
    Reshape,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
    Transpose,
)
from gamma.propagate import passes
from gamma.propagate.options import options_of
from gamma.tensor import kernels
from gamma.tensor.box import Box
from gamma.tensor.kernels.passes import PassNode, network_pass
from tests.exact.oracle import BITS, elementwise

ISAS = [name for name in kernels.available() if name != "numpy"]
pytestmark = pytest.mark.skipif(not ISAS, reason="no compiled library")


def conv(rng: Any, out: int, channels: int, k: int, stride: int, pad: int, **more: Any) -> Conv:
    """Weights of different sizes; every other one has a bias."""
    shape = (out, channels, k, k)
    weight = (rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 2, shape)).astype(np.float32)
    bias = rng.standard_normal(out).astype(np.float32) if out % 2 else None
    return Conv(weight, bias, (stride, stride), (pad,) * 4, **more)


def dense(rng: Any, out: int, n: int) -> Gemm:
    weight, bias = rng.standard_normal((out, n)), rng.standard_normal(out)
    return Gemm(weight.astype(np.float32), bias.astype(np.float32))


def residual(rng: Any) -> Network:
    """Two readers of one image with different pads, a sum of both, one of it with an older one."""
    made, x = Builder(Input(), (3, 6, 6)), 0
    a = made.add(Relu(), made.add(conv(rng, 9, 3, 3, 2, 1), x))
    left = made.add(conv(rng, 5, 9, 3, 1, 1), a)
    right = made.add(conv(rng, 5, 9, 1, 1, 0), a)
    b = made.add(Relu(), made.add(Add((1, -1)), left, right))
    c = made.add(conv(rng, 5, 5, 3, 1, 1), b)
    d = made.add(Relu(), made.add(Add((-1, 1)), c, b))
    return made.build(made.add(dense(rng, 3, 45), made.add(Reshape((45,)), d)))


def turned(rng: Any) -> Network:
    """Channels last in the file, before the first convolution and before the dense layers."""
    made = Builder(Input(), (5, 4, 2))
    x = made.add(Transpose((2, 0, 1)), 0)
    a = made.add(Relu(), made.add(conv(rng, 8, 2, 2, 1, 0), x))
    flat = made.add(Reshape((96,)), made.add(Transpose((1, 2, 0)), a))
    b = made.add(Relu(), made.add(dense(rng, 17, 96), flat))
    return made.build(made.add(dense(rng, 4, 17), b))


def grouped(rng: Any) -> Network:
    """Groups, a dilated kernel, windows beyond the pads; the output is an image behind a ReLU."""
    made, x = Builder(Input(), (4, 5, 7)), 0
    a = made.add(Relu(), made.add(conv(rng, 10, 2, 3, 1, 2, group=2, dilations=(2, 1)), x))
    return made.build(made.add(Relu(), made.add(conv(rng, 18, 5, 2, 2, 1, group=2), a)))


def layers(rng: Any) -> Network:
    """A dense layer longer than what meets a window at once, and an output that turns."""
    made = Builder(Input(), (3, 10, 10))
    a = made.add(Relu(), made.add(Reshape((300,)), made.add(conv(rng, 3, 3, 1, 1, 0), 0)))
    b = made.add(Reshape((3, 4)), made.add(dense(rng, 12, 300), a))
    return made.build(made.add(Transpose((1, 0)), b))


def sums(rng: Any) -> Network:
    """The input's own image is added; a sum is the output."""
    made, x = Builder(Input(), (3, 4, 4)), 0
    return made.build(made.add(Add((1, 1)), made.add(conv(rng, 3, 3, 3, 1, 1), x), x))


def flat(rng: Any) -> Network:
    """Dense layers alone, two of them with nothing between, of an input that is none's image."""
    made = Builder(Input(), (2, 3, 2))
    a = made.add(dense(rng, 9, 12), made.add(Reshape((12,)), 0))
    b = made.add(Relu(), made.add(dense(rng, 20, 9), a))
    return made.build(made.add(dense(rng, 4, 20), b))


def scattered(rng: Any) -> Network:
    """Few lines of any eight channels' weights are not 0: of groups, of long sums, of one term."""
    made = Builder(Input(), (4, 9, 9))
    first = conv(rng, 10, 2, 3, 1, 1, group=2)
    first.weight[:, rng.random((2, 3, 3)) < 0.8] = 0
    a = made.add(Relu(), made.add(Reshape((810,)), made.add(first, 0)))
    second, third = dense(rng, 20, 810), dense(rng, 4, 20)
    for panel in range(3):
        second.weight[8 * panel : 8 * panel + 8, rng.permutation(810)[4 * panel + 1 :]] = 0
    third.weight[:, 3:] = 0
    b = made.add(Relu(), made.add(second, a))
    return made.build(made.add(third, b))


def curved(rng: Any) -> Network:
    """Smooth functions behind convolutions, a sum and dense layers; channels fill no panel."""
    made, x = Builder(Input(), (3, 5, 5)), 0
    a = made.add(Sigmoid(), made.add(conv(rng, 9, 3, 3, 2, 1), x))
    b = made.add(Softplus(), made.add(conv(rng, 5, 9, 3, 1, 1), a))
    c = made.add(Silu(), made.add(conv(rng, 5, 9, 1, 1, 0), a))
    d = made.add(Tanh(), made.add(Add((1, -1)), b, c))
    e = made.add(Relu(), made.add(dense(rng, 11, 45), made.add(Reshape((45,)), d)))
    f = made.add(Gelu("tanh"), made.add(dense(rng, 10, 11), e))
    return made.build(made.add(Gelu(), made.add(dense(rng, 3, 10), f)))


def bent(rng: Any) -> Network:
    """Dense layers alone; the output is a function's."""
    made, x = Builder(Input(), (12,)), 0
    for op in (Sigmoid(), Silu(), Tanh(), Softplus(), Erf()):
        x = made.add(op, made.add(dense(rng, 12, 12), x))
    return made.build(made.add(Sigmoid(), made.add(dense(rng, 3, 12), x)))


MADE: tuple[Callable[[Any], Network], ...] = (
    *(residual, turned, grouped, layers, sums, flat),
    *(scattered, curved, bent),
)


def boxes(network: Network, rng: Any, count: int) -> Box:
    """Points, tiny and wide intervals."""
    size = (count, *network.input_shape)
    centre = rng.standard_normal(size) * 10.0 ** rng.integers(-2, 2, size)
    radius = rng.choice([0.0, 1e-9, 0.1, 3.0], size)
    radius[0] = 0
    return Box(centre - radius, centre + radius)


def image(row: Any, positive: Any, negative: Any) -> Fraction:
    """The least of row·x, or the greatest, with the end that each sign takes."""
    some = np.flatnonzero(row)
    return sum((Fraction(row[j]) * (positive if row[j] > 0 else negative)[j] for j in some), _ZERO)


_ZERO = Fraction(0)


def fraction(value: Any) -> Fraction:
    """The middle of a ball, as near as no bound is."""
    mantissa, exponent = value.mid().man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def values(op: Any, x: Any) -> Any:
    balls = elementwise(op, np.array([fmpq(v.numerator, v.denominator) for v in x], object))
    return np.array([fraction(v if isinstance(v, arb) else arb(v)) for v in balls], object)


def images(op: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """A smooth function's, least at its one stationary point or at an end."""
    previous, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        first, last = values(op, low), values(op, high)
        least = np.minimum(first, last)
        for point in map(Fraction, op.stationary):
            inside = (low < point) & (point < high)
            least = np.where(inside, values(op, [point])[0], least)
    finally:
        flint.ctx.prec = previous
    return least, np.maximum(first, last)


def exact(network: Network, lower: Any, upper: Any) -> tuple[Any, Any]:
    """Interval arithmetic in fractions, node by node, over one box; of functions to 400 bits."""
    fractions = np.vectorize(Fraction, otypes=[object])
    known = [(fractions(lower.ravel()), fractions(upper.ravel()))]
    for node in network.nodes[1:]:
        inputs = [known[i] for i in node.inputs]
        if isinstance(node.op, Relu):
            known.append((np.maximum(inputs[0][0], 0), np.maximum(inputs[0][1], 0)))
            continue
        if isinstance(node.op, Elementwise):
            known.append(images(node.op, *inputs[0]))
            continue
        low = high = np.full(node.size, Fraction(0), object)
        shapes = [network.nodes[i].shape for i in node.inputs]
        for k, (below, above) in enumerate(inputs):
            # Entries of L are read off one by one: products with 1 are exact.
            unit = [np.zeros((len(below), *shape)) for shape in shapes]
            unit[k].reshape(len(below), -1)[:] = np.eye(len(below))
            matrix = node.op.linear(unit).reshape(len(below), -1).T
            low = low + np.array([image(row, below, above) for row in matrix])
            high = high + np.array([image(row, above, below) for row in matrix])
        offset = node.op.offset()
        if offset is not None:
            added = fractions(np.broadcast_to(offset, node.shape).astype(np.float64).ravel())
            low, high = low + added, high + added
        known.append((low, high))
    return known[-1]


def ends(network: Network, box: Box) -> Any:
    return passes.output_ends(network, box, options_of(network, "ibp", "real", "float64", None))


@pytest.mark.parametrize("make", MADE)
def test_encloses_exact_intervals(make: Any) -> None:
    rng = np.random.default_rng(3)
    network = make(rng)
    box = boxes(network, rng, 5)
    truth = {b: exact(network, box.lower[b], box.upper[b]) for b in (0, 4)}
    for isa in ISAS:
        with kernels.pinned(isa):
            found = ends(network, box)
            assert found is not None
            with tuning.disabled("fused_pass"):
                plain = gamma.bounds(network, box, method="ibp", dtype="float64")
        for b, (low, high) in truth.items():
            pairs = zip(found[0][b].ravel(), found[1][b].ravel(), low, high, strict=True)
            assert all(Fraction(f) <= a and c <= Fraction(t) for f, t, a, c in pairs)
        slack = 1e-11 * (1 + abs(plain.lower) + abs(plain.upper))
        assert (abs(found[0] - plain.lower) <= slack).all()
        assert (abs(found[1] - plain.upper) <= slack).all()


@pytest.mark.parametrize("make", (residual, layers))
def test_boxes_do_not_depend_on_each_other(make: Any) -> None:
    """The same bits alone, in turns of any length, and on several threads."""
    rng = np.random.default_rng(5)
    network = make(rng)
    box = boxes(network, rng, 70)
    found = ends(network, box)
    assert found is not None
    for first in (0, 33, 69):
        alone = ends(network, box.slice(first, first + 1))
        assert alone is not None
        assert (alone[0][0] == found[0][first]).all() and (alone[1][0] == found[1][first]).all()


def test_threads_at_once() -> None:
    """Calls of other threads have memory of their own: each finds what it finds alone."""
    rng = np.random.default_rng(8)
    network = residual(rng)
    many = [boxes(network, rng, 40) for _ in range(4)]
    expected = [ends(network, box) for box in many]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            found = list(pool.map(partial(ends, network), many))
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_what_a_call_of_bounds_takes() -> None:
    """The output's ends in the rows' type, of one box without a batch axis too."""
    rng = np.random.default_rng(7)
    network = residual(rng)
    box = boxes(network, rng, 1)
    found, called = ends(network, box), gamma.bounds(network, box.slice(0, 1), method="ibp")
    assert found is not None
    assert (called.lower <= found[0]).all() and (found[1] <= called.upper).all()
    assert (called.lower >= np.nextafter(found[0].astype(np.float32), -np.inf) * (1 + 1e-6)).any()
    single = gamma.bounds(network, Box(box.lower[0], box.upper[0]), method="ibp")
    assert single.lower.shape == (3,)


def smooth(rng: Any, op: Any) -> Network:
    made = Builder(Input(), (2, 2, 2))
    return made.build(made.add(op, made.add(conv(rng, 3, 2, 1, 1, 0), 0)))


def foreign(rng: Any) -> Network:
    """A function that the C library does not have."""
    return smooth(rng, Elu())


def steep(rng: Any) -> Network:
    """One that leaves the range of float32."""
    return smooth(rng, Exp())


def shared(rng: Any) -> Network:
    """A ReLU's input that something else reads as well."""
    made = Builder(Input(), (2, 2, 2))
    a = made.add(conv(rng, 3, 2, 1, 1, 0), 0)
    return made.build(made.add(Add((1, 1)), made.add(Relu(), a), a))


def added(_: Any) -> Network:
    """Nothing is multiplied."""
    made = Builder(Input(), (2, 2, 2))
    return made.build(made.add(Relu(), made.add(Add((1, 1)), 0, 0)))


def twice(rng: Any) -> Network:
    """Two activations, one after the other."""
    made = Builder(Input(), (2, 2, 2))
    a = made.add(Sigmoid(), made.add(conv(rng, 3, 2, 1, 1, 0), 0))
    return made.build(made.add(Tanh(), a))


@pytest.mark.parametrize("make", (foreign, steep, shared, added, twice))
def test_other_networks_go_node_by_node(make: Any) -> None:
    network = make(np.random.default_rng(0))
    box = Box(np.zeros((1, 2, 2, 2)), np.ones((1, 2, 2, 2)))
    assert ends(network, box) is None
    assert np.isfinite(gamma.bounds(network, box, method="ibp").upper).all()


def test_other_questions_go_node_by_node() -> None:
    rng = np.random.default_rng(0)
    network = residual(rng)
    box = boxes(network, rng, 1)
    for method, guarantee in (("crown", "real"), ("ibp", "float32")):
        options = options_of(network, method, guarantee, "float64", None)
        assert passes.output_ends(network, box, options) is None
    with tuning.disabled("fused_pass"):
        assert ends(network, box) is None


def test_arguments_that_do_not_fit() -> None:
    """Sizes are checked before C reads them."""
    point = PassNode((2, 1, 1))
    weight, row_sum = np.zeros((1, 1, 1, 1, 2, 8)), np.zeros((1, 1, 1, 1, 8))
    node = PassNode((3, 1, 1), (0,), weight=weight, row_sum=row_sum)
    assert network_pass((point, node), (1, 1)) is not None
    for wrong in (
        replace(node, weight=weight[..., :1, :]),
        replace(node, shape=(9, 1, 1)),
        replace(node, row_sum=row_sum[..., :7]),
        replace(node, bias=np.zeros((1, 1, 7))),
        replace(node, sources=(1,)),
        replace(node, sources=(0, 0)),
        replace(node, frame=kernels.Frame((1, 1, 1, 1, 1, 1), -1, 0)),
    ):
        with pytest.raises(UsageError, match="kernel argument"):
            network_pass((point, wrong), (1, 1))
    with pytest.raises(UsageError, match="steps"):
        network_pass((point, node), (2, 1))
    made = network_pass((point, node), (1, 1))
    assert made is not None
    with pytest.raises(UsageError, match="span"):
        made.run(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((2, 1, 3)), (0, 2), (1, 1))


def test_a_recording_names_the_call() -> None:
    network = layers(np.random.default_rng(3))
    box = boxes(network, np.random.default_rng(4), 2)
    with telemetry.recording() as recorder:
        gamma.bounds(network, box, method="ibp")
    assert [(s.name, s.counts) for s in recorder.spans if s.name != "bounds"] == [
        ("ibp.network", {"boxes": 2})
    ]
    with tuning.disabled("fused_pass"), telemetry.recording() as recorder:
        gamma.bounds(network, box, method="ibp")
    assert {"ibp.node.conv", "ibp.node.gemm"} <= {span.name for span in recorder.spans}
