"""Terms of the interval pass: inputs on which this very term decides, as in `test_terms.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma import ops
from gamma.ops.bounds import NodeBounds
from gamma.propagate.interval import interval_pass, interval_step
from gamma.propagate.options import Options
from gamma.propagate.walks import walk
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.exact.affine import IBP, ROWS32, ROWS64, around, cancelling, chain, holds, normal, rng
from tests.exact.checking import Config
from tests.exact.oracle import above, exact

Array = Any
pytestmark = pytest.mark.usefixtures("arithmetic")


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
            made = walk(net, box, Options("crown-ibp", "real", np.dtype(np.float64)))
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
