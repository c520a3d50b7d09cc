"""Planes of normalisations (`gamma.ops.quotient`): one test per term, in 400-bit balls."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest
from msgspec.structs import replace

import gamma
from gamma import ops
from gamma.network.graph import Builder
from gamma.ops import quotient
from gamma.ops.bounds import Forms, NodeBounds
from gamma.ops.quotient import Quotients
from gamma.ops.tables import Precision
from gamma.propagate.forms import about_zero
from gamma.tensor import kernels
from gamma.tensor.box import Box
from gamma.tensor.rounding import fraction_down, fraction_up
from tests.exact.boxes import between, inside
from tests.exact.normalizing import a_box, each_kind, onnxruntime, step, truth
from tests.exact.oracle import exact, q, violations

Array = Any
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
EXACTLY = 24
pytestmark = pytest.mark.usefixtures("precise")


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
    anything = np.full(x.lower.shape, np.inf)
    after = NodeBounds(-anything, anything, step(op, x).centre, forms=forms)
    with np.errstate(all="ignore"):
        made = op.relax([x], after, Precision("real", np.dtype(dtype)))
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


@each_kind
def test_lines_whose_slopes_rows_round(op: ops.Normalize) -> None:
    """NORMALIZE.SLOPE: 1/√v against its lower line at the corner nearest to it, in float32."""
    r, n = np.random.default_rng(20), 10
    signs = np.array([*itertools.product((-1.0, 1.0), repeat=n)])
    for _ in range(120):
        x = a_box(r, n, 1e-4, 1.0, 0.0)
        made, about = bare(op, x, F32).planes, x.centre[0]
        root, low, tilt = made.root[0, 0], made.gap[0].item(), made.tilt[0, 0]
        away = signs * x.radius[0] * (1 - 1e-9)
        c = about + away
        c = c - c.mean(axis=1, keepdims=True) if op.centred else c
        left = 1 / np.sqrt((c * c).mean(axis=1) + op.epsilon) + away @ np.float64(tilt)
        corner = exact(away[left.argmin()])
        point = exact(about) + corner
        point = point - sum(point) / n if op.centred else point
        w = 1 / flint.arb(sum(point * point) / n + q(op.epsilon)).sqrt()
        assert not w - q(root) + (exact(tilt) * corner).sum() < q(low)


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
