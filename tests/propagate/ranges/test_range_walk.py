"""Ranges for every input: sampled and ascended inputs, and executions that keep float16."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma.network.graph import Network
from gamma.ops.evaluate import gradient
from gamma.propagate.caps import norm_caps
from gamma.propagate.interval import interval_pass
from gamma.propagate.ranges.sets import Known
from gamma.propagate.ranges.walk import FORMATS, REAL, range_walk
from gamma.tensor.box import Box
from tests.propagate.ranges.transformers import MAKERS

Array = Any


def everything(net: Network, size: float = np.inf, **options: Any) -> list[Known]:
    """Ranges when every position's entries lie in [-size, size]."""
    end = np.full((1, *net.input_shape[1:]), size)
    return range_walk(net, Known(net.input_shape, -end, end), **options)


def inputs(net: Network, count: int, seed: int, size: float) -> Array:
    """Points of unlike scale: tiny, huge, one-hot, constant, equal positions."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, *net.input_shape)) * 2.0 ** rng.integers(-30, 12, (count, 1, 1))
    x[::7] = np.eye(net.input_shape[1])[rng.integers(0, net.input_shape[1], x[::7].shape[:2])] * 4
    x[1::7, 1:] = x[1::7, :1]
    x[2::7] += 100.0
    return np.clip(x, -size, size)


def inside(net: Network, known: list[Known], x: Array) -> None:
    """No node's exact value is provably outside: where float64 says so, its certified enclosure
    meets the range all the same."""
    doubtful = np.zeros(len(x), bool)
    for found, value in zip(known, net.values(x), strict=True):
        lower, upper = found.bounds
        out = (value < lower) | (value > upper)
        doubtful |= out.reshape(len(x), -1).any(axis=1)
    assert doubtful.mean() < 0.05
    part = x[doubtful][:20]
    if len(part):
        values = interval_pass(net, Box(part, part).batched(net.input_shape))
        for node, found, exact in zip(net.nodes, known, values, strict=True):
            lower, upper = found.bounds
            assert (exact.upper >= lower).all() and (exact.lower <= upper).all(), node.name


@pytest.mark.parametrize("size", [3.0, np.inf])
@pytest.mark.parametrize("name", MAKERS)
def test_no_sampled_input_leaves_the_ranges(name: str, size: float) -> None:
    for seed in range(2):
        net = MAKERS[name](seed, spread=4 * seed)
        known = everything(net, size)
        inside(net, known, inputs(net, 10_000, seed, size))
        inner = [
            k.largest for k, node in zip(known, net.nodes, strict=True) if node.op.name == "Gemm"
        ]
        assert np.isfinite(inner).all()  # whatever the input


@pytest.mark.parametrize("name", MAKERS)
def test_no_ascended_input_leaves_the_ranges(name: str) -> None:
    net = MAKERS[name](1)
    known = everything(net, 3.0)
    rng = np.random.default_rng(0)
    for index in range(1, len(net.nodes), 5):
        part = Network(net.nodes[: index + 1], index)
        lower, upper = known[index].bounds
        x = inputs(net, 64, index, 3.0)
        weights = np.zeros((64, *part.output_shape))
        entries = rng.integers(0, lower.size, 64)
        weights.reshape(64, -1)[np.arange(64), entries] = np.where(np.arange(64) % 2, 1.0, -1.0)
        for step in range(8):
            x = np.clip(x + 0.5 * 0.8**step * np.sign(_gradient(part, x, weights)), -3.0, 3.0)
        inside(part, known[: index + 1], x)
        reached = (part.forward(x, np.float64) * weights).reshape(64, -1).sum(axis=1)
        ends = np.where(np.arange(64) % 2, upper.ravel()[entries], -lower.ravel()[entries])
        assert (reached <= ends * (1 + 1e-9) + 1e-9).all()


def _gradient(net: Network, x: Array, weights: Array) -> Array:
    return gradient(net, x, weights)[1]


@pytest.mark.parametrize("name", MAKERS)
def test_activations_kept_in_float16_stay_inside(name: str) -> None:
    """Every operator evaluated in float64 on stored inputs, its result rounded to float16 once."""
    net = MAKERS[name](2, spread=2)
    known = everything(net, 3.0, storage=FORMATS["f16"])
    real = everything(net, 3.0, storage=REAL)
    values = [inputs(net, 4000, 5, 3.0).astype(np.float16).astype(np.float64)]
    for node in net.nodes[1:]:
        exact = node.op.forward(*(values[i] for i in node.inputs))
        values.append(exact.astype(np.float16).astype(np.float64))
    beyond = 0
    for node, found, plain, value in zip(net.nodes, known, real, values, strict=True):
        lower, upper = found.bounds
        assert (value >= lower).all() and (value <= upper).all(), node.name
        wide = np.maximum(*(abs(end) for end in plain.bounds))
        beyond += int((abs(value) > wide).sum())
        assert found.largest >= plain.largest
    assert beyond  # what real ranges do not cover is needed


@pytest.mark.parametrize("name", MAKERS)
def test_ranges_are_close_to_what_is_reached(name: str) -> None:
    """A dense layer behind a norm is bounded by what one input reaches."""
    net = MAKERS[name](0, n=2, blocks=1)
    known = everything(net)
    index = next(i for i, node in enumerate(net.nodes) if node.op.name == "Gemm")
    gemm, scale = net.nodes[index].op, net.nodes[net.nodes[index].inputs[0]].op
    rows = gemm.weight.astype(float) * scale.scale
    if name == "post":
        rows = rows - rows.mean(axis=1, keepdims=True)
    offset = 0 if scale.shift is None else gemm.weight @ scale.shift.astype(float)
    offset = offset + (0 if gemm.bias is None else gemm.bias)
    best = np.sqrt(rows.shape[1]) * np.linalg.norm(rows, axis=1) + offset
    upper = known[index].bounds[1][0]
    assert (upper >= best * (1 - 1e-12)).all() and (upper <= best * (1 + 1e-4) + 1e-4).all()


def test_a_range_does_not_depend_on_the_number_of_positions() -> None:
    few, more = (everything(MAKERS["pre"](3, n=n), 2.0, everywhere=True) for n in (2, 7))
    for a, b in zip(few, more, strict=True):
        low, high = (np.broadcast_to(end, a.shape) for end in (a.lower, a.upper))
        assert np.isfinite(a.largest) and a.largest == b.largest
        assert low.min() == b.lower.min() and high.max() == b.upper.max()


def test_rotary_positions_keep_norms_at_every_position() -> None:
    """Ranges that are made for two positions hold for positions that turn much further."""
    made = everything(MAKERS["pre"](4, n=2), 2.0, everywhere=True)
    net = MAKERS["pre"](4, n=9)
    values = net.values(inputs(net, 2000, 1, 2.0))
    for node, found, value in zip(net.nodes, made, values, strict=True):
        lower, upper = found.lower.min() * (1 + 1e-12), found.upper.max() * (1 + 1e-12)
        assert value.min() >= lower and value.max() <= upper, node.name
    at_two = everything(MAKERS["pre"](4, n=2), 2.0)
    index = next(i for i, n in enumerate(net.nodes) if n.op.name == "Add" and len(n.shape) == 3)
    assert at_two[index].largest <= made[index].largest


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("guarantee", ["real", "float32"])
def test_caps_of_a_second_box_are_those_of_a_network_that_kept_nothing(
    name: str, guarantee: str
) -> None:
    def box(net: Network, radius: float) -> Box:
        centre = np.random.default_rng(3).standard_normal((1, *net.input_shape))
        return Box(centre - radius, centre + radius)

    net = MAKERS[name](0)
    first = norm_caps(net, box(net, 0.1), guarantee, thrifty=False)
    for thrifty in (False, True):
        wide = norm_caps(net, box(net, 30.0), guarantee, thrifty)
        alone = norm_caps(MAKERS[name](0), box(net, 30.0), guarantee, thrifty)
        assert wide.keys() == alone.keys()
        for index, ends in alone.items():
            assert np.array_equal(wide[index], ends), net.nodes[index].name
    # Some caps owe something to the box, and most owe nothing where the arithmetic is real.
    same = [i in first and np.array_equal(first[i], ends) for i, ends in alone.items()]
    if guarantee == "real":
        assert len(same) > sum(same) > len(same) // 3
