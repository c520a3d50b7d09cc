"""Ascents in one call of the C library: what rows come to step by step, whatever is around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gamma import tuning
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Conv, Gemm, Input, Normalize, Relu, Reshape, Transpose
from gamma.ops.quotient import Quotients
from gamma.propagate.alpha import AlphaWalk, alpha_walk, optimise
from gamma.propagate.blocks import evenly
from gamma.propagate.cases import Cases, CaseWalk
from gamma.propagate.options import options_of
from gamma.propagate.rows import chain
from gamma.propagate.rows.ascent import DenseAscent
from gamma.propagate.rows.block import Dense
from gamma.propagate.walks import walk
from gamma.runtime import workers
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.verify.known import dense

pytestmark = pytest.mark.skipif(kernels.isa == "numpy", reason="needs the compiled kernels")

SIZES = (5, 19, 33, 17, 3)


def network(seed: int) -> Network:
    """Small integers, so that a product of few of them is exact."""
    rng = np.random.default_rng(seed)
    shapes = zip(SIZES, SIZES[1:], strict=False)
    return dense(*((rng.integers(-2, 3, (m, n)).tolist(), rng.integers(-2, 3, m).tolist())
                   for n, m in shapes))  # fmt: skip


def claim(made: AlphaWalk) -> None:
    """Bounds of hidden layers whose upper lines have slopes 1/2 and 3/4, or are exact.

    That nobody proved them is nothing to executors.
    """
    rng = np.random.default_rng(9)
    for index in range(1, made.network.output):
        known, shape = made.bounds[index], made.bounds[index].lower.shape
        size = known.lower.size
        if not made.network.nodes[index + 1].op.hinge:
            continue
        low = -rng.choice([0.5, 0.25, 0.125], size)
        high = rng.choice([1, 3], size) * -low
        low[:3], high[:3] = -0.5, -0.125  # dead ones
        high = np.minimum(high, known.upper.ravel())
        wide = (known.lower.ravel() <= low) & (low <= high) & ((high < 0) | (high % 0.125 == 0))
        off = known.upper.ravel() < 0
        low = np.where(wide, low, np.maximum(known.lower.ravel(), np.where(off, -np.inf, 0.0)))
        high = np.where(wide, high, np.maximum(known.upper.ravel(), low))
        made.bounds[index].intersect(low.reshape(shape), high.reshape(shape), "claimed")
        made.descent.forget(index)


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


def step_by_step(walk: CaseWalk) -> CaseWalk:
    """The same without the one call."""
    with tuning.disabled("fused_ascent"):
        other = CaseWalk(walk.made, *walk._asked)
        assert other._dense is None
    assert walk._dense is not None
    return other


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


def images(group: int = 1, channels: int = 1) -> Network:
    """Convolutions with strides and pads, then a dense layer, of small integers."""
    rng, build = np.random.default_rng(0), Builder(Input(), (channels, 5, 5))
    first = rng.integers(-2, 3, (4, channels, 3, 3)).astype(np.float32)
    second = rng.integers(-2, 3, (4, 4 // group, 2, 2)).astype(np.float32)
    last = build.add(Relu(), build.add(Conv(first, None, (1, 1), (1, 1, 1, 1)), 0))
    last = build.add(Relu(), build.add(Conv(second, None, (2, 2), group=group), last))
    last = build.add(Reshape((16,)), last)
    return build.build(build.add(Gemm(rng.integers(-2, 3, (3, 16)).astype(np.float32)), last))


def residual() -> Network:
    """Sums and differences of dense layers, of what a ReLU reads and makes, and of the input."""
    rng, build = np.random.default_rng(7), Builder(Input(), (5,))

    def layer(source: int, n: int, m: int) -> int:
        weight = rng.integers(-1, 2, (m, n)).astype(np.float32)
        return build.add(Gemm(weight, rng.integers(-2, 3, m).astype(np.float64)), source)

    first = build.add(Relu(), layer(0, 5, 9))
    read = build.add(Add((1, -1)), layer(first, 9, 9), first)
    second = build.add(Relu(), read)
    last = build.add(Relu(), build.add(Add((-1, 1)), read, layer(second, 9, 9)))
    return build.build(build.add(Add(), layer(last, 9, 3), layer(0, 5, 3)))


def residual_images(whole: bool = False) -> Network:
    """Convolutions around convolutions, and channels last; no gradient is 0 but for rounding,
    which Adam would make a step of. Of small integers where it is to be evaluated exactly."""
    rng, build = np.random.default_rng(2), Builder(Input(), (6, 5, 2))

    def conv(source: int, out: int, channels: int, size: int, stride: int) -> int:
        shape = out, channels, size, size
        made = rng.integers(-2, 3, shape) if whole else rng.standard_normal(shape)
        weight = made.astype(np.float32)
        pads = (size // 2,) * 4
        return build.add(Conv(weight, None, (stride, stride), pads), source)

    first = build.add(Relu(), conv(build.add(Transpose((2, 0, 1)), 0), 3, 2, 3, 1))
    long = conv(build.add(Relu(), conv(first, 4, 3, 3, 2)), 4, 4, 3, 1)
    last = build.add(Relu(), build.add(Add(), long, conv(first, 4, 3, 1, 2)))
    last = build.add(Relu(), build.add(Add(), conv(last, 4, 4, 3, 1), last))
    last = build.add(Reshape((36,)), build.add(Transpose((1, 2, 0)), last))
    return build.build(build.add(Gemm(rng.integers(-2, 3, (3, 36)).astype(np.float32)), last))


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


def some_boxes(net: Network, count: int) -> Box:
    """Boxes around different places, the first around 0."""
    rng, radius = np.random.default_rng(4), 0.5 / 2.0 ** np.arange(count)
    one = np.ones((count, *net.input_shape)) * radius.reshape(-1, *[1] * len(net.input_shape))
    centre = rng.integers(-4, 5, one.shape) / 8
    centre[0] = 0
    return Box(centre - one, centre + one)


def groups() -> Network:
    return images(group=2)


@pytest.mark.parametrize("make", [lambda: network(1), images, groups, residual])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_several_boxes_have_their_tables(make: Any, guarantee: str, dtype: str) -> None:
    """In any order, alone or among others: every charge and line is of the row's own box."""
    net = make()
    made = alpha_walk(net, some_boxes(net, 3), options_of(net, "alpha", guarantee, dtype, None))
    claim(made)
    boxes, neurons = np.tile([2, 0, 0, 1, 2], 30), np.arange(150) % 3
    frontier, d, box = made.both_signs(net.output, boxes, neurons)

    def lower(rows: Any, steps: int) -> Any:
        asked = {i: Dense(part.dense()[rows]) for i, part in frontier.items()}
        how = made.descent, asked, d[rows], box[rows], made.initial, made.how, steps
        return optimise(*how)

    rows = np.arange(300)
    found = lower(rows, 1)
    with tuning.disabled("fused_ascent"):
        step_by_step = lower(rows, 1)
    if make is groups:  # the same but for what longer sums cost
        assert (abs(found - step_by_step) <= 1e4 * np.finfo(dtype).eps * abs(found)).all()
    else:
        assert np.array_equal(found, step_by_step)
    best = lower(rows, 5)
    assert (best >= found).all() and (best > found + 1e-3).any()
    for chosen in (rows[::-1], rows[box == 1], rows[7:8]):
        assert np.array_equal(lower(chosen, 5), best[chosen])


def test_boxes_come_without_assumptions() -> None:
    net = network(1)
    made = alpha_walk(net, some_boxes(net, 2), options_of(net, "alpha", "real", "auto", None))
    assert DenseAscent.of(made.descent.tables, net.output, assumes=True) is None
    ascent, factors = made.descent.ascent, np.zeros((1, 5))
    assert ascent is not None
    relus = sum(len(places) for _, places in ascent.relus(net.output))
    asked = np.eye(3, dtype=made.options.dtype), np.zeros(3)
    slope = np.zeros((2, relus), made.options.dtype)
    rows = kernels.Climbers.plain(slope, np.zeros(2, np.int64), np.array([0, 2]))
    with pytest.raises(UsageError, match="index"):
        ascent.run(net.output, asked, rows, factors, None)
    cost = np.zeros((2, relus), made.options.dtype)
    with pytest.raises(UsageError, match="expected one"):
        ascent.run(net.output, asked, rows, factors, None, cost=cost)


@pytest.mark.parametrize("make", [lambda: network(1), images, residual, residual_images])
@pytest.mark.parametrize("boxes", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optimised_slopes_are_those_of_steps(make: Any, boxes: int, dtype: str) -> None:
    """Layer by layer: what one layer came to is in the next one's rows."""
    net, near = make(), 64 * np.finfo(dtype).eps
    asked = some_boxes(net, boxes)
    options = options_of(net, "alpha", "real", dtype, None)
    found = []
    for gate in ("fused_alpha", "fused_ascent"):
        with tuning.disabled(gate):
            found.append(alpha_walk(net, asked, options))
            found[-1].output()
    first, second = found
    assert first.descent.ascent is not None and first.descent.ascent.reaches(net.output)
    for index in range(1, net.output + 1):
        one, two = first.bounds[index], second.bounds[index]
        axes = tuple(range(1, two.lower.ndim))
        size = np.maximum(abs(two.lower), abs(two.upper)).max(axes, keepdims=True)
        # A neuron that no longer crosses 0 may have taken more steps where others did.
        open_ones = ((two.lower < 0) & (two.upper > 0)) | (index == net.output)
        for end, other in ((one.lower, two.lower), (one.upper, two.upper)):
            assert (abs(end - other) <= near * size)[open_ones].all()
        assert np.array_equal(one.lower >= 0, two.lower >= 0)
    plain = first.plain.output()
    assert (first.bounds[net.output].lower > plain.lower + 1e-3).any()


@pytest.mark.parametrize(
    "make", [lambda: network(1), images, groups, residual, lambda: residual_images(whole=True)]
)
@pytest.mark.parametrize("boxes", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optimised_bounds_hold_exact_values(make: Any, boxes: int, dtype: str) -> None:
    """Of every node, at corners and at middles of sides: small multiples of a power of two."""
    net, rng = make(), np.random.default_rng(5)
    asked = some_boxes(net, boxes)
    walk = alpha_walk(net, asked, options_of(net, "alpha", "real", dtype, None))
    walk.output()
    assert walk.descent.ascent is not None and walk.descent.ascent.reaches(net.output)
    for _ in range(200):
        share = rng.integers(0, 3, asked.lower.shape) / 2
        values = [asked.lower + share * (asked.upper - asked.lower)]
        for index, node in enumerate(net.nodes[1:], start=1):
            value = node.op.forward(*(values[i] for i in node.inputs))
            assert value.dtype == np.float64 and (value * 2**8 == np.round(value * 2**8)).all()
            values.append(value)
            known = walk.bounds[index]
            assert (known.lower <= value).all() and (value <= known.upper).all()


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


def normalised(centred: bool = True) -> Network:
    """Blocks around which the input goes, two of which begin with a normalisation."""
    rng, (build, last) = np.random.default_rng(3), (Builder(Input(), (5,)), 0)
    for width in (19, 33):
        inner = build.add(Normalize(-1, 1e-2, centred), last)
        up, down = rng.normal(size=(width, 5)), rng.normal(size=(5, width)) / width
        inner = build.add(Gemm(up.astype("f"), rng.normal(size=width).astype("f")), inner)
        inner = build.add(Gemm(down.astype("f")), build.add(Relu(), inner))
        last = build.add(Add(), last, inner)
    last = build.add(Normalize(-1, 1e-2, True), last)
    return build.build(build.add(Gemm(rng.normal(size=(3, 5)).astype("f")), last))


def near_boxes() -> Box:
    """Narrow enough for planes."""
    middle = np.random.default_rng(4).normal(size=(3, 5))
    return Box(middle - [[0.05], [0.1], [0.02]], middle + 0.05)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_pass_normalisations(centred: bool, guarantee: str, dtype: str) -> None:
    """As step by step, but for the order of sums; once down by the tables' lines, too."""
    net = normalised(centred)
    made = alpha_walk(net, near_boxes(), options_of(net, "alpha", guarantee, dtype, None))
    made.output()
    boxes, neurons = np.tile([2, 0, 0, 1, 2], 30), np.arange(150) % 3
    frontier, d, box = made.both_signs(net.output, boxes, neurons)
    tables = made.descent.tables
    for index in (1, 6):  # what underflow costs is seen, too
        table = tables.relaxation(index)
        assert isinstance(table, Quotients)
        tables._relaxations[index] = replace(table, loss=np.array([0.5, 0.25, 1.0]))
    for ascent in made.descent._ascents:
        ascent.forget(0)

    def rows() -> Any:
        return {i: Dense(part.dense().copy()) for i, part in frontier.items()}

    def raised(steps: int) -> Any:
        return optimise(made.descent, rows(), d, box, made.initial, made.how, steps)

    found = [raised(steps) for steps in (1, 4)] + [made.descent.run(rows(), d.copy(), box)]
    with tuning.disabled("fused_ascent"):
        expected = [raised(steps) for steps in (1, 4)]
        made.descent.__dict__.pop("passage")
        assert made.descent.passage is None or not made.descent.passage.takes(frontier)
        expected.append(made.descent.run(rows(), d.copy(), box))
    assert (found[1] >= found[0]).all() and (found[1] > found[0] + 1e-4).any()
    for ours, theirs in zip(found, expected, strict=True):
        size = 1 + abs(theirs)
        assert (abs(ours - theirs) <= 1e3 * np.finfo(dtype).eps * size)[np.isfinite(theirs)].all()
        assert np.isfinite(theirs).any() and (np.isfinite(ours) == np.isfinite(theirs)).all()


@pytest.mark.parametrize("method", ["crown", "alpha"])
def test_threads_share_rows_past_normalisations(method: str) -> None:
    net, found = normalised(), []
    for threads in (1, 2, 3):
        with workers.limited(threads):
            options = options_of(net, method, "real", "float64", None)
            made = (alpha_walk if method == "alpha" else walk)(net, near_boxes(), options)
            ends = made.output()
        found.append((ends.lower, ends.upper))
    for other in found[1:]:
        assert all(np.array_equal(*pair) for pair in zip(found[0], other, strict=True))
