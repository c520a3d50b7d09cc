"""Rows of many boxes, slopes that rise, and normalisations: all steps in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gamma import tuning
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Gemm, Input, Normalize, Relu
from gamma.ops.quotient import Quotients
from gamma.propagate.alpha import alpha_walk, optimise
from gamma.propagate.options import options_of
from gamma.propagate.rows.ascent import DenseAscent
from gamma.propagate.rows.block import Dense
from gamma.propagate.walks import walk
from gamma.runtime import workers
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.propagate.ascending import (
    claim,
    images,
    network,
    residual,
    residual_images,
    some_boxes,
)

pytestmark = pytest.mark.skipif(kernels.isa == "numpy", reason="needs the compiled kernels")


def groups() -> Network:
    return images(group=2)


@pytest.mark.parametrize("make", [lambda: network(1), images, groups, residual])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_several_boxes_have_their_tables(make: Any, guarantee: str, dtype: str) -> None:
    """In any order, alone or among others: every charge and line is of the row's own box."""
    net = make()
    made = alpha_walk(net, some_boxes(net, 3), options_of(net, "alpha", guarantee, dtype, None))
    claim(made)
    boxes, neurons = np.tile([2, 0, 0, 1, 2], 30), np.arange(150) % 3
    frontier, d, box = made.both_signs(net.output, boxes, neurons)

    def lower(rows: Any, steps: int) -> Any:
        asked = {i: Dense(part.dense()[rows]) for i, part in frontier.items()}
        how = made.descent, asked, d[rows], box[rows], made.initial, made.how, steps
        return optimise(*how)

    rows = np.arange(300)
    found = lower(rows, 1)
    with tuning.disabled("fused_ascent"):
        step_by_step = lower(rows, 1)
    if make is groups:  # the same but for what longer sums cost
        assert (abs(found - step_by_step) <= 1e4 * np.finfo(dtype).eps * abs(found)).all()
    else:
        assert np.array_equal(found, step_by_step)
    best = lower(rows, 5)
    assert (best >= found).all() and (best > found + 1e-3).any()
    for chosen in (rows[::-1], rows[box == 1], rows[7:8]):
        assert np.array_equal(lower(chosen, 5), best[chosen])


def test_boxes_come_without_assumptions() -> None:
    net = network(1)
    made = alpha_walk(net, some_boxes(net, 2), options_of(net, "alpha", "real", "auto", None))
    assert DenseAscent.of(made.descent.tables, net.output, assumes=True) is None
    ascent, factors = made.descent.ascent, np.zeros((1, 5))
    assert ascent is not None
    relus = sum(len(places) for _, places in ascent.relus(net.output))
    asked = np.eye(3, dtype=made.options.dtype), np.zeros(3)
    slope = np.zeros((2, relus), made.options.dtype)
    rows = kernels.Climbers.plain(slope, np.zeros(2, np.int64), np.array([0, 2]))
    with pytest.raises(UsageError, match="index"):
        ascent.run(net.output, asked, rows, factors, None)
    cost = np.zeros((2, relus), made.options.dtype)
    with pytest.raises(UsageError, match="expected one"):
        ascent.run(net.output, asked, rows, factors, None, cost=cost)


@pytest.mark.parametrize("make", [lambda: network(1), images, residual, residual_images])
@pytest.mark.parametrize("boxes", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optimised_slopes_are_those_of_steps(make: Any, boxes: int, dtype: str) -> None:
    """Layer by layer: what one layer came to is in the next one's rows."""
    net, near = make(), 64 * np.finfo(dtype).eps
    asked = some_boxes(net, boxes)
    options = options_of(net, "alpha", "real", dtype, None)
    found = []
    for gate in ("fused_alpha", "fused_ascent"):
        with tuning.disabled(gate):
            found.append(alpha_walk(net, asked, options))
            found[-1].output()
    first, second = found
    assert first.descent.ascent is not None and first.descent.ascent.reaches(net.output)
    for index in range(1, net.output + 1):
        one, two = first.bounds[index], second.bounds[index]
        axes = tuple(range(1, two.lower.ndim))
        size = np.maximum(abs(two.lower), abs(two.upper)).max(axes, keepdims=True)
        # A neuron that no longer crosses 0 may have taken more steps where others did.
        open_ones = ((two.lower < 0) & (two.upper > 0)) | (index == net.output)
        for end, other in ((one.lower, two.lower), (one.upper, two.upper)):
            assert (abs(end - other) <= near * size)[open_ones].all()
        assert np.array_equal(one.lower >= 0, two.lower >= 0)
    plain = first.plain.output()
    assert (first.bounds[net.output].lower > plain.lower + 1e-3).any()


@pytest.mark.parametrize(
    "make", [lambda: network(1), images, groups, residual, lambda: residual_images(whole=True)]
)
@pytest.mark.parametrize("boxes", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optimised_bounds_hold_exact_values(make: Any, boxes: int, dtype: str) -> None:
    """Of every node, at corners and at middles of sides: small multiples of a power of two."""
    net, rng = make(), np.random.default_rng(5)
    asked = some_boxes(net, boxes)
    walk = alpha_walk(net, asked, options_of(net, "alpha", "real", dtype, None))
    walk.output()
    assert walk.descent.ascent is not None and walk.descent.ascent.reaches(net.output)
    for _ in range(200):
        share = rng.integers(0, 3, asked.lower.shape) / 2
        values = [asked.lower + share * (asked.upper - asked.lower)]
        for index, node in enumerate(net.nodes[1:], start=1):
            value = node.op.forward(*(values[i] for i in node.inputs))
            assert value.dtype == np.float64 and (value * 2**8 == np.round(value * 2**8)).all()
            values.append(value)
            known = walk.bounds[index]
            assert (known.lower <= value).all() and (value <= known.upper).all()


def normalised(centred: bool = True) -> Network:
    """Blocks around which the input goes, two of which begin with a normalisation."""
    rng, (build, last) = np.random.default_rng(3), (Builder(Input(), (5,)), 0)
    for width in (19, 33):
        inner = build.add(Normalize(-1, 1e-2, centred), last)
        up, down = rng.normal(size=(width, 5)), rng.normal(size=(5, width)) / width
        inner = build.add(Gemm(up.astype("f"), rng.normal(size=width).astype("f")), inner)
        inner = build.add(Gemm(down.astype("f")), build.add(Relu(), inner))
        last = build.add(Add(), last, inner)
    last = build.add(Normalize(-1, 1e-2, True), last)
    return build.build(build.add(Gemm(rng.normal(size=(3, 5)).astype("f")), last))


def near_boxes() -> Box:
    """Narrow enough for planes."""
    middle = np.random.default_rng(4).normal(size=(3, 5))
    return Box(middle - [[0.05], [0.1], [0.02]], middle + 0.05)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_pass_normalisations(centred: bool, guarantee: str, dtype: str) -> None:
    """As step by step, but for the order of sums; once down by the tables' lines, too."""
    net = normalised(centred)
    made = alpha_walk(net, near_boxes(), options_of(net, "alpha", guarantee, dtype, None))
    made.output()
    boxes, neurons = np.tile([2, 0, 0, 1, 2], 30), np.arange(150) % 3
    frontier, d, box = made.both_signs(net.output, boxes, neurons)
    tables = made.descent.tables
    for index in (1, 6):  # what underflow costs is seen, too
        table = tables.relaxation(index)
        assert isinstance(table, Quotients)
        tables._relaxations[index] = replace(table, loss=np.array([0.5, 0.25, 1.0]))
    for ascent in made.descent._ascents:
        ascent.forget(0)

    def rows() -> Any:
        return {i: Dense(part.dense().copy()) for i, part in frontier.items()}

    def raised(steps: int) -> Any:
        return optimise(made.descent, rows(), d, box, made.initial, made.how, steps)

    found = [raised(steps) for steps in (1, 4)] + [made.descent.run(rows(), d.copy(), box)]
    with tuning.disabled("fused_ascent"):
        expected = [raised(steps) for steps in (1, 4)]
        made.descent.__dict__.pop("passage")
        assert made.descent.passage is None or not made.descent.passage.takes(frontier)
        expected.append(made.descent.run(rows(), d.copy(), box))
    assert (found[1] >= found[0]).all() and (found[1] > found[0] + 1e-4).any()
    for ours, theirs in zip(found, expected, strict=True):
        size = 1 + abs(theirs)
        assert (abs(ours - theirs) <= 1e3 * np.finfo(dtype).eps * size)[np.isfinite(theirs)].all()
        assert np.isfinite(theirs).any() and (np.isfinite(ours) == np.isfinite(theirs)).all()


@pytest.mark.parametrize("method", ["crown", "alpha"])
def test_threads_share_rows_past_normalisations(method: str) -> None:
    net, found = normalised(), []
    for threads in (1, 2, 3):
        with workers.limited(threads):
            options = options_of(net, method, "real", "float64", None)
            made = (alpha_walk if method == "alpha" else walk)(net, near_boxes(), options)
            ends = made.output()
        found.append((ends.lower, ends.upper))
    for other in found[1:]:
        assert all(np.array_equal(*pair) for pair in zip(found[0], other, strict=True))
