"""Margins of a stored layer: the same numbers as differences in fractions, bounds that hold."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gamma import bounds, ops
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.propagate import needs
from gamma.propagate.options import Options
from gamma.propagate.walks import walk
from gamma.tensor.box import Box
from gamma.tensor.weights import Weight
from tests.ops.test_stored import stored

ROWS, COLUMNS, LABEL = 70, 64, 33


def made(kind: str = "q8_0", label: int = LABEL) -> ops.StoredMargins:
    return ops.StoredMargins(stored(kind, (ROWS, COLUMNS)), label)


@pytest.mark.parametrize("label", [0, LABEL, ROWS - 1])
def test_all_ways_through_it(label: int) -> None:
    op = made(label=label)
    weight = op.weight.array().astype(np.float64)
    wanted = np.delete(weight - weight[label], label, axis=0)
    assert op.shape((COLUMNS,)) == (ROWS - 1,)
    x, rows = np.random.default_rng(0).normal(size=(2, COLUMNS)), np.eye(ROWS - 1)[::7]
    assert np.allclose(op.linear([x]), x @ wanted.T, rtol=1e-12, atol=1e-12)
    assert np.allclose(op.linear([abs(x)], absolute=True), abs(x) @ abs(wanted).T, rtol=1e-12)
    assert np.array_equal(op.adjoint(rows, [(COLUMNS,)])[0], wanted[::7])
    neurons = np.arange(0, ROWS - 1, 7)
    assert np.array_equal(op.start_rows(neurons, [(COLUMNS,)], np.float64), wanted[::7])
    assert (op.row_sums([(COLUMNS,)])[0] >= abs(wanted).sum(axis=1)).all()


@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_bounds_enclose_the_extremes(method: str) -> None:
    """Real arithmetic in fractions at the corners; float32 executions of both scores."""
    b = Builder(ops.Input(), (COLUMNS,))
    net = b.build(b.add(made(), 0))
    r = np.random.default_rng(4)
    lower = r.normal(size=COLUMNS)
    box = Box(lower, lower + r.uniform(size=COLUMNS) * 1e-7)
    weight = made().weight.array()
    found = bounds(net, box, method=method)
    others = [k for k in range(ROWS) if k != LABEL]
    for at, k in enumerate(others):
        low = high = Fraction(0)
        for w, own, a, c in zip(weight[k], weight[LABEL], box.lower, box.upper, strict=True):
            step = Fraction(float(w)) - Fraction(float(own))
            ends = step * Fraction(float(a)), step * Fraction(float(c))
            low, high = low + min(ends), high + max(ends)
        assert Fraction(float(found.lower[at])) <= low and high <= Fraction(float(found.upper[at]))
    single = bounds(net, Box.linf(lower.astype(np.float32), 0), method=method, guarantee="float32")
    for order in (np.arange(COLUMNS), r.permutation(COLUMNS)):
        scores = np.zeros(ROWS, np.float32)
        for j in order:
            scores = scores + weight[:, j] * lower.astype(np.float32)[j]
        margin = (scores.astype(np.float64) - scores[LABEL])[others]
        assert (single.lower <= margin).all() and (margin <= single.upper).all()


def test_executions_of_the_label_alone() -> None:
    """MARGIN.BOTH: the other scores are exact zeros, the label's strays by its own rounding."""
    r = np.random.default_rng(3)
    weight = np.zeros((3, 400), np.float32)
    weight[1] = r.normal(size=400)
    b = Builder(ops.Input(), (400,))
    net = b.build(b.add(ops.StoredMargins(Weight.of(weight), 1), 0))
    x = r.normal(size=400).astype(np.float32)
    found = bounds(net, Box.linf(x, 0), method="ibp", guarantee="float32", dtype="float64")
    real = bounds(net, Box.linf(x, 0), method="ibp", dtype="float64")
    runs = [-np.cumsum((weight[1] * x)[r.permutation(400)])[-1] for _ in range(20)]
    assert all(found.lower[0] <= run <= found.upper[0] for run in runs)
    assert any(not real.lower[0] <= run <= real.upper[0] for run in runs)


def test_a_shared_part_of_the_scores_cancels() -> None:
    """Bounds of differences: the large common direction is gone, not bounded twice."""
    weight = np.ones((5, 8), np.float32) * 1000
    weight[:, 0] += np.arange(5)
    b = Builder(ops.Input(), (8,))
    net = b.build(b.add(ops.StoredMargins(Weight.of(weight), 2), 0))
    found = bounds(net, Box.linf(np.ones(8), 0.5), method="ibp")
    assert float((found.upper - found.lower).max()) < 3


def rival_network(shift: float) -> tuple[Network, Box]:
    """70 scores of two crossing ReLUs, less ``shift``, and the largest of them."""
    r = np.random.default_rng(5)
    b = Builder(ops.Input(), (6,))
    x = b.add(ops.Gemm(r.normal(size=(20, 6)).astype(np.float32)), 0)
    x = b.add(ops.Relu(), x)
    bias = np.linspace(0, 2, ROWS) - shift
    x = b.add(ops.Gemm(r.normal(size=(ROWS, 20)).astype(np.float32) / 20, bias), x)
    net = b.build(b.add(ops.ReduceMax(aim=-(2.0**-30)), x))
    return net, Box.linf(r.normal(size=6), 0.3).batched((6,))


def test_rows_of_rivals_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The highest first: none where intervals decide, all near the aim where rows do, and no more
    than the first few where one of these is above it."""
    monkeypatch.setattr(needs, "RIVALS", 2)
    found = {}
    for shift in (4.0, 2.5, 1.0):
        net, box = rival_network(shift)
        made = walk(net, box, Options("crown"))
        found[shift] = made.unstable.get(net.output - 1, 0), float(made.output().upper.max())
        x = np.random.default_rng(0).uniform(box.lower, box.upper, (4000, 6))
        values = net.forward(x)
        assert values.max() <= found[shift][1]
        assert made.output().lower.min() <= values.min()
    assert found[4.0][0] == 0 and found[4.0][1] < 0
    assert 2 < found[2.5][0] < 9 and found[2.5][1] < 0
    assert found[1.0][0] == 2 and found[1.0][1] > 0


def test_points_are_those_of_the_scores() -> None:
    """Forward and gradients of points, which search for a witness, against dense differences."""
    op, r = made(), np.random.default_rng(6)
    weight = op.weight.array().astype(np.float64)
    wanted = np.delete(weight - weight[LABEL], LABEL, axis=0)
    x = r.normal(size=(3, COLUMNS))
    assert np.allclose(op.forward(x), x @ wanted.T, rtol=1e-9, atol=1e-9)
    seed = np.zeros((3, ROWS - 1))
    seed[[0, 1, 2], [0, 40, ROWS - 2]] = 1.0
    assert np.array_equal(op.vjp(seed, [x], op.forward(x))[0], wanted[[0, 40, ROWS - 2]])


def test_what_does_not_fit() -> None:
    for label, shape in ((ROWS, (COLUMNS,)), (-1, (COLUMNS,)), (0, (3, COLUMNS))):
        with pytest.raises(UsageError, match="StoredMargins"):
            made(label=label).shape(shape)
