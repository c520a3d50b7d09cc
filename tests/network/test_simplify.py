"""Simplification: fewer nodes, the same values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gamma.network.graph import Builder, Network
from gamma.network.simplify import simplify
from gamma.ops import Add, Conv, Gather, Gemm, Input, Relu, Reshape, Scale, Transpose

F = np.float32
Build = Callable[[Builder], int]


def built(shape: tuple[int, ...], build: Build) -> Network:
    builder = Builder(Input(), shape)
    return builder.build(build(builder))


def names(network: Network) -> list[str]:
    return [node.op.name for node in network.nodes]


def same(before: Network, after: Network) -> None:
    """Equal values on integers, where no order of operations rounds."""
    x = np.random.default_rng(5).integers(-8, 9, (4, *before.input_shape)).astype(np.float64)
    assert np.array_equal(before.forward(x, np.float64), after.forward(x, np.float64))


def integers(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).integers(-4, 5, shape).astype(F)


CASES: dict[str, tuple[tuple[int, ...], Build, list[str]]] = {
    "bias": (
        (3,),
        lambda b: b.add(Scale(np.ones((), F), integers(2)), b.add(Gemm(integers(2, 3)), 0)),
        ["Gemm"],
    ),
    "second bias": (
        (3,),
        lambda b: b.add(
            Scale(np.ones((), F), integers(2)), b.add(Gemm(integers(2, 3), integers(2)), 0)
        ),
        ["Gemm", "Scale"],
    ),
    "bias of a convolution": (
        (2, 4, 4),
        lambda b: b.add(
            Scale(np.ones((), F), integers(3, 1, 1)), b.add(Conv(integers(3, 2, 2, 2)), 0)
        ),
        ["Conv"],
    ),
    "a shift per pixel is no bias": (
        (2, 4, 4),
        lambda b: b.add(
            Scale(np.ones((), F), integers(3, 3, 3)), b.add(Conv(integers(3, 2, 2, 2)), 0)
        ),
        ["Conv", "Scale"],
    ),
    "inexact bias": (
        (3,),
        lambda b: b.add(
            Scale(np.ones((), F), np.array([2.0**-80, 1], F)),
            b.add(Gemm(integers(2, 3), np.ones(2, F)), 0),
        ),
        ["Gemm", "Scale"],
    ),
    "scales": (
        (3,),
        lambda b: b.add(
            Scale(integers(3), integers(3)), b.add(Scale(np.array(3, F), integers(3)), 0)
        ),
        ["Scale"],
    ),
    "an inexact division stays": (
        (3,),
        lambda b: b.add(Scale(np.array(3, F)), b.add(Scale(np.array(1 / 3), None, 2.0**-53), 0)),
        ["Scale", "Scale"],
    ),
    "transposes": (
        (2, 3, 4),
        lambda b: b.add(Transpose((1, 2, 0)), b.add(Transpose((2, 0, 1)), 0)),
        [],
    ),
    "transposes to one": (
        (2, 3, 4),
        lambda b: b.add(Transpose((1, 0, 2)), b.add(Transpose((2, 0, 1)), 0)),
        ["Transpose"],
    ),
    "reshapes": (
        (2, 6),
        lambda b: b.add(Reshape((2, 6)), b.add(Reshape((3, 4)), b.add(Reshape((12,)), 0))),
        [],
    ),
    "gathers": (
        (6,),
        lambda b: b.add(
            Gather(np.array([3, -1, 0]), (3,), 2.0),
            b.add(Gather(np.array([5, 4, -1, 0]), (4,), 2.0), 0),
        ),
        ["Gather"],
    ),
    "gathers that fill differently": (
        (6,),
        lambda b: b.add(
            Gather(np.array([2, -1]), (2,), 1.0), b.add(Gather(np.array([5, 4, -1]), (3,), 2.0), 0)
        ),
        ["Gather", "Gather"],
    ),
    "gather and reshape": (
        (6,),
        lambda b: b.add(
            Transpose((1, 0)),
            b.add(
                Reshape((2, 2)),
                b.add(Gather(np.array([5, 4, 1, 0]), (4,)), b.add(Reshape((3, 2)), 0)),
            ),
        ),
        ["Gather"],
    ),
    "shared layer": (
        (3,),
        lambda b: (lambda g: b.add(Add((1, 1)), b.add(Scale(np.ones((), F), integers(2)), g), g))(
            b.add(Gemm(integers(2, 3)), 0)
        ),
        ["Gemm", "Scale", "Add"],
    ),
    "shared reshape": (
        (4,),
        lambda b: (
            lambda r: b.add(
                Add((1, 1)), b.add(Reshape((4, 1)), r), b.add(Reshape((4, 1)), b.add(Relu(), r))
            )
        )(b.add(Reshape((2, 2)), 0)),
        ["Reshape", "Relu", "Reshape", "Reshape", "Add"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_fused_networks_compute_the_same(case: str) -> None:
    shape, build, expected = CASES[case]
    before = built(shape, build)
    after = simplify(before)
    assert sorted(names(after)[1:]) == sorted(expected)
    assert after.output_shape == before.output_shape
    same(before, after)


def test_unread_nodes_are_dropped() -> None:
    builder = Builder(Input(), (3,))
    used = builder.add(Relu(), 0)
    builder.add(Gemm(integers(5, 3)), used)
    assert names(simplify(builder.build(used))) == ["Input", "Relu"]


def test_long_chains_end() -> None:
    builder = Builder(Input(), (2, 2))
    last = 0
    for _ in range(3000):
        last = builder.add(Transpose((1, 0)), last)
    assert names(simplify(builder.build(last))) == ["Input"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=10), st.integers(0, 2**31))
def test_random_chains_compute_the_same(kinds: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    builder = Builder(Input(), (2, 3))
    live = [0]
    for kind in kinds:
        source = live[-1] if rng.random() < 0.8 else live[int(rng.integers(len(live)))]
        shape = builder.nodes[source].shape
        size = int(np.prod(shape))
        ops = (
            Relu(),
            Transpose(tuple(int(i) for i in rng.permutation(len(shape)))),
            Reshape((size,) if len(shape) > 1 else (1, size)),
            Gather(rng.integers(-1, size, 6), (3, 2), float(rng.integers(0, 3))),
            Scale(rng.integers(-2, 3, shape[-1:]).astype(F), rng.integers(-2, 3, shape).astype(F)),
            Scale(np.ones((), F), rng.integers(-2, 3, shape[-1:]).astype(F)),
            Gemm(rng.integers(-2, 3, (3, shape[-1])).astype(F)),
        )
        live.append(builder.add(ops[kind], source))
    before = builder.build(live[-1])
    same(before, simplify(before))
