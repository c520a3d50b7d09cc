"""Planes of the softmax: one test per term, in 400-bit balls. docs/numerics.md names the terms."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest

import gamma
from gamma import ops
from gamma.network.graph import Builder
from gamma.ops import softmax
from gamma.ops.bounds import NodeBounds
from gamma.ops.rank_one import Slopes, rank_one
from gamma.ops.simplex import Simplex
from gamma.ops.tables import Precision
from gamma.propagate.interval import interval_step
from gamma.tensor.box import Box
from tests.exact.boxes import between, inside
from tests.exact.oracle import exact, q, violations
from tests.exact.probabilities import BOTH, network, powers, rows_hold, spread, step, table, truth

Array = Any
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
pytestmark = pytest.mark.usefixtures("precise")


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


@pytest.mark.parametrize("op", BOTH)
def test_planes_beat_the_interval(op: Any) -> None:
    """Planes keep that the entries move together: x + t for all of them changes nothing."""
    b = Builder(ops.Input(), (1,))
    weight = np.ones((4, 1)) * (1 + 2.0**-8 * np.arange(4)[:, None])
    net = b.build(b.add(op(), b.add(ops.Gemm(weight, None), 0)))
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
