"""Softmax of the entries that a causal mask leaves: images and planes in 400-bit balls."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import flint
import numpy as np
import pytest

from gamma import ops
from gamma.errors import UsageError
from gamma.network.graph import Builder
from gamma.ops.bounds import NodeBounds
from gamma.ops.tables import Precision
from gamma.propagate.interval import interval_step
from tests.exact.oracle import BITS, Truth, exact, q, violations

SEEN = np.array([1, 2, 3, 4, 2])
OP = ops.Softmax(-1, SEEN)
HIDDEN = np.arange(4) >= SEEN[:, None]


@pytest.fixture(autouse=True)
def precise() -> Iterator[None]:
    previous, flint.ctx.prec = flint.ctx.prec, BITS
    yield
    flint.ctx.prec = previous


def truth(x: np.ndarray) -> np.ndarray:
    return Truth.__new__(Truth)._softmax(OP, exact(x))


def bounds(lower: np.ndarray, upper: np.ndarray, guarantee: str) -> tuple[NodeBounds, NodeBounds]:
    """Of a box, and of the node over it."""
    b = Builder(ops.Input(), lower.shape)
    node = b.nodes[b.add(OP, 0)]
    with np.errstate(invalid="ignore"):
        middle = np.nan_to_num(np.clip(0.5 * (lower + upper), lower, upper), posinf=0, neginf=0)
    x = NodeBounds(lower[None], upper[None], middle[None])
    with np.errstate(all="ignore"):
        return x, interval_step(node, [x], guarantee)


CASES = list(itertools.product((1e-3, 1.0, 30.0, 1e4), ("real", "float32")))


@pytest.mark.parametrize(("scale", "guarantee"), CASES)
def test_images_and_planes_hold(scale: float, guarantee: str) -> None:
    """Whatever the masked entries are: also where they are far above the others."""
    r = np.random.default_rng(int(scale))
    lower = r.normal(size=(5, 4)) * scale
    lower = np.where(HIDDEN, lower + 50 * scale, lower)
    upper = lower + r.uniform(size=(5, 4)) * scale
    x, found = bounds(lower, upper, guarantee)
    table = OP.relax([x], found, Precision(guarantee, np.dtype(np.float32)))
    rows = np.concatenate((np.eye(20), -np.eye(20), r.normal(size=(8, 20)))).astype(np.float32)
    d, box = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    (part,) = table.back(rows.copy(), d, box)
    assert not part.reshape(-1, 5, 4)[:, HIDDEN].any()  # nothing depends on what is masked
    for k in range(12):
        where = (0.0, 1.0, r.uniform(size=(5, 4)))[min(k, 2)]
        point = np.clip(lower + where * (upper - lower), lower, upper)
        p = truth(point)
        assert not violations(found.lower[0], found.upper[0], p)
        away = (exact(point) - exact(x.centre[0])).reshape(-1)
        rest = (p - exact(found.centre[0])).reshape(-1)
        for i, row in enumerate(rows):
            left = (exact(row) * rest).sum()
            right = q(d[i]) - q(table.loss[0]) + (exact(part[i]) * away).sum()
            assert not left < right


@pytest.mark.parametrize("scale", [1.0, 20.0, 90.0])
def test_executions(scale: float) -> None:
    """CAUSAL.NOISE: float32 runs stray from the real softmax, and stay inside."""
    r, strayed = np.random.default_rng(1), 0
    for _ in range(40):
        x = (r.normal(size=(5, 4)) * scale).astype(np.float32)
        run = OP.forward(x[None])[0]
        _, found = bounds(x.astype(np.float64), x.astype(np.float64), "float32")
        _, real = bounds(x.astype(np.float64), x.astype(np.float64), "real")
        assert (found.lower[0] <= run).all() and (run <= found.upper[0]).all()
        strayed += int(((run < real.lower[0]) | (run > real.upper[0])).sum())
    assert strayed


def test_what_is_fixed_is_exact() -> None:
    lower = np.random.default_rng(0).normal(size=(5, 4))
    _, found = bounds(lower, lower + 3, "real")
    assert (found.lower[0][HIDDEN] == 0).all() and (found.upper[0][HIDDEN] == 0).all()
    assert found.lower[0, 0, 0] == found.upper[0, 0, 0] == 1  # alone among its entries


def test_bounds_are_those_of_the_entries_alone() -> None:
    r = np.random.default_rng(5)
    lower = r.normal(size=(5, 4))
    upper = lower + r.uniform(size=(5, 4))
    _, found = bounds(lower, upper, "real")
    for row, count in enumerate(SEEN[1:], start=1):
        part = NodeBounds(*(e[None, row, :count] for e in (lower, upper, 0.5 * (lower + upper))))
        alone = ops.Softmax().propagate([part], Precision())
        assert abs(found.lower[0, row, :count] - alone.lower[0]).max() < 1e-12
        assert abs(found.upper[0, row, :count] - alone.upper[0]).max() < 1e-12


def test_infinite_bounds_of_what_takes_part() -> None:
    lower, upper = np.zeros((5, 4)), np.ones((5, 4))
    lower[1, 0], upper[2, 1], lower[3], upper[3] = -np.inf, np.inf, -np.inf, np.inf
    for guarantee in ("real", "float32"):
        _, found = bounds(lower, upper, guarantee)
        assert not np.isnan(found.lower).any() and not np.isnan(found.upper).any()
        assert (found.lower[0, 3, :4] <= 0).all() and (found.upper[0, 3, :4] >= 1).all()


@pytest.mark.parametrize("seen", [[0, 1, 1, 1, 1], [5, 1, 1, 1, 1], [1, 2]])
def test_counts_that_do_not_fit(seen: list[int]) -> None:
    with pytest.raises(UsageError, match="counts from 1 to 4"):
        ops.Softmax(-1, np.array(seen)).shape((5, 4))
