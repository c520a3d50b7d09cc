"""One test per charge: inputs on which this very term decides. docs/numerics.md names the terms.

Affine networks are judged at the exact minimiser (a corner), so that the bound has no slack left
but its charges. `tests/exact/mutation.py` deletes the terms one by one and runs this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import flint
import numpy as np
import pytest
from flint import arb

import gamma
from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import LinearCharge, linear_charge
from gamma.ops.tables import Pick, Precision, diagonal, picked
from gamma.propagate.analysis import lower_bounds
from gamma.propagate.interval import interval_pass, interval_step
from gamma.propagate.options import Options
from gamma.propagate.rows.block import Dense
from gamma.propagate.rows.descend import Descent
from gamma.propagate.rows.tables import Tables
from gamma.propagate.specification import Specification
from gamma.propagate.walks import walk
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.exact.checking import Config, Count, check
from tests.exact.oracle import BITS, Truth, above, exact, q, violations

Array = Any
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


@pytest.fixture(autouse=True, params=("numpy", "best"))
def arithmetic(request: pytest.FixtureRequest) -> Iterator[None]:
    """NumPy and the best compiled kernels take different paths; both must pay every term."""
    with kernels.pinned(request.param if request.param == "numpy" else kernels.available()[0]):
        yield


def chain(shape: tuple[int, ...], *operators: Any) -> Network:
    builder = Builder(ops.Input(), shape)
    for i, op in enumerate(operators):
        builder.add(op, i)
    return builder.build(len(operators))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(r: np.random.Generator, *shape: int) -> Array:
    return r.normal(size=shape).astype(np.float32)


def around(centre: Array, radius: Array) -> Box:
    c, r = np.broadcast_arrays(np.asarray(centre, np.float64), np.asarray(radius, np.float64))
    return Box((c - r)[None], (c + r)[None])


def holds(net: Network, box: Box, *configs: Config, **options: Any) -> None:
    count = Count()
    for config in configs:
        config = replace(config, isa=kernels.isa)
        check(net, box, config, rng(1), count, inner=1, **options)
    assert not count.wrong, count.wrong[:3]
    assert count.bounds > 0


IBP, ROWS32, ROWS64 = Config("ibp"), Config("crown"), Config("crown", dtype="float64")
EXECUTED = (Config("ibp", "float32"), Config("crown", "float32"), Config("crown-ibp", "float32"))


# -- interval pass -----------------------------------------------------------------------------


def cancelling(r: np.random.Generator, m: int, n: int, dtype: Any = np.float64) -> Array:
    half = r.normal(size=(m, n // 2)) * 1e6
    return np.concatenate((half, -half * (1 + 2.0**-30 * r.normal(size=half.shape))), 1).astype(
        dtype
    )


@pytest.mark.parametrize("batch", [1, 6])
def test_centre_rounding(batch: int) -> None:
    """INTERVAL.CENTRE: a point box, sums that cancel."""
    r = rng()
    net = chain((32,), ops.Gemm(cancelling(r, 40, 32), None))
    x = np.repeat(np.ones((1, 32)), batch, axis=0) * (1 + r.normal(size=(batch, 32)) * 2.0**-40)
    holds(net, Box(x, x), IBP)


def test_uncertain_scale() -> None:
    """INTERVAL.SCALE (point), SPREAD.SCALE and CHARGE.SCALE (boxes about 0)."""
    r = rng()
    net = chain((12,), ops.Scale(normal(r, 12), None, 2.0**-20), ops.Gemm(normal(r, 3, 12), None))
    for box in (around(r.normal(size=12), 0.0), around(np.zeros(12), 1.0)):
        for wobble in (-1.0, 1.0):
            holds(net, box, IBP, ROWS64, ROWS32, wobble=wobble)


def test_uncertain_scale_rows() -> None:
    """CHARGE.SCALE alone: without it only the interval bounds know of the doubt."""
    r = rng()
    net = chain((12,), ops.Scale(normal(r, 12), None, 2.0**-20), ops.Gemm(normal(r, 3, 12), None))
    holds(net, around(np.zeros(12), 1.0), Config("crown-ibp", dtype="float64"), wobble=1.0)


def test_uncertain_shift() -> None:
    """INTERVAL.SHIFT: a point box, a shift known to 1e-3."""
    r = rng()
    net = chain((6,), ops.Scale(normal(r, 6), normal(r, 6), 0.0, 1e-3), ops.Relu())
    for wobble in (-1.0, 1.0):
        holds(net, around(r.normal(size=6), 0.0), IBP, ROWS64, wobble=wobble)


def test_products_below_the_range() -> None:
    """INTERVAL.UNDERFLOW: every product is under half the smallest float64, their sum is not."""
    r = rng()
    w = r.uniform(0.7, 0.99, (4, 64)) * 2.0**-540
    net = chain((64,), ops.Gemm(w, None))
    holds(net, around(r.uniform(0.7, 0.99, 64) * 2.0**-535, 0.0), IBP)


def long_radii(n: int) -> Array:
    """Radii of which every small one is lost when added to a large one."""
    radii = np.full(n, 2.0**-24)
    radii[:128] = 2.0**30
    return radii


@pytest.mark.parametrize("batch", [1, 5])
def test_long_sum_of_radii(batch: int) -> None:
    """SPREAD.SUM (interval) and WEIGHT.SUM (rows): 2·10⁴ terms, most of them lost."""
    n = 20_000
    radii = np.repeat(long_radii(n)[None], batch, axis=0)
    net = chain((n,), ops.Gemm(np.ones((1, n), np.float32), None))
    box = Box(-radii, radii)
    truth = exact(radii[0]).sum()
    for name in kernels.available():
        with kernels.pinned(name):
            lower = interval_pass(net, box)[1].lower
            assert not any(above(v, -truth) for v in lower.ravel())
            made = walk(net, box, Options("crown-ibp", "real", F64))
            low, _ = made.neuron_bounds(1, np.array([0]), np.array([0]))
            assert not above(float(low[0]), -truth)


def layers_over(n: int, weight: float) -> tuple[Any, ...]:
    """A dense layer over a vector and over three positions, a convolution; all weights equal.

    Several outputs each: a BLAS may add up a single one in double.
    """
    dense = ops.Gemm(np.full((8, n), weight, np.float32), None)
    conv = ops.Conv(np.full((8, 1, 1, n), weight, np.float32), None)
    return (dense, (n,)), (dense, (3, n)), (conv, (1, 3, n))


def reach_in_float32(op: Any, shape: tuple[int, ...], radii: Array, truth: Any) -> None:
    """Five boxes of ``radii`` (the last axis) about 0: the lower ends are not above -truth."""
    many = np.broadcast_to(radii, (5, *shape)).copy()
    source = NodeBounds(-many, many, np.zeros_like(many))
    node = chain(shape, op).nodes[1]
    for name in kernels.available():
        with kernels.pinned(name):
            found = interval_step(node, [source], "real", np.float32)
        assert not any(above(v, -truth) for v in found.lower.ravel())


def test_radii_multiplied_in_float32() -> None:
    """SPREAD.FLOAT32: sums of 10³ terms; the radii lie so that making them float32 adds nothing."""
    n, r = 1000, rng()
    for _ in range(12):
        radii = np.nextafter(r.uniform(0.5, 1.0, n).astype(np.float32).astype(np.float64), 0.0)
        for op, shape in layers_over(n, 1.0):
            reach_in_float32(op, shape, radii, exact(radii).sum())


def test_radii_that_no_float32_holds() -> None:
    """SPREAD.NARROWED: radii under half the smallest float32, large weights."""
    radii = np.array([2.0**-160])
    for op, shape in layers_over(1, 2.0**100):
        reach_in_float32(op, shape, radii, exact(np.array([2.0**-60]))[0])


def test_radii_below_the_range_of_float32() -> None:
    """SPREAD.SUBNORMAL: every product is under half the smallest float32."""
    n = 64
    radii = np.full(n, 2.0**-80)
    for op, shape in layers_over(n, 2.0**-80):
        reach_in_float32(op, shape, radii, exact(radii).sum() * exact(np.array([2.0**-80]))[0])


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


# -- joins, concretisation, d ------------------------------------------------------------------


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


# -- specification rows ------------------------------------------------------------------------


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
