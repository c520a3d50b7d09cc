"""Terms of where rows start and end: specifications, joins, balls, constants (see `test_terms`)."""

from __future__ import annotations

from typing import Any

import flint
import numpy as np
import pytest
from flint import arb

import gamma
from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.ops.charges import linear_charge
from gamma.ops.tables import Precision
from gamma.propagate.analysis import lower_bounds
from gamma.propagate.interval import interval_pass
from gamma.propagate.options import Options
from gamma.propagate.rows.block import Dense
from gamma.propagate.rows.descend import Descent
from gamma.propagate.rows.tables import Tables
from gamma.propagate.specification import Specification
from gamma.propagate.walks import walk
from gamma.tensor.box import Box
from tests.exact.affine import ROWS32, around, cancelling, chain, holds, normal, rng
from tests.exact.checking import Config
from tests.exact.oracle import BITS, Truth, above, exact, q, violations

Array = Any
F64 = np.dtype(np.float64)
pytestmark = pytest.mark.usefixtures("arithmetic")


def test_join_rounding() -> None:
    """JOIN: two coefficients of one node are added in float32."""
    r = rng()
    builder = Builder(ops.Input(), (8,))
    turned = builder.add(ops.Gather(np.arange(8)[::-1].copy(), (8,)), 0)
    total = builder.add(ops.Add((1, 1)), 0, turned)
    builder.add(ops.Gemm(normal(r, 12, 8), None), total)
    holds(builder.build(3), around(np.zeros(8), 1.0), ROWS32)


def backward(box: Box) -> Descent:
    net = chain(box.lower.shape[1:], ops.Relu())
    return Descent(Tables(net, box, interval_pass(net, box), Precision("real", F64)))


def run(box: Box, rows: Array, d: float) -> float:
    frontier = {0: Dense(np.ascontiguousarray(rows, dtype=np.float64)[None])}
    result = backward(box).run(frontier, np.array([d]), np.zeros(1, np.int64))
    return float(result[0])


def test_settling_of_d() -> None:
    """SETTLE: what is subtracted vanishes against d."""
    rows, radius = np.array([1.0, -0.3]), np.array([2.0**-56, 2.0**-60])
    for d in (1.0, -1.0, 3.7):
        true = q(d) - (exact(abs(rows)) * exact(radius)).sum()
        assert not above(run(around(np.zeros(2), radius), rows, d), true)


def test_settling_below_the_range() -> None:
    """SETTLE.UNDERFLOW: every product of the concretisation vanishes."""
    rows, radius = np.array([2.0**-80, 2.0**-75]), np.array([2.0**-1000, 2.0**-1001])
    true = -(exact(rows) * exact(radius)).sum()
    assert not above(run(around(np.zeros(2), radius), rows, 0.0), true)


def ball(norm: str, rows: Array, centre: Array, hull: Array, radius: float) -> Any:
    """Exact minimum of rows·(x − hull) over the ball."""
    size = [arb(v) for v in exact(abs(rows))]
    length = sum((v * v for v in size), arb(0)).sqrt() if norm == "2" else max(map(arb, size))
    shift = (exact(rows) * (exact(centre) - exact(hull))).sum()
    return arb(shift) - arb(q(radius)) * length


@pytest.mark.parametrize("norm", ["1", "2"])
def test_ball(norm: str) -> None:
    """BALL.SHIFT, BALL.SUM, BALL.NORM: the ball's centre is not the hull's, sums cancel."""
    r = rng()
    previous, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        for _ in range(60):
            n = 12
            rows = r.normal(size=n) * 1e3
            hull = r.normal(size=n) * 2.0**-20
            centre = r.normal(size=n)
            rows[-1] = -float((rows[:-1] * (centre - hull)[:-1]).sum()) / (centre - hull)[-1]
            radius = float(r.choice([2.0**-80, 2.0**-60, 1.0]))
            box = Box(hull[None] - 9, hull[None] + 9, norm, centre[None], radius)
            engine = backward(box)
            engine.tables.bounds[0].centre = hull[None]
            frontier = {0: Dense(rows[None].copy())}
            found = engine.run(frontier, np.zeros(1), np.zeros(1, np.int64))[0]
            true = ball(norm, rows, centre, hull, radius)
            assert not above(float(found), true)
    finally:
        flint.ctx.prec = previous


def test_dead_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """DEAD: dropped columns belong to neurons that are dead in every box, not in one."""
    monkeypatch.setattr("gamma.propagate.rows.tables._COPY_PRICE", 0.0)  # small layers as large
    r = rng()
    net = chain(
        (3,),
        ops.Gemm(normal(r, 20, 3), np.where(np.arange(20) % 2, -9, 0).astype(np.float32)),
        ops.Relu(),
        ops.Gemm(normal(r, 20, 20), normal(r, 20)),
        ops.Relu(),
        ops.Gemm(normal(r, 2, 20), None),
    )
    lower = np.stack([np.full(3, -0.5), np.full(3, 5.0), r.normal(size=3) * 4])
    box = Box(lower, lower + 0.75)
    kept = walk(net, box, Options("crown-ibp")).descent.tables.columns(2)
    assert kept is not None and 0 < len(kept) < 20
    holds(net, box, ROWS32, Config("crown-ibp"))


def ask(net: Network, box: Box, y: Array, dtype: str, sure: bool = True, x: Any = None) -> Array:
    rows = len(y)
    asked = Specification(y, x, np.zeros(rows), np.zeros(rows, np.int64), sure)
    return lower_bounds(net, box, asked, method="crown", dtype=dtype).lower


def same(n: int) -> Network:
    return chain((n,), ops.Reshape((n,)))


def test_specification_centre() -> None:
    """SPEC.CENTRE: the rows' products with the centre cancel."""
    r = rng()
    x = 1 + r.normal(size=32) * 2.0**-40
    y = cancelling(r, 30, 32)
    for dtype in ("float32", "float64"):
        found = ask(same(32), around(x, 0.0), y, dtype)
        for row, value in zip(y, found, strict=True):
            assert not above(float(value), (exact(row) * exact(x)).sum())


def test_specification_doubt() -> None:
    """SPEC.DOUBT_CENTRE, SPEC.DOUBT_REACH: coefficients known to 2^-53."""
    r = rng()
    y = r.normal(size=(20, 8))
    centre = r.normal(size=8)
    for at, radius in ((centre, 0.0), (np.zeros(8), 1.0)):
        found = ask(same(8), around(at, radius), y, "float64", sure=False)
        for row, value in zip(y, found, strict=True):
            corner = exact(at) - exact(np.sign(row) * radius)
            sway = 1 - exact(np.sign(row * at) if radius == 0 else -np.ones(8)) * q(2.0**-53)
            assert not above(float(value), (exact(row) * sway * corner).sum())


def test_specification_doubt_that_cancels() -> None:
    """SPEC.DOUBT_REACH: 1.1 x - 1.1 x is zero, unless each coefficient errs its own way."""
    builder = Builder(ops.Input(), (1,))
    net = builder.build(builder.add(ops.Concat(0), 0, 0))
    for dtype in ("float32", "float64"):
        found = ask(net, around([0.0], 1.0), np.array([[1.125, -1.125]]), dtype, sure=False)
        assert not above(float(found[0]), -q(2 * 1.125) * q(2.0**-53))


def test_specification_dropped() -> None:
    """SPEC.DROPPED: what float32 rows leave of the coefficients."""
    r = rng()
    y = r.normal(size=(20, 8))
    found = ask(same(8), around(np.zeros(8), 1.0), y, "float32")
    for row, value in zip(y, found, strict=True):
        assert not above(float(value), -exact(abs(row)).sum())


def test_specification_sum_of_rows() -> None:
    """SPEC.JOIN: rows over outputs and over inputs meet on the same node."""
    r = rng()
    net = Builder(ops.Input(), (8,)).build(0)
    y = normal(r, 20, 8).astype(np.float64)
    x = normal(r, 20, 8).astype(np.float64) * 2.0**-6
    found = ask(net, around(np.zeros(8), 1.0), y, "float32", x=x)
    for row, more, value in zip(y, x, found, strict=True):
        true = -sum(abs(v) for v in exact(row) + exact(more))
        assert not above(float(value), true)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_output_is_rounded_outward(method: str) -> None:
    """OUTPUT: float32 ends of float64 bounds."""
    r = rng()
    net = chain((4,), ops.Gemm(normal(r, 30, 4), normal(r, 30)))
    x = r.normal(size=4)
    known = gamma.bounds(net, around(x, 0.0), method=method, dtype="float32")
    assert known.lower.dtype == np.float32
    assert violations(known.lower[0], known.upper[0], Truth(net)(x)[1]) == 0


def test_charge_of_start_rows_is_no_less_than_needed() -> None:
    """START.COST: exact weights cost their noise, and nothing less."""
    r = rng()
    op = ops.Gemm(cancelling(r, 8, 32), None)
    net = chain((32,), op)
    box = around(1 + r.normal(size=32) * 2.0**-40, 0.0)
    bounds = interval_pass(net, box)
    charge = linear_charge(op, bounds[1], [bounds[0]], F64, start=True)
    true = Truth(net)(box.lower[0])[1]
    made = walk(net, box, Options("crown-ibp", "real", F64))
    low, high = made.neuron_bounds(1, np.zeros(8, np.int64), np.arange(8))
    assert violations(low, high, true) == 0
    assert (charge.weight > 0).all()
