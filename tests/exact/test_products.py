"""Products of two variables: one test per term, in fractions. docs/numerics.md names the terms."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gamma import ops
from gamma.errors import UsageError
from gamma.methods import METHODS
from gamma.network.graph import Builder, Network
from gamma.ops import bilinear, products
from gamma.ops.bounds import NodeBounds
from gamma.ops.tables import NodeSlopes, Precision
from gamma.propagate.interval import interval_pass, interval_step
from gamma.tensor import kernels
from gamma.tensor.box import Box
from gamma.verification.exact import exact_output
from tests.exact.boxes import between
from tests.exact.checking import Config, Count, check, exact_values
from tests.exact.oracle import Truth, exact, q, violations

Array = Any
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
pytestmark = pytest.mark.usefixtures("arithmetic")


def around(r: np.random.Generator, shape: tuple[int, ...], radius: float) -> NodeBounds:
    centre, size = r.normal(size=shape), radius * r.uniform(size=shape)
    return between(centre - size, centre + size)


def network(op: Any, x: tuple[int, ...], y: tuple[int, ...]) -> Network:
    """Both factors are parts of the input."""
    n, m = int(np.prod(x)), int(np.prod(y))
    b = Builder(ops.Input(), (n + m,))
    first = b.add(ops.Gather(np.arange(n), x), 0)
    second = b.add(ops.Gather(np.arange(n, n + m), y), 0)
    return b.build(b.add(op, first, second))


def truth(op: Any, x: Array, y: Array) -> Array:
    """The product in fractions; ``x`` and ``y`` are already."""
    of = Truth.__new__(Truth)
    return of._mul(op, x, y) if isinstance(op, ops.Mul) else of._matmul(op, x, y)


def step(op: Any, x: NodeBounds, y: NodeBounds, guarantee: str = "real") -> NodeBounds:
    net = network(op, x.lower.shape[1:], y.lower.shape[1:])
    with np.errstate(all="ignore"):
        return interval_step(net.nodes[-1], [x, y], guarantee)


def holds_at(op: Any, found: NodeBounds, x: Array, y: Array) -> None:
    assert not violations(found.lower[0], found.upper[0], truth(op, exact(x), exact(y)))


def row_holds(
    op: Any,
    x: NodeBounds,
    y: NodeBounds,
    row: Array,
    points: list[tuple[Array, Array]],
    dtype: np.dtype[Any] = F64,
    slopes: NodeSlopes | None = None,
    values: list[Array] | None = None,
    guarantee: str = "real",
    centre: Array | None = None,
) -> None:
    """row·(z - c) >= what the row became, at the points, in fractions.

    ``values`` are those of z where it is not the exact product.
    """
    after = step(op, x, y, guarantee)
    if centre is not None:
        after = replace(after, centre=np.broadcast_to(np.float64(centre), after.centre.shape))
    with np.errstate(all="ignore"):
        table = op.relax([x, y], after, Precision(guarantee, dtype), None, slopes)
    d, box = np.zeros(1), np.zeros(1, np.int64)
    row = np.asarray(row, dtype).reshape(1, -1)
    parts = table.back(row.copy(), d, box)
    constant = q(d[0]) - q(table.loss[0])
    for k, (a, b) in enumerate(points):
        exact_a, exact_b = exact(a), exact(b)
        z = truth(op, exact_a, exact_b) if values is None else values[k]
        left = (exact(row[0]) * (z - exact(after.centre[0])).reshape(-1)).sum()
        right = constant
        for part, point, bounds in zip(parts, (exact_a, exact_b), (x, y), strict=True):
            away = np.asarray(point - exact(bounds.centre[0]), object).reshape(-1)
            right = right + (exact(part[0]) * away).sum()
        assert left >= right, float(left - right)


def corners(x: NodeBounds, y: NodeBounds, r: np.random.Generator, count: int) -> Any:
    """Corners, points on faces and points within."""
    for _ in range(count):
        where = [r.choice([0.0, 1.0, r.uniform()], size=b.lower[0].shape) for b in (x, y)]
        yield tuple(
            np.clip(b.lower[0] + w * (b.upper[0] - b.lower[0]), b.lower[0], b.upper[0])
            for b, w in zip((x, y), where, strict=True)
        )


CASES = [
    (ops.Mul(), (3, 2), (3, 2)),
    (ops.Mul(), (3, 1), (2, 1, 4)),
    (ops.Mul(), (), (2,)),
    (ops.MatMul(), (2, 3), (3, 2)),
    (ops.MatMul(), (2, 1, 3), (3, 4)),
    (ops.MatMul(), (1, 2, 3), (2, 1, 3, 2)),
]


# -- intervals ---------------------------------------------------------------------------------


def test_a_product_of_points_is_rounded_outward() -> None:
    """PRODUCT.IMAGE."""
    r = np.random.default_rng(0)
    x, y = r.normal(size=64), r.normal(size=64) * 2.0 ** r.integers(-1060, -990, 64)
    for b in (y, y * 2.0**900):
        holds_at(ops.Mul(), step(ops.Mul(), between(x, x), between(b, b)), x, b)


def test_signs_are_kept() -> None:
    zero = step(ops.Mul(), between([0.0, 1e-300, -1.0], [1.0, 1.0, 0.0]), between([0.0], [2e-300]))
    assert zero.lower[0].tolist()[:2] == [0.0, 0.0] and zero.upper[0, 2] == 0.0
    tight = step(ops.Mul(), between([-1.0], [2.0]), between([-3.0], [5.0]))
    assert -6.0 - 1e-9 < tight.lower[0, 0] <= -6.0 and 10.0 <= tight.upper[0, 0] < 10.0 + 1e-9


def test_sums_of_terms_that_vanish() -> None:
    """PRODUCT.SUM and PLANE.SUM: one large term, then thousands below half its last bit."""
    x = np.full((1, 3000), 0.9 * 2.0**-13)
    x[0, 0] = 2.0**40
    y = np.ones((3000, 1))
    holds_at(ops.MatMul(), step(ops.MatMul(), between(x, x), between(y, y)), x, y)
    for sign in (1.0, -1.0):
        row_holds(ops.MatMul(), between(x, x), between(y, y), [sign], [(x, y)], centre=[[2.0**40]])


def cancelling(r: np.random.Generator) -> tuple[Array, Array]:
    half = r.normal(size=(4, 40)) * 1e6
    x = np.concatenate((half, -half * (1 + 2.0**-30 * r.normal(size=half.shape))), 1)
    return x, 1 + r.normal(size=(80, 5)) * 2.0**-40


def test_large_products_that_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """PRODUCT.ABOUT and PLANE.MIDDLE_SUM."""
    monkeypatch.setattr(products, "TERMS_LIMIT", 0)
    x, y = cancelling(np.random.default_rng(1))
    found = step(ops.MatMul(), between(x, x), between(y, y))
    holds_at(ops.MatMul(), found, x, y)
    for k in range(0, 20, 3):
        row = np.eye(20)[k]
        for sign in (1.0, -1.0):
            row_holds(ops.MatMul(), between(x, x), between(y, y), sign * row, [(x, y)])


def test_executions_of_points() -> None:
    """PRODUCT.FLOAT32, PRODUCT.UNDERFLOW, PLANE.FLOAT32."""
    r = np.random.default_rng(2)
    x, y = r.normal(size=(1, 40)).astype(np.float32), r.normal(size=(40, 1)).astype(np.float32)
    found = step(ops.MatMul(), between(x, x), between(y, y), "float32")
    total = np.cumsum(x[0] * y[:, 0], dtype=np.float32)[-1]
    assert found.lower[0, 0, 0] <= total <= found.upper[0, 0, 0]
    for sign in (1.0, -1.0):
        for a, b in ((x[0], y[:, 0]), (x[0] * 2.0**-90, y[:, 0] * 2.0**-60)):
            a, b = np.float32(a), np.float32(b)
            run = exact(a * b)
            known = step(ops.Mul(), between(a, a), between(b, b), "float32")
            assert not violations(known.lower[0], known.upper[0], run)
            for k in range(0, 40, 4):
                row_holds(
                    *(ops.Mul(), between(a, a), between(b, b), sign * np.eye(40)[k], [(a, b)]),
                    values=[run],
                    guarantee="float32",
                )


def test_executions_that_overflow() -> None:
    """PRODUCT.PEAK: inf - inf where the real sum is 0, and what reads an infinity."""
    x, y = np.full((1, 2), 1e20), np.array([[1e20], [-1e20]])
    found = step(ops.MatMul(), between(x, x), between(y, y), "float32")
    assert np.isinf(found.lower).all() and np.isinf(found.upper).all()
    real = step(ops.MatMul(), between(x, x), between(y, y))
    assert np.isfinite(real.lower).all() and np.isfinite(real.upper).all()
    infinite = NodeBounds(*(np.array([[e]]) for e in (-np.inf, np.inf, 0.0)))
    for guarantee in ("real", "float32"):
        poisoned = step(ops.Mul(), infinite, between([0.0], [0.0]), guarantee)
        assert np.isinf(poisoned.lower).all() and np.isinf(poisoned.upper).all()


def test_ends_beyond_float64() -> None:
    huge, x = between([1e300], [1.5e308]), between([-1e300], [1e300])
    for a, b in itertools.product((huge, x), repeat=2):
        found = step(ops.Mul(), a, b)
        for p, s in itertools.product((a.lower[0], a.upper[0]), (b.lower[0], b.upper[0])):
            holds_at(ops.Mul(), found, p, s)


# -- planes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "x", "y"), CASES)
@pytest.mark.parametrize("limit", [products.TERMS_LIMIT, 0])
def test_planes(op: Any, x: Any, y: Any, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any slopes, rows and points: the planes hold at corners, on faces and within."""
    monkeypatch.setattr(products, "TERMS_LIMIT", limit)
    r = np.random.default_rng(3)
    free = NodeSlopes(*(r.normal(size=(1, 2 * op.term_count(x, y))) for _ in range(2)))
    for dtype, radius, slopes in (
        (F32, 1.0, None),
        (F64, 2.0**-20, None),
        (F32, 1.0, free),
        (F64, 1.0, NodeSlopes(lower=free.lower)),
    ):
        a, b = around(r, x, radius), around(r, y, radius)
        row = r.normal(size=int(np.prod(op.shape(x, y))))
        row_holds(op, a, b, row, list(corners(a, b, r, 5)), dtype, slopes)


def test_constants_of_planes() -> None:
    """PLANE.CORNER: the height at a corner is a difference of large numbers."""
    r = np.random.default_rng(4)
    for _ in range(100):
        x, y = (r.uniform(1, 2, 1) * 2.0 ** r.integers(-3, 3) for _ in range(2))
        sides = [bilinear.Side(e * 2.0**-20, 2 * e, e, e) for e in (x, y)]
        s, t, m = bilinear._plane(*sides, (y, x), F64)
        for a, b in itertools.product((sides[0].lower, x * 2), (sides[1].lower, y * 2)):
            line = exact(s) * (exact(a) - exact(x)) + exact(t) * (exact(b) - exact(y))
            assert (exact(a) * exact(b) - line >= exact(m)).all()


def test_terms_that_the_sum_of_planes_rounds_up() -> None:
    """PLANE.SUM: each small term is little more than half a unit of the running sum."""
    x, y = np.full((1, 200), 2.0**-53 * (1 + 2.0**-49)), np.ones((200, 2))
    x[0, 0] = -1.5
    for factor, sign in itertools.product((1.0, -1.0), repeat=2):
        point = factor * x, y
        row_holds(ops.MatMul(), between(*point[:1] * 2), between(y, y), [sign, 0.0], [point])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("limit", [products.TERMS_LIMIT, 0])
def test_rows_times_slopes(which: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """PLANE.ROWS: one factor is a point, so the planes are exact and the rows' rounding decides."""
    monkeypatch.setattr(products, "TERMS_LIMIT", limit)
    r = np.random.default_rng(5)
    x, y = around(r, (4, 3), 1.0 - which), around(r, (3, 4), float(which))
    fixed = (y, x)[which]
    fixed.lower[:] = fixed.upper[:] = fixed.centre[:] = np.float32(fixed.centre)
    for _ in range(20):
        row = r.normal(size=16).astype(np.float32)
        other = exact(fixed.centre[0])
        a = exact(row.reshape(4, 4))
        true = a.dot(other.T) if which == 0 else other.T.dot(a)
        after = step(ops.MatMul(), x, y)
        table = ops.MatMul().relax([x, y], after, Precision("real", F32))
        part = table.back(row[None].copy(), np.zeros(1), np.zeros(1, np.int64))[which]
        error = exact(part[0]).reshape(true.shape) - true
        moving = (x, y)[which]
        worst = np.where(error > 0, moving.upper[0], moving.lower[0])
        point = (worst, fixed.centre[0]) if which == 0 else (fixed.centre[0], worst)
        row_holds(ops.MatMul(), x, y, row, [point], F32)


def test_rows_that_underflow() -> None:
    """PLANE.LOSS."""
    x, y = between([-1.0], [1.0]), between([1.5 * 2.0**-60], [1.5 * 2.0**-60])
    for sign in (1.0, -1.0):
        row_holds(
            *(ops.Mul(), x, y, [sign * 2.0**-91], [([e], y.lower[0]) for e in (-1.0, 1.0)]),
            dtype=F32,
        )


def test_middle_slopes_beyond_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """PLANE.MIDDLE: a slope that float32 rows cannot hold becomes 0."""
    monkeypatch.setattr(products, "TERMS_LIMIT", 0)
    x, y = between([[-1.0]], [[1.0]]), between([[1e39]], [[1e39]])
    for sign in (1.0, -1.0):
        for e in (-1.0, 1.0):
            row_holds(ops.MatMul(), x, y, [sign], [([[e]], [[1e39]])], F32)
            row_holds(ops.MatMul(), y, x, [sign], [([[1e39]], [[e]])], F32)


@pytest.mark.parametrize(("op", "x", "y"), CASES)
def test_forward_is_what_rows_became(op: Any, x: Any, y: Any) -> None:
    """At any point the lines' values, weighted by the row, are the row's own (in float64)."""
    r = np.random.default_rng(6)
    a, b = around(r, x, 0.5), around(r, y, 0.5)
    both = [NodeBounds(*(np.concatenate((e, e * 0.5)) for e in (p.lower, p.upper, p.centre)))
            for p in (a, b)]  # fmt: skip
    net = network(op, x, y)
    after = interval_step(net.nodes[-1], both, "real")
    table = op.relax(both, after, Precision("real", F64))
    box = np.array([1, 0, 1])
    rows = r.normal(size=(3, after.lower[0].size))
    points = tuple(r.normal(size=(3, p.lower[0].size)) for p in both)
    values = (rows * table.forward(rows, points, box)).sum(axis=1)
    d = np.zeros(3)
    parts = table.back(rows.copy(), d, box)
    became = d + sum((p * z).sum(axis=1) for p, z in zip(parts, points, strict=True))
    np.testing.assert_allclose(values, became, 1e-12, 1e-12)


def test_the_best_plane_is_taken() -> None:
    """On [0, 2]²: x·y >= 0 and not the middle plane's -1; the rows know it without intervals."""
    x = y = between([0.0], [2.0])
    after = step(ops.Mul(), x, y)
    table = ops.Mul().relax([x, y], after, Precision())
    d = np.zeros(1)
    parts = table.back(np.ones((1, 1)), d, np.zeros(1, np.int64))
    least = after.centre[0, 0] + d[0] - sum(abs(p[0, 0]) for p in parts)
    assert -1e-9 < least <= 0.0


# -- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "x", "y", "limit"),
    [(*c, products.TERMS_LIMIT) for c in CASES if c[1]] + [(*c, 0) for c in CASES[3:5]],
)
def test_networks(op: Any, x: Any, y: Any, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All methods, both guarantees, executions, two boxes of unlike scale."""
    monkeypatch.setattr(products, "TERMS_LIMIT", limit)
    r = np.random.default_rng(7)
    net = network(op, x, y)
    size = net.input_shape[0]
    centre = r.normal(size=(2, size)).astype(np.float32) * [[1.0], [2.0**-70]]
    radius = r.uniform(size=(2, size)) * [[0.5], [2.0**-90]]
    box, count = Box(centre - radius, centre + radius), Count()
    truths = exact_values(net, box, r, 0)
    for method, guarantee in (("ibp", "float32"), ("crown-ibp", "real"), ("crown", "float32")):
        config = Config(method, guarantee, isa=kernels.isa)
        check(net, box, config, r, count, truths=truths, executions=guarantee == "float32")
    assert not count.wrong, count.wrong[:3]


def test_a_product_with_itself() -> None:
    b = Builder(ops.Input(), (2, 2))
    b.build(b.add(ops.Mul(), b.add(ops.MatMul(), 0, 0), 0))
    net = b.build(2)
    box, count = Box(np.full((1, 2, 2), -1.0), np.full((1, 2, 2), 2.0)), Count()
    for method in METHODS:
        check(net, box, Config(method, isa=kernels.isa), np.random.default_rng(8), count)
    assert not count.wrong, count.wrong[:3]
    assert len(interval_pass(net, box)) == 3


@pytest.mark.parametrize(("op", "x", "y"), [c for c in CASES if c[1]])
def test_witnesses_are_settled_in_fractions(op: Any, x: Any, y: Any) -> None:
    net = network(op, x, y)
    point = np.random.default_rng(9).normal(size=net.input_shape)
    found = exact_output(net, point)
    assert found == [Fraction(int(v.p), int(v.q)) for v in Truth(net)(point)[-1].ravel()]


@pytest.mark.parametrize(
    ("op", "shapes", "words"),
    [
        (ops.Mul(), ((2,), (3,)), "do not broadcast"),
        (ops.Mul(), ((2,),), "expected 2"),
        (ops.MatMul(), ((2, 3), (2, 3)), "expected"),
        (ops.MatMul(), ((3,), (3, 2)), "expected"),
        (ops.MatMul(), ((2, 2, 3), (3, 3, 2)), "leading axes"),
    ],
)
def test_shapes_that_do_not_fit(op: Any, shapes: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        op.shape(*shapes)
