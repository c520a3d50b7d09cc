"""Rows over single positions: exact truth at points, the same bounds as rows over all of them."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gamma import ops, tuning
from gamma.network.graph import Builder, Network
from gamma.propagate import bounds
from gamma.propagate.alpha import alpha_walk
from gamma.propagate.options import Options
from gamma.propagate.positions.apart import Apart, position_of
from gamma.propagate.rows.block import Dense
from gamma.propagate.walks import walk
from gamma.tensor.box import Box
from tests.exact.oracle import Truth, violations

POSITIONS, WIDTH = 3, 4


def encoder(kind: str) -> Network:
    """Blocks around which the input goes; "flat": scores of all positions, "apart": of each,
    "forked": the scores read the inside of the last of three as well."""
    r, blocks = np.random.default_rng(5), 3 if kind == "forked" else 2
    build, last = Builder(ops.Input(), (POSITIONS, WIDTH)), 0
    inner = 0
    for _ in range(blocks):
        up, down = r.normal(size=(2 * WIDTH, WIDTH)), r.normal(size=(WIDTH, 2 * WIDTH))
        inner = build.add(ops.Normalize(1, 1e-3, True), last)
        inner = build.add(ops.Gemm(up.astype("f"), r.normal(size=2 * WIDTH).astype("f")), inner)
        hidden = build.add(ops.Relu(), inner)
        last = build.add(ops.Add(), last, build.add(ops.Gemm(down.astype("f")), hidden))
    last = build.add(ops.Normalize(1, 1e-3, False), last)
    if kind == "apart":
        return build.build(build.add(ops.Gemm(r.normal(size=(2, WIDTH)).astype("f")), last))
    flat = build.add(ops.Reshape((POSITIONS * WIDTH,)), last)
    scores = build.add(ops.Gemm(r.normal(size=(2, POSITIONS * WIDTH)).astype("f")), flat)
    if kind == "forked":
        size = 2 * POSITIONS * WIDTH
        flat = build.add(ops.Reshape((size,)), inner)
        more = build.add(ops.Gemm(10 * r.normal(size=(2, size)).astype("f")), flat)
        scores = build.add(ops.Add(), scores, more)
    return build.build(scores)


def boxes(radius: float = 0.02, batch: int = 2) -> Box:
    r = np.random.default_rng(6)
    x = r.normal(size=(batch, POSITIONS, WIDTH))
    return Box(x - radius, x + radius * r.uniform(0, 1, x.shape))


@pytest.mark.parametrize("kind", ("flat", "apart", "forked"))
@pytest.mark.parametrize("guarantee", ("real", "float32"))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_bounds_hold_exact_values(kind: str, guarantee: str, dtype: str) -> None:
    net, box = encoder(kind), boxes()
    with tuning.disabled("ellipsotopes"):
        options = Options("crown", guarantee, np.dtype(dtype))
        made = walk(net, box, options)
        made.output()
        with tuning.disabled("apart_positions"):
            whole = walk(net, box, options)
            whole.output()
    assert made.descent.apart is not None and whole.descent.apart is None
    truth, r = Truth(net), np.random.default_rng(7)
    for b in range(2):
        for _ in range(3):
            up = r.random((POSITIONS, WIDTH)) < 0.5
            point = np.where(up, box.upper[b], box.lower[b])
            for known, value in zip(made.bounds, truth(point), strict=True):
                assert violations(known.lower[b], known.upper[b], value) == 0
    for ours, theirs in zip(made.bounds, whole.bounds, strict=True):
        slack = 1e-4 * (theirs.upper - theirs.lower).max()
        assert (ours.lower >= theirs.lower - slack).all()
        assert (ours.upper <= theirs.upper + slack).all()


@pytest.mark.parametrize("kind", ("flat", "forked"))
def test_points_are_met(kind: str) -> None:
    """A box of no width: charges are all there is, and each is paid."""
    net, box = encoder(kind), boxes(0.0)
    made, truth = walk(net, box, Options("crown", dtype=np.dtype(np.float32))), Truth(net)
    made.output()
    for b in range(2):
        for known, value in zip(made.bounds, truth(box.lower[b]), strict=True):
            assert violations(known.lower[b], known.upper[b], value) == 0


@pytest.mark.parametrize("kind", ("flat", "apart"))
@pytest.mark.parametrize("guarantee", ("real", "float32"))
def test_optimised_slopes_hold_exact_values(kind: str, guarantee: str) -> None:
    net, box = encoder(kind), boxes(0.2)
    options = Options("alpha", guarantee, np.dtype(np.float32), steps=3)
    made = alpha_walk(net, box, options)
    made.output()
    assert made.descent.apart is not None
    with tuning.disabled("apart_positions"):
        whole = alpha_walk(net, box, options)
        whole.output()
    truth = Truth(net)
    for b in range(2):
        for up in (True, False):
            point = box.upper[b] if up else box.lower[b]
            for known, value in zip(made.bounds, truth(point), strict=True):
                assert violations(known.lower[b], known.upper[b], value) == 0
    # Where executions of one position may overflow, rows of the others are still finite.
    for ours, theirs in zip(made.bounds, whole.bounds, strict=True):
        assert (ours.lower >= theirs.lower - 1e-3).all()
        assert (ours.upper <= theirs.upper + 1e-3).all()


def test_sums_over_positions_are_rounded_down() -> None:
    r = np.random.default_rng(8)
    found = r.normal(size=(50, POSITIONS)) * 2.0 ** r.integers(-30, 30, (50, POSITIONS))
    d = r.normal(size=50) * 2.0 ** r.integers(-30, 30, 50)
    truth = [Fraction(a) + sum(map(Fraction, row)) for a, row in zip(d, found, strict=True)]
    stub: Any = SimpleNamespace(_count=POSITIONS)
    seen: list[Any] = []

    def run(rows: Any, zero: Any, box: Any) -> Any:
        seen.append((rows[4].array, box))
        return found.reshape(-1)

    frontier: Any = {4: Dense(np.arange(50.0 * POSITIONS * 2).reshape(50, -1))}
    Apart.finish(stub, frontier, d, np.repeat([1, 0], 25), run)
    assert not frontier and all(Fraction(a) <= t for a, t in zip(d, truth, strict=True))
    assert np.allclose(d, np.array(truth, float), rtol=1e-12, atol=1e-5)
    rows, box = seen[0]
    assert rows.shape == (150, 2) and (rows[4] == (8, 9)).all()
    assert (box[:3] == (3, 4, 5)).all() and (box[-3:] == (0, 1, 2)).all()


def test_rows_that_begin_inside_stay_where_their_charges_are_paid() -> None:
    """Over a layer whose activation carries its charge, and over what lost its dead columns."""
    net, box = encoder("apart"), boxes()
    made = walk(net, box, Options("crown", dtype=np.dtype(np.float32)))
    apart = made.descent.apart
    assert apart is not None
    tables = apart.descent.tables
    for index in range(net.output + 1):
        rows: Any = {index: Dense(np.ones((1, net.nodes[index].size), np.float32))}
        own = tables.carried(index) or tables.columns(index) is not None
        assert apart.takes(rows) is not own
        if tables.carried(index):
            assert net.nodes[index].op.name == "Gemm"
    assert apart.takes({net.output: Dense(np.ones((1, 6), np.float32))})


@pytest.mark.parametrize("method", ["crown", "forward+crown"])
def test_rows_that_are_zero_at_every_position(method: str) -> None:
    """Softmax of one entry is 1, whatever goes in: no row goes on."""
    b = Builder(ops.Input(), (2, 1))
    after = ops.Reshape((1, 2, 1)), ops.Softmax(0), ops.Reshape((2, 1))
    for index, op in enumerate((*[ops.Softmax(1)] * 3, *after)):
        b.add(op, index)
    found = bounds(b.build(6), Box(np.zeros((1, 2, 1)), np.zeros((1, 2, 1))), method=method)
    assert (found.lower <= 1).all() and (found.upper >= 1).all()
    assert (found.upper - found.lower < 1e-6).all()


def test_where_positions_meet_they_end() -> None:
    for kind, last in (("flat", 11), ("apart", 12), ("forked", 10)):
        position = position_of(encoder(kind))
        assert position is not None and position.count == POSITIONS
        assert position.network.output == last
        assert position.network.input_shape == (WIDTH,)

    r = np.random.default_rng(0)
    for own in (
        ops.Scale(r.normal(size=(POSITIONS, WIDTH)), np.zeros((POSITIONS, WIDTH)), 0.0, 0.0),
        ops.Softmax(0),
        ops.Transpose((0, 1)),
    ):
        build, last = Builder(ops.Input(), (POSITIONS, WIDTH)), 0
        last = build.add(own, last)
        for _ in range(3):
            last = build.add(ops.Sigmoid(), last)
        assert position_of(build.build(last)) is None


def test_gate_and_other_sets_leave_it_out() -> None:
    net, box = encoder("flat"), boxes()
    with tuning.disabled("apart_positions"):
        assert walk(net, box, Options("crown")).descent.apart is None
    assert walk(net, Box.l2(box.lower, 0.01), Options("crown")).descent.apart is None
    assert walk(net, box, Options("ibp")).descent.apart is None
    for method in ("crown", "crown-ibp", "alpha"):
        found = bounds(net, box, method=method)
        y = net.forward(0.5 * (box.lower + box.upper), np.float64)
        assert (found.lower <= y).all() and (y <= found.upper).all()
