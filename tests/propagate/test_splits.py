"""Split assumptions against exact enumeration: every activation pattern of a tiny network.

A pattern's cell is a polytope on which the network is affine. It is cut out of the box in exact
fractions: the points of a polytope on one side of a hyperplane, and where segments between its two
sides cross, have the part on that side as their hull. So the least value of any row over the box
and the assumptions is its least value at finitely many points.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from flint import fmpq

from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.ops.bounds import NodeBounds
from gamma.ops.hinges import Phases, hinge
from gamma.ops.tables import NodeSlopes, Precision, diagonal
from gamma.propagate.domain import Domain, Split
from gamma.propagate.options import Options
from gamma.propagate.rows import block
from gamma.propagate.rows.own import Multipliers
from gamma.propagate.walks import Walk, walk
from gamma.tensor.box import Box
from tests.exact.oracle import elementwise, exact, q

Array = Any
Points = set[tuple[fmpq, ...]]


def cut(points: Points, form: Array) -> Points:
    """The part of a polytope where an affine form (coefficients, constant) is at least 0."""
    height = {p: form[:-1] @ np.array(p, object) + form[-1] for p in points}
    found = {p for p in points if height[p] >= 0}
    for p, r in itertools.product(found, points - found):
        part = height[p] / (height[p] - height[r])
        found |= {tuple(a + part * (b - a) for a, b in zip(p, r, strict=True))}
    return found


def values(net: Network, low: Array, high: Array, split: dict[int, Split], b: int) -> list[Array]:
    """Exact values of all nodes at the points that span all cells of box ``b``, assumptions met."""
    n, found = len(low), []
    one = np.array([[fmpq(i == j) for j in range(n + 1)] for i in range(n)], object)
    corners = itertools.product(*zip(exact(low), exact(high), strict=True))

    def visit(forms: list[Array], points: Points) -> None:
        """Cut by what is assumed of the newest node, then go on behind it."""
        if len(forms) - 1 in split:
            assumed = split[len(forms) - 1]
            sign = assumed.sign[b].ravel()
            point = exact(np.broadcast_to(assumed.point, assumed.sign.shape)[b].ravel())
            for k in np.flatnonzero(sign):
                form = forms[-1][k].copy()
                form[-1] -= point[k]
                points = cut(points, int(sign[k]) * form)
        if not points:
            return
        if len(forms) > net.output:
            at = np.array([(*p, fmpq(1)) for p in points], object).T
            found.append([form @ at for form in forms])
            return
        node = net.nodes[len(forms)]
        inputs = [forms[i] for i in node.inputs]
        if isinstance(node.op, ops.Relu):
            patterns(forms, inputs[0], [], points)
            return
        if isinstance(node.op, ops.Gemm):
            made = exact(node.op.weight) @ inputs[0]
            if node.op.bias is not None:
                made[:, -1] += exact(node.op.bias)
        else:
            assert isinstance(node.op, ops.Add)
            made = sum(s * x for s, x in zip(node.op.signs, inputs, strict=True))
        visit([*forms, made], points)

    def patterns(forms: list[Array], before: Array, done: list[Array], points: Points) -> None:
        """Both phases of every neuron of a ReLU, where there is such a point."""
        if not points:
            return
        if len(done) == len(before):
            visit([*forms, np.array(done, object)], points)
            return
        form = before[len(done)]
        patterns(forms, before, [*done, form], cut(points, form))
        patterns(forms, before, [*done, 0 * form], cut(points, -form))

    visit([one], set(corners))
    if not found:
        return []
    return [np.concatenate([cell[i] for cell in found], axis=1) for i in range(net.output + 1)]


def network(rng: np.random.Generator, kind: str) -> Network:
    """Two or three inputs, at most six hidden neurons in one or two layers."""

    def gemm(out: int, size: int) -> ops.Gemm:
        weight = (rng.integers(-99, 99, (out, size)) / 64).astype(np.float32)
        return ops.Gemm(weight, (rng.integers(-50, 50, out) / 64).astype(np.float32))

    n = int(rng.integers(2, 4)) if kind == "shallow" else 2
    builder = Builder(ops.Input(), (n,), "x")
    first = builder.add(gemm(3, n), 0)
    hidden = builder.add(ops.Relu(), first)
    if kind != "shallow":
        second = builder.add(gemm(3 if kind == "residual" else 2, 3), hidden)
        if kind == "residual":
            second = builder.add(ops.Add((1, -1)), second, hidden)
        hidden = builder.add(ops.Relu(), second)
    return builder.build(builder.add(gemm(2, builder_size(kind)), hidden))


def builder_size(kind: str) -> int:
    """Neurons of the last hidden layer."""
    return 2 if kind == "deep" else 3


def assumptions(rng: np.random.Generator, net: Network, batch: int) -> dict[int, Split]:
    """About some nodes: the phase of neurons, or a side of another point."""
    found = {}
    for index, node in enumerate(net.nodes[: net.output + 1]):
        if rng.random() < 0.35:
            sign = rng.choice([-1, 0, 0, 0, 1], (batch, *node.shape)).astype(np.int8)
            phase = isinstance(node.op, ops.Gemm | ops.Add) and rng.random() < 0.7
            found[index] = Split(sign, 0.0 if phase else rng.normal(size=sign.shape) / 2)
    return found


def multipliers(rng: np.random.Generator, net: Network, split: dict[int, Split], box: Array) -> Any:
    found = {}
    for index, assumed in split.items():
        shape = len(box), net.nodes[index].size
        beta = rng.exponential(size=shape) * (rng.random(shape) < 0.7) * rng.choice([1e-3, 1, 1e3])
        point = np.broadcast_to(assumed.point, assumed.sign.shape)
        flat = len(assumed.sign), -1
        sign = assumed.sign.reshape(flat)[box]
        found[index] = Multipliers.of(beta, sign, np.array(point.reshape(flat)[box]))
    return found


def slopes(rng: np.random.Generator, net: Network, count: int, both: bool) -> Any:
    """Of every ReLU for each of ``count``, also outside [0, 1]."""

    def drawn(size: int) -> Array:
        usual = rng.random((count, size))
        return np.where(rng.random((count, size)) < 0.2, rng.normal(size=(count, size)) * 3, usual)

    return {
        i: NodeSlopes(drawn(node.size), drawn(node.size) if both else None)
        for i, node in enumerate(net.nodes)
        if isinstance(node.op, ops.Relu)
    }


def holds(made: Walk, truths: list[list[Array]], index: int, lower: Array, boxes: Array) -> None:
    """Lower bounds of a node's neurons and of their negatives, for every box, are none too high."""
    size = made.network.nodes[index].size
    for k, bound in enumerate(lower):
        sign = 1 if k < len(lower) // 2 else -1
        if truths[boxes[k]]:
            least = min(sign * truths[boxes[k]][index][k % size])
            assert not np.isfinite(bound) or q(bound) <= least, (index, k, bound)


def encloses(made: Walk, truths: list[list[Array]]) -> None:
    """The walk's bounds of all nodes hold."""
    for b, truth in enumerate(truths):
        for index, found in enumerate(truth):
            known = made.bounds[index]
            for low, high, each in zip(known.lower[b], known.upper[b], found, strict=True):
                assert q(low) <= min(each) and max(each) <= q(high)


@pytest.mark.parametrize("kind", ["shallow", "deep", "residual"])
def test_rows_hold_wherever_the_assumptions_do(kind: str) -> None:
    seen = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        net = network(rng, kind)
        low = rng.normal(size=(2, *net.input_shape)).astype(np.float32) - np.float32(0.5)
        box, split = (
            Box(low, low + rng.exponential(size=low.shape).astype(np.float32)),
            assumptions(rng, net, 2),
        )
        truths = [values(net, box.lower[b], box.upper[b], split, b) for b in range(2)]
        seen += sum(bool(t) for t in truths)
        for guarantee, dtype in itertools.product(("real", "float32"), ("float32", "float64")):
            options = Options("crown", guarantee, np.dtype(dtype))
            given = slopes(rng, net, 2, True) if rng.random() < 0.5 else None
            made = walk(net, Domain(box, split=split), options, slopes=given)
            assert not any(truths[b] for b in np.flatnonzero(made.empty))
            encloses(made, truths)
            for index in range(1, net.output + 1):
                boxes, neurons = np.divmod(
                    np.arange(2 * net.nodes[index].size), net.nodes[index].size
                )
                for own in (False, True):
                    frontier, d, which = made.both_signs(index, boxes, neurons)
                    both = bool(rng.integers(2))
                    lower = made.descent.run(
                        frontier,
                        d,
                        which,
                        slopes=slopes(rng, net, len(d), both) if own else None,
                        multipliers=multipliers(rng, net, split, which),
                    )
                    holds(made, truths, index, lower, which)
    assert seen >= 4


def test_an_assumption_without_a_point_is_noticed() -> None:
    """Both phases of one neuron that does not cross 0: one child is the parent, one is empty."""
    builder = Builder(ops.Input(), (2,), "x")
    builder.add(ops.Gemm(np.eye(2, dtype=np.float32), np.float32([3, 0])), 0)
    net = builder.build(builder.add(ops.Relu(), 1))
    box = Box(-np.ones((2, 2)), np.ones((2, 2)))
    split = {1: Split(np.array([[1, 0], [-1, 0]], np.int8))}
    for dtype in (np.float32, np.float64):
        made = walk(net, Domain(box, split=split), Options(dtype=np.dtype(dtype)))
        made.output()
        assert made.empty.tolist() == [False, True]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_multipliers_are_rounded_outward(dtype: str) -> None:
    """Assumptions S·(x - p) >= 0 that a row meets in its least point, p: its bound is that value.

    With β·S the row itself only the sum of β·S·p is left, which cancels; with a smaller β and p the
    box's corner only the rounding of the difference.
    """
    for seed, whole in itertools.product(range(30), (True, False)):
        rng = np.random.default_rng(seed)
        sign = rng.choice([-1, 1], (1, 6)).astype(np.int8)
        weight = (rng.exponential(size=(1, 6)) * sign).astype(dtype)
        point = rng.normal(size=(1, 6)) if whole else -2.0 * sign
        if whole:
            point[0, -1] = -(weight[0, :-1] @ point[0, :-1]) / weight[0, -1]
        builder = Builder(ops.Input(), (6,), "x")
        net = builder.build(builder.add(ops.Gemm(weight, None), 0))
        reach = max(2.0, abs(point).max())
        box = Box(np.full((1, 6), -reach), np.full((1, 6), reach))
        made = walk(net, Domain(box, split={0: Split(sign, point)}), Options(dtype=np.dtype(dtype)))
        beta = abs(weight.astype(np.float64)) * (1.0 if whole else rng.random((1, 6)))
        own = Multipliers.of(*(np.repeat(part, 2, axis=0) for part in (beta, sign, point)))
        frontier, d, which = made.both_signs(1, np.array([0]), np.array([0]))
        lower = made.descent.run(frontier, d, which, multipliers={0: own})
        least = (exact(weight) * exact(point)).sum()
        assert q(lower[0]) <= least
        assert q(lower[0]) > least - fmpq(1, 1000)


def test_the_sum_of_multipliers_is_rounded_outward() -> None:
    """One large term, then many that are three quarters of its last place: each sum rounds up."""
    n = 200
    point = np.concatenate(([2.0**20], np.full(n, 0.75 * 2.0**-32)))[None]
    builder = Builder(ops.Input(), (n + 1,), "x")
    net = builder.build(builder.add(ops.Gemm(np.ones((1, n + 1)), None), 0))
    box = Box(np.full((1, n + 1), -(2.0**21)), np.full((1, n + 1), 2.0**21))
    sign = np.ones((1, n + 1), np.int8)
    made = walk(net, Domain(box, split={0: Split(sign, point)}), Options(dtype=np.dtype(float)))
    rows, which = block.dense(np.ones((1, n + 1)), n + 1), np.zeros(1, np.int64)
    own = Multipliers.of(np.ones((1, n + 1)), sign, point)
    lower = made.descent.run({0: rows}, np.zeros(1), which, multipliers={0: own})
    assert q(lower[0]) <= exact(point).sum()
    assert q(lower[0]) > exact(point).sum() - fmpq(1, 1000)


def test_a_negative_multiplier_counts_as_none() -> None:
    builder = Builder(ops.Input(), (1,), "x")
    net = builder.build(builder.add(ops.Gemm(np.array([[-1.0]]), None), 0))
    sign = np.array([[1]], np.int8)
    box = Box(np.array([[-1.0]]), np.array([[1.0]]))
    made = walk(net, Domain(box, split={0: Split(sign)}), Options(dtype=np.dtype(np.float64)))
    frontier, d, which = made.both_signs(1, np.array([0]), np.array([0]))
    own = Multipliers.of(np.full((2, 1), -0.5), np.repeat(sign, 2, axis=0), np.zeros((2, 1)))
    lower = made.descent.run(frontier, d, which, multipliers={0: own})
    assert lower[0] <= -1


def test_assumed_relus_pay_what_they_carry() -> None:
    """All are active on the whole box: what is left is affine, its least value known."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        weight = rng.normal(size=(64, 8)).astype(np.float32)
        builder = Builder(ops.Input(), (8,), "x")
        builder.add(ops.Gemm(weight, np.full(64, 64.0)), 0)
        builder.add(ops.Relu(), 1)
        last = rng.normal(size=(1, 64)).astype(np.float32)
        net = builder.build(builder.add(ops.Gemm(last, None), 2))
        box = Box(np.full((1, 8), -1.0), np.full((1, 8), 1.0))
        # The assumption alone says so, not the bounds.
        ends = np.full((1, 64), -1.0), np.full((1, 64), 200.0)
        made = walk(net, box, Options(dtype=np.dtype(np.float32)))
        made.bounds[1] = NodeBounds(
            *ends, made.bounds[1].centre, made.bounds[1].spread, made.bounds[1].noise
        )
        made.descent.forget(1)
        frontier, d, which = made.both_signs(3, np.array([0]), np.array([0]))
        lines = made.descent.tables.hinge(2)
        every = np.indices((2, 64)).reshape(2, -1)
        phases = Phases(every[0], every[1], np.ones(128, bool))
        slopes = {2: lines.rows(np.zeros((2, 64)), which, phases)}
        lower = made.descent.run(frontier, d, which, slopes=slopes)
        middle = 64 * exact(last)[0].sum()
        reach = sum(abs(v) for v in exact(last)[0] @ exact(weight))
        least, greatest = middle - reach, middle + reach
        assert q(lower[0]) <= least and q(lower[1]) <= -greatest
        assert q(lower[0]) > least - fmpq(1, 100)


def test_multipliers_pay_what_a_reader_carries() -> None:
    """Dead neurons with large multipliers that cancel: only the rounding of products is left."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        a, c = (float(v) / 2**20 for v in rng.integers(2**19, 2**20, 2))
        t, b = rng.random(2) * 2.0**-12, rng.integers(2**18, 2**19, 2) / 2.0**18
        # Three neurons that are w·x, 3·w·x and -5·w·x, and one that the output is.
        w = np.array([a, -c])
        weight = np.stack((w, 3 * w, -5 * w, t)).astype(np.float32)
        builder = Builder(ops.Input(), (2,), "x")
        builder.add(ops.Gemm(weight, np.float32([0, 0, 0, 1])), 0)
        builder.add(ops.Relu(), 1)
        net = builder.build(builder.add(ops.Gemm(np.float32([[0, 0, 0, 1]]), None), 2))
        low = -np.array([[c, a]])  # there w·x is 0, and the output least
        sign = np.array([[1, 1, 1, 0]], np.int8)
        ends = np.array([[0, 0, 0, 0.0]]), np.array([[0, 0, 0, 2.0]])
        domain = Domain(Box(low, -low), {1: ends}, {1: Split(sign)})
        made = walk(net, domain, Options(dtype=np.dtype(np.float32)))
        assert not made.empty.any()
        # 5·β₃ = β₁ + 3·β₂, in numbers of float32.
        beta = np.array([[5 * b[0] - 3 * b[1], b[1], b[0], 0]])
        beta = np.repeat(beta + 3 * max(0, 3 * b[1] - 5 * b[0]) * np.array([5, 0, 1, 0]), 2, axis=0)
        signs = np.repeat(sign, 2, axis=0)
        own = Multipliers.of(beta, signs, np.zeros((2, 4)))
        frontier, d, which = made.both_signs(3, np.array([0]), np.array([0]))
        lower = made.descent.run(frontier, d, which, multipliers={1: own})
        least = 1 + (exact(weight[3]) * exact(low[0])).sum()
        assert (exact(beta[0]) * exact(sign[0]) @ exact(weight) == 0).all()
        assert q(lower[0]) <= least
        assert q(lower[0]) > least - fmpq(1, 1000)


def test_rows_of_a_split_neuron_pay_its_charge() -> None:
    """Nobody carries the charge of rows that start at the node itself."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        weight = rng.normal(size=(2, 5)).astype(np.float32) * np.float32(1 / 3)
        builder = Builder(ops.Input(), (5,), "x")
        builder.add(ops.Gemm(rng.normal(size=(5, 5)).astype(np.float32), None), 0)
        # Coefficients that are known up to an error: what a charge pays, and unit rows do not.
        error = np.full(weight.shape, 2.0**-6 * (seed % 2))
        builder.add(ops.Gemm(weight, None, weight_error=error), 1)
        net = builder.build(builder.add(ops.Relu(), 2))
        low = rng.normal(size=(1, 5))
        box = Box(low, low + 1)
        split = {2: Split(np.zeros((1, 2), np.int8))}
        made = walk(net, Domain(box, split=split), Options(dtype=np.dtype(np.float32)))
        frontier, d, which = made.both_signs(2, np.zeros(2, int), np.arange(2))
        lower = made.descent.run(frontier, d, which)
        form = exact(weight) @ exact(net.nodes[1].op.weight)
        for k, bound in enumerate(lower):
            row = form[k % 2] * (1 if k < 2 else -1)
            ends = exact(box.lower[0]), exact(box.upper[0])
            least = [a if c > 0 else b for c, a, b in zip(row, *ends, strict=True)]
            inner = exact(net.nodes[1].op.weight) @ np.array(least, object)
            true = sum(c * x for c, x in zip(row, least, strict=True))
            assert q(bound) <= true - sum(abs(y) for y in inner) * q(error[0, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_free_slopes_pay_for_their_rounding(dtype: str) -> None:
    """relu(x)·a - x·b, b the slope that arrives: nothing is left of x, and 0 is its least value."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        a, s = (rng.random(2) * 0.9 + 0.1).astype(dtype)
        builder = Builder(ops.Input(), (1,), "x")
        builder.add(ops.Concat(0), builder.add(ops.Relu(), 0), 0)
        net = builder.build(builder.add(ops.Gemm(np.array([[a, -(a * s)]]), None), 2))
        made = walk(
            net, Box(-np.ones((1, 1)), np.full((1, 1), 2.0)), Options(dtype=np.dtype(dtype))
        )
        frontier, d, which = made.both_signs(3, np.array([0]), np.array([0]))
        own = NodeSlopes(np.full((2, 1), float(s)))
        lower = made.descent.run(frontier, d, which, slopes={1: own})
        assert -1e-5 < lower[0] <= 0


def test_a_free_slope_lies_between_both_ends() -> None:
    """What `Hinge` adds is never more than what is proved at the slopes 0 and 1, in proportion."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        inside = NodeBounds(
            *(sign * rng.exponential(size=(1, 50)) for sign in (-1, 1)), rng.normal(size=(1, 50))
        )
        after = NodeBounds(np.zeros((1, 50)), inside.upper, rng.normal(size=(1, 50)))
        table = hinge(ops.Relu(), after, inside, Precision())
        ends = [
            diagonal(ops.Relu(), after, inside, Precision(), None, NodeSlopes(np.full((1, 50), s)))
            for s in (0.0, 1.0)
        ]
        slope = rng.random((1, 50))
        s, low, high = exact(slope), *(exact(e.lower_const) for e in ends)
        lines = table.rows(slope, np.array([0]))
        got = exact(lines.forward(np.ones((1, 50)), (np.zeros((1, 50)),), np.array([0])))
        assert (got <= low + s * (high - low)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lines_with_any_slope_hold(dtype: str) -> None:
    """At both ends and between them; a ReLU's lines touch at 0 or an end."""
    rng = np.random.default_rng(0)
    for op in (ops.Relu(), ops.LeakyRelu(0.3), ops.Sigmoid(), ops.Tanh(), ops.Silu()):
        low, high = (sign * rng.exponential(size=(1, 60)) for sign in (-1, 1))
        usual = rng.normal(size=(1, 60)) * rng.choice([1e-3, 1, 1, 5, 1e9], (1, 60))
        lines = op.lines_of(NodeSlopes(usual, usual[:, ::-1].copy()), low, high, dtype)
        for slope in (lines.lower_slope, lines.upper_slope):
            assert (slope == slope.astype(dtype)).all()
        for part in (0.0, 0.25, 0.5, 0.9, 1.0, None):
            x = 0 * low if part is None else np.clip(low + part * (high - low), low, high)
            value = elementwise(op, exact(x))
            below = exact(lines.lower_slope) * exact(x) + exact(lines.lower_intercept)
            over = exact(lines.upper_slope) * exact(x) + exact(lines.upper_intercept)
            assert (below <= value).all() and (value <= over).all(), (op, part)
