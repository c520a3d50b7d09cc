"""CROWN over dense networks in one C call, and rows down a chain, against the general walk."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.errors import ResourceError, UsageError
from gamma.network.graph import Builder, Network
from gamma.ops import Exp, Gelu, Gemm, Input, Relu, Reshape, Sigmoid, Silu, Sin, Tanh
from gamma.propagate import bounds, dense
from gamma.propagate.dense import dense_network
from gamma.propagate.domain import Domain
from gamma.propagate.options import Options
from gamma.propagate.walks import walk
from gamma.runtime import workers
from gamma.tensor import kernels
from gamma.tensor.box import Box

compiled = pytest.mark.skipif(kernels.isa == "numpy", reason="no compiled library")
SIZES = (6, 37, 70, 19, 5)


def network(
    seed: int, sizes: tuple[int, ...] = SIZES, dtype: type = np.float32, relu: Any = Relu
) -> Network:
    rng = np.random.default_rng(seed)
    builder = Builder(Input(), (2, sizes[0] // 2))
    node = builder.add(Reshape((sizes[0],)), 0)
    for k, (n, m) in enumerate(zip(sizes, sizes[1:], strict=False)):
        weight = (rng.standard_normal((m, n)) / np.sqrt(n)).astype(dtype)
        bias = (rng.standard_normal(m) * 0.3 - 0.2).astype(dtype) if k != 1 else None
        node = builder.add(Gemm(weight, bias), node)
        if k < len(sizes) - 2:
            kinds = relu if isinstance(relu, tuple) else (relu,)
            node = builder.add(kinds[k % len(kinds)](), node)
    return builder.build(node)


def boxes(seed: int, count: int, inputs: int = SIZES[0]) -> Box:
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((count, 2, inputs // 2))
    radius = rng.choice([0.0, 1e-9, 0.1, 0.5], centre.shape)
    return Box(centre - radius, centre + radius)


def close(a: Any, b: Any, dtype: Any) -> bool:
    """Within a few hundred roundings of the walk's dtype: the order of sums is all that differs."""
    unit = 2.0**-24 if dtype == "float32" else 2.0**-53
    low, high = np.asarray(b.lower, np.float64), np.asarray(b.upper, np.float64)
    slack = 500 * unit * (1 + abs(low).max() + abs(high).max())
    below = abs(np.asarray(a.lower, np.float64) - low)
    above = abs(np.asarray(a.upper, np.float64) - high)
    return bool((below <= slack).all() and (above <= slack).all())


@compiled
@pytest.mark.parametrize("gates", (("fused_network",), ("fused_network", "compress")))
@pytest.mark.parametrize("isa", [name for name in kernels.available() if name != "numpy"])
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("count", (1, 5))
@pytest.mark.parametrize("kind", (Relu, Sigmoid, Tanh, Gelu, (Silu, Relu), (Relu, Exp)))
def test_the_walk_in_one_call_is_the_general_walk(
    gates: tuple[str, ...], isa: str, dtype: str, count: int, kind: Any, monkeypatch: Any
) -> None:
    """Between the same lines: those of the one call lean."""
    monkeypatch.setattr(dense, "LEAN", (0.0, 0.0))
    net, box = network(count, relu=kind), boxes(count, count)
    if kind is not Relu:  # which rows serve both ends is decided layer by layer in the one call
        gates = (*gates, "parallel_lines")
    with kernels.pinned(isa):
        with tuning.disabled(*gates[1:]):
            one = bounds(net, box, dtype=dtype, intermediate=True)
        with tuning.disabled(*gates):
            chained = bounds(net, box, dtype=dtype, intermediate=True)
        with tuning.disabled(*gates, "fused_walk"):
            plain = bounds(net, box, dtype=dtype, intermediate=True)
    assert one.keys() == plain.keys()
    for name in plain:
        assert close(one[name], plain[name], dtype), name
        assert close(chained[name], plain[name], dtype), name


@compiled
def test_boxes_of_a_batch_are_walked_alone() -> None:
    """A box's bounds have the same bits alone and in a batch."""
    net, box = network(3), boxes(3, 7)
    together = bounds(net, box)
    for b in range(7):
        alone = bounds(net, box.slice(b, b + 1))
        assert (alone.lower == together.lower[b]).all()
        assert (alone.upper == together.upper[b]).all()


@compiled
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("kind", (Relu, Sigmoid, Tanh))
def test_threads_inside_the_call_change_no_bit(kind: Any, dtype: str) -> None:
    net, box = network(8, (6, 300, 290, 9), relu=kind), boxes(8, 2)
    assert sum(getattr(node.op, "weight", np.zeros(0)).size for node in net.nodes) > 1 << 16
    found = []
    for threads in (1, 2, 5):
        with workers.limited(threads):
            found.append(bounds(net, box, dtype=dtype, intermediate=True))
    with tuning.disabled("shared_calls"):
        found.append(bounds(net, box, dtype=dtype, intermediate=True))
    for other in found[1:]:
        for name, known in found[0].items():
            assert (other[name].lower == known.lower).all()
            assert (other[name].upper == known.upper).all()


@compiled
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("kind", (Relu, (Tanh, Relu)))
def test_threads_that_share_boxes_change_no_bit(
    kind: Any, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gamma.propagate.dense._SHARED_OPERATIONS", 0.0)
    net, box = network(9, relu=kind), boxes(9, 33)
    options = Options(dtype=np.dtype(dtype))
    found = []
    for threads in (1, 2, 5):
        with workers.limited(threads):
            walked = walk(net, box, options)
            walked.output()
        assert walked._walked is not None
        found.append(walked._walked)
    assert found[0].rows.sum() > 0
    for other in found[1:]:
        for a, b in zip(other.bounds, found[0].bounds, strict=True):
            assert (a.lower == b.lower).all() and (a.upper == b.upper).all()
        assert (other.rows == found[0].rows).all() and (other.seconds > 0).all()


def check_points(net: Network, box: Box, found: Any) -> None:
    """Values of every node named in ``found``, in fractions, at corners and within: inside."""
    rng = np.random.default_rng(0)
    for b in range(len(box.lower)):
        for corner in (0.0, 1.0, None):
            t = rng.random(box.lower[b].shape) if corner is None else corner
            x = box.lower[b] + t * (box.upper[b] - box.lower[b])
            x = np.clip(x, box.lower[b], box.upper[b])
            values = [Fraction(v) for v in x.ravel().tolist()]
            for node in net.nodes[1:]:
                if isinstance(node.op, Gemm):
                    bias = node.op.bias if node.op.bias is not None else np.zeros(node.size)
                    values = [
                        sum((Fraction(float(w)) * v for w, v in zip(row, values, strict=True)), c)
                        for row, c in zip(node.op.weight, map(Fraction, bias.tolist()), strict=True)
                    ]
                elif isinstance(node.op, Relu):
                    values = [max(v, Fraction(0)) for v in values]
                known = found[node.name]
                for k, v in enumerate(values):
                    assert Fraction(float(known.lower[b, k])) <= v
                    assert v <= Fraction(float(known.upper[b, k]))


@compiled
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_bounds_hold_at_exact_points(dtype: str) -> None:
    net, box = network(4, (4, 9, 8, 3)), boxes(4, 3, 4)
    found = bounds(net, box, dtype=dtype, intermediate=True)
    check_points(net, box, found)


@compiled
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_known_ends_are_met(dtype: str) -> None:
    """Parts of boxes with some of what was proved on the whole: as in the general walk."""
    net, whole = network(6), boxes(6, 4)
    options = Options(dtype=np.dtype(dtype))
    known = walk(net, whole, options).bounds
    part = Box(whole.lower, whole.lower + (whole.upper - whole.lower) / 2)
    facts = {
        index: (
            np.where(known[index].lower > 0, known[index].lower, -np.inf),
            np.where(known[index].upper < 0, known[index].upper, np.inf),
        )
        for index in (4, 6)
    }
    made, without = walk(net, Domain(part, facts), options), walk(net, part, options)
    assert made._walked is not None and "Gemm" == net.nodes[6].op.name
    assert sum(made.unstable.values()) < sum(without.unstable.values())
    with tuning.disabled("fused_network", "fused_walk"):
        plain = walk(net, Domain(part, facts), options)
    assert plain._walked is None
    for walked in (made, plain):
        walked.output()
    for a, b in zip(made.bounds, plain.bounds, strict=True):
        assert close(a, b, dtype)


@compiled
def test_which_networks_take_the_one_call() -> None:
    single = np.dtype(np.float32)
    assert dense_network(network(1), single) is not None
    assert dense_network(network(1, relu=(Relu, Sigmoid)), single) is not None
    assert dense_network(network(1, relu=Sin), single) is None  # no curve of the library
    assert dense_network(network(1, dtype=np.float64), single) is None  # weights are not float32
    assert dense_network(network(1, dtype=np.float64), np.dtype(np.float64)) is not None
    net = network(2)
    assert dense_network(net, single) is dense_network(net, single)
    made = walk(net, boxes(1, 2), Options())
    assert made._walked is not None and made.unstable and all(made.seconds.values())
    for gate in ("fused_network", "fused_layers", "unstable", "fused_charge"):
        with tuning.disabled(gate):
            assert walk(net, boxes(1, 2), Options())._walked is None
    with kernels.pinned("numpy"):
        assert walk(net, boxes(1, 2), Options())._walked is None
    smooth = network(1, relu=(Relu, Tanh))
    with tuning.disabled("fused_lines"):
        assert walk(net, boxes(1, 2), Options())._walked is not None
        assert walk(smooth, boxes(1, 2), Options())._walked is None


@compiled
def test_the_clock_is_looked_at() -> None:
    with pytest.raises(ResourceError):
        bounds(network(2), boxes(2, 2), deadline=0.0)


@compiled
@pytest.mark.parametrize("relu", (Sigmoid, Relu))
def test_a_chain_is_used_and_counts_for_nothing_else(relu: Any) -> None:
    """Rows of the general walk over any elementwise operator go down in one call."""
    net, box = network(5, relu=relu), boxes(5, 3)
    with tuning.disabled("fused_network"):
        made = walk(net, box, Options())
        assert made.descent.chain is not None and made.descent.chain._chain is not None
        with tuning.disabled("fused_walk"):
            plain = walk(net, box, Options())
            assert plain.descent.chain is not None and plain.descent.chain._chain is None
        made.output()
        plain.output()
    for a, b in zip(made.bounds, plain.bounds, strict=True):
        assert close(a, b, "float32")


@compiled
def test_steps_that_do_not_fit_are_refused() -> None:
    single = np.dtype(np.float32)
    chain = kernels.chain(3, 1, single)
    assert chain is not None
    chain.pay(0, 4, np.zeros((1, 4)), None)
    chain.pay(1, 3, None, None)
    with pytest.raises(UsageError, match="64 bytes"):
        chain.product(1, np.zeros((3, 4), np.float32), 4)
    with pytest.raises(UsageError, match="float64"):
        chain.product(1, np.zeros((3, 16)), 4)
    with pytest.raises(UsageError, match="entries"):
        chain.pay(2, 3, np.zeros((1, 4)), None)
    chain.product(1, np.zeros((3, 16), np.float32), 5)  # step 0 takes 4 entries
    rows, d, box = np.zeros((2, 3), np.float32), np.zeros(2), np.zeros(2, np.int64)
    with pytest.raises(Exception, match="do not meet"):
        chain.run(1, rows, d, box, 1 << 16)
    with pytest.raises(UsageError, match="columns"):
        chain.run(0, rows, d, box, 1 << 16)
    chain.product(1, np.zeros((3, 16), np.float32), 4)
    with pytest.raises(UsageError, match="indices"):
        chain.run(1, rows, d, np.ones(2, np.int64), 1 << 16)
    chain.run(1, rows, d, box, 1 << 16)
    assert (abs(d) < 1e-250).all()


@compiled
@pytest.mark.parametrize("isa", [name for name in kernels.available() if name != "numpy"])
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("shape", ((1, 1, 1), (3, 7, 5), (9, 33, 49), (70, 50, 100), (17, 16, 33)))
def test_products_are_within_their_charge(
    isa: str, dtype: type, shape: tuple[int, int, int]
) -> None:
    """Every size of tile: |computed - exact| <= γ_k |A||W|, read off the concretised rows."""
    rows, k, n = shape
    kind = np.dtype(dtype)
    rng = np.random.default_rng(rows)
    A = rng.standard_normal((rows, k)).astype(kind)
    W = np.zeros((k, kernels.padded(n, kind)), kind)
    W[:, :n] = rng.standard_normal((k, n))
    with kernels.pinned(isa):
        for j in range(n):
            chain = kernels.chain(2, 1, kind)
            assert chain is not None
            pick = np.zeros((1, n))
            pick[0, j] = 1
            chain.pay(0, n, pick, None)
            chain.pay(1, k, None, None)
            chain.product(1, W, n)
            d = np.zeros(rows)
            chain.run(1, A.copy(), d, np.zeros(rows, np.int64), 1 << 12)
            exact = A.astype(np.float64) @ W[:, j].astype(np.float64)
            size = abs(A.astype(np.float64)) @ abs(W[:, j].astype(np.float64))
            unit = 2.0**-24 if kind == np.float32 else 2.0**-53
            assert (
                abs(-d - abs(exact))
                <= (k + 2) * unit * 1.01 * size + 2.0**-49 * abs(exact) + 1e-300
            ).all()


def exact_ends(net: Network, box: Box) -> tuple[list[Fraction], list[Fraction]]:
    """Exact range of the outputs over box 0 when every ReLU is active: the network is linear."""
    layers = [node.op for node in net.nodes if isinstance(node.op, Gemm)]
    rows = [[Fraction(float(w)) for w in row] for row in layers[-1].weight]
    shift = [Fraction(0)] * len(rows)
    for after, op in zip(layers[::-1], layers[-2::-1], strict=False):
        del after
        assert op.bias is not None
        bias = [Fraction(float(b)) for b in op.bias]
        shift = [
            s + sum((a * b for a, b in zip(r, bias, strict=True)), Fraction(0))
            for s, r in zip(shift, rows, strict=True)
        ]
        columns = [[Fraction(float(w)) for w in op.weight[:, j]] for j in range(op.weight.shape[1])]
        rows = [
            [sum((a * w for a, w in zip(r, c, strict=True)), Fraction(0)) for c in columns]
            for r in rows
        ]
    low, high = ([Fraction(v) for v in e[0].ravel().tolist()] for e in (box.lower, box.upper))
    ends = []
    for sign in (1, -1):
        ends.append(
            [
                s
                + sum(
                    (
                        a * (x if (a > 0) == (sign > 0) else y)
                        for a, x, y in zip(r, low, high, strict=True)
                    ),
                    Fraction(0),
                )
                for s, r in zip(shift, rows, strict=True)
            ]
        )
    return ends[0], ends[1]


@compiled
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("gates", ((), ("fused_network",)))
def test_rows_pay_for_their_products(dtype: type, gates: tuple[str, ...]) -> None:
    """A linear network's exact range lies inside, although products of rows round."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        builder, node = Builder(Input(), (2, 2)), 1
        builder.add(Reshape((4,)), 0)
        for m, n, shift in ((21, 4, 1e3), (17, 21, 1e5)):
            weight = rng.uniform(-1, 1, (m, n)).astype(np.float32)
            node = builder.add(Gemm(weight, np.full(m, shift, np.float32)), node)
            node = builder.add(Relu(), node)
        node = builder.add(Gemm(rng.uniform(-1, 1, (6, 17)).astype(np.float32)), node)
        net, box = builder.build(node), Box(np.full((1, 2, 2), -1.0), np.full((1, 2, 2), 1.0))
        with tuning.disabled(*gates):
            made = walk(net, box, Options(dtype=np.dtype(dtype)))
            assert (made._walked is None) == bool(gates)
            found = made.output()
        lower, upper = found.lower, found.upper
        low, high = exact_ends(net, box)
        for k in range(6):
            assert Fraction(float(lower[0, k])) <= low[k]
            assert high[k] <= Fraction(float(upper[0, k]))


@compiled
@pytest.mark.parametrize("gates", ((), ("fused_network",)))
def test_a_row_pays_for_its_centre(gates: tuple[str, ...]) -> None:
    """The last layer's sum drops thousands of small terms; the output's row must know."""
    count = 1 << 14
    builder = Builder(Input(), (1,))
    node = builder.add(Gemm(np.ones((count, 1), np.float32)), 0)
    node = builder.add(Relu(), node)
    last = np.full((2, count), 2.0**-54, np.float32)
    last[:, 0] = 1
    last[1] *= -1
    net = builder.build(builder.add(Gemm(last), node))
    exact = Fraction(1) + (count - 1) * Fraction(2) ** -54
    with tuning.disabled(*gates):
        made = walk(net, Box(np.ones((1, 1)), np.ones((1, 1))), Options(dtype=np.dtype(np.float64)))
        if gates:  # a point needs no rows: ask for them all the same
            lower, upper = made.neuron_bounds(3, np.zeros(2, np.int64), np.arange(2))
            lower, upper = lower[None], upper[None]
        else:
            found = made.output()
            lower, upper = found.lower, found.upper
    assert Fraction(float(lower[0, 0])) <= exact <= Fraction(float(upper[0, 0]))
    assert Fraction(float(lower[0, 1])) <= -exact <= Fraction(float(upper[0, 1]))
