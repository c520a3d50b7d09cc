"""Interval passes in strips: the bounds of whole passes, without what has positions² entries."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops
from gamma.errors import InternalError, ResourceError
from gamma.network.graph import Builder, Network
from gamma.ops import products
from gamma.ops.bounds import NodeBounds
from gamma.propagate import StreamingVerifier, choosing, strips
from gamma.propagate.domain import Domain
from gamma.propagate.options import options_of
from gamma.propagate.walks import Walk, walk
from gamma.tensor.box import Box
from tests.exact.oracle import Truth, violations

Array = Any
HEADS, SIZE = 2, 2


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large: 20 entries are a strip."""
    monkeypatch.setattr(strips, "LARGE", 30)
    monkeypatch.setattr(strips, "ENTRIES", 20)
    monkeypatch.setattr(strips, "TERMS_LIMIT", 0)
    monkeypatch.setattr(choosing, "_MANY", 0)


def attention(positions: int, masked: bool = False, apart: bool = True) -> Network:
    """Attention between dense layers and a residual sum; a constant tells scores ``apart``."""
    r, heads = np.random.default_rng(0), HEADS
    width = heads * SIZE
    b = Builder(ops.Input(), (positions, width))

    def dense() -> int:
        weight, bias = r.normal(size=(width, width)) / 2, r.normal(size=width)
        return b.add(ops.Gemm(weight.astype(np.float32), bias.astype(np.float32)), 0)

    parts = [b.add(ops.Reshape((positions, heads, SIZE)), dense()) for _ in range(3)]
    q, k, v = (
        b.add(ops.Transpose(axes), x)
        for axes, x in zip([(1, 0, 2), (1, 2, 0), (1, 0, 2)], parts, strict=True)
    )
    far = r.normal(size=(positions, positions)).astype(np.float32) if apart else None
    scores = b.add(ops.Scale(np.float32([0.5]), far), b.add(ops.MatMul(), q, k), name="scores")
    seen = np.arange(1, positions + 1) if masked else None
    mixed = b.add(ops.MatMul(), b.add(ops.Softmax(-1, seen), scores), v, name="mixed")
    joined = b.add(ops.Reshape((positions, width)), b.add(ops.Transpose((1, 0, 2)), mixed))
    return b.build(b.add(ops.Add(), joined, 0, name="sum"))


def around(net: Network, radius: float = 0.1, count: int = 1) -> Box:
    x = np.random.default_rng(1).normal(size=(count, *net.input_shape))
    return Box(x - radius, x + radius)


def test_scores_to_the_product_with_values_are_one_chain() -> None:
    net = attention(6)
    (chain,) = strips.chains_of(net).values()
    names = [net.nodes[i].op.name for i in chain.nodes]
    assert names == ["MatMul", "Scale", "Softmax", "MatMul"]
    covered = np.zeros((HEADS, 6, 6), int)
    cuts = list(chain.cuts(covered.shape))
    for cut in cuts:
        covered[cut] += 1
        assert covered[cut].size <= 20
    assert (covered == 1).all() and len(cuts) > HEADS


def test_other_large_products_are_no_chain() -> None:
    for shape, axes in (((40,), (0,)), ((5, 8), (1,))):
        b = Builder(ops.Input(), shape)
        made = b.add(ops.Mul(), b.add(ops.Relu(), 0), 0)
        net = b.build(b.add(ops.ReduceSum(axes, False, 1.0), made))
        assert not strips.chains_of(net)
        assert np.isfinite(gamma.bounds(net, around(net), method="ibp").lower).all()


@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_bounds_are_those_of_a_whole_pass(guarantee: str, masked: bool, count: int) -> None:
    """But for rounding: with facts about scores as well, which they meet strip by strip."""
    net = attention(7, masked)
    box, options = around(net, count=count), options_of(net, "ibp", guarantee, "auto", None)
    whole = walk(net, box, options)
    scores = next(i for i, node in enumerate(net.nodes) if node.name == "scores")
    known = whole.bounds[scores]
    middle = 0.5 * known.lower + 0.5 * known.upper
    for facts in ({}, {scores: (middle - 0.01, known.upper)}):
        domain = Domain(box, facts)
        least = walk(net, domain, options, keep=frozenset({net.output}))
        full = walk(net, domain, options)
        apart, found = full.output(), least.output()
        assert (abs(found.lower - apart.lower) <= 1e-12).all()
        assert (abs(found.upper - apart.upper) <= 1e-12).all()


@pytest.mark.parametrize("limit", [0, products.TERMS_LIMIT])
def test_exact_values_lie_inside(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "TERMS_LIMIT", limit)
    net = attention(6, masked=True)
    box = around(net, 0.02)
    found = gamma.bounds(net, box, method="ibp", dtype="float64")
    r = np.random.default_rng(2)
    for _ in range(6):
        x = np.where(r.random(net.input_shape) < 0.5, box.lower[0], box.upper[0])
        truth = Truth(net)(x)[net.output]
        assert not violations(found.lower[0], found.upper[0], truth)


def test_what_is_not_kept_says_so() -> None:
    net = attention(6)
    options = options_of(net, "ibp", "real", "auto", None)
    made = walk(net, around(net), options, keep=frozenset({net.output}))
    assert np.isfinite(made.bounds[net.output].lower).all()
    for index in range(1, net.output):
        with pytest.raises(InternalError, match="not kept"):
            _ = made.bounds[index].lower


def test_peak_memory_grows_with_positions_not_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "LARGE", 1 << 12)
    monkeypatch.setattr(strips, "ENTRIES", 1 << 11)
    monkeypatch.setattr(products, "TERMS_LIMIT", 0)

    def peak(positions: int) -> int:
        net = attention(positions, apart=False)
        box = around(net)
        tracemalloc.start()
        try:
            gamma.bounds(net, box, method="ibp")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(16)
    small, large = peak(64), peak(256)
    assert large < 6 * small  # sixteen times as many scores
    assert large < HEADS * 256 * 256 * 8  # less than one end of the scores


def test_a_plan_counts_what_a_pass_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most bytes of bounds after any step; a limit below that is refused, one above kept."""
    net, live = attention(24), list[int]()
    box, keep = around(net), choosing.kept(net, "ibp")
    assert keep == {net.output}
    plain = Walk._pass

    def spied(made: Walk, index: int, keep: frozenset[int]) -> None:
        plain(made, index, keep)
        held = [b for b in made.bounds if isinstance(b, NodeBounds)]
        ends = [(b.lower, b.upper, b.centre, b.spread, b.noise, b._radius) for b in held]
        arrays = {id(a): a.nbytes for known in ends for a in known if a is not None}
        live.append(sum(arrays.values()))

    monkeypatch.setattr(Walk, "_pass", spied)
    plan = StreamingVerifier().plan(net, 1, "ibp")
    assert not live and plan.parts["bounds"] > 0 and plan.to_dict()["checkpoint_interval"] is None
    plain_bounds = gamma.bounds(net, box, method="ibp")
    least = gamma.bounds(net, box, method="ibp", memory=plan.predicted)
    assert max(live) <= plan.parts["bounds"] < 4 * max(live)
    assert np.array_equal(plain_bounds.lower, least.lower)
    with pytest.raises(ResourceError, match="needs at least"):
        gamma.bounds(net, box, method="ibp", memory=plan.predicted // 2)
