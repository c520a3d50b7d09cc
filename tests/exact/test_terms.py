"""One test per charge: inputs on which this very term decides. docs/numerics.md names the terms.

Affine networks are judged at the exact minimiser (a corner), so that the bound has no slack left
but its charges. `tests/exact/mutation.py` deletes the terms one by one and runs these files: this
one has rows through nodes, `test_interval_terms.py` intervals, `test_row_ends.py` the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import LinearCharge
from gamma.ops.tables import Pick, Precision, diagonal, picked
from gamma.propagate.options import Options
from gamma.propagate.walks import walk
from gamma.tensor.box import Box
from tests.exact.affine import (
    EXECUTED,
    ROWS32,
    ROWS64,
    around,
    cancelling,
    chain,
    holds,
    normal,
    rng,
)
from tests.exact.checking import Config
from tests.exact.oracle import Truth, above, exact, q, violations

Array = Any
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
pytestmark = pytest.mark.usefixtures("arithmetic")


# -- rows through linear nodes -----------------------------------------------------------------


def test_product_rounding() -> None:
    """CHARGE.PRODUCT: rows times a matrix, about 0 so that nothing else is charged."""
    r = rng()
    net = chain((6,), ops.Gemm(normal(r, 24, 6), None), ops.Gemm(normal(r, 12, 24), None))
    holds(net, around(np.zeros(6), 1.0), ROWS32, ROWS64)


def test_product_rounding_carried_by_the_activation() -> None:
    """RELAX.FUSED: the same below an active ReLU, which carries the charge."""
    r = rng()
    w = abs(normal(r, 24, 6))
    net = chain((6,), ops.Gemm(w, None), ops.Relu(), ops.Gemm(normal(r, 12, 24), None))
    holds(net, around(np.full(6, 1.0), 0.9), ROWS32)


def test_product_rounding_of_a_convolution() -> None:
    """CHARGE.PRODUCT: nested sums over channels and kernel positions, in windows and frames."""
    r = rng()
    first = ops.Conv(normal(r, 70, 1, 3, 3), None, (1, 1), (1, 1, 1, 1))
    second = ops.Conv(normal(r, 2, 70, 2, 2), None, (2, 2), (0, 0, 1, 1))
    holds(chain((1, 4, 3), first, second), around(np.zeros((1, 4, 3)), 1.0), ROWS32)


def test_repeats_rounding() -> None:
    """CHARGE.REPEATS: a gather that reads an entry 9 times adds 9 coefficients."""
    r = rng()
    gather = ops.Gather(np.tile(np.arange(4), 9), (36,))
    net = chain((4,), gather, ops.Gemm(normal(r, 20, 36), None))
    holds(net, around(np.zeros(4), 1.0), ROWS32)


def test_inexact_weights() -> None:
    """CHARGE.NARROWED and START.COST: float64 weights in float32 rows."""
    r = rng()
    net = chain((6,), ops.Gemm(r.normal(size=(12, 6)), None))
    holds(net, around(np.zeros(6), 1.0), ROWS32)


def test_inexact_scale() -> None:
    """CHARGE.NARROWED on the way: one product per entry, float64 factors."""
    r = rng()
    scale = ops.Scale(r.normal(size=6) * 1.5, None)
    net = chain((6,), scale, ops.Gemm(np.eye(6, dtype=np.float32), None))
    holds(net, around(np.zeros(6), 1.0), ROWS32)


def test_weights_below_the_range() -> None:
    """CHARGE.FLUSHED: float64 weights that float32 flushes to zero, under large rows."""
    r = rng()
    scale = ops.Scale(r.uniform(0.1, 1, 5) * 2.0**-155, None)
    net = chain((5,), scale, ops.Gemm(normal(r, 3, 5) * np.float32(2.0**60), None))
    holds(net, around(np.zeros(5), 1.0), ROWS32)


def test_evaluation_error_below_a_layer() -> None:
    """CHARGE.NOISE: the first layer's centre errs, the second multiplies it."""
    r = rng()
    first = ops.Gemm(cancelling(r, 8, 32), None)
    net = chain((32,), first, ops.Gemm(normal(r, 6, 8), None))
    box = around(1 + r.normal(size=32) * 2.0**-40, 0.0)
    holds(net, box, Config("crown", dtype="float64"), ROWS32)
    net = chain((32,), first, ops.LeakyRelu(0.5), ops.Gemm(normal(r, 6, 8), None))
    holds(net, box, Config("crown", dtype="float64"), ROWS32)


def small(r: np.random.Generator, exponent: float, *shape: int) -> Array:
    return (r.uniform(0.3, 0.45, shape) * 2.0**exponent).astype(np.float32)


def test_products_of_rows_below_the_range() -> None:
    """CHARGE.LOSS: all products of a float32 row vanish."""
    r = rng()
    first, second = ops.Gemm(small(r, -75, 5, 3), None), ops.Gemm(small(r, -75, 2, 5), None)
    holds(chain((3,), first, second), around(np.zeros(3), 1.0), ROWS32)


def test_products_of_a_convolution_below_the_range() -> None:
    """CHARGE.LOSS: what is lost counts products, of which nested sums have many."""
    just = np.float32(0.95 * 2.0**-75)
    conv = ops.Conv(np.full((64, 1, 3, 3), just), None, (1, 1), (1, 1, 1, 1))
    net = chain((1, 3, 3), conv, ops.Reshape((576,)), ops.Gemm(np.full((1, 576), just), None))
    known = around(np.zeros((1, 3, 3)), 1.0)
    true = Truth(net)(known.lower[0])[3][0]
    made = walk(net, known, Options("crown-ibp", "real", F32))
    low, _ = made.neuron_bounds(3, np.array([0]), np.array([0]))
    assert not above(float(low[0]), true)


def test_products_below_the_range_carried() -> None:
    """RELAX.FUSED_LOSS: the same below an active ReLU."""
    r = rng()
    first, second = ops.Gemm(small(r, -75, 5, 3), None), ops.Gemm(-small(r, -75, 2, 5), None)
    net = chain((3,), first, ops.Relu(), second)
    holds(net, around(np.full(3, 2.0), 1.0), ROWS32)


# -- rows through activations ------------------------------------------------------------------


def test_slope_rounding() -> None:
    """RELAX.SLOPE: coefficient times slope is rounded; the lines themselves are exact."""
    r = rng()
    net = chain((8,), ops.LeakyRelu(0.7 * 2**24 // 1 / 2**24), ops.Gemm(normal(r, 12, 8), None))
    holds(net, around(np.full(8, -5.0), 4.0), ROWS32)


def test_slope_products_below_the_range() -> None:
    """RELAX.LOSS: coefficient times slope vanishes."""
    r = rng()
    net = chain((4,), ops.LeakyRelu(2.0**-60), ops.Gemm(-small(r, -95, 3, 4), None))
    holds(net, around(np.full(4, -5.0), 4.0), ROWS32)


def node(lower: Array, upper: Array, centre: Array) -> NodeBounds:
    return NodeBounds(*(np.asarray(a, np.float64)[None] for a in (lower, upper, centre)))


@pytest.mark.parametrize("n", [1, 40, 4000])
def test_relaxation_constants(n: int) -> None:
    """CONST.ROUNDING, CONST.SUM: a constant stays below its exact value by what the dot costs."""
    r = rng(n)
    centre = r.normal(size=n) * 10.0 ** r.integers(-3, 6, n)
    radius = r.uniform(0.1, 1, n)
    inside = node(centre - radius, centre + radius, centre)
    op = ops.Tanh() if n == 40 else ops.LeakyRelu(0.3)
    image = op.interval(inside.lower, inside.upper)
    outside = NodeBounds(*image, 0.5 * (image[0] + image[1]) + 0.1)
    lines = op.lines(inside.lower, inside.upper, F64)
    table = diagonal(op, outside, inside, Precision("real", F64))
    unit = q(n + 2) * q(2.0**-53)
    dot = unit / (1 - unit)
    for j in range(n):
        for const, slope, intercept, sign in (
            (table.lower_const, lines.lower_slope, lines.lower_intercept, 1),
            (table.upper_const, lines.upper_slope, lines.upper_intercept, -1),
        ):
            c, s, t = q(const[0, j]), q(slope[0, j]), q(intercept[0, j])
            rounded = q(2.0**-53) * abs(s) * q(radius[j]) * (abs(slope[0, j]) not in (0, 1))
            true = s * q(centre[j]) + t - q(outside.centre[0, j])
            assert sign * c + dot * abs(c) <= sign * true - rounded


def test_slope_products_of_relu_below_the_range() -> None:
    """RELAX.LOSS where a ReLU's tables come from the C library."""
    net = chain((4,), ops.Relu(), ops.Gemm(-small(rng(), -95, 3, 4), None))
    holds(net, Box(np.full((1, 4), -1.0), np.full((1, 4), 2.0**-60)), ROWS32)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("n", [7, 4000])
def test_relu_constants(n: int, dtype: Any) -> None:
    """The same terms in the tables of a ReLU, judged by the least valid intercept."""
    r = rng(n)
    low, high = -r.uniform(0.01, 1, n) * 10.0 ** r.integers(-12, 4, n), r.uniform(0.01, 1, n)
    # Bounds that were tightened leave the centre where it was.
    centre = 0.5 * low + 0.5 * high + r.normal(size=n) * 10.0 ** r.integers(-9, 6, n)
    inside = node(low, high, centre)
    after = high / (high - low) * (centre - low)  # the line there: the constant cancels
    pay = r.uniform(0, 1e-9, (1, n))
    table = diagonal(
        ops.Relu(),
        node(0 * high, high, after),
        inside,
        Precision("real", dtype),
        LinearCharge(pay, np.zeros(1)),
    )
    dot = q(n + 2) * q(2.0**-53) / (1 - q(n + 2) * q(2.0**-53))
    unit = q(2.0 ** (-24 if dtype == F32 else -53))
    for j in range(n):
        l, u, c, v = (q(a[j]) for a in (low, high, centre, after))
        g, s = q(table.lower_slope[0, j]), q(table.upper_slope[0, j])
        rounded = unit * s * max(u - c, c - l) * (s != 1)
        const = q(table.upper_const[0, j])
        true = s * c + max(-s * l, u - s * u) - v
        assert const - dot * abs(const) >= true + rounded + s * q(pay[0, j])
        const = q(table.lower_const[0, j])
        assert const + dot * abs(const) <= g * c - v - g * q(pay[0, j])


def test_constant_below_the_range() -> None:
    """CONST.UNDERFLOW: slope times centre vanishes, the coefficient is large."""
    inside = node([2.0**-600], [3 * 2.0**-600], [2.0**-599])
    op = ops.LeakyRelu(0.3)
    lines_slope = 2.0**-600

    class Flat(ops.LeakyRelu):
        def lines(self, lower: Any, upper: Any, dtype: object) -> Any:
            lines = op.lines(lower, upper, dtype)
            zero = np.zeros_like(lower)
            full = np.full_like(lower, lines_slope)
            return type(lines)(full, zero, full, zero)

    table = diagonal(Flat(), node([0.0], [0.0], [0.0]), inside, Precision("real", F64))
    true = q(lines_slope) * q(2.0**-599)
    assert q(table.lower_const[0, 0]) <= true <= q(table.upper_const[0, 0])
    assert table.lower_const[0, 0] < 0


def test_float32_executions_of_sums() -> None:
    """NOISE.FLOAT32: any order of the sum, intervals and rows."""
    r = rng()
    first, last = ops.Gemm(normal(r, 6, 20), normal(r, 6)), ops.Gemm(normal(r, 3, 6), None)
    net = chain((20,), first, ops.Relu(), last)
    holds(net, around(normal(r, 20), 0.0), *EXECUTED, executions=True)


@pytest.mark.parametrize("n", [1 << 17])
def test_float32_executions_of_long_sums(n: int) -> None:
    """NOISE.FLOAT32 with 10^5 terms: in order, reversed, pairwise, and the truth."""
    r = rng()
    x, w = abs(normal(r, n)), abs(normal(r, 1, n))
    known = gamma.bounds(
        chain((n,), ops.Gemm(w, None)), around(x, 0.0), guarantee="float32", dtype="float64"
    )
    products = x * w[0]
    runs = [np.add.accumulate(p)[-1] for p in (products, products[::-1], np.sort(products))]
    runs += [products.sum(), (w @ x)[0]]
    assert all(known.lower[0, 0] <= float(v) <= known.upper[0, 0] for v in runs)
    real = gamma.bounds(chain((n,), ops.Gemm(w, None)), around(x, 0.0), dtype="float64")
    assert violations(real.lower[0], real.upper[0], np.array([(exact(x) * exact(w[0])).sum()])) == 0
    assert real.width[0, 0] < 1e-9 * real.upper[0, 0]


def test_float32_executions_below_the_range() -> None:
    """NOISE.UNDERFLOW: products of float32 that vanish or round up."""
    r = rng()
    weight = (r.uniform(0.5, 1.5, (8, 12)) * 2.0**-75).astype(np.float32)
    x = (r.uniform(0.5, 1.5, 12) * 2.0**-75).astype(np.float32)
    holds(chain((12,), ops.Gemm(weight, None)), around(x, 0.0), EXECUTED[0], executions=True)


def test_float32_executions_of_functions() -> None:
    """NOISE.FUNCTION: the float32 tanh errs, alone and under a row."""
    r = rng()
    x = normal(r, 60)
    net = chain((60,), ops.Tanh(), ops.Sigmoid(), ops.Scale(np.float32(3.0) + normal(r, 60)))
    holds(net, around(x, 0.0), *EXECUTED[:1], executions=True)


def test_float32_noise_of_functions_in_rows() -> None:
    """RELAX.FLOAT32: the intercepts carry what a float32 execution may add."""
    r = rng()
    inside = node(r.normal(size=9), [3.0] * 9, np.zeros(9))
    op = ops.Tanh()
    image = op.interval(inside.lower, inside.upper)
    outside = NodeBounds(*image, np.zeros((1, 9)))
    real = diagonal(op, outside, inside, Precision("real", F64))
    executed = diagonal(op, outside, inside, Precision("float32", F64))
    noise = op.float32_noise(inside.lower, inside.upper, *image)
    assert (executed.lower_const <= real.lower_const - 0.99 * noise).all()
    assert (executed.upper_const >= real.upper_const + 0.99 * noise).all()


def test_float32_overflow() -> None:
    """NOISE.OVERFLOW and NOISE.RANGE: a sum, and a function, that float32 cannot hold."""
    big = np.array([[2.0**127, -(2.0**127)]], np.float32)
    net = chain((2,), ops.Gemm(big, None), ops.Clip(-1.0, 1.0))
    known = gamma.bounds(net, around([1.9, 1.9], 0.0), guarantee="float32", intermediate=True)
    assert known["Gemm_1"].lower[0, 0] == -np.inf and known["Gemm_1"].upper[0, 0] == np.inf
    net = chain((1,), ops.Exp())
    known = gamma.bounds(net, around([90.0], 0.0), guarantee="float32", dtype="float64")
    assert known.upper[0, 0] == np.inf


def test_fused_scales_keep_their_rounding() -> None:
    """EXECUTION.ERROR: (x + 2^20) - 2^20 rounds in float32, however it is fused."""
    shift = np.full(6, 2.0**20, np.float32)
    one = np.ones(6, np.float32)
    fused = ops.Scale(one, -shift).after(ops.Scale(one, shift))
    assert fused is not None
    x = normal(rng(), 6)
    known = gamma.bounds(chain((6,), fused), around(x, 0.0), guarantee="float32", dtype="float64")
    run = (x + shift) - shift
    assert (known.lower[0] <= run).all() and (run <= known.upper[0]).all()


def test_fused_scales_keep_their_overflow() -> None:
    """EXECUTION.PEAK: x·2^100·2^-100 overflows on the way, the product of the factors does not."""
    up, down = (ops.Scale(np.array([2.0**e], np.float32)) for e in (100, -100))
    fused = down.after(up)
    assert fused is not None
    known = gamma.bounds(chain((1,), fused), around([2.0**30], 0.0), guarantee="float32")
    assert known.lower[0, 0] == -np.inf and known.upper[0, 0] == np.inf


def test_fused_bias_keeps_its_rounding() -> None:
    """FUSE.BIAS: two shifts may cancel as numbers, not in an execution."""
    shift = np.full(2, 2.0**20, np.float32)
    layer = ops.Gemm(np.ones((2, 2), np.float32), shift)
    assert ops.Scale(np.ones(2, np.float32), -shift).after(layer) is None


# -- maxima ------------------------------------------------------------------------------------


def test_maximum_slope_rounding() -> None:
    """MAX.SLOPE: rows times the slopes of a maximum are rounded, entry by entry."""
    low, high = np.array([[[-1.0, -1.75]]]), np.array([[[2.0, 1.25]]])
    inside = NodeBounds(low, high, 0.5 * (low + high))
    outside = NodeBounds(np.array([[-1.0]]), np.array([[2.0]]), np.array([[0.5]]))
    lines = ops.ReduceMax(1).lines(low, high, F32)
    assert lines.slope.ravel().tolist() == [1.0, 0.75]
    table = picked(ops.ReduceMax(1), outside, inside, Precision("real", F32))
    line = q(0.5) - q(0.75) * q(0.25) + q(lines.intercept[0, 0]) - q(0.5)
    assert q(table.upper_const[0, 0]) >= line + q(2.0**-24) * q(0.75) * q(1.5)


def above_the_maximum(low: Array, high: Array) -> None:
    """The line of max over axis 0 of (k, columns) holds at the corners with one high entry."""
    lines = ops.ReduceMax(0).lines(low[None], high[None], F64)
    for column in range(low.shape[1]):
        slope, intercept = exact(lines.slope[0, column]), q(lines.intercept[0, column])
        lows, highs = exact(low[:, column]), exact(high[:, column])
        for i in range(min(len(lows), 4)):
            at = lows.copy()
            at[i] = highs[i]
            assert (slope * at).sum() + intercept >= max(at)


def test_maximum_lines() -> None:
    """MAX.LINE: small intercepts are differences of large numbers."""
    r = rng()
    for _ in range(200):
        low = -(10.0 ** r.uniform(-6, 1, (3, 2)))
        above_the_maximum(low, 10.0 ** r.uniform(0, 6, (3, 2)))


def test_maximum_over_a_long_strided_window() -> None:
    """MAX.SUM: one large intercept, then thousands that vanish when they are added to it."""
    low = np.full((5000, 3), -0.9 * 2.0**-24)
    high = -low
    low[0], high[0] = -(2.0**30), 2.0**30
    above_the_maximum(low, high)


def test_maximum_constants() -> None:
    """MAX.HEIGHTS: the centre's height on the line is a float64 sum over the window."""
    r = rng()
    k = 3000
    low, high = np.full((1, 1, k), -1.0), np.full((1, 1, k), -1 + 1e-6)
    high[..., 0] = 2.0
    low -= r.uniform(0, 1, low.shape) * (np.arange(k) > 0)
    op = ops.ReduceMax(1)
    # Any centre is valid: large ones of both signs, so that the line's height there cancels.
    signs = np.where(np.arange(k) % 2, 1.0, -1.0)
    inside = NodeBounds(low, high, 1e12 * signs * r.uniform(0.5, 1, low.shape) * (np.arange(k) > 0))
    image = op.interval(low, high)
    outside = NodeBounds(*image, 0.5 * (image[0] + image[1]))
    lines = op.lines(low, high, F64)
    table = picked(op, outside, inside, Precision("real", F64))
    slope, centre = exact(lines.slope.ravel()), exact(inside.centre.ravel())
    true = (slope * centre).sum() + q(lines.intercept[0, 0]) - q(outside.centre[0, 0])
    heights = sum(abs(h) for h in slope * centre)
    gap = q(table.upper_const[0, 0]) - true
    # Any order of the sum may have been used: the charge must cover the worst of them.
    assert gap >= heights * q(k) * q(2.0**-53)
    assert isinstance(table, Pick)
