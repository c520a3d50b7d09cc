"""Kernels of interval steps. Entries are small integers, so sums are exact."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.errors import UsageError
from gamma.ops import Conv
from gamma.tensor import kernels, rounding

ISAS = [name for name in kernels.available() if name != "numpy"]

CASES = (
    # frames, groups, channels, image, out, kernel, strides, pads, dilations
    (1, 1, 1, (1, 1), 1, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    (3, 1, 3, (9, 8), 9, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    (2, 2, 2, (12, 37), 13, (4, 4), (2, 2), (1, 1, 1, 1), (1, 1)),
    (2, 3, 1, (7, 40), 4, (3, 2), (3, 1), (0, 2, 1, 0), (2, 3)),
    (5, 1, 4, (8, 8), 32, (1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    (2, 1, 2, (5, 6), 3, (2, 2), (4, 3), (3, 5, 4, 4), (1, 1)),
    (1, 1, 2, (6, 61), 17, (5, 5), (1, 3), (4, 4, 4, 4), (1, 2)),
    (4, 1, 1, (1, 30), 6, (1, 9), (1, 1), (0, 4, 0, 4), (1, 1)),
)


def definition(op: Conv, x: Any) -> Any:
    """One entry of the kernel at a time."""
    window = op.window(x.shape[1:])
    (h, w), (H, W) = window.positions, window.image
    out, each = len(op.weight), op.weight.shape[1]
    result = np.zeros((len(x), out, h, w))
    for y, z, i, j in itertools.product(range(h), range(w), *map(range, window.kernel)):
        row = y * window.strides[0] + i * window.dilations[0] - window.pads[0]
        column = z * window.strides[1] + j * window.dilations[1] - window.pads[1]
        if 0 <= row < H and 0 <= column < W:
            for k in range(out):
                group = k // (out // op.group)
                pixel = x[:, group * each : (group + 1) * each, row, column]
                result[:, k, y, z] += pixel @ op.weight[k, :, i, j]
    return result


@pytest.mark.parametrize("isa", kernels.available())
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("case", CASES)
def test_correlate(isa: str, dtype: Any, case: Any) -> None:
    n, groups, channels, image, out, kernel, strides, pads, dilations = case
    rng = np.random.default_rng(out)
    weight = rng.integers(-3, 4, (groups * out, channels, *kernel)).astype(dtype)
    x = rng.integers(-3, 4, (n, groups * channels, *image)).astype(dtype)
    op = Conv(weight, None, strides, pads, dilations, groups)
    with kernels.pinned(isa):
        assert (op.linear([x]) == definition(op, x)).all()
        absolute = Conv(abs(weight), None, strides, pads, dilations, groups)
        assert (op.linear([x], absolute=True) == definition(absolute, x)).all()
        with tuning.disabled("fused_forward"):
            assert (op.linear([x]) == definition(op, x)).all()


@pytest.mark.parametrize("isa", ISAS)
def test_correlate_refuses_what_does_not_fit(isa: str) -> None:
    frame = kernels.Frame((3, 3, 1, 1, 1, 1), 0, 0)
    images, weight = np.zeros((1, 1, 2, 5, 5)), np.zeros((1, 4, 18))
    with kernels.pinned(isa):
        done = kernels.correlate(images, weight, frame, (3, 3))
        assert done is not None and done.shape == (1, 1, 4, 3, 3)
        for bad in (weight[:, :, :-1], weight.astype(np.float32), np.zeros((2, 4, 18))):
            with pytest.raises(UsageError):
                kernels.correlate(images, bad, frame, (3, 3))
        with pytest.raises(UsageError):
            kernels.correlate(images, weight, frame, (0, 3))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("biased", (False, True))
def test_finish_encloses_the_exact_reach(isa: str, biased: bool) -> None:
    """The ends enclose z + bias ± spread in exact arithmetic, with γ of both sums paid."""
    rng = np.random.default_rng(3)
    z, spread = rng.standard_normal((2, 3, 41)), abs(rng.standard_normal((3, 41)))
    z = z[0] * 10.0 ** rng.integers(-8, 8, (3, 41))
    bias = rng.standard_normal(41) if biased else None
    row_sum, centre = np.full(41, 3.0), rng.standard_normal((3, 5))
    factors = (2.0**-40, 2.0**-45)
    middle, wide = z.copy(), spread.copy()
    with kernels.pinned(isa):
        done = kernels.interval_finish(middle, wide, bias, row_sum, [centre], factors)
        assert done is not None
        (noise, lower, upper), crossed = done
    assert crossed == 0
    for b, k in np.ndindex(z.shape):
        offset = Fraction(bias[k]) if bias is not None else Fraction(0)
        size = 3 * max(abs(Fraction(c)) for c in centre[b])
        exact = Fraction(z[b, k]) + offset
        error = Fraction(factors[0]) * (size + abs(offset)) + Fraction(factors[1]) * size
        reach = Fraction(spread[b, k]) * (1 + Fraction(factors[0])) * (1 + Fraction(factors[1]))
        assert Fraction(lower[b, k]) <= exact - reach - error
        assert exact + reach + error <= Fraction(upper[b, k])
        assert Fraction(noise[b, k]) >= error and Fraction(wide[b, k]) >= reach


@pytest.mark.parametrize("isa", ISAS)
def test_finish_counts_contradictions_and_keeps_nan_outside(isa: str) -> None:
    z = np.array([[np.nan, np.inf, -np.inf, 1.0]])
    spread = np.array([[0.0, 0.0, 0.0, -5.0]])
    with kernels.pinned(isa):
        done = kernels.interval_finish(z, spread, None, np.ones(4), [np.ones((1, 1))], (0.0, 0.0))
    assert done is not None
    (_, lower, upper), crossed = done
    assert crossed == 1 and lower[0, 3] > upper[0, 3]
    assert (lower[0, :3] == -np.inf).all() and (upper[0, :3] == np.inf).all()
    assert (z[0, :3] == 0).all() and z[0, 3] == 1.0


@pytest.mark.parametrize("isa", kernels.available())
def test_relu_and_largest(isa: str) -> None:
    lower = np.array([[-np.inf, -3.0, -0.0, 2.0, 1.0, -5.0, -1.0]])
    upper = np.array([[np.inf, -1.0, 0.0, np.inf, 4.0, 7.0, 0.0]])
    with kernels.pinned(isa):
        low, high, centre, radius = kernels.relu(lower, upper)
        assert (radius == rounding.radius_about(low, high, centre)).all()
        long = np.random.default_rng(0).normal(size=(2, 3, 611)).cumsum(axis=0)
        low_too, high_too, middle, reach = kernels.relu(long.min(axis=0), long.max(axis=0))
        assert (reach == rounding.radius_about(low_too, high_too, middle)).all()
        most = kernels.largest(np.array([[1.0, -7.0, 3.0], [0.0, 0.0, -0.0]]))
    assert (low == np.maximum(lower, 0)).all() and (high == np.maximum(upper, 0)).all()
    assert ((low <= centre) & (centre <= high) & np.isfinite(centre)).all()
    assert 7.0 <= most[0] <= 7.0 * (1 + 2.0**-48) and most[1] == 0.0
