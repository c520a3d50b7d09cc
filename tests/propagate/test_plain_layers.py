"""CROWN in one C call of networks with dense layers one behind the other, or of mostly zeros."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.ops import Gemm, Input, Relu, Sigmoid, Silu, Tanh
from gamma.propagate import bounds, dense, dense_form
from gamma.propagate.dense import dense_network
from gamma.propagate.domain import Domain
from gamma.propagate.options import Options
from gamma.propagate.walks import walk
from gamma.runtime import workers
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.propagate.test_dense_walk import check_points, close, exact_ends

pytestmark = pytest.mark.skipif(kernels.isa == "numpy", reason="no compiled library")
SIZES = (6, 20, 37, 70, 31, 40, 19, 5)
# Layers behind which no activation comes.
PLAIN = (0, 2, 3)
ISAS = [name for name in kernels.available() if name != "numpy"]


@pytest.fixture(params=(False, True), ids=("dense", "zeros"))
def zeros(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether networks have many zeros, and rows skip them."""
    few: bool = request.param
    monkeypatch.setattr(dense_form, "_ONE_BY_ONE", 0.0 if few else 1e9)
    return few


def network(seed: int, zeros: bool, relu: Any = Relu, dtype: type = np.float32) -> Network:
    rng = np.random.default_rng(seed)
    builder, node = Builder(Input(), SIZES[:1]), 0
    for k, (n, m) in enumerate(zip(SIZES, SIZES[1:], strict=False)):
        weight = (rng.standard_normal((m, n)) / np.sqrt(n)).astype(dtype)
        if zeros:
            weight[rng.random(weight.shape) < 0.7] = 0
        bias = (rng.standard_normal(m) * 0.3 - 0.1).astype(dtype) if k != 1 else None
        node = builder.add(Gemm(weight, bias), node)
        if k not in PLAIN and k < len(SIZES) - 2:
            kinds = relu if isinstance(relu, tuple) else (relu,)
            node = builder.add(kinds[k % len(kinds)](), node)
    return builder.build(node)


def boxes(seed: int, count: int) -> Box:
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((count, SIZES[0]))
    radius = rng.choice([0.0, 1e-9, 0.1, 0.5], centre.shape)
    return Box(centre - radius, centre + radius)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("method", ("crown", "crown-ibp", "ibp"))
@pytest.mark.parametrize("kind", (Relu, Sigmoid, (Tanh, Relu), (Relu, Silu)))
def test_one_call_is_the_general_walk(
    zeros: bool, isa: str, dtype: str, method: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the same lines: those of the one call lean."""
    monkeypatch.setattr(dense, "LEAN", (0.0, 0.0))
    net, box = network(3, zeros, kind), boxes(3, 3)
    form = dense_form.form_of(net, np.dtype(dtype))
    assert form is not None and form.sparse == zeros and form.nodes[0] == 1
    # Which rows serve both ends is decided layer by layer in the one call.
    with kernels.pinned(isa), tuning.disabled("parallel_lines"):
        one = bounds(net, box, method=method, dtype=dtype, intermediate=True)
        with tuning.disabled("fused_network", "fused_walk", "sparse_weights"):
            plain = bounds(net, box, method=method, dtype=dtype, intermediate=True)
    assert one.keys() == plain.keys()
    for name, known in plain.items():
        assert close(one[name], known, dtype), name


@pytest.mark.parametrize("kind", (Relu, Tanh))
def test_neither_batch_nor_threads_change_a_bit(zeros: bool, kind: Any) -> None:
    net, box = network(4, zeros, kind), boxes(4, 33)
    together, every = bounds(net, box), bounds(net, box, intermediate=True)
    for threads in (1, 3):
        with workers.limited(threads):
            other = bounds(net, box, intermediate=True)
        for name, known in every.items():
            assert (other[name].lower == known.lower).all()
            assert (other[name].upper == known.upper).all()
    for b in range(0, 33, 8):
        alone = bounds(net, box.slice(b, b + 1))
        assert (alone.lower == together.lower[b]).all()
        assert (alone.upper == together.upper[b]).all()


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_known_ends_of_any_layer_are_met(zeros: bool, dtype: str) -> None:
    net, whole = network(6, zeros), boxes(6, 4)
    options = Options(dtype=np.dtype(dtype))
    form = dense_form.form_of(net, np.dtype(dtype))
    assert form is not None
    known = walk(net, whole, options).bounds
    part = Box(whole.lower, whole.lower + (whole.upper - whole.lower) / 2)
    facts = {index: (known[index].lower, known[index].upper) for index in form.nodes[1:-1]}
    made = walk(net, Domain(part, facts), options)
    with tuning.disabled("fused_network", "fused_walk"):
        plain = walk(net, Domain(part, facts), options)
    assert made._walked is not None and plain._walked is None
    for walked in (made, plain):
        walked.output()
    for a, b in zip(made.bounds, plain.bounds, strict=True):
        assert close(a, b, dtype)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("method", ("crown", "crown-ibp", "alpha"))
def test_bounds_hold_exact_values(zeros: bool, dtype: str, method: str) -> None:
    net, box = network(7, zeros), boxes(7, 3)
    found = bounds(net, box, method=method, dtype=dtype, intermediate=True)
    check_points(net, box, found)


def far_from_zero(rng: np.random.Generator, zeros: bool, active: bool) -> tuple[Builder, int]:
    """Two layers of 4 inputs, whose ReLUs, if there are any, are active: a linear network."""
    builder, node = Builder(Input(), (4,)), 0
    for m, n, shift in ((21, 4, 1e3), (17, 21, 1e5)):
        weight = rng.uniform(-1, 1, (m, n)).astype(np.float32)
        if zeros:
            weight[rng.random(weight.shape) < 0.3] = 0
        node = builder.add(Gemm(weight, np.full(m, shift, np.float32)), node)
        if active:
            node = builder.add(Relu(), node)
    return builder, node


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("active", (False, True))
def test_rows_pay_for_their_products(zeros: bool, dtype: type, active: bool) -> None:
    """A linear network's exact range lies inside, with ReLUs that are active or with none."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        builder, node = far_from_zero(rng, zeros, active)
        node = builder.add(Gemm(rng.uniform(-1, 1, (6, 17)).astype(np.float32)), node)
        net, box = builder.build(node), Box(np.full((1, 4), -1.0), np.full((1, 4), 1.0))
        made = walk(net, box, Options(dtype=np.dtype(dtype)))
        assert made._walked is not None
        found = made.output()
        low, high = exact_ends(net, box)
        for k in range(6):
            assert Fraction(float(found.lower[0, k])) <= low[k]
            assert high[k] <= Fraction(float(found.upper[0, k]))


def test_rows_pay_for_what_products_lose_below_the_range(zeros: bool) -> None:
    """2⁻⁸⁰ · 2⁻⁸⁰ is 0 in float32, but not times an input of 2⁶⁰."""
    builder, node, small = Builder(Input(), (1,)), 0, np.full((1, 1), 2.0**-80, np.float32)
    for _ in range(2):
        node = builder.add(Gemm(small), node)
    net, box = builder.build(node), Box(np.full((1, 1), -(2.0**60)), np.full((1, 1), 2.0**60))
    made = walk(net, box, Options(dtype=np.dtype(np.float32)))
    found = made.output()
    assert made._walked is not None
    assert found.lower[0, 0] <= -(2.0**-100) and found.upper[0, 0] >= 2.0**-100


def test_layers_of_another_kind_are_refused(zeros: bool) -> None:
    net = network(1, zeros)
    made = dense_network(net, np.dtype(np.float32))
    assert made is not None
    layers = list(made.layers.layers)
    rows = np.zeros((20, 16), np.float32)
    other = kernels.Sparse(np.zeros(21, np.int64), np.zeros(0, np.int32), rows[0, :0], 6)
    bad = kernels.DenseLayer(
        layers[0].stored, rows if zeros else other, None, layers[0].row_sum, layers[0].factors
    )
    for mixed in ([bad, *layers[1:]], [*layers[1:2], layers[0]]):
        with pytest.raises(UsageError, match="dense layer"):
            kernels.dense_network(mixed, np.dtype(np.float32))


def test_which_networks_skip_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees do, random ones of as few entries do not: their rows soon meet every neuron."""

    def sparse(weights: list[Any]) -> bool:
        builder, node = Builder(Input(), weights[0].shape[1:]), 0
        for weight in weights:
            node = builder.add(Gemm(weight.astype(np.float32)), node)
        form = dense_form.form_of(builder.build(node), np.dtype(np.float32))
        assert form is not None
        return form.sparse

    tree = [np.kron(np.eye(1 << k), np.ones((1, 2))) for k in range(7, -1, -1)]
    assert sparse(tree)
    rng = np.random.default_rng(0)
    pruned = [np.where(rng.random((128, 128)) < 0.1, 1.0, 0.0) for _ in range(8)]
    assert not sparse(pruned)
    with tuning.disabled("sparse_weights"):
        assert not sparse(tree)
    full = [np.ones((256, 2)), *tree]
    assert sparse(full)  # a small weight without zeros changes nothing
    monkeypatch.setattr(dense_form, "_LARGE", 256)
    assert not sparse(full)
