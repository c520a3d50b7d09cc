"""Interval steps of convolutions and sums in one call of the C library: exact arithmetic judges."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Conv, Input, Relu
from gamma.ops import image_interval as steps
from gamma.ops.bounds import NodeBounds
from gamma.ops.tables import Precision
from gamma.propagate.interval import input_bounds, interval_pass
from gamma.tensor import kernels, rounding
from gamma.tensor.box import Box

ISAS = [name for name in kernels.available() if name != "numpy"]
pytestmark = pytest.mark.skipif(not ISAS, reason="no compiled library")

CASES = (
    # groups, channels, image, out, kernel, strides, pads, dilations
    (1, 1, (1, 1), 1, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    (1, 3, (5, 4), 9, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    (2, 2, (4, 7), 13, (4, 4), (2, 2), (1, 1, 1, 1), (1, 1)),
    (3, 1, (7, 5), 4, (3, 2), (3, 1), (0, 2, 1, 0), (2, 3)),
    (1, 4, (4, 4), 17, (1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    (1, 2, (5, 6), 3, (2, 2), (4, 3), (3, 5, 4, 4), (1, 1)),
    (1, 5, (1, 9), 6, (1, 4), (1, 1), (0, 2, 0, 1), (1, 2)),
)


def convolution(case: Any, dtype: type, rng: np.random.Generator) -> tuple[Conv, tuple[int, ...]]:
    """Weights of very different sizes, some of them 0."""
    groups, channels, image, out, kernel, strides, pads, dilations = case
    shape = (groups * out, channels, *kernel)
    weight = rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 5, shape)
    weight[rng.random(shape) < 0.2] = 0
    bias = rng.standard_normal(groups * out).astype(dtype) if out % 2 else None
    op = Conv(weight.astype(dtype), bias, strides, pads, dilations, groups)
    return op, (groups * channels, *image)


def boxes(shape: tuple[int, ...], rng: np.random.Generator, count: int = 2) -> NodeBounds:
    """Points, tiny and wide intervals about centres of very different sizes."""
    size = (count, *shape)
    centre = rng.standard_normal(size) * 10.0 ** rng.integers(-6, 7, size)
    radius = rng.choice([0.0, 1e-9, 1.0, 1e3], size)
    radius[0] = 0
    return input_bounds(Box(centre - radius, centre + radius))


def image_of(op: Conv, x: NodeBounds, box: int, k: int, y: int, z: int) -> tuple[Fraction, ...]:
    """Exact ends of one entry of the result over one box."""
    window = op.window(x.lower.shape[1:])
    each, group = op.weight.shape[1], k // (len(op.weight) // op.group)
    least = most = Fraction(0 if op.bias is None else float(op.bias[k]))
    for c, i, j in itertools.product(range(each), *map(range, window.kernel)):
        row = y * window.strides[0] + i * window.dilations[0] - window.pads[0]
        column = z * window.strides[1] + j * window.dilations[1] - window.pads[1]
        if 0 <= row < window.image[0] and 0 <= column < window.image[1]:
            at = (box, group * each + c, row, column)
            weight = Fraction(float(op.weight[k, c, i, j]))
            ends = [weight * Fraction(float(e[at])) for e in (x.lower, x.upper)]
            least, most = least + min(ends), most + max(ends)
    return least, most


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("case", CASES)
def test_encloses_the_exact_image(isa: str, dtype: type, case: Any) -> None:
    """CENTRE: sums that cancel over points; SIZE: negative weights; GROUPS: the largest centre."""
    rng = np.random.default_rng(case[3])
    op, shape = convolution(case, dtype, rng)
    x = boxes(shape, rng)
    with kernels.pinned(isa):
        found = op.interval_bounds([x], Precision())
        with tuning.disabled("fused_image"):
            plain = op.interval_bounds([x], Precision())
    entries = np.argwhere(np.ones(found.lower.shape, bool))
    chosen = rng.choice(len(entries), min(60, len(entries)), replace=False)
    for at in map(tuple, entries[chosen]):
        least, most = image_of(op, x, *(int(e) for e in at))
        assert Fraction(found.lower[at]) <= least and most <= Fraction(found.upper[at])
        assert Fraction(found.spread[at]) + Fraction(found.noise[at]) >= (most - least) / 2
    slack = 1e-12 * (abs(plain.lower) + abs(plain.upper)) + 2 * plain.noise
    assert (abs(found.lower - plain.lower) <= slack).all()
    assert (abs(found.upper - plain.upper) <= slack).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("signs", ((1, 1), (1, -1), (-1, 1, -1)))
def test_sums_enclose_the_exact_image(isa: str, signs: tuple[int, ...]) -> None:
    """SUM: the largest centre of every input counts; a reach of another sign."""
    rng = np.random.default_rng(len(signs))
    inputs = [boxes((3, 4), rng) for _ in signs]
    with kernels.pinned(isa):
        found = Add(signs).interval_bounds(inputs, Precision())
    for at in np.ndindex(found.lower.shape):
        ends = [
            [sign * Fraction(float(e[at])) for e in (x.lower, x.upper)]
            for sign, x in zip(signs, inputs, strict=True)
        ]
        assert Fraction(found.lower[at]) <= sum(map(min, ends))
        assert sum(map(max, ends)) <= Fraction(found.upper[at])


@pytest.mark.parametrize("isa", ISAS)
def test_sums_that_cancel_pay_for_their_largest_term(isa: str) -> None:
    """x + y - x over points, |y| far below |x|: as a sum, and in the second of two groups."""
    rng = np.random.default_rng(5)
    size, small = 1e8 * (1 + rng.random((1, 1, 8, 8))), rng.random((1, 1, 8, 8))
    x, y = (input_bounds(Box(p, p)) for p in (size, small))
    parts = np.concatenate((np.zeros((1, 3, 8, 8)), size, small, size), axis=1)
    weight = np.tile(np.array([1, 1, -1], np.float32).reshape(1, 3, 1, 1), (2, 1, 1, 1))
    with kernels.pinned(isa):
        total = Add((1, 1, -1)).interval_bounds([x, y, x], Precision())
        both = Conv(weight, None, group=2).interval_bounds(
            [input_bounds(Box(parts, parts))], Precision()
        )
    assert (total.centre != small).any()  # something was lost
    for ends in ((total.lower, total.upper), (both.lower[:, 1:], both.upper[:, 1:])):
        assert (ends[0] <= small).all() and (small <= ends[1]).all()


def residual() -> Network:
    rng = np.random.default_rng(3)
    builder = Builder(Input(), (2, 5, 5))
    first = builder.add(Conv(rng.standard_normal((5, 2, 3, 3)), None, pads=(1, 1, 1, 1)), 0)
    hidden = builder.add(Relu(), first)
    more = builder.add(Conv(rng.standard_normal((5, 5, 3, 3)), None, pads=(1, 1, 1, 1)), hidden)
    return builder.build(builder.add(Add(), more, first))


@pytest.mark.parametrize("isa", ISAS)
def test_boxes_in_parts_are_the_same_bits(isa: str, monkeypatch: Any) -> None:
    net, rng = residual(), np.random.default_rng(0)
    x = boxes((2, 5, 5), rng, 7)
    box = Box(x.lower, x.upper)
    with kernels.pinned(isa):
        whole = interval_pass(net, box)[-1]
        single = interval_pass(net, Box(box.lower[4:5], box.upper[4:5]))[-1]
        monkeypatch.setattr(steps, "_CALL_OPERATIONS", 1)
        parts = interval_pass(residual(), box)[-1]
    assert (whole.lower == parts.lower).all() and (whole.upper == parts.upper).all()
    assert (whole.lower[4] == single.lower[0]).all() and (whole.upper[4] == single.upper[0]).all()


@pytest.mark.parametrize("isa", ISAS)
def test_unbounded_inputs_leave_nothing_known(isa: str) -> None:
    lower, upper = np.zeros((1, 2, 5, 5)), np.ones((1, 2, 5, 5))
    lower[0, 1, 4, 4], upper[0, 1, 4, 4] = -np.inf, np.inf
    x = NodeBounds(lower, upper, rounding.midpoint(lower, upper))
    conv = residual().nodes[1].op
    with kernels.pinned(isa):
        found = conv.interval_bounds([x], Precision())
        total = Add().interval_bounds([found, found], Precision())
    for ends in (found, total):
        assert (ends.upper[0, :, 3:, 3:] == np.inf).all()
        assert (ends.lower[0, :, 3:, 3:] == -np.inf).all()
        assert np.isfinite(ends.upper[0, :, :3]).all() and np.isfinite(ends.centre).all()


@pytest.mark.parametrize("isa", ISAS)
def test_what_does_not_fit_is_refused(isa: str) -> None:
    image = kernels.Image(kernels.Frame((3, 3, 1, 1, 1, 1), 1, 1), (1, 2, 5, 5), (1, 4, 5, 5))
    weight, row_sum, factors = np.zeros((1, 1, 3, 3, 2, kernels.PANEL)), np.ones(100), (0.0, 0.0)
    with kernels.pinned(isa):
        made = kernels.convolution(weight, None, row_sum, factors, image)
        assert made is not None
        out, good = np.empty((5, 2, 100)), np.zeros((2, 50))
        assert made.run(good, good, out, (0, 2)) == 0
        for bad in (np.zeros((2, 49)), good.astype(np.float32), np.zeros((2, 100))[:, ::2]):
            with pytest.raises(UsageError):
                made.run(bad, good, out, (0, 2))
        for span in ((0, 3), (-1, 1), (2, 1)):
            with pytest.raises(UsageError):
                made.run(good, good, out, span)
        for change in ({"weight": weight[..., :4]}, {"row_sum": row_sum[1:]}):
            with pytest.raises(UsageError):
                kernels.convolution(
                    **{"weight": weight, "bias": None, "row_sum": row_sum, **change},  # type: ignore[arg-type]
                    factors=factors,
                    image=image,
                )
        with pytest.raises(UsageError):
            kernels.sum_interval([good], [good], (1, 1), row_sum[:50], factors)
