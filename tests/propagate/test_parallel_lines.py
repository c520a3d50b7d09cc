"""Lines of one slope on both sides of smooth functions, and one row for both bounds of a neuron."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops, tuning
from gamma.network.graph import Builder, Network
from gamma.ops.bounds import NodeBounds
from gamma.ops.parallel import lines_of
from gamma.ops.tables import Diagonal
from gamma.propagate import dense
from gamma.propagate.alpha import alpha_walk, own_slopes
from gamma.propagate.options import Options
from gamma.propagate.rows.opposite import strips
from gamma.propagate.walks import walk
from gamma.tensor import kernels
from gamma.tensor.box import Box

Array = Any
SMOOTH = (ops.Sigmoid(), ops.Tanh(), ops.Erf(), ops.Gelu(), ops.Silu(), ops.Softplus(), ops.Exp())
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
needs_library = pytest.mark.skipif(len(kernels.available()) == 1, reason="no compiled library")


def smooth(op: Any, layers: int = 3, width: int = 40, seed: int = 0) -> Network:
    rng = np.random.default_rng(seed)
    builder, last, wide = Builder(ops.Input(), (30,)), 0, 30
    for high in (*[width] * layers, 4):
        last = builder.add(op, last) if last else last
        weight = rng.standard_normal((high, wide)) * np.sqrt(2 / wide)
        bias = rng.standard_normal(high).astype(np.float32)
        last = builder.add(ops.Gemm(weight.astype(np.float32), bias), last)
        wide = high
    return builder.build(last)


def around(radius: float, boxes: int = 1) -> Box:
    x = np.random.default_rng(1).uniform(-1, 1, (boxes, 30))
    return Box(x - radius, x + radius)


def known(op: Any, lower: Array, upper: Array) -> tuple[NodeBounds, NodeBounds]:
    low, high = op.interval(lower, upper)
    return (
        NodeBounds(lower, upper, 0.5 * (lower + upper)),
        NodeBounds(low, high, 0.5 * (low + high)),
    )


@pytest.mark.parametrize("isa", kernels.available())
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_lines_are_parallel_where_intervals_are_short(op: Any, dtype: Any, isa: str) -> None:
    """And lie on their side of the function, each box for itself."""
    rng = np.random.default_rng(2)
    middle = rng.normal(0, 1.5, (3, 50))
    radius = np.array([[1e-3], [3.0], [1e-2]]) * rng.uniform(0.1, 1, (3, 50))
    inside, after = known(op, middle - radius, middle + radius)
    with kernels.pinned(isa):
        lines = lines_of(op, inside, after, dtype)
        own = op.lines(inside.lower, inside.upper, dtype)
    same = (lines.lower_slope == lines.upper_slope).all(axis=1)
    assert same.tolist() == [True, False, True]
    assert (lines.lower_slope[1] == own.lower_slope[1]).all()
    for t in np.linspace(0, 1, 9):
        x = inside.lower + t * (inside.upper - inside.lower)
        value, slack = op.function(x), 1e-11 * (1 + abs(x))
        assert (lines.lower_slope * x + lines.lower_intercept <= value + slack).all()
        assert (value - slack <= lines.upper_slope * x + lines.upper_intercept).all()
    assert lines_of(op, inside, after, dtype) is lines  # until the bounds change
    inside.reset()
    assert inside.lines is None


@pytest.mark.parametrize("radius", [0.001, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("op", SMOOTH[:6], ids=lambda op: op.name)
def test_bounds_are_no_wider(op: Any, radius: float, monkeypatch: Any) -> None:
    """Than those by a row for each, between lines that are best at the middles of intervals."""
    net, box = smooth(op), around(radius, 3)
    found = gamma.bounds(net, box, dtype="float32")
    with tuning.disabled("parallel_lines"):
        leaning = gamma.bounds(net, box, dtype="float32")
        monkeypatch.setattr(dense, "LEAN", (0.0, 0.0))
        plain = gamma.bounds(smooth(op), box, dtype="float32")
    point = gamma.bounds(net, Box(box.lower, box.lower), method="ibp")
    assert (found.lower <= point.upper).all() and (point.lower <= found.upper).all()
    wide, least, before = ((b.upper.astype(float) - b.lower) for b in (found, leaning, plain))
    assert (wide.sum(axis=1) <= before.sum(axis=1) * (1 + 1e-5)).all()
    if kernels.isa == "numpy":
        return  # only the walk in one call leans
    # What lines aside of the middles are worth shows where functions bend.
    assert (least.sum(axis=1) < before.sum(axis=1) * (0.985 if radius == 0.5 else 1)).all()


@needs_library
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_row_bounds_both_ends_as_two_do(dtype: str, monkeypatch: Any) -> None:
    """The same lines: what differs is what roundings cost."""
    from gamma.propagate.known import Known

    net, box = smooth(ops.Sigmoid()), around(0.01, 2)
    taken: list[int] = []
    one = Known._both_ends

    def counted(self: Known, index: int, *rest: Any) -> Any:
        taken.append(index)
        return one(self, index, *rest)

    monkeypatch.setattr(Known, "_both_ends", counted)
    with tuning.disabled("fused_network"):
        found = gamma.bounds(net, box, dtype=dtype, intermediate=True)
        assert len(taken) >= 3
        monkeypatch.setattr(Known, "_both_ends", Known._block_bounds)
        two = gamma.bounds(net, box, dtype=dtype, intermediate=True)
    for name, b in two.items():
        size = (b.upper - b.lower).max() * (1e-5 if dtype == "float32" else 1e-12)
        a = found[name]
        assert (abs(a.lower - b.lower) <= size).all() and (abs(a.upper - b.upper) <= size).all()


def corners(op: Any, net: Network, box: Box) -> list[tuple[str, Array]]:
    """By name of a hidden dense node, points (2, neurons, inputs) of box 0 near to where its
    neurons are least and greatest."""
    centre, radius = 0.5 * (box.lower[0] + box.upper[0]), 0.5 * (box.upper[0] - box.lower[0])
    values, jacobian, found = centre, np.eye(len(centre)), []
    for node in net.nodes[1:-1]:
        if isinstance(node.op, ops.Gemm):
            values, jacobian = node.op.forward(values[None])[0], node.op.weight @ jacobian
            sides = np.sign(jacobian) * radius
            found.append((node.name, np.stack((centre - sides, centre + sides))))
        else:
            jacobian = op.derivative(values)[:, None] * jacobian
            values = op.function(values)
    return found


@needs_library
def test_slopes_start_from_lines_of_narrower_bounds() -> None:
    """Where steps are many: from those of a walk with a row for each end."""
    net, box = smooth(ops.Tanh(), 4), around(0.1)
    plain = walk(net, box, Options())
    with tuning.disabled("parallel_lines"):
        narrower = walk(net, box, Options())
    first, second = (own_slopes(made, {}) for made in (plain, narrower))
    for steps, expected, other in ((8, second, first), (1, first, second)):
        made = alpha_walk(net, box, Options(method="alpha", steps=steps))
        same = {i: (one.lower == expected[i].lower) for i, one in made.initial.items()}
        apart = {i: (one.lower != other[i].lower) for i, one in made.initial.items()}
        assert len(same) == 4 and all(np.all(one) for one in same.values())
        assert any(np.any(one) for one in apart.values())


@needs_library
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("radius", [0.003, 0.01])
@pytest.mark.parametrize("op", SMOOTH[:6], ids=lambda op: op.name)
def test_one_row_serves_both_ends_in_one_call(op: Any, radius: float, dtype: str) -> None:
    """D.STRIP, D.ONE.BELOW, D.ONE.ABOVE: hidden bounds hold where neurons are least and greatest,
    and are hardly wider than those by a row for each; the output has a row for each end."""
    net, box = smooth(op, 4), around(radius)
    assert walk(net, box, Options())._walked is not None
    found = gamma.bounds(net, box, dtype=dtype, intermediate=True)
    with tuning.disabled("parallel_lines"):
        two = gamma.bounds(net, box, dtype=dtype, intermediate=True)
    hidden = corners(op, net, box)
    differ = []
    for name, points in hidden:
        flat = points.reshape(-1, points.shape[-1])
        known = gamma.bounds(net, Box(flat, flat), method="ibp", intermediate=True)[name]
        each = np.arange(points.shape[1])
        shape = 2, points.shape[1], points.shape[1]
        low, high = (end.reshape(shape)[:, each, each] for end in (known.lower, known.upper))
        lower, upper = found[name].lower[0], found[name].upper[0]
        assert (lower <= high).all() and (low <= upper).all()
        width = (upper - lower).sum(dtype=float)
        before = (two[name].upper - two[name].lower).sum(dtype=float)
        assert width <= 1.02 * before
        differ.append(width > before * (1 + 1e-6))
    assert any(differ) and not differ[0]  # the first layer has no lines before it


@needs_library
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("op", "radius"), [(ops.Tanh(), 0.1), (ops.Gelu(), 0.15), (ops.Softplus(), 0.2)], ids=str
)
def test_neurons_that_bend_most_have_two_rows(op: Any, radius: float, dtype: str) -> None:
    """Of one layer some have one row and others two, whose bounds are those of two rows for all;
    all of them hold where neurons are least and greatest."""
    net, box = smooth(op, 2), around(radius)
    found = gamma.bounds(net, box, dtype=dtype, intermediate=True)
    with tuning.disabled("parallel_lines"):
        both = gamma.bounds(net, box, dtype=dtype, intermediate=True)
    name, points = corners(op, net, box)[1]
    lower, upper = found[name].lower[0], found[name].upper[0]
    low, high = both[name].lower[0], both[name].upper[0]
    two = (lower == low) & (upper == high)
    assert 4 <= two.sum() <= 36
    ends = np.linspace(low.astype(float), high.astype(float), 9)
    bends = np.ptp(op.derivative(ends), axis=0)
    assert bends[two].mean() > 1.2 * bends[~two].mean()
    flat = points.reshape(-1, points.shape[-1])
    values = gamma.bounds(net, Box(flat, flat), method="ibp", intermediate=True)[name]
    each = np.arange(points.shape[1])
    shape = 2, points.shape[1], points.shape[1]
    least, most = (end.reshape(shape)[:, each, each] for end in (values.lower, values.upper))
    assert (lower <= most).all() and (least <= upper).all()


@needs_library
@pytest.mark.parametrize("dtype", [F32, F64])
def test_constants_of_both_signs_exactly(dtype: Any) -> None:
    """CHAIN.STRIP, CHAIN.FOLLOW, CHAIN.TURN: whole numbers, so that products are exact.

    Of all functions between the lines, and all inputs of the box, none gets below either constant.
    """
    rng = np.random.default_rng(3)
    n, count, boxes = 16, 12, 2
    slope = rng.integers(-2, 3, (boxes, n)).astype(dtype)
    below = rng.normal(0, 1e3, (boxes, n))
    table = Diagonal(
        slope, slope.copy(), below, below + rng.uniform(0, 2, below.shape), np.zeros(2)
    )
    weight = rng.integers(-3, 4, (n, n)).astype(dtype)
    radius = rng.uniform(0, 1, (boxes, n))
    chain = kernels.chain(3, boxes, dtype)
    assert chain is not None
    chain.pay(0, n, radius, None)
    chain.pay(1, n, radius, np.full(boxes, 0.125))
    chain.product(1, weight, n)
    chain.relax(2, n, (table.lower_slope, table.upper_slope), table.parts[2:], table.loss)
    chain.strip(2, strips(table, np.zeros((boxes, n)), 0.0, 0.0))
    rows = rng.integers(-4, 5, (count, n)).astype(dtype)
    given, box = rows.copy(), rng.integers(0, boxes, count)
    start = rng.normal(0, 1e4, count)
    d, opposite = start.copy(), -start
    chain.run(2, rows, d, box, 1 << 14, opposite)
    exact = np.vectorize(Fraction, otypes=[object])
    for r in range(count):
        b, a = box[r], exact(given[r].astype(float))
        low, high = exact(table.lower_const[b]), exact(table.upper_const[b])
        passed = a * exact(slope[b].astype(float))
        reached = abs(passed) @ exact(radius[b]) + Fraction(1, 8)
        reached += abs(passed @ exact(weight.astype(float))) @ exact(radius[b])
        least = Fraction(start[r]) + np.where(a >= 0, a * low, a * high).sum() - reached
        most = Fraction(start[r]) + np.where(a >= 0, a * high, a * low).sum() + reached
        for found, truth in ((d[r], least), (opposite[r], -most)):
            assert Fraction(found) <= truth
            assert float(truth - Fraction(found)) <= 1e-9 * (1 + abs(float(truth)))


@needs_library
def test_additions_to_the_opposite_constant_are_paid() -> None:
    """CHAIN.TURN: a constant that hardly any bit of what is subtracted fits into."""
    rng = np.random.default_rng(5)
    chain = kernels.chain(1, 1, F64)
    assert chain is not None
    chain.pay(0, 1, rng.uniform(1, 2, (1, 1)), None)
    cost = rng.uniform(1, 2, (1, 1))
    chain.pay(0, 1, cost, None)
    rows = rng.uniform(-1, 1, (400, 1))
    start = 2.0**40 * rng.uniform(-1, 1, 400)
    d, opposite = start.copy(), start.copy()
    chain.run(0, rows.copy(), d, np.zeros(400, np.int64), 1 << 14, opposite)
    for a, before, *after in zip(rows[:, 0], start, d, opposite, strict=True):
        truth = Fraction(before) - abs(Fraction(a)) * Fraction(cost[0, 0])
        assert all(Fraction(found) <= truth for found in after)


@needs_library
@pytest.mark.parametrize("dtype", [F32, F64])
def test_constants_of_lines_pay_for_every_term(dtype: Any) -> None:
    """C.LINES: per unit of a coefficient, what the row's slope, its input and its sum may cost."""
    rng = np.random.default_rng(4)
    n, unit = 300, 2.0**-24 if dtype == F32 else 2.0**-53
    slope = rng.normal(0, 1, (2, 2, n)).astype(dtype).astype(float)
    for scale, reach, charge, gamma_n in (
        (1e3, 0.0, 0.0, 0.0),  # roundings of the constant
        (1e-3, 1e9, 0.0, 0.0),  # of a·slope
        (1e-3, 0.0, 1e3, 0.0),  # what the linear input costs
        (1e-3, 0.0, 0.0, 1e-6),  # the float64 sum
    ):
        centre = rng.normal(0, scale, (2, n))
        intercept = rng.normal(0, scale, (2, 2, n))
        intercept[1] = intercept[0] + abs(intercept[1])
        after = slope[0] * centre + intercept[0]  # the constant nearly cancels
        pay = np.full((2, n), charge)
        done = kernels.line_tables(
            (slope[0], intercept[0], slope[1], intercept[1]),
            centre - reach,
            centre + reach,
            centre,
            after,
            pay,
            dtype,
            (gamma_n, 1.01 * unit),
        )
        assert done is not None
        slopes, constants, mass = done
        assert slopes.dtype == dtype and (slopes == slope).all()
        assert (mass >= (reach + charge) * n * (1 - 1e-12)).all()
        for side, sign in ((0, -1), (1, 1)):
            for b in range(2):
                for k in range(n):
                    s, t, c, v = map(
                        Fraction,
                        (slope[side, b, k], intercept[side, b, k], centre[b, k], after[b, k]),
                    )
                    line = s * c + t - v
                    least = abs(s) * (Fraction(unit) * Fraction(reach) + Fraction(charge))
                    least += (abs(line) + least) * Fraction(gamma_n)
                    assert sign * (Fraction(constants[side, b, k]) - line) >= least


@needs_library
def test_constants_pay_for_slopes_that_rows_round() -> None:
    """C.LINES.OWN: a row's line stays below (above) the one that was found, at both ends."""
    rng = np.random.default_rng(5)
    n = 500
    centre, reach = rng.normal(0, 1, (1, n)), rng.uniform(0, 10, (1, n))
    slope = rng.normal(0, 1, (2, 1, n)) * 10.0 ** rng.integers(-42, 30, n)
    below = rng.normal(0, 1e-3, (1, n)) * abs(slope[0])
    four = slope[0], below, slope[1], below
    ends = centre - reach, centre + reach
    after = slope[0] * centre + below
    done = kernels.line_tables(four, *ends, centre, after, None, np.dtype(F32), (0.0, 0.0))
    assert done is not None
    assert (done[0] != slope).any(axis=(1, 2)).all()
    for side, sign in ((0, -1), (1, 1)):
        for k in range(n):
            own, t = Fraction(slope[side, 0, k]), Fraction(below[0, k])
            row, constant = Fraction(float(done[0][side, 0, k])), Fraction(done[1][side, 0, k])
            c, v = Fraction(centre[0, k]), Fraction(after[0, k])
            for x in (Fraction(end[0, k]) for end in ends):
                assert sign * (row * (x - c) + constant + v) >= sign * (own * x + t)


@needs_library
def test_float64_rows_have_lines_of_their_own_behind_float32_bounds() -> None:
    """Lines of the float32 walk serve the output's float64 rows, whose slopes are not rounded."""
    walked = walk(smooth(ops.Tanh()), around(0.1, 3), Options(dtype=F32))
    wide = walked.in_float64()
    wide.output()
    assert wide._walked is not None and walked._walked is not None
    assert wide._walked._lines is walked._walked._lines
    single, double = walked._walked.relaxations(), wide._walked.relaxations()
    assert single.keys() == double.keys()
    for a, b in ((single[index], double[index]) for index in single):
        assert (b.lower_slope != a.lower_slope).any()
        assert (b.lower_slope.astype(F32) == a.lower_slope).all()
        assert (b.lower_const >= a.lower_const).all()


@needs_library
@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_images_pay_for_errors_of_values(op: Any) -> None:
    """C.RANGE: relative and absolute, at the ends and at the extremum between them."""
    rng = np.random.default_rng(6)
    lower = rng.normal(0, 2, 300)
    upper = lower + rng.uniform(0, 3, 300)
    (extreme,) = op.stationary or (np.nan,)
    for value, absolute in ((2.0**-10, 0.0), (0.0, 2.0**-10)):
        curve = kernels.Curve(
            op.compiled,
            False,
            tuple(op.breaks),
            tuple(op.curvature),
            extreme,
            (-np.inf, np.inf),
            (value, absolute, 0.0, 0.0, 0.0),
        )
        found = kernels.image(curve, lower, upper)
        assert found is not None
        inside = np.clip(extreme, lower, upper) if op.stationary else lower
        for x in (lower, upper, inside):
            y = op.function(x)
            error = 0.99 * (value * abs(y) + absolute)
            assert (found[0] <= y - error).all() and (y + error <= found[1]).all()
