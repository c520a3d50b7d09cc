"""Executions in float16, one rounding at a time, against what is said of them: one test per term.

Every number of an execution here is a float16 and compared as a fraction; docs/numerics.md names
the terms.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.network.graph import Builder, Network
from gamma.ops import Abs, Add, Conv, Gemm, Input, LeakyRelu, ReduceSum, Relu, Scale, Sigmoid, Tanh
from gamma.ops.affine import Linear
from gamma.propagate.few_bits import Executed, executed, executed_input
from gamma.propagate.interval import input_bounds, interval_pass
from gamma.propagate.ranges import FORMATS
from gamma.verification.overflow import overflow
from tests.verify.known import dense

HALF = np.float16
KEPT = FORMATS["f16"]
STEP = 2.0**-10  # between float16 numbers above 1


def said(net: Network, box: gamma.Box, exact: bool) -> list[Executed]:
    """What is said of every node; ``exact``: with bounds of the exact network."""
    many = box.batched(net.input_shape)
    known = [executed_input(input_bounds(many), KEPT)]
    bounds: list[Any] = interval_pass(net, many) if exact else [None] * len(net.nodes)
    if exact:
        known[0] = executed_input(bounds[0], KEPT)
    for node, real in zip(net.nodes[1:], bounds[1:], strict=True):
        known.append(executed(node, [known[i] for i in node.inputs], real, KEPT))
    return known


def in_order(weights: Any, x: Any, start: float = 0.0) -> tuple[np.float16, float]:
    """Σ w·x + start in float16, term by term, and the largest partial sum."""
    total, most = HALF(start), abs(start)
    for w, v in zip(np.asarray(weights, HALF), np.asarray(x, HALF), strict=True):
        total = HALF(total + HALF(w * v))
        most = max(most, abs(float(total)))
    return total, most


def holds(found: Executed, value: Any) -> bool:
    """Whether the one entry of a node may be this number."""
    low, high = (Fraction(float(e.ravel()[0])) for e in (found.values.lower, found.values.upper))
    return low <= Fraction(float(value)) <= high


def chain(*ops: Any, shape: tuple[int, ...]) -> Network:
    builder = Builder(Input(), shape)
    at = 0
    for op in ops:
        at = builder.add(op, at)
    return builder.build(at)


POINT = 1 + STEP / 2 + 2.0**-20  # rounds up


@pytest.mark.parametrize("exact", [False, True])
def test_the_input_is_rounded(exact: bool) -> None:
    """FEWBITS.INPUT, and FEWBITS.APART.INPUT where a tighter bound of the exact one is known."""
    net = chain(Relu(), Gemm(np.ones((1, 1))), shape=(1,))
    found = said(net, gamma.Box([POINT], [POINT]), exact)
    assert float(HALF(POINT)) > POINT
    assert all(holds(node, HALF(POINT)) for node in found)
    # Not much more than a rounding is allowed for.
    assert found[0].values.upper.ravel()[0] <= POINT + STEP


STUCK = 4096  # ones, added one after another: from 2048 on nothing more is added


@pytest.mark.parametrize("behind", [(), (Relu,), (Abs,), (Relu, Gemm), (Gemm, Relu, Gemm)])
@pytest.mark.parametrize("exact", [False, True])
def test_what_a_sum_lost_is_carried_on(exact: bool, behind: tuple[Callable[..., Any], ...]) -> None:
    """FEWBITS.NOISE, FEWBITS.APART.NOISE, .CARRIED, .PLAIN and FEWBITS.NEAR."""
    total, _ = in_order(np.ones(STUCK), np.ones(STUCK))
    assert total == 2048
    ops = [op(np.ones((1, 1))) if op is Gemm else op() for op in behind]
    net = chain(Gemm(np.ones((1, STUCK))), *ops, shape=(STUCK,))
    ones = np.ones(STUCK)
    found = said(net, gamma.Box(ones, ones), exact)
    assert all(holds(node, total) for node in found[1:])
    # What both enclosures allow is no less than what was lost, and no more than what is charged.
    if exact:
        assert all(Fraction(float(n.apart.min())) >= STUCK - 2048 for n in found[1:])


def test_partial_sums_grow() -> None:
    """FEWBITS.GROWTH, FEWBITS.BIAS: every addition rounds up, and the bias is one of the terms."""
    count, bias = 24, 1 + STEP
    weights = np.full(count, STEP / 2 + 2.0**-17)  # more than half a step: 1 + w rounds to 1 + step
    total, most = in_order(weights, np.ones(count), bias)
    exact = Fraction(bias) + sum(Fraction(float(HALF(w))) for w in weights)
    assert Fraction(most) > exact * (1 + Fraction(1, 200))
    net = chain(Gemm(weights[None], np.array([bias])), shape=(count,))
    for known in (False, True):
        found = said(net, gamma.Box(np.ones(count), np.ones(count)), known)[1]
        assert found.partial is not None and found.terms == count
        assert Fraction(most) <= Fraction(float(found.partial.max())) and holds(found, total)


def test_partial_sums_cancel_in_the_end() -> None:
    weights = [30000.0, 30000.0, -30000.0, -30000.0]
    total, most = in_order(weights, np.ones(4))
    net = chain(Gemm(np.array([weights])), shape=(4,))
    for exact in (False, True):
        found = said(net, gamma.Box(np.ones(4), np.ones(4)), exact)[1]
        assert found.partial is not None
        assert holds(found, total) and Fraction(float(found.partial.max())) >= Fraction(most)


def test_what_underflow_loses() -> None:
    """FEWBITS.LOST: weights far below the least number become zero, or twice as large."""
    least = 2.0**-24
    for weight in (0.4 * least, 0.6 * least):
        total, _ = in_order(np.full(64, weight), np.ones(64))
        net = chain(Gemm(np.full((1, 64), weight)), shape=(64,))
        for exact in (False, True):
            assert holds(said(net, gamma.Box(np.ones(64), np.ones(64)), exact)[1], total)


@pytest.mark.parametrize("exact", [False, True])
def test_functions_round_their_result(exact: bool) -> None:
    """FEWBITS.RESULT, with arguments whose sigmoid is nearly in the middle of two numbers."""
    net = chain(Sigmoid(), shape=(1,))
    arguments = np.linspace(0.25, 4, 200).astype(HALF).astype(np.float64)
    values = 1 / (1 + np.exp(-arguments))
    moved = values.astype(HALF) - values
    for x in arguments[[int(moved.argmin()), int(moved.argmax())]]:
        assert holds(said(net, gamma.Box([x], [x]), exact)[1], HALF(1 / (1 + np.exp(-x))))


def test_means_add_before_they_divide() -> None:
    """FEWBITS.PEAK."""
    net = chain(ReduceSum((0,), scale=0.25), shape=(4,))
    large = np.full(4, 20000.0)
    found = overflow(net, gamma.Box(large, large))
    assert found.nodes[1].activation < 65504 < 80000 <= found.nodes[1].partial
    assert found.verdict == "unknown"


def test_weights_are_numbers_too() -> None:
    """FEWBITS.WEIGHT: one beyond the format, whatever it is multiplied with."""
    found = overflow(dense(([[70000.0]], [0.0])), gamma.Box([0.0], [0.001]))
    assert found.verdict == "unknown" and found.nodes[1].partial >= 70000


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown", "alpha"])
def test_no_execution_leaves_what_any_method_says(method: str) -> None:
    random = np.random.default_rng(5)
    parts = [(random.normal(size=(6, 6)) * 3, random.normal(size=6) * 40) for _ in range(4)]
    net = dense(*((w.astype(HALF).tolist(), b.astype(HALF).tolist()) for w, b in parts))
    low = random.normal(size=(3, 6)) * 0.2
    found = overflow(net, gamma.Box(low, low + 0.05), method=method)
    assert found.method == method
    layers = [n for n in found.nodes if n.operator == "Gemm"]
    for trial in range(40):
        x = random.uniform(low[trial % 3], low[trial % 3] + 0.05).astype(HALF)
        for k, ((weight, bias), node) in enumerate(zip(parts, layers, strict=True)):
            sums = [in_order(w, x, float(HALF(b))) for w, b in zip(weight, bias, strict=True)]
            x = np.array([total for total, _ in sums])
            assert np.isfinite(x).all()
            assert max(Fraction(most) for _, most in sums) <= Fraction(node.partial)
            assert max(abs(Fraction(float(v))) for v in x) <= Fraction(node.activation)
            x = np.maximum(x, HALF(0)) if k < 3 else x


def drawn(random: np.random.Generator) -> Network:
    """A few operators on an image, with sums of what came before."""
    builder, at = Builder(Input(), (2, 4, 4)), 0
    scale = 10.0 ** random.uniform(-2, 0.5)
    for _ in range(int(random.integers(2, 6))):
        kind = int(random.integers(4))
        if kind == 0:
            weight, bias = random.normal(size=(2, 2, 3, 3)) * scale, random.normal(size=2) * scale
            at = builder.add(Conv(weight, bias, (1, 1), (1, 1, 1, 1)), at)
        elif kind == 1:
            at = builder.add(Add(), at, int(random.integers(at + 1)))
        elif kind == 2:
            at = builder.add(Scale(random.normal(size=()), random.normal(size=())), at)
        else:
            plain = (Relu(), Abs(), Tanh(), Sigmoid(), LeakyRelu(0.1))
            at = builder.add(plain[int(random.integers(5))], at)
    return builder.build(at)


@pytest.mark.parametrize("seed", range(12))
def test_what_numpy_computes_in_float16_is_inside(seed: int) -> None:
    random = np.random.default_rng(seed)
    net, low = drawn(random), random.normal(size=(2, 4, 4))
    box = gamma.Box(low, low + 10.0 ** random.uniform(-4, 0))
    found = [overflow(net, box, method=method).nodes for method in ("ibp", "crown")]
    with np.errstate(over="ignore", invalid="ignore"):
        values = [np.concatenate([box.sample(8, seed), low[None]]).astype(HALF)]
        for node in net.nodes[1:]:
            wide = HALF if isinstance(node.op, Linear) else np.float32
            given = [values[i].astype(wide) for i in node.inputs]
            values.append(node.op.forward(*given).astype(HALF))
    for index, reached in enumerate(values):
        if not np.isfinite(reached).all():
            break  # what is behind an overflow is not said anything of
        size = Fraction(float(abs(reached).max()))
        assert all(size <= Fraction(nodes[index].activation) for nodes in found)


def test_crown_proves_what_intervals_do_not() -> None:
    """Pairs of layers that are the identity: intervals double with each, the network does not."""
    turn = np.array([[1.0, -1.0], [1.0, 1.0]])
    ops = [op for _ in range(12) for op in (Gemm(turn), Gemm(turn.T / 2))]
    net = chain(*ops, shape=(2,))
    box = gamma.Box(np.full(2, -100.0), np.full(2, 100.0))
    results = {m: overflow(net, box, method=m) for m in ("ibp", "crown-ibp", "crown")}
    assert results["ibp"].verdict == "unknown"
    assert {results[m].verdict for m in ("crown-ibp", "crown")} == {"verified"}


def test_a_memory_limit_takes_fewer_boxes_or_refuses() -> None:
    net = dense(*[(np.eye(64).tolist(), [0.0] * 64)] * 3)
    low = np.zeros((40, 64))
    whole = overflow(net, gamma.Box(low, low + 1.0))
    assert whole.planned_bytes is None
    for method, limit in (("ibp", 200_000), ("crown", "30MB")):
        part = overflow(net, gamma.Box(low, low + 1.0), method=method, memory=limit)
        assert part.verdict == "verified" and part.planned_bytes is not None
    few = overflow(net, gamma.Box(low, low + 1.0), memory=200_000)
    assert few.planned_bytes is not None and few.planned_bytes <= 200_000
    assert [n.partial for n in few.nodes] == [n.partial for n in whole.nodes]
    with pytest.raises(gamma.ResourceError, match="one box takes"):
        overflow(net, gamma.Box(low, low + 1.0), memory=1000)
