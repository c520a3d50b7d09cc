"""Elementwise kernels on every instruction set: the bits of NumPy, and exact truth enclosed."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from gamma.tensor import kernels
from tests.tensor.drawn import LENGTHS, TYPES, mixed

Array = npt.NDArray[np.generic]
pytestmark = pytest.mark.usefixtures("isa")


SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.1, -3.5, 1e-45, -1e-45, 1e38, -1e38, np.inf, -np.inf, np.nan)


def _special_intervals(dtype: type, n: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    pair = np.sort(rng.choice(np.array(SPECIAL), (n, 2)), axis=1).astype(dtype)
    return np.ascontiguousarray(pair[:, 0]), np.ascontiguousarray(pair[:, 1])


def _elementwise(a: tuple[Array, Array], b: tuple[Array, Array], c: Array) -> list[Array]:
    wide = [np.asarray(end, np.float64) for end in (*a, c)]
    return [
        *kernels.interval_mul(*a, *b),
        *kernels.safe_mul_add(*a, *b, *a),
        *kernels.pos_neg_split(a[0]),
        kernels.step_down(c),
        kernels.step_up(c),
        kernels.narrow_down(wide[2] * 1e-3),
        kernels.narrow_up(wide[2] * 1e-3),
        kernels.narrow_up(wide[2]),
        kernels.midpoint(*wide[:2]),
        kernels.radius_about(*wide),
    ]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_elementwise_bits_equal_numpy(n: int, dtype: type) -> None:
    a, b, c = (_special_intervals(dtype, n, seed) for seed in (n, n + 1, n + 2))
    results = _elementwise(a, b, c[0])
    with kernels.pinned("numpy"):
        expected = _elementwise(a, b, c[0])
    for got, want in zip(results, expected, strict=True):
        assert np.isnan(got).tolist() == np.isnan(want).tolist()
        ordinary = ~np.isnan(want)  # the payload of a NaN is free
        assert got[ordinary].tobytes() == want[ordinary].tobytes()


@pytest.mark.parametrize("dtype", TYPES)
def test_interval_products_enclose(dtype: type) -> None:
    rng = np.random.default_rng(1)
    n = 500
    ends = [np.sort(mixed(rng, (2, n), dtype), axis=0) for _ in range(3)]
    a, b, c = ((np.ascontiguousarray(e[0]), np.ascontiguousarray(e[1])) for e in ends)
    lower, upper = kernels.interval_mul(*a, *b)
    low3, high3 = kernels.safe_mul_add(*a, *b, *c)
    for i in range(n):
        corners = [Fraction(float(x[i])) * Fraction(float(y[i])) for x in a for y in b]
        assert Fraction(float(lower[i])) <= min(corners)
        assert max(corners) <= Fraction(float(upper[i]))
        assert Fraction(float(low3[i])) <= min(corners) + Fraction(float(c[0][i]))
        assert max(corners) + Fraction(float(c[1][i])) <= Fraction(float(high3[i]))


def test_unbounded_products() -> None:
    one = np.array([0.0, -np.inf, 1e300, np.nan])
    two = np.array([0.0, 1.0, 1e300, np.nan])
    lower, upper = kernels.interval_mul(one, two, np.full(4, -np.inf), np.full(4, np.inf))
    assert (lower == -np.inf).all() and (upper == np.inf).all()
    lower, upper = kernels.interval_mul(one[2:3], two[2:3], one[2:3], two[2:3])
    assert lower[0] == np.finfo(np.float64).max and upper[0] == np.inf


def test_pos_neg_split_adds_up() -> None:
    x = np.array([-2.0, -0.0, 0.0, 3.0, np.inf, -np.inf, np.nan] * 5, np.float32)
    positive, negative = kernels.pos_neg_split(x)
    ordinary = ~np.isnan(x)
    assert (positive[ordinary] >= 0).all() and (negative[ordinary] <= 0).all()
    assert (positive[ordinary] + negative[ordinary] == x[ordinary]).all()
    assert np.isnan(positive[~ordinary]).all() and np.isnan(negative[~ordinary]).all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kernel", ((1, 1), (3, 3), (2, 5)))
@pytest.mark.parametrize("strides", ((1, 1), (2, 3)))
@pytest.mark.parametrize("pads", ((0, 0), (1, 2), (-1, 7)))
@pytest.mark.parametrize("dilations", ((1, 1), (2, 3)))
@pytest.mark.parametrize("C", (1, 5))
def test_fold_last(
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int],
    dilations: tuple[int, int],
    C: int,
    dtype: type,
) -> None:
    rng = np.random.default_rng(0)
    N, H, W, high, wide = 2, 9, 11, 6, 5
    cols = rng.standard_normal((N, high, wide, *kernel, C)).astype(dtype)
    out = rng.standard_normal((N, H, W, C)).astype(dtype)
    expected = out.copy()
    for k, i, w, j in np.ndindex(high, kernel[0], wide, kernel[1]):
        y = i * dilations[0] - pads[0] + k * strides[0]
        x = j * dilations[1] - pads[1] + w * strides[1]
        if 0 <= y < H and 0 <= x < W:
            expected[:, y, x] += cols[:, k, w, i, j]
    kernels.fold_last(cols, out, kernel, strides, pads, dilations)
    assert out.tobytes() == expected.tobytes()


def test_erf() -> None:
    x = np.array([[-30.0, -1.5, -0.0], [0.5, 4.0, np.inf]])
    assert (kernels.erf(x) == np.vectorize(math.erf)(x)).all()
    assert (kernels.erfc(x) == np.vectorize(math.erfc)(x)).all()
    assert kernels.erf(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("n", LENGTHS)
def test_f16_is_directed(n: int) -> None:
    rng = np.random.default_rng(n)
    x = (rng.standard_normal(n) * 2.0 ** rng.integers(-30, 20, n)).astype(np.float32)
    edges = np.array([65504, 65519, 65520, 70000, 6e-8, 1e-9, 0.0, -0.0, np.inf, 1e-45], np.float32)
    x[: min(n, 10)] = edges[: min(n, 10)]
    x[rng.random(n) < 0.5] *= -1
    down, up = kernels.f16_down(x), kernels.f16_up(x)
    low, high = kernels.f16_to_f32(down), kernels.f16_to_f32(up)
    assert (low <= x).all() and (x <= high).all()
    # Tight: the two neighbours are equal or one step of float16 apart.
    with np.errstate(over="ignore"):
        step = np.nextafter(low.astype(np.float16), np.float16(np.inf)).astype(np.float32)
    assert ((low == high) | (step == high)).all()
    with kernels.pinned("numpy"):
        assert down.tobytes() == kernels.f16_down(x).tobytes()
        assert up.tobytes() == kernels.f16_up(x).tobytes()


def test_f16_overflow_and_nan() -> None:
    x = np.array([70000.0, -70000.0, np.nan, np.inf, -np.inf] * 4, np.float32)
    low = kernels.f16_to_f32(kernels.f16_down(x))[:5].tolist()
    high = kernels.f16_to_f32(kernels.f16_up(x))[:5].tolist()
    assert low == [65504.0, -np.inf, -np.inf, np.inf, -np.inf]
    assert high == [np.inf, -65504.0, np.inf, np.inf, -np.inf]


def test_every_f16_is_its_own_bound() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    value = kernels.f16_to_f32(bits)
    with np.errstate(all="ignore"):
        same = (value == bits.view(np.float16)) | np.isnan(value)
    assert same.all() and np.isnan(value).sum() == 2 * 1023
    number = ~np.isnan(value)
    assert (kernels.f16_down(value)[number] == bits[number]).all()
    assert (kernels.f16_up(value)[number] == bits[number]).all()
