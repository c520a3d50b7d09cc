"""Softmax: one test per term, in 400-bit balls. docs/numerics.md names the terms."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import flint
import numpy as np
import pytest

import gamma
from gamma import ops
from gamma.errors import UsageError
from gamma.methods import METHODS
from gamma.network.graph import Builder, Network
from gamma.ops import softmax
from gamma.ops.bounds import NodeBounds
from gamma.ops.evaluate import gradient
from gamma.ops.rank_one import RankOne, Slopes, rank_one
from gamma.ops.simplex import Simplex
from gamma.ops.tables import Precision
from gamma.propagate.interval import interval_step
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.exact.checking import Config, Count, check, exact_values
from tests.exact.oracle import Truth, exact, q, violations

Array = Any
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
pytestmark = pytest.mark.usefixtures("precise")


def network(shape: tuple[int, ...], axis: int = -1) -> Network:
    b = Builder(ops.Input(), shape)
    return b.build(b.add(ops.Softmax(axis), 0))


def truth(x: Array, axis: int = -1) -> Array:
    return Truth.__new__(Truth)._softmax(ops.Softmax(axis), exact(x))


def between(lower: Array, upper: Array, centre: Array | None = None) -> NodeBounds:
    """Bounds of one box."""
    low, high = np.float64(lower)[None], np.float64(upper)[None]
    middle = np.clip(0.5 * low + 0.5 * high, low, high)
    return NodeBounds(low, high, middle if centre is None else np.float64(centre)[None])


def step(x: NodeBounds, axis: int = -1, guarantee: str = "real") -> NodeBounds:
    net = network(x.lower.shape[1:], axis)
    with np.errstate(all="ignore"):
        return interval_step(net.nodes[-1], [x], guarantee)


def table(x: NodeBounds, axis: int = -1, dtype: Any = F64, guarantee: str = "real") -> RankOne:
    with np.errstate(all="ignore"):
        how = Precision(guarantee, dtype)
        return ops.Softmax(axis).relax([x], step(x, axis, guarantee), how)


def rows_hold(
    x: NodeBounds,
    rows: Array,
    points: list[Array],
    dtype: Any = F64,
    axis: int = -1,
    guarantee: str = "real",
    values: list[Array] | None = None,
) -> int:
    """row·(p - c) >= what the row became, at the points, in balls; how many were compared."""
    after, made = step(x, axis, guarantee), table(x, axis, dtype, guarantee)
    rows = np.asarray(rows, dtype).reshape(-1, x.lower[0].size)
    d, box = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    (part,) = made.back(rows.copy(), d, box)
    for k, point in enumerate(points):
        away = (exact(point) - exact(x.centre[0])).reshape(-1)
        p = (truth(point, axis) if values is None else values[k]) - exact(after.centre[0])
        for i, row in enumerate(rows):
            left = (exact(row) * p.reshape(-1)).sum()
            right = q(d[i]) - q(made.loss[0]) + (exact(part[i]) * away).sum()
            assert not left < right, float(flint.arb(left - right))
    return len(rows) * len(points)


def spread(r: np.random.Generator, n: int, scale: float) -> NodeBounds:
    centre, radius = r.normal(size=n) * scale, r.uniform(size=n) * scale
    return between(centre - radius, centre + radius)


def inside(x: NodeBounds, r: np.random.Generator, count: int) -> list[Array]:
    """Corners, points on faces and within."""
    low, high = x.lower[0], x.upper[0]
    found = [low, high]
    for _ in range(count):
        where = r.choice([0.0, 1.0, r.uniform()], size=low.shape)
        found.append(np.clip(low + where * (high - low), low, high))
    return found


# -- intervals ---------------------------------------------------------------------------------


def test_images_are_those_of_corners() -> None:
    """Entry k at its own end and the others' other ends: within 2^-38 of the exact extremes."""
    r = np.random.default_rng(0)
    for n, scale in itertools.product((1, 2, 3, 9), (1e-9, 0.1, 3.0, 300.0)):
        x = spread(r, n, scale)
        found = step(x)
        for k in range(n):
            for own, others, bound in (
                (x.lower[0], x.upper[0], found.lower[0, k]),
                (x.upper[0], x.lower[0], found.upper[0, k]),
            ):
                p = truth(np.where(np.arange(n) == k, own, others))[k]
                assert abs(float(p) - bound) <= 2.0**-38 * float(p) + 2.0**-900
        for point in inside(x, r, 20):
            assert not violations(found.lower[0], found.upper[0], truth(point))


def test_images_of_points() -> None:
    """SOFTMAX.IMAGE: nothing but the evaluation's error lies between both ends."""
    r = np.random.default_rng(1)
    for scale in (1.0, 30.0, 300.0):
        for _ in range(40):
            x = r.normal(size=6) * scale
            found = step(between(x, x))
            assert not violations(found.lower[0], found.upper[0], truth(x))


@pytest.mark.parametrize("apart", [0.0, 12.0])
def test_images_where_one_entry_leads(apart: float) -> None:
    """SOFTMAX.REST: the others' sum is far below the total, whose rounding would hide it."""
    r = np.random.default_rng(2)
    for lead in (5.0, 20.0, 35.0):
        low = np.append(r.normal(size=40), lead)
        high = low + apart * r.uniform(0.9, 1.0, size=41)
        found = step(between(low, high))
        for own, others, end, sign in (
            (low, high, found.lower[0, 40], 1),
            (high, low, found.upper[0, 40], -1),
        ):
            p = truth(np.append(others[:40], own[40]))[40]
            assert not sign * q(end) > sign * p
            assert abs(float(p - q(end))) <= 2.0**-30 * float(1 - p) + 2.0**-49


def test_images_near_and_far_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same corners by quotients of powers and by powers of differences."""
    r = np.random.default_rng(3)
    for n, scale in itertools.product((2, 3, 30), (1e-3, 1.0, 60.0)):
        x = spread(r, n, scale)
        near = step(x)
        with monkeypatch.context() as changed:
            changed.setattr(softmax, "NEAR", -1.0)
            far = step(x)
        for a, b in ((near.lower, far.lower), (near.upper, far.upper)):
            assert (abs(a - b) <= 2.0**-36 * b + 2.0**-900).all()


@pytest.mark.parametrize("wide", [800.0, 1e5, 1e300])
def test_images_beyond_the_range_of_exp(wide: float) -> None:
    for x in ([wide, 0.0, -wide], [0.0, wide - 1e-3 * wide, wide], [-wide, -wide, -wide]):
        low, high = np.array(x), np.array(x) + 0.25 * wide * np.array([0, 1, 0])
        found = step(between(low, high))
        assert (found.lower >= 0).all() and (found.upper <= 1).all()
        for point in (low, high):
            p = truth(np.clip(point, -1e6, 1e6)) if wide < 1e6 else None
            assert p is None or not violations(found.lower[0], found.upper[0], p)


def test_infinite_entries() -> None:
    """POISON.SOFTMAX: NaN in a float32 execution, some number of [0, 1] in the reals."""
    x = NodeBounds(*(np.array([[[e, 0.0], [1.0, 2.0]]]) for e in (-np.inf, np.inf, 0.0)))
    found = step(x, guarantee="float32")
    assert np.isinf(found.lower[0, 0]).all() and np.isinf(found.upper[0, 0]).all()
    assert np.isfinite(found.lower[0, 1]).all()
    real = step(x)
    assert (real.lower >= 0).all() and (real.upper <= 1).all()
    for guarantee in ("real", "float32"):
        made = table(x, guarantee=guarantee)
        assert made.loss[0] == np.inf and not np.isnan(made.lower.value).any()


def onnxruntime(x: Array) -> Array:
    runtime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(x.shape)) for n in "xy"]
    nodes = [helper.make_node("Softmax", ["x"], ["y"], axis=-1)]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return runtime.InferenceSession(model).run(None, {"x": x})[0]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0, 90.0, 1e4, 5e37])
def test_executions_of_points(scale: float) -> None:
    """SOFTMAX.FLOAT32 and SOFTMAX.FLUSHED: onnxruntime and NumPy, rows that select each entry."""
    r = np.random.default_rng(2)
    x = (r.normal(size=(64, 40)) * scale).astype(np.float32)
    with np.errstate(all="ignore"):
        runs = [onnxruntime(x), ops.Softmax().forward(x)]
    found = step(between(x, x), guarantee="float32")
    for run in runs:
        assert (found.lower[0] <= run).all() and (run <= found.upper[0]).all()
    if scale <= 90.0:
        one = x[0]
        rows = np.concatenate((np.eye(40), -np.eye(40)))
        values = [exact(run[0]) for run in runs]
        rows_hold(between(one, one), rows, [one, one], guarantee="float32", values=values)


def test_an_assumption_without_error_would_be_false() -> None:
    """The comparison above can fail: float32 strays from the real softmax."""
    r = np.random.default_rng(3)
    x = r.normal(size=(16, 40)).astype(np.float32) * 20
    found, run = step(between(x, x)), ops.Softmax().forward(x)
    assert ((run < found.lower[0]) | (run > found.upper[0])).any()


# -- planes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F32, F64])
def test_planes(dtype: Any) -> None:
    """10^4 comparisons: any rows, scales, axes; corners, faces and inner points."""
    r, compared = np.random.default_rng(4), 0
    for n, scale in itertools.product((1, 2, 5), (1e-7, 1e-2, 1.0, 8.0, 100.0)):
        x = spread(r, n, scale)
        rows = np.concatenate((np.eye(n), -np.eye(n), r.normal(size=(24, n))))
        compared += rows_hold(x, rows, inside(x, r, 22), dtype)
    assert compared >= 10_000


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_axes(axis: int) -> None:
    r = np.random.default_rng(5)
    centre, radius = r.normal(size=(2, 3, 4)), r.uniform(size=(2, 3, 4))
    x = between(centre - radius, centre + radius)
    rows = r.normal(size=(4, 24))
    rows_hold(x, rows, inside(x, r, 4), F64, axis)
    found = step(x, axis)
    for point in inside(x, r, 4):
        assert not violations(found.lower[0], found.upper[0], truth(point, axis))


def test_chords_of_exp() -> None:
    """SOFTMAX.CHORD: w·z + b >= exp(z) at both ends; a flat chord leaves b little else to pay,
    and a slope rounded down leaves it to the upper end."""
    r = np.random.default_rng(14)
    low, high = r.uniform(-700, -40, 200), r.uniform(0, 2.0**-8, 200)
    weight, excess = softmax.chords(low, high, F32)
    for ends in (low, high):
        assert not (exact(weight) * exact(ends) + exact(excess) < powers(exact(ends))).any()


def powers(x: Array) -> Array:
    return np.array([flint.arb(v).exp() for v in x], object)


def test_chords_of_the_logarithm() -> None:
    """SOFTMAX.ENDS: p <= s·log p + t at both ends."""
    r = np.random.default_rng(15)
    floor = r.uniform(size=200) * 2.0 ** r.integers(-900, 0, 200)
    for ceiling in (floor, np.minimum(floor * 8, 1.0)):
        steep, over = softmax._exp_chord(floor, ceiling, F64)
        for p in (floor, ceiling):
            logs = np.array([flint.arb(v).log() for v in exact(p)], object)
            assert not (exact(steep) * logs + exact(over) < exact(p)).any()


def plane(x: NodeBounds, above: bool, dtype: Any, points: list[Array]) -> None:
    """One side's planes, before rows: value + slopes·(x - c) against p, for every entry."""
    parts = [x.lower, x.upper, x.centre, x.radius, *softmax.image(x.lower, x.upper)]
    with np.errstate(all="ignore"):
        made = softmax._above(*parts, dtype) if above else softmax._below(*parts[:5], dtype)
    assert (made.share != 0).any()
    d, h, w, value = (
        exact(part[0]) for part in (made.diagonal, made.share, made.weight, made.value)
    )
    for point in points:
        away = exact(point) - exact(x.centre[0])
        line = value + d * away - h * (w * away).sum()
        gap = (line - truth(point)) * (1 if above else -1)
        assert not (gap < 0).any(), [float(flint.arb(g)) for g in gap]


@pytest.mark.parametrize("n", [1000, 1777, 3000])
def test_long_sums_of_probabilities(n: int) -> None:
    """Equal entries, added one after the other; each has 1/n."""
    x = np.zeros((n, 8)).T  # sums along a strided axis run in order
    floor, ceiling = softmax.image(x, x)
    wide = 2.0**-30  # so that the constant bound is not taken
    made = softmax._above(x, x, x, x, floor * (1 - wide), ceiling * (1 + wide), F64)
    assert (made.share != 0).all()
    assert all(q(v) >= flint.fmpq(1, n) for v in made.value[:, 0])


@pytest.mark.parametrize("above", [False, True])
def test_constants_about_a_far_centre(above: bool) -> None:
    """SOFTMAX.BELOW: heights of 10^7 that cancel."""
    r = np.random.default_rng(16)
    for _ in range(30):
        low = r.normal(size=5)
        x = between(low, low + 2.0**-20, low + r.uniform(0.5, 1.5, 5) * 1e7)
        plane(x, above, F64, inside(x, r, 6))


def test_probabilities_that_do_not_sum_to_one() -> None:
    """SOFTMAX.TOTAL: a shift of all entries changes no softmax, but it does change Σ q·x."""
    r = np.random.default_rng(17)
    for _ in range(20):
        low = r.normal(size=3)
        x = between(low - 1e-4, low + 1e-4, low)
        plane(x, True, np.dtype(np.float16), [x.lower[0], x.upper[0]])


def test_planes_of_points() -> None:
    """No width: only what the evaluations cost."""
    r = np.random.default_rng(6)
    for scale, n in itertools.product((1.0, 20.0, 200.0), (2, 7, 60)):
        x = r.normal(size=n) * scale
        x += r.uniform(-1e3, 1e3)
        eye = np.eye(n)[: 2 * min(n, 6) : 2]
        rows_hold(between(x, x), np.concatenate((eye, -eye)), [x])


def test_planes_about_another_centre() -> None:
    """Any centre is valid: the constants are those of the planes at that very point."""
    r = np.random.default_rng(7)
    low = r.normal(size=5)
    for far in (1.0, 1e3):
        x = between(low, low + 0.5, low + far)
        rows_hold(x, np.concatenate((np.eye(5), -np.eye(5))), inside(x, r, 6), F32)


def test_rows_in_float32() -> None:
    """RANK.ROWS: wide boxes, rows in float32."""
    r = np.random.default_rng(8)
    for _ in range(10):
        x = spread(r, 30, 0.02)
        made = table(x, dtype=F32)
        rows = -np.eye(30)[:8]
        # The worst points against the true slopes at the middle.
        slopes = np.float64(made.upper.diagonal)[0] * np.eye(30)
        slopes = slopes - np.outer(made.upper.share[0], np.float64(made.upper.weight[0]))
        points = [np.where(s > 0, x.lower[0], x.upper[0]) for s in slopes[:8]]
        rows_hold(x, rows, points, F32)


def test_rows_through_given_planes() -> None:
    """RANK.ROWS: against fractions, at the worst points of planes without slack of their own."""
    r, n = np.random.default_rng(18), 12
    zero = np.zeros((1, n))
    x = NodeBounds(zero - 1, zero + 1, zero)
    d, h, w = (r.normal(size=(1, n)).astype(F32) for _ in range(3))
    sides = [Slopes(d, h, w, zero) for _ in range(2)]
    made = rank_one(1, x, NodeBounds(zero, zero, zero), np.dtype(F32), *sides)
    rows = r.uniform(0.5, 1, size=(40, n)).astype(F32)
    for sign in (1, -1):
        begun = np.zeros(len(rows))
        (passed,) = made.back(sign * rows, begun, np.zeros(len(rows), np.int64))
        for row, part, constant in zip(rows, passed, begun, strict=True):
            a, found = sign * exact(row), exact(part)
            true = a * exact(d[0]) - (a * exact(h[0])).sum() * exact(w[0])
            assert q(constant) <= -abs(found - true).sum()


def test_rows_that_underflow() -> None:
    """RANK.LOSS."""
    x = between([-1.0, -1.0, 0.0], [1.0, 1.0, 0.5])
    rows = np.array([[1.0, -1, 1], [-1, 1, 0], [1, 1, -1]]) * 2.0**-148
    rows_hold(
        x, np.concatenate((rows, -rows, rows / 2)), inside(x, np.random.default_rng(9), 20), F32
    )


def test_planes_beat_the_interval() -> None:
    """Planes keep that the entries move together: x + t for all of them changes nothing."""
    b = Builder(ops.Input(), (1,))
    weight = np.ones((4, 1)) * (1 + 2.0**-8 * np.arange(4)[:, None])
    net = b.build(b.add(ops.Softmax(), b.add(ops.Gemm(weight, None), 0)))
    box = Box(np.full((1, 1), -0.5), np.full((1, 1), 0.5))
    widths = {}
    for method in ("ibp", "crown"):
        found = gamma.bounds(net, box, method=method)
        widths[method] = float((found.upper - found.lower).max())
    assert widths["crown"] < widths["ibp"] / 3


def test_forward_is_what_rows_became() -> None:
    r = np.random.default_rng(10)
    low = r.normal(size=(2, 3, 4))
    x = NodeBounds(low, low + 0.5, low + 0.25)
    net = network((3, 4), 0)
    after = interval_step(net.nodes[-1], [x], "real")
    made = ops.Softmax(0).relax([x], after, Precision())
    box, rows, points = np.array([1, 0, 1]), r.normal(size=(3, 12)), r.normal(size=(3, 12))
    values = (rows * made.forward(rows, (points,), box)).sum(axis=1)
    d = np.zeros(3)
    (part,) = made.back(rows.copy(), d, box)
    np.testing.assert_allclose(values, d + (part * points).sum(axis=1), 1e-12, 1e-12)


def sums_to_one(rows: Array, centre: Array, reach: Array, d: Array) -> None:
    """a·t + d >= b·t + d' for shifted rows b, at t with |t| <= reach and Σ (centre + t) = 1."""
    made = Simplex.of(centre, reach, np.ones_like(centre), rows.dtype)
    after = d.copy()
    found = made.shifted(rows, after, np.zeros(len(rows), np.int64))
    m, far = (np.vectorize(Fraction, otypes=[object])(x[0]) for x in (centre, reach))
    for row, new, start, end in zip(rows, found, d, after, strict=True):
        a, b = (np.vectorize(Fraction, otypes=[object])(np.float64(x)) for x in (row, new))
        c = (a - b)[..., -1:]  # taken off; the last one's difference is exact
        t = np.where(a - b - c > 0, -far, far)
        t[..., -1] = 1 - m.sum(axis=-1) - t[..., :-1].sum(axis=-1)
        assert (abs(t) <= far).all()
        assert Fraction(float(end)) <= Fraction(float(start)) + ((a - b) * t).sum()


def test_numbers_taken_off_rows_of_what_sums_to_one() -> None:
    """SIMPLEX.DIFFERENCE, SIMPLEX.CENTRE, SIMPLEX.SUM, in fractions."""
    r = np.random.default_rng(12)
    centre = r.uniform(size=(1, 3, 9))
    reach = np.where(np.arange(9) == 8, 16.0, 0.5) * np.ones((1, 3, 9))
    rows = r.uniform(1, 3, (40, 3, 9)) * 2.0 ** r.integers(-12, 1, (40, 3, 9))
    rows[..., -1] = 1
    for dtype in (F32, F64):  # differences that are rounded
        sums_to_one(rows.astype(dtype), centre, reach, np.zeros(40))
    flat = np.full((40, 1, 60), 1.0) * 2.0 ** r.integers(-9, 9, (40, 1, 1))
    for _ in range(10):  # sums of centres that are rounded
        centre = r.uniform(size=(1, 1, 60))
        centre /= centre.sum()
        reach = np.where(np.arange(60) == 59, 64.0, 0.5)[None, None]
        sums_to_one(flat, centre, reach, np.zeros(40))
    flat = np.full((40, 1, 4), 1.0) * r.uniform(size=(40, 1, 1))
    centre = np.array([[[0.25, 0.25, 0.25, 0.125]]])
    sums_to_one(flat, centre, reach[..., -4:], 1e6 * r.uniform(size=40))


def test_rows_alike_but_for_a_number_have_one_bound() -> None:
    """What is added to all of a group is known: it costs nothing, however large."""
    x = between([-1.0, 0.0, 0.5], [0.0, 1.0, 2.0])
    made, box = table(x), np.zeros(2, np.int64)
    d, row = np.zeros(2), np.array([1.0, -0.5, 0.25])
    rows = np.stack((row, row + 1024.0))
    (part,) = made.back(rows, d, box)
    short = 1 - step(x).centre[0].sum()
    assert abs(d[1] - d[0] - 1024 * short) < 1e-9 and abs(part[1] - part[0]).max() < 1e-9
    count = rows_hold(x, np.concatenate((rows, -rows)), inside(x, np.random.default_rng(13), 20))
    assert count >= 80


# -- networks ----------------------------------------------------------------------------------


def test_networks() -> None:
    """All methods, both guarantees, executions, boxes of unlike scale."""
    r = np.random.default_rng(11)
    b = Builder(ops.Input(), (3, 2))
    scores = b.add(ops.MatMul(), 0, b.add(ops.Transpose((1, 0)), 0))
    net = b.build(b.add(ops.MatMul(), b.add(ops.Softmax(), scores), 0))
    centre = r.normal(size=(2, 3, 2)).astype(np.float32)
    radius = r.uniform(size=(2, 3, 2)) * np.array([0.3, 2.0**-30])[:, None, None]
    box, count = Box(centre - radius, centre + radius), Count()
    truths = exact_values(net, box, r, 1)
    for method, guarantee in itertools.product(METHODS, ("real", "float32")):
        config = Config(method, guarantee, isa=kernels.isa)
        check(net, box, config, r, count, truths=truths, executions=guarantee == "float32")
    assert not count.wrong, count.wrong[:3]


def test_gradient() -> None:
    r = np.random.default_rng(12)
    net, x = network((3, 4), 0), r.normal(size=(1, 3, 4))
    seed, away = r.normal(size=(1, 3, 4)), r.normal(size=(1, 3, 4)) * 1e-6
    _, slope = gradient(net, x, seed)
    change = (seed * (net.forward(x + away, F64) - net.forward(x - away, F64))).sum() / 2
    assert abs((slope * away).sum() - change) <= 1e-6 * abs(change)


def test_an_axis_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="no axis 2"):
        ops.Softmax(2).shape((3, 4))


@pytest.mark.parametrize("name", ["pgd_2_3_16", "ibp_3_3_8"])
def test_vision_transformers(shared: Path, name: str) -> None:
    """Bounds of VNN-COMP's vision transformers are finite and hold at points of the box."""
    net = gamma.load(shared / "vnncomp" / "vit" / "onnx" / f"{name}.onnx")
    r = np.random.default_rng(13)
    x = r.normal(size=net.input_shape).astype(np.float32)
    box = gamma.Box.linf(x, 1 / 255)
    points = box.lower + r.choice([0.0, 1.0, 0.5], (64, *net.input_shape)) * (box.upper - box.lower)
    run = net.forward(points, F64)
    for method in ("ibp", "crown-ibp"):
        found = gamma.bounds(net, box, method=method, guarantee="float32")
        assert np.isfinite(found.lower).all() and np.isfinite(found.upper).all()
        assert (found.lower <= run).all() and (run <= found.upper).all()
