"""BoundedTensor: every operation encloses exact arithmetic on points of the operands."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamma.errors import UsageError
from gamma.tensor import BoundedTensor, kernels

TYPES = (np.float32, np.float64)
Points = list[list[Fraction]]


def tensor(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> BoundedTensor:
    """Intervals of many sizes: points, tiny, wide, about zero."""
    middle = rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 20, shape)
    radius = rng.random(shape) * 2.0 ** rng.integers(-30, 5, shape)
    radius[rng.random(shape) < 0.2] = 0
    return BoundedTensor((middle - radius).astype(dtype), (middle + radius).astype(dtype))


def members(x: BoundedTensor) -> list[npt.NDArray[Any]]:
    """Exact points of x: both ends and one inside, as object arrays of fractions."""
    ends = [
        np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(e) for e in (x.lower, x.upper)
    ]
    return [ends[0], ends[1], (ends[0] * 2 + ends[1]) / 3]


def members_of(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return members(BoundedTensor.from_point(x))[0]


def encloses(bounds: BoundedTensor, exact: npt.NDArray[Any]) -> bool:
    pairs = zip(bounds.lower.ravel(), bounds.upper.ravel(), np.ravel(exact), strict=True)
    return all(
        (lo == -np.inf or Fraction(float(lo)) <= e) and (hi == np.inf or e <= Fraction(float(hi)))
        for lo, hi, e in pairs
    )


ARITHMETIC: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("operation", ARITHMETIC)
def test_arithmetic_encloses(operation: Callable[[Any, Any], Any], dtype: type) -> None:
    rng = np.random.default_rng(0)
    a, b = tensor(rng, (40,), dtype), tensor(rng, (3, 40), dtype)
    result = operation(a, b)
    assert result.shape == (3, 40) and result.dtype == dtype
    for x in members(a):
        for y in members(b):
            assert encloses(result, operation(x, y))


@pytest.mark.parametrize("dtype", TYPES)
def test_division_encloses(dtype: type) -> None:
    rng = np.random.default_rng(1)
    a, b = tensor(rng, (200,), dtype), tensor(rng, (200,), dtype)
    zero = (b.lower <= 0) & (b.upper >= 0)
    result = a / b
    assert (result.lower[zero] == -np.inf).all() and (result.upper[zero] == np.inf).all()
    keep = np.flatnonzero(~zero)
    assert keep.size > 50
    for x in members(a[keep]):
        for y in members(b[keep]):
            assert encloses(result[keep], x / y)


@pytest.mark.parametrize("number", (0.1, 3, -2.5, Fraction(1, 3), 2**60 + 1))
def test_numbers_are_enclosed_exactly(number: float | Fraction) -> None:
    a = tensor(np.random.default_rng(2), (30,), np.float32)
    for x in members(a):
        assert encloses(a + number, x + Fraction(number))
        assert encloses(number - a, Fraction(number) - x)
        assert encloses(number * a, x * Fraction(number))
        assert encloses(a / number, x / Fraction(number))
    assert (a + number).dtype == np.float32


@pytest.mark.parametrize("number", (Fraction(1, 3), Fraction(1, 10)))  # rounds down, rounds up
@pytest.mark.parametrize("dtype", TYPES)
def test_numbers_between_floats_are_not_rounded(number: Fraction, dtype: type) -> None:
    near = np.array([float(number)], dtype)
    assert encloses(BoundedTensor.from_point(-near) + number, number - members_of(near))
    assert encloses(number - BoundedTensor.from_point(near), number - members_of(near))


def test_arrays_on_either_side() -> None:
    a = BoundedTensor.from_epsilon(np.ones(3, np.float32), 0.5)
    array = np.arange(3, dtype=np.float32)
    for result in (array + a, a + array):
        assert isinstance(result, BoundedTensor) and result.contains(array + 1)
    assert (array * a).contains(array) and (array - a).contains(array - 1)
    assert (array / a).contains(array)
    assert (a + array.astype(np.float64)).dtype == np.float64


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", (1, 3, 17))
def test_matmul_encloses(n: int, dtype: type) -> None:
    rng = np.random.default_rng(n)
    a, b = tensor(rng, (4, n), dtype), tensor(rng, (n, 5), dtype)
    both, point, left = a @ b, a @ np.array(b.lower), np.array(a.lower) @ b
    assert both.shape == (4, 5) and both.dtype == dtype
    W, V = members(b)[0], members(a)[0]
    for x in members(a):
        assert encloses(point, x.dot(W))
        for y in members(b):
            assert encloses(both, x.dot(y))
    for y in members(b):
        assert encloses(left, V.dot(y))


def test_matmul_of_cancelling_and_subnormal_rows() -> None:
    x = BoundedTensor.from_point(np.array([[1.0, 1.0, -1.0], [5e-324, 5e-324, 3e-320]]))
    W = np.array([[1e16], [1.0], [1e16]])
    result = x @ W
    for exact in members(x):
        assert encloses(result, exact.dot(np.vectorize(lambda v: Fraction(v), otypes=[object])(W)))
    assert (x @ (W * 5e-324)).contains(np.zeros((2, 1)) + np.array([[5e-324], [0.0]]))


def test_matmul_charges_the_radius_sum() -> None:
    rng = np.random.default_rng(8)
    reach = rng.random((1, 1000))
    W = rng.random((1000, 30))
    result = BoundedTensor(-reach, reach) @ W
    for j in range(30):
        pairs = zip(reach[0], W[:, j], strict=True)
        exact = sum((Fraction(r) * Fraction(w) for r, w in pairs), Fraction(0))
        assert Fraction(result.lower[0, j]) <= -exact and exact <= Fraction(result.upper[0, j])


def test_matmul_charges_underflow() -> None:
    # Every product is 3/4 of the smallest number and rounds up to it: 64 such errors add up.
    x = BoundedTensor.from_point(np.full((1, 64), 3 * 2.0**-538))
    result = x @ np.full((64, 1), 2.0**-538)
    assert Fraction(result.lower[0, 0]) <= 48 * Fraction(2) ** -1074 <= Fraction(result.upper[0, 0])


def test_matmul_shapes_are_checked() -> None:
    with pytest.raises(UsageError, match="inner sizes"):
        BoundedTensor.from_point(np.ones((2, 3))) @ np.ones((2, 3))


def test_unbounded_matmul() -> None:
    x = BoundedTensor([[-np.inf, 0.0]], [[np.inf, 1.0]])
    result = x @ np.array([[0.0, 1.0], [1.0, 1.0]])
    assert (result.lower == -np.inf).all() and (result.upper == np.inf).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_functions_enclose(dtype: type) -> None:
    a = tensor(np.random.default_rng(3), (200,), dtype)
    a = a.clip(-30.0, 30.0)
    rational: list[tuple[BoundedTensor, Callable[[Fraction], Fraction]]] = [
        (a.relu(), lambda v: max(v, Fraction(0))),
        (a.leaky_relu(0.01), lambda v: v if v >= 0 else v * Fraction(0.01)),
        (a.abs(), abs),
        (a.square(), lambda v: v * v),
        (a.clip(-0.1, 2), lambda v: min(max(v, Fraction(-0.1)), Fraction(2))),
        (a.clip(-2, 0.3), lambda v: min(max(v, Fraction(-2)), Fraction(0.3))),
        (-a, lambda v: -v),
    ]
    for bounds, function in rational:
        for x in members(a):
            assert encloses(bounds, np.vectorize(function, otypes=[object])(x))


@pytest.mark.parametrize("dtype", TYPES)
def test_transcendental_functions_enclose(dtype: type) -> None:
    flint = pytest.importorskip("flint")
    a = tensor(np.random.default_rng(4), (60,), dtype).clip(-700.0, 80.0)
    functions: list[tuple[BoundedTensor, npt.NDArray[Any], Callable[[Any], Any]]] = [
        (a.exp(), a.lower, lambda v: v.exp()),
        (a.tanh(), a.lower, lambda v: v.tanh()),
        (a.sigmoid(), a.upper, lambda v: 1 / (1 + (-v).exp())),
        (a.abs().sqrt(), a.abs().lower, lambda v: v.sqrt()),
    ]
    before, flint.ctx.prec = flint.ctx.prec, 400
    try:
        for bounds, points, function in functions:
            for low, high, point in zip(bounds.lower, bounds.upper, points, strict=True):
                value = function(flint.arb(float(point)))
                assert not bool(flint.arb(float(low)) > value), (low, value)
                assert not bool(flint.arb(float(high)) < value), (high, value)
    finally:
        flint.ctx.prec = before


def test_ranges_of_functions() -> None:
    a = BoundedTensor.from_point(np.array([-1e4, -50.0, 0.0, 50.0, 1e4]))
    assert (a.exp().lower >= 0).all() and np.isfinite(a.exp().lower).all()
    assert (np.abs(a.tanh().lower) <= 1).all() and (a.tanh().upper <= 1).all()
    assert (a.sigmoid().lower >= 0).all() and (a.sigmoid().upper <= 1).all()
    assert a.exp().upper[-1] == np.inf
    with pytest.raises(UsageError, match="sqrt"):
        a.sqrt()


def test_from_epsilon_and_point() -> None:
    x = np.array([0.1, -3.0, 1e30], np.float32)
    box = BoundedTensor.from_epsilon(x, 0.1)
    for value, low, high in zip(x, box.lower, box.upper, strict=True):
        centre, epsilon = Fraction(float(value)), Fraction(0.1)
        assert Fraction(float(low)) <= centre - epsilon
        assert centre + epsilon <= Fraction(float(high))
    point = BoundedTensor.from_point(x)
    assert (point.width == 0).all() and (point.radius == 0).all() and (point.center == x).all()
    with pytest.raises(UsageError, match="epsilon"):
        BoundedTensor.from_epsilon(x, -1.0)


@pytest.mark.parametrize("dtype", TYPES)
def test_width_center_radius(dtype: type) -> None:
    a = tensor(np.random.default_rng(5), (200,), dtype)
    assert a.center.dtype == a.radius.dtype == a.width.dtype == dtype
    assert a.contains(a.center)
    for low, high, c, r, w in zip(a.lower, a.upper, a.center, a.radius, a.width, strict=True):
        lo, hi, middle = Fraction(float(low)), Fraction(float(high)), Fraction(float(c))
        assert Fraction(float(r)) >= max(hi - middle, middle - lo)
        assert Fraction(float(w)) >= hi - lo


@pytest.mark.parametrize("axis", (None, 0, 1, (0, 1)))
def test_sum_encloses(axis: int | tuple[int, ...] | None) -> None:
    a = tensor(np.random.default_rng(6), (7, 13), np.float32)
    result = a.sum(axis)
    for x in members(a):
        assert encloses(result, np.asarray(x.sum(axis=axis), dtype=object))


def test_sum_charges_cancellation() -> None:
    x = np.array([2.0**60, 1.0, 1.0, 1.0, -(2.0**60)] * 3)
    assert BoundedTensor.from_point(x).sum().contains(9.0)


def test_contains_and_intersect() -> None:
    a, b = BoundedTensor([0.0, 1.0], [2.0, 3.0]), BoundedTensor([1.0, 0.0], [4.0, 2.0])
    both = a.intersect(b)
    assert both.lower.tolist() == [1.0, 1.0] and both.upper.tolist() == [2.0, 2.0]
    assert a.contains(both) and b.contains(both) and not both.contains(a)
    assert a.contains([0.0, 3.0]) and not a.contains([0.0, 3.5]) and not a.contains([np.nan, 2.0])
    with pytest.raises(UsageError, match="index"):
        a.intersect(BoundedTensor([5.0, 0.0], [6.0, 9.0]))


def test_shapes() -> None:
    a = BoundedTensor.from_epsilon(np.arange(12.0).reshape(3, 4), 1)
    assert BoundedTensor.stack([a, a], 1).shape == (3, 2, 4)
    assert BoundedTensor.concat([a, a], 1).shape == (3, 8)
    assert a.reshape(2, 6).shape == (2, 6) and a.transpose().shape == (4, 3)
    assert a.transpose(1, 0).lower.tolist() == a.lower.T.tolist()
    part = a.slice_axis(1, 1, 4, 2)
    assert part.lower.tolist() == a.lower[:, 1:4:2].tolist() and part.size == 6 and part.ndim == 2
    assert a[1].shape == (4,)
    with pytest.raises(UsageError, match="axis"):
        a.slice_axis(2, 0, 1)


def test_construction_rejects() -> None:
    cases: list[tuple[Any, Any, str]] = [
        ([np.nan], [1.0], "NaN"),
        ([2.0], [1.0], r"index \(0,\): found \[2.0, 1.0\]"),
        ([np.inf], [np.inf], "number"),
        ([-np.inf], [-np.inf], "number"),
        ([0.0, 1.0], [1.0], "shapes"),
        (["a"], ["b"], "dtype"),
        ([1 + 1j], [1 + 1j], "dtype"),
        ([2**60 + 1], [2**60 + 1], "does not hold"),
    ]
    for lower, upper, message in cases:
        with pytest.raises(UsageError, match=message):
            BoundedTensor(lower, upper)
    with pytest.raises(UsageError, match="finite"):
        BoundedTensor([0.0], [1.0]) + math.inf


def test_values_are_frozen() -> None:
    array = np.zeros(3)
    a = BoundedTensor(array, array)
    with pytest.raises(ValueError, match="read-only"):
        a.lower[0] = 1
    with pytest.raises(AttributeError):
        a.lower = array  # type: ignore[misc]
    array[0] = 0.0  # the caller's own array stays writable
    assert a.astype(np.float32).dtype == np.float32 and repr(a).startswith("BoundedTensor(shape")


def test_mixed_dtypes_become_float64() -> None:
    a = BoundedTensor(np.zeros(2, np.float32), np.ones(2))
    assert a.dtype == np.float64
    with pytest.raises(UsageError):
        BoundedTensor(np.full(1, 1.0 + 2.0**-40), np.ones(1, np.float32))


@pytest.mark.parametrize("isa", kernels.available())
def test_products_have_the_same_bits_everywhere(isa: str) -> None:
    a = tensor(np.random.default_rng(7), (5, 33), np.float32)
    expected = a * a
    with kernels.pinned(isa):
        result = a * a
    assert result.lower.tobytes() == expected.lower.tobytes()
    assert result.upper.tobytes() == expected.upper.tobytes()
