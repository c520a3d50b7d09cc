"""The one-call steps of dense networks against the generic rules they replace."""

from __future__ import annotations

import numpy as np
import pytest

from gamma import tuning
from gamma.network.graph import Builder, Network
from gamma.ops import Conv, Gemm, Input, Relu, Reshape
from gamma.ops.charges import linear_charge
from gamma.ops.tables import Precision, diagonal
from gamma.propagate import bounds
from gamma.propagate.interval import interval_pass
from gamma.tensor import kernels
from gamma.tensor.box import Box


def network(seed: int, dtype: type, scale: float = 1.0) -> Network:
    rng = np.random.default_rng(seed)
    builder = Builder(Input(), (7,))
    node = 0
    for k, (m, n) in enumerate(((19, 7), (33, 19), (5, 33))):
        weight = (rng.standard_normal((m, n)) * scale).astype(dtype)
        weight[0] = 0
        bias = rng.standard_normal(m).astype(dtype) if k != 1 else None
        node = builder.add(Gemm(weight, bias), node)
        if k < 2:
            node = builder.add(Relu(), node)
    return builder.build(node)


def boxes(seed: int, count: int) -> Box:
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((count, 7))
    radius = rng.choice([0.0, 1e-9, 0.1, 2.0], (count, 7))
    return Box(centre - radius, centre + radius)


@pytest.mark.parametrize("name", kernels.available())
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("count", (1, 3, 9))
def test_same_bounds_as_the_generic_rules(name: str, dtype: type, count: int) -> None:
    """Both are sound; they differ by the last bits of their sums."""
    net, box = network(count, dtype), boxes(count, count)
    with kernels.pinned(name):
        fused = interval_pass(net, box)
        with tuning.disabled("fused_layers", "fused_interval"):
            plain = interval_pass(net, box)
    exact = interval_pass(net, Box(box.lower, box.lower))
    for a, b, point in zip(fused, plain, exact, strict=True):
        slack = 1e-12 * (1 + abs(b.lower) + abs(b.upper))
        assert (abs(a.lower - b.lower) <= slack).all() and (abs(a.upper - b.upper) <= slack).all()
        assert (a.lower <= point.upper).all() and (point.lower <= a.upper).all()


def wide(seed: int) -> tuple[Network, Box]:
    """A convolution and dense layers, most inputs of one of which are dead; nine boxes."""
    rng = np.random.default_rng(seed)
    builder = Builder(Input(), (2, 9, 8))
    kernel = rng.standard_normal((5, 2, 3, 3)).astype(np.float32)
    node = builder.add(Conv(kernel, None, (2, 2), (1, 1, 1, 1)), 0)
    node = builder.add(Relu(), node)
    node = builder.add(Reshape((100,)), node)
    for m, n in ((160, 100), (150, 160), (6, 150)):
        bias = np.where(rng.random(m) < 0.7, -1e3, 0.5).astype(np.float32)
        node = builder.add(Gemm(rng.standard_normal((m, n)).astype(np.float32), bias), node)
        if m > 6:
            node = builder.add(Relu(), node)
    centre = rng.standard_normal((9, 2, 9, 8))
    radius = rng.choice([0.0, 1e-9, 0.1], centre.shape)
    return builder.build(node), Box(centre - radius, centre + radius)


@pytest.mark.parametrize("name", kernels.available())
@pytest.mark.parametrize("gate", ("narrow_spread", "compress", "fused_forward"))
def test_wide_layers_without_a_gate(name: str, gate: str) -> None:
    """float32 radii only ever widen, by their charge; the others differ by last bits."""
    net, box = wide(1)
    with kernels.pinned(name):
        fast = bounds(net, box, method="ibp", dtype="float32", intermediate=True)
        with tuning.disabled(gate):
            plain = bounds(net, box, method="ibp", dtype="float32", intermediate=True)
        exact = bounds(net, Box(box.lower, box.lower), method="ibp", intermediate=True)
    charge = 2 * (19 + 101 + 161 + 151) * 2.0**-24  # γ of every sum of the way, and more
    dead = list(fast.values())[5]  # the first dense layer's ReLU
    assert (dead.upper == 0).all(axis=0).mean() > 0.3
    for key, b in plain.items():
        a, point = fast[key], exact[key]
        size = max(abs(b.lower).max(), abs(b.upper).max())
        assert (abs(a.lower - b.lower) <= charge * size).all()
        assert (abs(a.upper - b.upper) <= charge * size).all()
        if gate == "narrow_spread":
            assert (a.lower <= b.lower).all() and (b.upper <= a.upper).all()
        assert (a.lower <= point.upper).all() and (point.lower <= a.upper).all()


@pytest.mark.parametrize("name", kernels.available())
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_relu_tables_match(name: str, dtype: type) -> None:
    net, box = network(5, np.float32), boxes(5, 4)
    known = interval_pass(net, box)
    kind = np.dtype(dtype)
    for index in (2, 4):
        relu, before = net.nodes[index], net.nodes[index].inputs[0]
        inputs = [known[i] for i in net.nodes[before].inputs]
        charge = linear_charge(net.nodes[before].op, known[before], inputs, kind)
        for fused in (None, charge):
            with kernels.pinned(name):
                a = diagonal(relu.op, known[index], known[before], Precision("real", kind), fused)
                with tuning.disabled("fused_layers"):
                    b = diagonal(
                        relu.op, known[index], known[before], Precision("real", kind), fused
                    )
            assert (a.lower_slope == b.lower_slope).all()
            assert (a.upper_slope == b.upper_slope).all()
            size = 1e-12 * (1 + abs(b.lower_const) + abs(b.upper_const))
            assert (abs(a.lower_const - b.lower_const) <= size).all()
            assert (abs(a.upper_const - b.upper_const) <= size).all()
            assert (a.loss >= 0.99 * b.loss).all() and (a.loss <= 1.01 * b.loss + 1e-300).all()


def test_unbounded_and_overflowing_inputs_stay_unknown() -> None:
    """Sums that overflow give infinite ends, never NaN and never a contradiction."""
    net = network(2, np.float64, scale=1e160)
    out = bounds(net, Box(np.full((1, 7), -1e150), np.full((1, 7), 1e150)), method="crown")
    assert (out.lower == -np.inf).all() and (out.upper == np.inf).all()


def test_the_fused_step_is_used_with_the_compiled_library() -> None:
    if kernels.isa == "numpy":
        pytest.skip("no compiled library")
    args = (np.ones((1, 1)), None, np.ones(1), *(np.zeros((1, 1)) for _ in range(3)), (0.0, 0.0))
    assert kernels.dense_interval(*args) is not None
    with kernels.pinned("numpy"):
        assert kernels.dense_interval(*args) is None
