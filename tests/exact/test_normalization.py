"""Normalisation: one test per term, in 400-bit balls. docs/numerics.md names the terms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gamma import ops
from gamma.errors import UsageError
from gamma.methods import METHODS
from gamma.network.graph import Builder
from gamma.ops import normalization
from gamma.ops.bounds import NodeBounds
from gamma.ops.evaluate import gradient
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.exact.boxes import between, inside
from tests.exact.checking import Config, Count, check, exact_values
from tests.exact.normalizing import KINDS, a_box, each_kind, network, onnxruntime, step, truth
from tests.exact.oracle import exact, q, violations

Array = Any
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
SCALES = (1e-30, 1e-3, 1.0, 1e5, 1e30)
pytestmark = pytest.mark.usefixtures("precise")


def boxes(r: np.random.Generator, d: int) -> Iterator[NodeBounds]:
    """Scales, offsets and radii of every relation, mixed magnitudes, equal entries."""
    for scale, wide, far in itertools.product((*SCALES, 0.0), (0, 1e-9, 1e-2, 3.0), (0, 30.0)):
        unit = scale or 10.0 ** r.integers(-30, 31, d)
        middle = r.normal(size=d) * unit + far * np.max(unit)
        reach = r.uniform(size=d) * unit * wide
        yield between(middle - reach, middle + reach)
    yield between(np.full(d, 3.0), np.full(d, 3.0))
    yield between(np.zeros(d), np.zeros(d))


@pytest.mark.parametrize("epsilon", [1e-5, 0.0])
@each_kind
def test_images(op: ops.Normalize, epsilon: float) -> None:
    op, r = ops.Normalize(-1, epsilon, op.centred), np.random.default_rng(0)
    for d in (1, 2, 3, 9):
        for x in boxes(r, d):
            found = step(op, x)
            for point in inside(x, r, 4):
                assert not violations(found.lower[0], found.upper[0], truth(op, point))


@each_kind
def test_images_of_points(op: ops.Normalize) -> None:
    """NORMALIZE.IMAGE, NORMALIZE.SUMS, NORMALIZE.SQUARES: nothing but the evaluation's error lies
    between both ends."""
    r = np.random.default_rng(1)
    for scale, far in itertools.product((1e-4, 1.0, 1e9), (0.0, 1e3)):
        for n in (6, 6, 6, 6, 6, 6, 700):
            # Sums of many equal sizes round alike.
            x = r.normal(size=n) if n == 6 else np.where(np.arange(n) % 2, 1 / 3, -1 / 3)
            x = (x + far) * scale
            found = step(op, between(x, x))
            assert not violations(found.lower[0], found.upper[0], truth(op, x))
            assert (found.upper - found.lower).max() <= 2.0**-30


@each_kind
def test_least_square(op: ops.Normalize) -> None:
    """NORMALIZE.LEAST: below mean(c²) at every point, and near it where entries barely move."""
    r = np.random.default_rng(15)
    for wide, far in itertools.product((0.0, 1e-6, 0.5, 2.0), (0.0, 100.0)):
        x = a_box(r, 5, wide, 1.0, far)
        least = normalization.least_square(x.lower, x.upper, op.centred)[0, 0]
        runs = []
        near = np.clip(x.centre[0].mean(), x.lower[0], x.upper[0])
        for point in [*inside(x, r, 30), near]:
            v = exact(point) - (sum(exact(point)) / 5 if op.centred else 0)
            runs.append(sum(v * v) / 5)
            assert q(least) <= runs[-1]
        assert wide > 1e-3 or least > float(min(runs)) * (1 - 1e-4)


@pytest.mark.parametrize("dims", [2, 5, 64])
@each_kind
def test_images_are_near_those_of_corners(op: ops.Normalize, dims: int) -> None:
    """Root mean square: the corners themselves. Centred: within three times their width."""
    r = np.random.default_rng(2)
    for wide in (1e-6, 1e-3, 0.1):
        middle = r.normal(size=dims)
        x = between(middle - wide, middle + wide)
        found = step(op, x)
        width = (found.upper - found.lower)[0]
        runs = op.forward(np.array(inside(x, r, 200)))
        if not op.centred:
            runs = np.concatenate((runs, _one_against(op, x)))
            assert (width <= (runs.max(0) - runs.min(0)) * (1 + 1e-6) + 1e-12).all()
        gain = 2 * wide * (1 + np.sqrt(dims)) / middle.std()
        assert (width <= 3 * gain).all()


def _one_against(op: ops.Normalize, x: NodeBounds) -> Array:
    """Values where one entry is at an end and the others at their smallest, or largest, sizes."""
    low, high = x.lower[0], x.upper[0]
    near, far = np.clip(0.0, low, high), np.where(low + high > 0, high, low)
    points = []
    for k in range(near.size):
        own = np.arange(near.size) == k
        points += [np.where(own, a, b) for a, b in itertools.product((low, high), (near, far))]
    return op.forward(np.array(points))


@each_kind
def test_every_input_meets_the_cap(op: ops.Normalize) -> None:
    """Boxes that hold everything: the sphere of radius √d, exactly."""
    for d, far in itertools.product((1, 2, 300), (1.0, 1e30, 1e300, np.inf)):
        x = NodeBounds(*(np.full((1, d), s * far) for s in (-1.0, 1.0, 0.0)))
        found, cap = step(op, x), np.sqrt(d - op.centred)
        assert (found.upper <= np.nextafter(cap, 9e9)).all() and (found.lower == -found.upper).all()
        assert (found.upper[0] >= cap - 1e-3).all() or far == 1.0


@each_kind
def test_zero_over_zero_is_anything(op: ops.Normalize) -> None:
    op = ops.Normalize(-1, 0.0, op.centred)
    found = step(op, between(-np.ones(3), np.ones(3)))
    assert np.isinf(found.lower).all() and np.isinf(found.upper).all()
    assert np.isfinite(step(op, between([1.0, 2, 4], [1.5, 2, 4])).lower).all()


def executions(op: ops.Normalize, x: Array, r: np.random.Generator) -> list[Array]:
    """Ways in which runtimes compute the rows of ``x`` (n, d), in float32."""
    one, eps = np.float32(1), np.float32(op.epsilon)
    d = np.float32(x.shape[-1])

    def mean(v: Array) -> Array:
        return np.cumsum(v, axis=-1, dtype=np.float32)[..., -1:] / d  # one after the other

    x = x[:, r.permutation(x.shape[-1])]
    if not op.centred:
        v = mean(x * x) + eps
        return [x / np.sqrt(v), x * (one / np.sqrt(v)), x * np.power(v, np.float32(-0.5))]
    m = mean(x)
    single = mean(x * x) - m * m
    c = x - m
    found = []
    for v in (single, np.maximum(single, 0), mean(c * c), _welford(x)):
        root = np.sqrt(v + eps)
        found += [c / root, c * (one / root), x * (one / root) + -(one / root) * m]
    return found


def _welford(x: Array) -> Array:
    m, total = np.zeros_like(x[:, :1]), np.zeros_like(x[:, :1])
    for k in range(x.shape[1]):
        away = x[:, k : k + 1] - m
        m = m + away / np.float32(k + 1)
        total = total + away * (x[:, k : k + 1] - m)
    return total / np.float32(x.shape[1])


@pytest.mark.parametrize("far", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("scale", [1e-41, 1e-22, 1.0, 1e4, 1e18])
@each_kind
def test_executions_of_points(op: ops.Normalize, scale: float, far: float) -> None:
    """NORMALIZE.FLOAT32: onnxruntime, and one pass, two passes and Welford's, spelled out."""
    r = np.random.default_rng(3)
    for d in (2, 40, 384):
        x = ((r.normal(size=(16, d)) + far) * scale).astype(np.float32)
        found = step(op, between(x, x), "float32")
        seed = int(r.integers(9999))
        order = np.random.default_rng(seed).permutation(d)
        with np.errstate(all="ignore"):
            runs = executions(op, x, np.random.default_rng(seed))
            assert not violations(found.lower[0, :2], found.upper[0, :2], truth(op, x[:2]))
            for run in (onnxruntime(op, x), op.forward(x)):
                _holds(found.lower[0], found.upper[0], run)
            for run in runs:
                _holds(found.lower[0][:, order], found.upper[0][:, order], run)
        if far <= 1 and scale in (1.0, 1e4):  # and the charge means something
            assert (found.upper - found.lower).max() < 0.05


def _holds(lower: Array, upper: Array, run: Array) -> None:
    known = np.isfinite(lower)
    assert (lower[known] <= run[known]).all() and (run[known] <= upper[known]).all()


@each_kind
def test_an_assumption_without_error_would_be_false(op: ops.Normalize) -> None:
    """The comparison above can fail: float32 strays from the real function."""
    x = np.random.default_rng(4).normal(size=(16, 40)).astype(np.float32)
    found, run = step(op, between(x, x)), op.forward(x)
    assert ((run < found.lower[0]) | (run > found.upper[0])).any()


def test_an_execution_that_may_overflow_is_unbounded() -> None:
    """NORMALIZE.PEAK: squares beyond the largest float32, though y itself is small."""
    for op, scale in itertools.product(KINDS, (1e19, 2e19, 1e38)):
        x = np.array([[1.0, -2.0, 3.0, 1.5]], np.float32) * np.float32(scale)
        found = step(op, between(x, x), "float32")
        assert np.isinf(found.lower).all() and np.isinf(found.upper).all()
        assert np.isfinite(step(op, between(x, x)).upper).all()


def test_a_variance_that_may_be_executed_as_negative_is_unbounded() -> None:
    """NORMALIZE.CANCEL: one pass over equal entries finds x² - x² up to rounding."""
    x = np.full((1, 40), np.float32(1234.567))
    found = step(ops.Normalize(-1, 1e-12), between(x, x), "float32")
    assert np.isinf(found.upper).all()
    runs = executions(ops.Normalize(-1, 1e-12), x, np.random.default_rng(0))
    assert any(not np.isfinite(run).all() or abs(run).max() > 1 for run in runs)


# -- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1])
@each_kind
def test_axes(op: ops.Normalize, axis: int) -> None:
    op, r = ops.Normalize(axis, 0.1, op.centred), np.random.default_rng(5)
    middle, reach = r.normal(size=(2, 2, 3)), r.uniform(size=(2, 2, 3))
    x = between(middle - reach, middle + reach)
    found = step(op, x)
    for point in inside(x, r, 10):
        assert not violations(found.lower[0], found.upper[0], truth(op, point))


@each_kind
def test_networks(op: ops.Normalize) -> None:
    """All methods, both guarantees, executions, boxes of unlike scale."""
    r = np.random.default_rng(11)
    b = Builder(ops.Input(), (2, 2))
    weight = r.normal(size=(2, 2)).astype(np.float32)
    first = b.add(op, b.add(ops.Gemm(weight, None), 0))
    summed = b.add(ops.Add(), first, 0)
    net = b.build(b.add(ops.Normalize(0, 1e-3, op.centred), b.add(ops.Gemm(weight, None), summed)))
    centre = r.normal(size=(2, 2, 2)).astype(np.float32)
    radius = r.uniform(size=(2, 2, 2)) * np.array([0.3, 2.0**-30])[:, None, None]
    box, count = Box(centre - radius, centre + radius), Count()
    truths = exact_values(net, box, r, 1)
    for method, guarantee in itertools.product(METHODS, ("real", "float32")):
        config = Config(method, guarantee, isa=kernels.isa)
        check(net, box, config, r, count, truths=truths, executions=guarantee == "float32")
    assert not count.wrong, count.wrong[:3]


@each_kind
def test_gradient(op: ops.Normalize) -> None:
    r = np.random.default_rng(12)
    net, x = network(ops.Normalize(0, 0.1, op.centred), (3, 4)), r.normal(size=(1, 3, 4))
    seed, away = r.normal(size=(1, 3, 4)), r.normal(size=(1, 3, 4)) * 1e-6
    _, slope = gradient(net, x, seed)
    change = (seed * (net.forward(x + away, F64) - net.forward(x - away, F64))).sum() / 2
    assert abs((slope * away).sum() - change) <= 1e-6 * abs(change)


def test_what_it_refuses() -> None:
    with pytest.raises(UsageError, match="no axis 2"):
        ops.Normalize(2).shape((3, 4))
    with pytest.raises(UsageError, match="epsilon -1"):
        ops.Normalize(-1, -1.0)
