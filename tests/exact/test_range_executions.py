"""Ranges under float32: inputs built so that an execution leaves what real arithmetic allows, one
test per term. docs/numerics.md names the terms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.ops.execution import Execution
from gamma.propagate.ranges.sets import Known, Sphere
from gamma.propagate.ranges.walk import range_walk
from tests.exact.oracle import q

Array = Any
F = np.float32
N = 700


def alone(op: Any, *shape: int) -> Network:
    builder = Builder(ops.Input(), shape)
    return builder.build(builder.add(op, 0))


def box(x: Array, form: Sphere | None = None, wide: float = 0.0) -> Known:
    """The point x, or what lies within ``wide`` of it."""
    x = np.asarray(x, np.float64)
    return Known(x.shape, x - wide, x + wide, form)


def ends(net: Network, source: Known) -> list[tuple[float, float]]:
    """Least and greatest entry of the output: of real arithmetic, and of executions."""
    found = [range_walk(net, source, guarantee=g)[-1] for g in ("real", "float32")]
    return [(float(k.lower.min()), float(k.upper.max())) for k in found]


def needed(net: Network, source: Known, executed: float) -> None:
    """An execution leaves the real range, and not that of executions, which is hardly wider."""
    (_, real), (_, most) = ends(net, source)
    assert real < executed <= most < real + 1e-3 * abs(real) + 1e-3


def drifting(product: Callable[[Any], Any] = lambda v: v, terms: int = N) -> tuple[Any, Any]:
    """A float32 v and the float32 sum, one after another, of ``terms`` of product(v): above the
    exact sum of the exact products by 2^-20 of it at least."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        v, total = F(rng.uniform(1, 2)), F(0)
        for _ in range(terms):
            total = total + product(v)
        exact = terms * float(product(v.astype(np.float64)))
        if float(total) > exact * (1 + 2.0**-20):
            return v, total
    raise AssertionError("no such number")


def ball(shape: tuple[int, ...], axis: int, vector: Array) -> Sphere:
    """All vectors along ``axis`` that are no longer than this one."""
    length = math.sqrt((np.asarray(vector, np.float64) ** 2).sum()) * (1 + 2.0**-50)
    return Sphere.ball(len(shape), axis, length)


@pytest.mark.parametrize("kind", ["box", "sphere", "bias"])
def test_sums_of_a_dense_layer(kind: str) -> None:
    """RANGE32.BOX, RANGE32.SPHERE and RANGE32.BIAS: what is read by sizes, by norms, or added."""
    v, total = drifting()
    net, x = alone(ops.Gemm(np.ones((1, N))), 1, N), np.full((1, N), v)
    source = box(x)
    if kind == "sphere":
        source = box(x, ball((1, N), 1, x), wide=100.0)
    if kind == "bias":
        tiny = Sphere.ball(2, 1, 2.0**-40)
        source = box(x, replace(tiny, bias=x.astype(np.float64)), wide=100.0)
    needed(net, source, float(total))


def test_scores_by_the_norms_of_queries_and_keys() -> None:
    """RANGE32.SCORES"""
    v, total = drifting(lambda v: v * v)
    builder = Builder(ops.Input(), (1, N))
    key = builder.add(ops.Transpose((1, 0)), 0)
    net, x = builder.build(builder.add(ops.MatMul(), 0, key)), np.full((1, N), v)
    needed(net, box(x, ball((1, N), 1, x), wide=100.0), float(total))


def test_means_of_values() -> None:
    """RANGE32.MEANS: equal chances, which float32 holds, of equal values."""
    count = 1024
    v, total = drifting(lambda v: v / type(v)(count), count)
    builder = Builder(ops.Input(), (1, count))
    none = np.zeros(1)
    values = builder.add(ops.Scale(none, np.full(count, v), 0.0, 0.0, np.zeros((4, 1))), 0)
    column = builder.add(ops.Reshape((count, 1)), values)
    net = builder.build(builder.add(ops.MatMul(), 0, column))
    needed(net, Known((1, count), np.zeros((1, 1)), np.ones((1, 1)), None, 0.0), float(total))


def test_chances_of_an_execution_sum_to_one_within_their_excess() -> None:
    """RANGE32.CHANCES"""
    x = np.random.default_rng(2).normal(0, 3, (3000, 9)).astype(F)
    sums = [sum(q(float(p)) for p in row) for row in ops.Softmax().forward(x)]
    away = max(abs(s - 1) for s in sums)
    found = range_walk(alone(ops.Softmax(), 1, 9), box(x[:1], None, 20.0), guarantee="float32")[-1]
    assert found.excess is not None and q(2.0**-24) < away <= q(found.excess) < q(1e-4)


def test_a_normalised_vector_may_be_longer_than_its_sphere() -> None:
    """RANGE32.NORMAL and RANGE32.NORMAL_BALL: single entries, and all of them together."""
    op, d = ops.Normalize(-1, 1e-12, False), 6
    x = np.random.default_rng(3).uniform(1, 2, (4000, d)).astype(F)
    y = op.forward(x)
    found = range_walk(alone(op, 1, d), box(x[:1], None, 100.0), guarantee="float32")[-1]
    form = found.form
    assert isinstance(form, Sphere)
    lengths = [sum(q(float(v)) ** 2 for v in row) for row in y]
    assert d < max(lengths) <= (q(form.radius) + q(form.stray)) ** 2 < q(d * 1.001)
    single = np.zeros((4000, d), F)
    single[:, 0] = x[:, 0]
    top = float(op.forward(single).max())
    assert math.sqrt(d) < top <= found.upper.max() < math.sqrt(d) * 1.001


def test_an_execution_of_a_layer_normalisation_is_off_by_a_number_too() -> None:
    """RANGE32.NUMBER: by what taking the mean off loses."""
    op, x = ops.Normalize(-1, 1e-5), np.array([[4.0, 5.0, 4.5, 5.5, 4.0, 5.0]])
    form = range_walk(alone(op, 1, 6), box(x), guarantee="float32")[-1].form
    least = np.full((1, 1, 1), x.var() + op.epsilon)
    share, number = op.float32_errors(x[None], x[None], least)
    assert isinstance(form, Sphere) and share.max() > 0 < number.min()
    assert (form.error >= number[0]).all() and form.stray >= share.max() * form.radius


def test_a_function_that_may_overflow_is_not_known() -> None:
    """RANGE32.OVERFLOW"""
    (_, real), executed = ends(alone(ops.Exp(), 1, 1), box(np.full((1, 1), 88.5)))
    assert math.isfinite(real) and executed == (-math.inf, math.inf)


@pytest.mark.parametrize("op", [ops.Scale(np.array([F(1.1)]), np.array([F(0.3)])), ops.Silu()])
def test_single_steps(op: Any) -> None:
    """RANGE32.SCALE, RANGE32.FUNCTION"""
    x = np.random.default_rng(4).uniform(1, 2, (400, 1)).astype(F)
    above = op.forward(x).astype(np.float64) - op.forward(x.astype(np.float64))
    worst = int(above.argmax())
    needed(alone(op, 1, 1), box(x[worst : worst + 1]), float(op.forward(x)[worst, 0]))


@pytest.mark.parametrize("op", [ops.Add(), ops.Mul()])
def test_steps_of_two_inputs(op: Any) -> None:
    """RANGE32.SUM, RANGE32.PRODUCT"""
    builder = Builder(ops.Input(), (2,))
    other = builder.add(ops.Gather(np.array([1, 0]), (2,)), 0)
    net = builder.build(builder.add(op, 0, other))
    x = np.random.default_rng(5).uniform(1, [2, 8], (400, 2)).astype(F)
    made = op.forward(x, x[:, ::-1])
    above = made.astype(np.float64) - op.forward(*(np.float64(a) for a in (x, x[:, ::-1])))
    above = above[:, 0]
    worst = int(above.argmax())
    needed(net, box(x[worst]), float(made[worst, 0]))


def test_factors_of_a_rotation_that_stray() -> None:
    """RANGE32.TURN and RANGE32.TURN_BALL: by what the executed cosine and sine may be off."""
    angle, away = 0.7868211972398474, 2.0**-12
    builder = Builder(ops.Input(), (1, 1, 2))
    other = builder.add(ops.Gather(np.array([1, 0]), (1, 1, 2)), 0)

    def factor(value: Array) -> Any:
        steps = Execution.of(value, None).plus(away, 0.0).packed()
        return ops.Scale(value, None, 0.0, 0.0, steps.reshape(4, 1, 1, 2))

    cos = builder.add(factor(np.full((1, 1, 2), math.cos(angle))), 0)
    sin = builder.add(factor(math.sin(angle) * np.array([[[-1.0, 1.0]]])), other)
    net = builder.build(builder.add(ops.Add(), cos, sin))
    x = np.array([[[math.sin(angle), math.cos(angle)]]]).astype(F)
    source = box(x, ball((1, 1, 2), 2, x))
    most = (math.cos(angle) + away) * float(x[..., 1].max()) + (math.sin(angle) + away) * float(
        x[..., 0].max()
    )
    needed(net, source, float(F(most)))
    form = range_walk(net, source, guarantee="float32")[-1].form
    assert isinstance(form, Sphere) and form.radius >= most


@pytest.mark.parametrize("op", [ops.Sigmoid(), ops.Softmax(), ops.Normalize(-1, 1e-5, False)])
def test_nothing_is_known_behind_an_overflow(op: Any) -> None:
    """RANGE32.POISON: bounded functions of what may be infinite, or not a number."""
    builder = Builder(ops.Input(), (1, 2))
    sums = builder.add(ops.Gemm(np.full((2, 2), F(3e38))), 0)
    net = builder.build(builder.add(op, sums))
    (low, high), executed = ends(net, box(np.ones((1, 2))))
    assert math.isfinite(low) and math.isfinite(high) and executed == (-math.inf, math.inf)


def test_what_an_execution_moved_is_read_by_what_comes_after() -> None:
    """RANGE32.FORM and RANGE32.IMAGE: what a sphere, and an image of one, were off by."""
    n = 4
    noise, zero = np.full((1, n), 0.5), np.zeros((1, n))
    sphere = Sphere.ball(2, 1, 1.0)
    known = Known((1, n), zero - 9, zero + 9, sphere).strayed(noise)
    reader = ops.Gemm(np.ones((1, n), F))
    assert range_walk(alone(reader, 1, n), known)[-1].upper.max() >= 2.0 + 0.5 * n
    image = range_walk(alone(ops.Gemm(np.eye(n, dtype=F)), 1, n), replace(known, form=sphere))[-1]
    moved = replace(image.strayed(noise), lower=zero - 9, upper=zero + 9)
    assert range_walk(alone(reader, 1, n), moved)[-1].upper.max() >= 2.0 + 0.5 * n
