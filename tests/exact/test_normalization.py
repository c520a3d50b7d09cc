"""Normalisation: one test per term, in 400-bit balls. docs/numerics.md names the terms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest
from msgspec.structs import replace

import gamma
from gamma import ops
from gamma.errors import UsageError
from gamma.methods import METHODS
from gamma.network.graph import Builder, Network
from gamma.ops import normalization, quotient
from gamma.ops.bounds import Forms, NodeBounds
from gamma.ops.evaluate import gradient
from gamma.ops.quotient import Quotients
from gamma.ops.tables import Precision
from gamma.propagate.forms import about_zero
from gamma.propagate.interval import interval_step
from gamma.tensor import kernels
from gamma.tensor.box import Box
from gamma.tensor.rounding import fraction_down, fraction_up
from tests.exact.checking import Config, Count, check, exact_values
from tests.exact.oracle import BITS, Truth, exact, q, violations

Array = Any
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
KINDS = [ops.Normalize(-1, 1e-5, True), ops.Normalize(-1, 1e-6, False)]
each_kind = pytest.mark.parametrize("op", KINDS, ids=("layer", "rms"))


@pytest.fixture(autouse=True)
def precise() -> Iterator[None]:
    previous, flint.ctx.prec = flint.ctx.prec, BITS
    yield
    flint.ctx.prec = previous


def network(op: ops.Normalize, shape: tuple[int, ...]) -> Network:
    b = Builder(ops.Input(), shape)
    return b.build(b.add(op, 0))


def truth(op: ops.Normalize, x: Array) -> Array:
    return Truth.__new__(Truth)._normalize(op, exact(x))


def between(lower: Array, upper: Array, centre: Array | None = None) -> NodeBounds:
    """Bounds of one box."""
    low, high = np.float64(lower)[None], np.float64(upper)[None]
    middle = np.clip(0.5 * low + 0.5 * high, low, high)
    return NodeBounds(low, high, middle if centre is None else np.float64(centre)[None])


def step(op: ops.Normalize, x: NodeBounds, guarantee: str = "real") -> NodeBounds:
    net = network(op, x.lower.shape[1:])
    with np.errstate(all="ignore"):
        return interval_step(net.nodes[-1], [x], guarantee)


def inside(x: NodeBounds, r: np.random.Generator, count: int) -> list[Array]:
    """Corners, points on faces and within."""
    low, high = x.lower[0], x.upper[0]
    found = [low, high]
    for _ in range(count):
        where = r.choice([0.0, 1.0, r.uniform()], size=low.shape)
        found.append(np.clip(low + where * (high - low), low, high))
    return found


EXACTLY = 24
SCALES = (1e-30, 1e-3, 1.0, 1e5, 1e30)


def boxes(r: np.random.Generator, d: int) -> Iterator[NodeBounds]:
    """Scales, offsets and radii of every relation, mixed magnitudes, equal entries."""
    for scale, wide, far in itertools.product((*SCALES, 0.0), (0, 1e-9, 1e-2, 3.0), (0, 30.0)):
        unit = scale or 10.0 ** r.integers(-30, 31, d)
        middle = r.normal(size=d) * unit + far * np.max(unit)
        reach = r.uniform(size=d) * unit * wide
        yield between(middle - reach, middle + reach)
    yield between(np.full(d, 3.0), np.full(d, 3.0))
    yield between(np.zeros(d), np.zeros(d))


# -- intervals ---------------------------------------------------------------------------------


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


def onnxruntime(op: ops.Normalize, x: Array) -> Array:
    runtime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(x.shape)) for n in "xy"]
    weight = [helper.make_tensor("w", TensorProto.FLOAT, x.shape[-1:], np.ones(x.shape[-1]))]
    name = "LayerNormalization" if op.centred else "SimplifiedLayerNormalization"
    nodes = [helper.make_node(name, ["x", "w"], ["y"], axis=-1, epsilon=op.epsilon)]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], weight)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return runtime.InferenceSession(model).run(None, {"x": x})[0]


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


# -- planes ------------------------------------------------------------------------------------


def table(
    op: ops.Normalize,
    x: NodeBounds,
    dtype: Any = F64,
    guarantee: str = "real",
    forms: Forms | None = None,
) -> Quotients:
    with np.errstate(all="ignore"):
        after = replace(step(op, x, guarantee), forms=forms)
        return op.relax([x], after, Precision(guarantee, dtype))


def bare(
    op: ops.Normalize, x: NodeBounds, dtype: Any = F64, forms: Forms | None = None
) -> Quotients:
    """Planes for every entry, where a constant would be better too."""
    x, after = op._groups(x), op._groups(step(op, x))
    anything = np.full(x.lower.shape, np.inf)
    with np.errstate(all="ignore"):
        least = normalization.least_square(x.lower, x.upper, op.centred) + op.epsilon
        known = quotient.group(x, op.epsilon, op.centred, least * (1 - 2.0**-52), forms)
        made = quotient.quotients(x, after, known, -anything, anything, 0.0, np.dtype(dtype))
    assert made.planes.below.all() and made.planes.above.all()
    return made


def rows_hold(
    op: ops.Normalize,
    x: NodeBounds,
    rows: Array,
    points: list[Array],
    made: Quotients,
    guarantee: str = "real",
    values: list[Array] | None = None,
) -> int:
    """row·(y - c) >= what the row became, at the points: the closest `EXACTLY` cases in balls, the
    others in float64, from which they are too far to be in doubt; how many were compared."""
    after = step(op, x, guarantee)
    rows = np.asarray(rows, made.planes.tilt.dtype).reshape(-1, x.lower[0].size)
    d, box = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    with np.errstate(all="ignore"):
        (part,) = made.back(rows.copy(), d, box)
    away = np.float64(points).reshape(len(points), -1) - x.centre[0].ravel()
    runs = np.array([op.forward(p[None])[0].ravel() for p in np.float64(points)])
    lines = away @ np.float64(part).T + d - made.loss[0]
    gap = (runs - after.centre[0].ravel()) @ np.float64(rows).T - lines
    size = abs(runs) @ abs(np.float64(rows)).T + abs(away) @ abs(np.float64(part)).T
    closest = np.argsort(np.where(np.isfinite(gap), gap / (size + 1e-300), np.inf), axis=None)
    for pair in closest[: gap.size if values else EXACTLY]:
        k, i = np.unravel_index(pair, gap.shape)
        y = truth(op, points[k]) if values is None else values[k]
        y = (y - exact(after.centre[0])).reshape(-1)
        if np.isfinite(d[i]):
            left = (exact(rows[i]) * y).sum()
            move = (exact(part[i]) * (exact(points[k]) - exact(x.centre[0])).reshape(-1)).sum()
            assert not left < q(d[i]) - q(made.loss[0]) + move
    assert values or not (gap < -1e-6 * size - 1e-290).any()
    return gap.size


def of_points(op: ops.Normalize, x: NodeBounds, points: list[Array]) -> Forms:
    """What the forms are at these points: bounds that hold for them alone."""
    weights = op.forms([x])
    exactly = exact(weights[0, 0])
    sums = np.array([[(w * exact(p).ravel()).sum() for w in exactly] for p in points])
    ends = [
        [step(Fraction(int(v.p), int(v.q))) for v in choice]
        for step, choice in ((fraction_down, sums.min(axis=0)), (fraction_up, sums.max(axis=0)))
    ]
    return Forms(weights, *(np.array(end)[None, None] for end in ends))


def ascended(op: ops.Normalize, x: NodeBounds, rows: Array, made: Quotients) -> list[Array]:
    """For each row the point of the box where it exceeds least what it became, by ascent."""
    low, high = x.lower[0], x.upper[0]
    rows = np.asarray(rows, made.planes.tilt.dtype)
    d, box = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    (part,) = made.back(rows.copy(), d, box)
    at = np.broadcast_to(x.centre[0], rows.shape)
    for size in 0.5 ** np.arange(12):
        y = op.forward(at)
        (slope,) = op.vjp(np.float64(rows), [at], y)
        at = np.clip(at - size * (high - low) * np.sign(slope - part), low, high)
    return list(at)


def a_box(r: np.random.Generator, d: int, wide: float, scale: float, far: float) -> NodeBounds:
    middle = (r.normal(size=d) + far) * scale
    reach = r.uniform(size=d) * scale * wide
    return between(middle - reach, middle + reach)


@each_kind
def test_planes(op: ops.Normalize) -> None:
    """10^4 comparisons: scales, radii, offsets; corners, faces, inner and ascended points."""
    r, compared, planes = np.random.default_rng(6), 0, 0
    op = ops.Normalize(-1, 1e-12, op.centred)
    for d, wide, scale in itertools.product((1, 2, 5), (1e-8, 1e-3, 0.1, 1.0), (1e-9, 1.0, 1e9)):
        x = a_box(r, d, wide, scale, float(r.choice([0.0, 5.0])))
        rows = np.concatenate((np.eye(d), -np.eye(d), r.normal(size=(8, d))))
        points, dtype = inside(x, r, 7), (F32, F64)[r.integers(2)]
        for forms in (None, of_points(op, x, points)):
            made = table(op, x, dtype, forms=forms)
            planes += bool(made.planes.below.any())
            worst = ascended(op, x, rows, made)[::4] if forms is None else []
            compared += rows_hold(op, x, rows, points + worst, made)
    assert compared >= 10_000 and planes > 20


@each_kind
def test_planes_of_points(op: ops.Normalize) -> None:
    """No width: only what the evaluations cost."""
    r = np.random.default_rng(7)
    for scale, n, far in itertools.product((1e-6, 1.0, 1e5), (2, 7, 40), (0.0, 1e3)):
        x = (r.normal(size=n) + far) * scale
        box, eye = between(x, x), np.eye(n)[: 2 * min(n, 6) : 2]
        rows = np.concatenate((eye, -eye, r.normal(size=(4, n))))
        rows_hold(op, box, rows, [x], bare(op, box))


@pytest.mark.parametrize("dtype", [F32, F64])
@each_kind
def test_planes_about_another_centre(op: ops.Normalize, dtype: Any) -> None:
    """Any centre is valid: constants, slopes and forms are about it."""
    r = np.random.default_rng(8)
    for far in (0.1, 1.0, 1e3):
        low = r.normal(size=5) + 3.0
        x = between(low, low + 1e-2, low + far * r.normal(size=5))
        points = inside(x, r, 6)
        rows = np.concatenate((np.eye(5), -np.eye(5)))
        for forms in (None, of_points(op, x, points)):
            rows_hold(op, x, rows, points, bare(op, x, dtype, forms))


@each_kind
def test_groups(op: ops.Normalize) -> None:
    """NORMALIZE.TILT, BASE, CURVE, MOVES, MEAN: what is said of c and v, exactly at points, among
    them shifts of all entries, which move no variance."""
    r = np.random.default_rng(16)
    for wide, far, n in itertools.product((0.0, 1e-6, 1.0), (0.0, 1e4), (2, 9, 200)):
        x = op._groups(a_box(r, n, wide, 1.0, far))
        low, high = x.lower[0], x.upper[0]
        shift = (high - low).min() / 2 * 0.99
        points = [x.centre[0], x.centre[0] + shift, low, high]
        for chosen in (points, points[:1], points[:2]):
            forms = of_points(op, x, chosen)
            known = quotient.group(x, op.epsilon, op.centred, np.zeros((1, 1, 1)), forms)
            for point in chosen:
                group_holds(op, known, exact(point)[0], exact(x.centre[0])[0])


def group_holds(op: ops.Normalize, known: quotient.Group, point: Array, centre: Array) -> None:
    away, n = point - centre, len(point)
    c = point - sum(point) / n if op.centred else point
    v = sum(c * c) / n + q(op.epsilon)
    assert q(known.least.item()) <= v <= q(known.most.item())
    beyond = v - q(known.base.item()) - (exact(known.tilt[0, 0]) * away).sum()
    assert -q(known.below.item()) <= beyond <= q(known.above.item())
    assert not violations(known.lower[0, 0], known.upper[0, 0], c)
    stray = c - exact(known.centre[0, 0]) - away + q(known.shared) * sum(away)
    assert all(abs(s) <= q(a) for s, a in zip(stray, known.astray[0, 0], strict=True))


@each_kind
def test_moves(op: ops.Normalize) -> None:
    """NORMALIZE.MOVES: forms about 0 become forms about a centre that is far from it."""
    r = np.random.default_rng(21)
    for _ in range(20):
        x = op._groups(a_box(r, 9, 1.0, 1.0, 1e3))
        point = x.lower[0] + 0.3 * x.radius[0]
        forms = of_points(op, x, [point])
        weights = np.float64(forms.weights)
        low, high = quotient._moves(weights, x, forms)
        away = exact(point)[0] - exact(x.centre[0])[0]
        moved = np.array([(w * away).sum() for w in exact(weights[0, 0])])
        assert not violations(low[0, 0], high[0, 0], moved)


@each_kind
def test_gaps(op: ops.Normalize) -> None:
    """NORMALIZE.SLOPE, GAP, CHORD: 1/√v about lines of roughly rounded slopes, and at points."""
    r = np.random.default_rng(17)
    for wide in (*(0.0,) * 40, 1e-6, 0.1):
        x = op._groups(a_box(r, 6, wide, 1.0, 0.0))
        known = quotient.group(x, op.epsilon, op.centred, np.full((1, 1, 1), 1e-9), None)
        steep = 1 / (known.least * np.sqrt(known.most) + known.most * np.sqrt(known.least))
        root = 1 / np.sqrt(known.base)
        tilt = (steep * known.tilt).astype(np.float16).astype(np.float64)
        if wide == 0:  # v alone: what evaluating the lines costs
            nothing = 0.0 * known.base
            known = replace(known, below=nothing, above=nothing, least=known.base, most=known.base)
            w = 1 / flint.arb(q(known.base.item())).sqrt() - q(root.item())
            low, high = quotient._gap(known, steep, 0.0 * tilt, root, x.radius)
            assert not w < q(low.item()) and not w > q(high.item())
            continue
        low, high = quotient._gap(known, steep, tilt, root, x.radius)
        off = np.sign(tilt - steep * known.tilt)[0, 0]
        for sign in (0, 1, -1):
            point = exact(x.centre[0, 0] + sign * off * x.radius[0, 0] * (1 - 1e-9))
            away = point - exact(x.centre[0, 0])
            c = point - sum(point) / 6 if op.centred else point
            w = 1 / flint.arb(sum(c * c) / 6 + q(op.epsilon)).sqrt()
            gap = w - q(root.item()) + (exact(tilt[0, 0]) * away).sum()
            assert not gap < q(low.item()) and not gap > q(high.item())


def test_sums_over_groups() -> None:
    """NORMALIZE.ENDS: what 4096 gaps add up to."""
    r, one = np.random.default_rng(18), np.ones((1, 4096))
    entry, zero, sums = one[..., None], np.zeros((1, 4096)), quotient._sums(4096)
    for _ in range(20):
        gap = r.normal(size=one.shape)
        planes = kernels.Planes(
            one, entry, zero[..., None], 0.0, one, one, (gap, gap), zero, zero, sums
        )
        made = Quotients(planes, np.zeros(1))
        d = np.zeros(1)
        made.back(np.ones((1, 4096)), d, np.zeros(1, np.int64))
        assert q(d[0]) <= sum(exact(gap.ravel()))


def test_forms_about_zero() -> None:
    """FORMS.CENTRE: bounds about a centre become bounds about 0."""
    r = np.random.default_rng(19)
    for _ in range(40):
        weights = r.normal(size=(1, 1, 1, 9)).astype(np.float32)
        centre = r.normal(size=(1, 9)) * 10.0 ** r.integers(-3, 9)
        found = about_zero(weights, centre, [np.zeros(2)])
        true = (exact(weights[0, 0, 0]) * exact(centre[0])).sum()
        assert q(found.lower.item()) <= true <= q(found.upper.item())


@each_kind
def test_rows_that_underflow(op: ops.Normalize) -> None:
    """NORMALIZE.LOSS."""
    r = np.random.default_rng(20)
    x = between([-1.0, 1.0, 2.0], [-0.5, 1.5, 2.5])
    rows = np.array([[1.0, -1, 1], [-1, 1, 0], [1, 1, -1]]) * 2.0**-148
    rows = np.concatenate((rows, -rows, rows / 2))
    rows_hold(op, x, rows, inside(x, r, 20), bare(op, x, F32))


@each_kind
def test_wide_rows(op: ops.Normalize) -> None:
    """NORMALIZE.ROWS: sums over many entries, in float32, against the worst point for each row."""
    r = np.random.default_rng(9)
    for _ in range(4):
        x = a_box(r, 120, 1e-4, 1.0, 0.0)
        rows, made = r.normal(size=(6, 120)), bare(op, x, F32)
        rows_hold(op, x, rows, ascended(op, x, rows, made), made)


@each_kind
def test_executions_of_planes(op: ops.Normalize) -> None:
    """NORMALIZE.FLOAT32 in planes: rows that select each entry, at points."""
    r = np.random.default_rng(10)
    for _ in range(3):
        x = r.normal(size=40).astype(np.float32)
        rows = np.concatenate((np.eye(40), -np.eye(40)))
        values = [exact(run[0]) for run in (onnxruntime(op, x[None]), op.forward(x[None]))]
        made = table(op, between(x, x), guarantee="float32")
        rows_hold(op, between(x, x), rows, [x, x], made, "float32", values)


@each_kind
def test_planes_of_infinite_and_undefined_boxes(op: ops.Normalize) -> None:
    """No NaN: constants where no plane is known, infinite ones where 0/0 is among the inputs."""
    ends = ((-np.inf, 0.0), (np.inf, 0.02), (0.0, 0.01))
    wide = NodeBounds(*(np.array([[[e, 0.0, 1.0], [1 + t, 2 + t, 4 + t]]]) for e, t in ends))
    made = table(op, wide)
    below = made.planes.below.reshape(2, -1)
    assert not below[0].any() and below[1].all() and not np.isnan(made.loss)
    assert np.isfinite(made.planes.lower_const).all()
    none = table(ops.Normalize(-1, 0.0, op.centred), between(-np.ones(3), np.ones(3)))
    assert np.isinf(none.planes.lower_const).all() and np.isinf(none.planes.upper_const).all()


@each_kind
def test_forward_is_what_rows_became(op: ops.Normalize) -> None:
    r = np.random.default_rng(13)
    low = r.normal(size=(2, 3, 4))
    x = NodeBounds(low, low + 0.2, low + 0.1)
    made = table(op, x)
    box, rows, points = np.array([1, 0, 1]), r.normal(size=(3, 12)), r.normal(size=(3, 12))
    values = (rows * made.forward(rows, (points,), box)).sum(axis=1)
    d = np.zeros(3)
    (part,) = made.back(rows.copy(), d, box)
    np.testing.assert_allclose(values, d + (part * points).sum(axis=1), 1e-11, 1e-11)


def first_order(op: ops.Normalize, weights: list[Array], x: Array) -> Array:
    """Σ |Jacobian| per output of W1 · op(W0 · x)."""
    h = weights[0] @ x
    c = h - h.mean() if op.centred else h
    root = np.sqrt((c * c).mean() + op.epsilon)
    inner = np.eye(len(h)) - np.outer(c, c) / root**2 / len(h)
    inner = inner @ (np.eye(len(h)) - op.centred / len(h)) / root
    return abs(weights[1] @ inner @ weights[0]).sum(axis=1)


@pytest.mark.parametrize("guarantee", ["real", "float32"])
@each_kind
def test_widths_approach_the_first_order(op: ops.Normalize, guarantee: str) -> None:
    """Rows of the mean and of the variance keep what the box of 192 neurons forgets."""
    r, d = np.random.default_rng(14), 192
    weights = [r.normal(size=(k, d)).astype(np.float32) / np.float32(14) for k in (d, 8)]
    b = Builder(ops.Input(), (d,))
    hidden = b.add(op, b.add(ops.Gemm(weights[0], None), 0))
    net = b.build(b.add(ops.Gemm(weights[1], None), hidden))
    x = r.normal(size=d)
    slope = first_order(op, weights, x)
    for radius, most in ((1e-6, 1.001), (1e-3, 1.02), (1e-2, 1.2)):
        found = gamma.bounds(
            net, Box.linf(x, radius), method="crown", guarantee=guarantee, dtype="float64"
        )
        ratio = (found.upper - found.lower) / (2 * radius * slope)
        assert ratio.min() >= 1 - radius * 10
        assert ratio.mean() <= most or guarantee == "float32"
        points = x + radius * r.choice([-1.0, 1.0], (1000, d))
        runs = net.forward(points, F64)
        assert (found.lower <= runs).all() and (runs <= found.upper).all()


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
