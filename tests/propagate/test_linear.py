"""Linear bounds of outputs in inputs or inner nodes: exact numbers that hold at exact points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.propagate import NodeSlopes
from gamma.tensor.box import Box
from tests.exact.oracle import Truth, exact
from tests.propagate.ranges.transformers import MAKERS


def network(seed: int, act: Any, residual: bool = False) -> Network:
    r = np.random.default_rng(seed)
    builder = Builder(ops.Input(), (4,))
    node = builder.add(ops.Gemm(r.normal(size=(6, 4)).astype(np.float32), r.normal(size=6)), 0)
    inner = builder.add(act, node)
    node = builder.add(ops.Gemm(r.normal(size=(6, 6)).astype(np.float32), None), inner)
    if residual:
        node = builder.add(ops.Add((1, 1)), node, inner)
    node = builder.add(act, node)
    return builder.build(builder.add(ops.Gemm(r.normal(size=(3, 6)).astype(np.float32)), node))


def boxes(seed: int, count: int) -> Box:
    r = np.random.default_rng(seed)
    x = r.normal(size=(count, 4))
    return Box.linf(x, np.array([0.3, 1e-6, 0.0, 1.0]))


def holds(net: Network, box: Box, found: gamma.LinearBounds, seed: int, at: int = 0) -> None:
    r = np.random.default_rng(seed)
    truth = Truth(net)
    many = box.batched(net.input_shape)
    for b in range(len(many.lower)):
        for t in (0.0, 1.0, r.random(4), r.integers(0, 2, 4)):
            x = many.lower[b] + t * (many.upper[b] - many.lower[b])
            x = np.clip(x, many.lower[b], many.upper[b])
            values = truth(x)
            v, y = values[at].ravel(), values[net.output].ravel()
            for k in range(3):
                low, high = found.lower_coefficients[b, k], found.upper_coefficients[b, k]
                below = (exact(low) * v).sum() + exact(found.lower_constant[b, k : k + 1])[0]
                above = (exact(high) * v).sum() + exact(found.upper_constant[b, k : k + 1])[0]
                assert below <= y[k] <= above


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("method", ("crown-ibp", "crown", "alpha"))
@pytest.mark.parametrize("residual", (False, True))
def test_they_hold_at_exact_points(method: str, dtype: str, residual: bool) -> None:
    for seed in range(3):
        net, box = network(seed, ops.Relu(), residual), boxes(seed, 3)
        found = gamma.linear_bounds(net, box, method=method, dtype=dtype)
        assert found.lower_coefficients.shape == (3, 3, 4) and found.at == net.nodes[0].name
        holds(net, box, found, seed)


def test_they_are_what_the_bounds_come_from() -> None:
    net, box = network(5, ops.Sigmoid()), boxes(5, 2)
    found = gamma.linear_bounds(net, box, dtype="float64")
    known = gamma.bounds(net, box, dtype="float64")
    centre, radius = 0.5 * box.lower + 0.5 * box.upper, 0.5 * box.upper - 0.5 * box.lower
    for rows, constant, end, sign in (
        (found.lower_coefficients, found.lower_constant, known.lower, -1.0),
        (found.upper_coefficients, found.upper_constant, known.upper, 1.0),
    ):
        value = np.einsum("bkn,bn->bk", rows, centre) + constant
        value += sign * np.einsum("bkn,bn->bk", abs(rows), radius)
        assert (sign * value >= sign * end - 1e-9).all()  # the bounds also met the interval's
        assert (abs(value - end) <= 1e-3 * abs(end) + 1e-9).any()


def test_at_an_inner_node_and_around_it() -> None:
    net, box = network(1, ops.Relu()), boxes(1, 2)
    found = gamma.linear_bounds(net, box, at=net.nodes[2].name, dtype="float64")
    assert found.lower_coefficients.shape == (2, 3, 6)
    holds(net, box, found, 1, at=2)
    round_about = network(1, ops.Relu(), True)
    with pytest.raises(UsageError, match="leads around"):
        gamma.linear_bounds(round_about, box, at=round_about.nodes[3].name)
    for wrong in ("nothing", net.nodes[net.output].name):
        with pytest.raises(UsageError, match="at="):
            gamma.linear_bounds(net, box, at=wrong)
    with pytest.raises(UsageError, match="intervals"):
        gamma.linear_bounds(net, box, method="ibp")


@pytest.mark.parametrize("act", (ops.Relu(), ops.Sigmoid()))
@pytest.mark.parametrize("method", ("crown-ibp", "crown", "alpha"))
def test_any_slopes_are_valid(act: Any, method: str) -> None:
    """Slopes from outside, wild ones too: the intercepts are proved for them."""
    r = np.random.default_rng(3)
    net, box = network(2, act), boxes(2, 3)
    names = [net.nodes[i].name for i in (2, 4)]
    for scale in (1.0, 30.0):
        slopes = {n: NodeSlopes(*(r.normal(size=(2, 3, 6)) * scale)) for n in names}
        for dtype in ("float32", "float64"):
            found = gamma.linear_bounds(net, box, method=method, slopes=slopes, dtype=dtype)
            holds(net, box, found, 3)
    with pytest.raises(UsageError, match="no node"):
        gamma.linear_bounds(net, box, slopes={"absent": NodeSlopes()})


def test_a_single_box_has_no_batch_axis() -> None:
    net = network(0, ops.Relu())
    found = gamma.linear_bounds(net, Box.linf(np.zeros(4), 0.1))
    assert found.lower_coefficients.shape == (3, 4) and found.upper_constant.shape == (3,)


def test_rows_in_several_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net, box = network(0, ops.Relu()), boxes(0, 3)
    once = gamma.linear_bounds(net, box)
    monkeypatch.setattr("gamma.propagate.blocks.block_length", lambda *_: 2)
    found = gamma.linear_bounds(net, box)
    assert (found.lower_coefficients == once.lower_coefficients).all()
    assert (found.upper_constant == once.upper_constant).all()


@pytest.mark.parametrize("name", MAKERS)
def test_no_row_of_alpha_is_wider_than_crowns(name: str) -> None:
    """Tighter inner bounds choose other lines, which were worse for some rows."""
    net = MAKERS[name](0)
    x = np.random.default_rng(0).standard_normal(net.input_shape)
    box = Box(x - 1e-3, x + 1e-3)
    ends = []
    for method in ("alpha", "crown"):
        found = gamma.linear_bounds(net, box, method=method)
        centre, radius = x.ravel(), np.full(x.size, 1e-3)
        low = found.lower_coefficients @ centre - abs(found.lower_coefficients) @ radius
        high = found.upper_coefficients @ centre + abs(found.upper_coefficients) @ radius
        ends.append((low + found.lower_constant, high + found.upper_constant))
    (low, high), (least, most) = ends
    assert (low >= least - 1e-12).all() and (high <= most + 1e-12).all()
    assert (high - low).mean() < (most - least).mean() * (1 - 1e-6)
