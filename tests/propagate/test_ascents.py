"""Ascents in one call of the C library: what rows come to step by step, whatever is around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.errors import UsageError
from gamma.network.graph import Network
from gamma.ops import Gemm
from gamma.propagate.alpha import alpha_walk
from gamma.propagate.blocks import evenly
from gamma.propagate.cases import Cases, CaseWalk
from gamma.propagate.options import options_of
from gamma.propagate.rows import chain
from gamma.propagate.rows.ascent import DenseAscent
from gamma.runtime import workers
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.propagate.ascending import (
    claim,
    images,
    network,
    residual,
    residual_images,
    some_boxes,
    step_by_step,
)

pytestmark = pytest.mark.skipif(kernels.isa == "numpy", reason="needs the compiled kernels")


def walk_of(net: Network, guarantee: str, dtype: str, wide: bool) -> CaseWalk:
    """A walk over bounds as claimed, or over proved ones."""
    one = np.ones((1, *net.input_shape))
    box = Box(-one, one)
    made = alpha_walk(net, box, options_of(net, "alpha", guarantee, dtype, None))
    if not wide:
        claim(made)
    rows = np.eye(3, dtype=made.options.dtype)
    return CaseWalk(made, {net.output: rows}, np.array([0.5, -0.25, 1.0]))


def drawn(walk: CaseWalk, count: int) -> Cases:
    """Cases with slopes and multipliers of few bits; each assumes something of every layer: where
    others do, step by step, a row pays as if it did."""
    rng = np.random.default_rng(3)
    cases = walk.start(rng.integers(0, 3, count))
    slope = rng.integers(0, 5, cases.slope.shape).astype(cases.slope.dtype) / 4
    layers = [np.flatnonzero(walk.layer == k) for k in range(walk.layer[-1] + 1)]
    relu = np.array([[*map(rng.choice, layers), -1, -1] for _ in range(count)])
    for row in relu[::2]:
        row[-1] = rng.choice(np.setdiff1d(np.arange(walk.relus), row))
    relu = relu[:, rng.permutation(relu.shape[1])]
    sign = np.where(relu < 0, 0, rng.choice([-1, 1], relu.shape)).astype(np.int8)
    beta = np.where(relu < 0, 0, rng.integers(-1, 5, relu.shape) / 8)
    return Cases(cases.question, slope, relu.astype(np.int64), sign, beta)


def everything(cases: Cases) -> Cases:
    return cases.take(np.arange(len(cases.question)))


@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_descent_has_the_same_bits(guarantee: str, dtype: str) -> None:
    """Every charge, line and multiplier: here no product rounds, and what else rounds is alike."""
    for seed in range(3):
        walk = walk_of(network(seed), guarantee, dtype, wide=False)
        cases, other = drawn(walk, 70), step_by_step(walk)
        assert walk.relus > 20
        lower = walk.lower(cases)
        assert np.isfinite(lower).all() and np.array_equal(lower, other.lower(cases))
        owner = np.arange(70) // 7
        some = Cases(cases.question, cases.slope[:10].copy(), cases.relu, cases.sign, cases.beta)
        assert np.array_equal(walk.lower(some, owner=owner), other.lower(some, owner=owner))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_mostly_zeros_have_the_same_bits(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the ones that are whole, with dead neurons left out of both."""
    found = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(chain, "_SPARSE_FROM", 1)
        monkeypatch.setattr(chain, "_SPARSE", share)
        walk = walk_of(network(1), "real", dtype, wide=False)
        cases = drawn(walk, 70)
        lower = walk.lower(cases)
        cases.beta[:] = np.maximum(cases.beta, 0)
        best, cost = walk.ascend(cases, 2)
        assert walk._dense is not None
        sparse = [chain.sparse(op, walk.made.options.dtype) is not None for op in layers(walk)]
        assert all(sparse) if share else not any(sparse)
        found.append((lower, best, cost, cases.slope))
    assert np.array_equal(found[0][0], found[1][0])
    for one, two in zip(*found, strict=True):
        assert np.allclose(one, two, 1e-4 if dtype == "float32" else 1e-9, 1e-5)


def layers(walk: CaseWalk) -> list[Gemm]:
    return [op for node in walk.made.network.nodes if (op := node.op.dense) is not None]


@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_have_the_same_bits(guarantee: str, dtype: str) -> None:
    """Rows that meet pay for it, here, too."""
    walk = walk_of(residual(), guarantee, dtype, wide=False)
    cases, other = drawn(walk, 70), step_by_step(walk)
    lower = walk.lower(cases)
    assert np.isfinite(lower).all() and np.array_equal(lower, other.lower(cases))


@pytest.mark.parametrize("make", [residual, residual_images])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_through_sums_come_to_the_same(make: Any, dtype: str) -> None:
    """Channels are summed in another order step by step."""
    walk = walk_of(make(), "real", dtype, wide=True)
    cases, other = drawn(walk, 40), step_by_step(walk)
    lower, near = other.lower(cases), 1e-5 if dtype == "float32" else 1e-13
    assert (abs(walk.lower(cases) - lower) <= near * abs(lower)).all()
    found = []
    for one in (walk, other):
        moved = everything(cases)
        moved.beta[:] = np.maximum(moved.beta, 0)
        found.append((*one.ascend(moved, 4), moved.slope, moved.beta))
    assert (found[0][0] > walk.lower(cases) + 1e-3).any()
    for left, right in zip(*found, strict=True):
        assert np.allclose(left, right, 1e-3 if dtype == "float32" else 1e-8, 1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("gates", [(), ("gathered_adjoint",), ("pixel_cells", "live_channels")])
def test_convolutions_have_the_same_bits(dtype: str, channels: int, gates: tuple[str, ...]) -> None:
    """One by one and many at once, whose images lie next to each other or do not."""
    with tuning.disabled(*gates):
        walk = walk_of(images(channels=channels), "real", dtype, wide=False)
        cases, other = drawn(walk, 40), step_by_step(walk)
        lower = walk.lower(cases)
        assert np.isfinite(lower).all() and np.array_equal(lower, other.lower(cases))
        found = []
        for one in (walk, other):
            moved = everything(cases)
            moved.beta[:] = np.maximum(moved.beta, 0)
            found.append(one.ascend(moved, 3))
        for left, right in zip(*found, strict=True):
            assert np.allclose(left, right, 1e-4 if dtype == "float32" else 1e-9, 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolutions_of_groups_as_matrices(dtype: str) -> None:
    """The same but for what longer sums cost."""
    walk = walk_of(images(group=2), "real", dtype, wide=False)
    cases, other = drawn(walk, 40), step_by_step(walk)
    less = (other.lower(cases) - walk.lower(cases)) / abs(other.lower(cases))
    unit = np.finfo(dtype).eps
    assert (less > 0.01 * unit).all() and (less < 1e4 * unit).all()


@pytest.mark.parametrize("isa", [name for name in kernels.available() if name != "numpy"])
def test_steps_come_to_the_same(isa: str) -> None:
    with kernels.pinned(isa):
        walk = walk_of(network(1), "real", "float64", wide=True)
        first, other = drawn(walk, 50), step_by_step(walk)
        limit = np.where(np.arange(50) % 2, np.inf, -1e9)  # every second one is settled at once
        found = []
        for made in (walk, other):
            cases = everything(first)
            cases.beta[:] = np.maximum(cases.beta, 0)
            kept = everything(cases)
            best, cost = made.ascend(cases, 5, limit=limit, kept=kept)
            assert (made.lower(kept) >= best - 1e-9 * abs(best)).all()
            found.append((cases, best, cost, kept))
        climbed = np.flatnonzero(limit == np.inf)
        assert (found[0][1] > walk.lower(first) + 1e-3)[climbed].any()
        assert (abs(found[0][0].beta - first.beta) > 1e-3)[climbed].any()
        for left, right in zip(*found, strict=True):
            pairs = [(left, right)]
            if isinstance(left, Cases):
                pairs = [(left.slope, right.slope), (left.beta, right.beta)]
            for one, two in pairs:
                assert np.allclose(one[climbed], two[climbed], 1e-7, 1e-9)
        assert np.allclose(found[0][1], found[1][1], 1e-9)
        assert not found[0][2][limit < 0].any() and not found[1][2][limit < 0].any()


def test_a_row_is_alone_among_others() -> None:
    walk = walk_of(network(2), "real", "float32", wide=True)
    first = drawn(walk, 90)
    limit = np.where(np.arange(90) % 3, np.inf, walk.lower(first) + 0.25)
    together = everything(first)
    best, cost = walk.ascend(together, 6, limit=limit)
    for rows in (np.arange(1), np.array([5, 40, 41, 89]), np.arange(89, -1, -1)):
        part = first.take(rows)
        one, price = walk.ascend(part, 6, limit=limit[rows])
        assert np.array_equal(one, best[rows]) and np.array_equal(price, cost[rows])
        open_rows = best[rows] < limit[rows]
        assert np.array_equal(part.slope[open_rows], together.slope[rows][open_rows])
        assert np.array_equal(part.beta[open_rows], together.beta[rows][open_rows])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_share_the_rows_of_a_call(dtype: str) -> None:
    """The same bits for any number, of cases and of pairs."""
    walk = walk_of(network(2), "real", dtype, wide=True)
    first = drawn(walk, 131)
    limit = np.where(np.arange(131) % 3, np.inf, walk.lower(first) + 0.25)
    one = np.ones((1, 5)) * [[[1.0]], [[0.5]]][: 1 + (dtype == "float32")]
    one = one.reshape(-1, 5)
    found = []
    for count in (1, 2, 3):
        with workers.limited(count):
            cases = everything(first)
            best, cost = walk.ascend(cases, 9, limit=limit)
            made = alpha_walk(walk.made.network, Box(-one, one), walk.made.options)
            ends = made.output()
        found.append((best, cost, cases.slope, cases.beta, ends.lower, ends.upper))
    for other in found[1:]:
        assert all(np.array_equal(*pair) for pair in zip(found[0], other, strict=True))


def test_blocks_of_memory_are_shared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, each as long as the others and with all threads; the same bits."""
    net = network(1)
    calls: list[tuple[int, int, int]] = []
    run = DenseAscent.run

    def seen(self: DenseAscent, last: int, asked: Any, *args: Any, **named: Any) -> Any:
        calls.append((last, len(asked[1]), workers.sharing()))
        return run(self, last, asked, *args, **named)

    monkeypatch.setattr(DenseAscent, "run", seen)
    options = options_of(net, "alpha", "real", "float64", None, row_bytes=20000)
    found, counts = [], []
    for threads in (1, 2):
        calls.clear()
        with workers.limited(threads), tuning.disabled("fused_alpha"):
            made = alpha_walk(net, some_boxes(net, 7), options)
            ends = made.output()
        found.append((ends.lower, ends.upper))
        assert {sharing for _, _, sharing in calls} == {threads}
        counts.append({k: [rows for last, rows, _ in calls if last == k] for k, _, _ in calls})
    assert all(np.array_equal(*pair) for pair in zip(*found, strict=True))
    for rows in counts[1].values():
        assert max(rows) - min(rows) <= 2 * len(rows)
    assert any(len(rows) > 1 for rows in counts[1].values())


def test_parts_are_even() -> None:
    for count in (0, 1, 7, 100, 342, 10484):
        for most, unit in ((1, 1), (8, 1), (8, 2), (100, 2), (9522, 2)):
            parts = list(evenly(count, most, unit))
            assert [i for part in parts for i in range(count)[part]] == list(range(count))
            sizes = [len(range(count)[part]) for part in parts]
            assert all(size <= most for size in sizes) and len(parts) <= -(-count // most)
            assert all(part.start % unit == 0 for part in parts)
            assert all(size == sizes[0] for size in sizes[:-1])


def test_calls_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is looked at between parts, which change nothing."""
    walk = walk_of(network(2), "real", "float32", wide=True)
    first, looks = drawn(walk, 30), []
    whole = walk.ascend(everything(first), 3)
    assert walk._dense is not None
    monkeypatch.setattr(DenseAscent, "_together", lambda self, last, steps: 8)
    parts = walk.ascend(everything(first), 3, lambda: looks.append(1))
    assert len(looks) == 4
    assert all(np.array_equal(*pair) for pair in zip(whole, parts, strict=True))


def test_no_number_is_no_bound() -> None:
    walk = walk_of(network(0), "real", "float32", wide=True)
    asked, d = walk._asked
    lost = CaseWalk(walk.made, asked, np.array([np.nan, np.inf, d[2]]))
    cases = drawn(walk, 30)
    best, _ = lost.ascend(everything(cases), 3, limit=np.zeros(30))
    for found in (best, lost.lower(cases)):
        assert (found[cases.question == 0] == -np.inf).all()
        assert np.isfinite(found[cases.question == 2]).all()


def test_one_of_a_pair_ends_both() -> None:
    walk = walk_of(network(1), "real", "float64", wide=True)
    made, asked = walk._dense, walk._question
    assert made is not None
    slope = walk.start(np.arange(1)).slope
    factors = np.array([walk.how.factors(step) for step in range(6)])
    question = np.array([0, 1] * 9 + [2, 2])
    rows = kernels.Climbers.plain(slope, question, paired=True)
    start = made.run(walk.last, asked, rows, factors[:1], None)
    limit = np.where(np.arange(20) % 4 == 1, start, np.inf)
    best = made.run(walk.last, asked, rows, factors, None, limit=limit)
    alone = made.run(walk.last, asked, kernels.Climbers.plain(slope, question), factors, None)
    ended = np.arange(20) % 4 < 2
    assert np.array_equal(best[ended], start[ended])
    assert np.array_equal(best[~ended], alone[~ended]) and (alone > start).all()
    with pytest.raises(UsageError, match="pairs"):
        made.run(walk.last, asked, rows.part(slice(0, 3)), factors, None)


@pytest.mark.parametrize(
    "change",
    [
        {"question": np.array([3])},
        {"relu": np.full((1, 5), 999)},
        {"relu": np.zeros((1, 5), np.int64), "sign": np.zeros((1, 5), np.int8)},
    ],
)
def test_what_does_not_exist_is_refused(change: dict[str, Any]) -> None:
    walk = walk_of(network(0), "real", "float32", wide=True)
    cases = drawn(walk, 1)
    given = {name: getattr(cases, name) for name in ("question", "slope", "relu", "sign", "beta")}
    with pytest.raises(UsageError, match="index"):
        walk.lower(Cases(**given | change))
