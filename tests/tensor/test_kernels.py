"""Kernels over rows on every instruction set: exact error bounds of what sums, and refusals."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from gamma.errors import UsageError
from gamma.tensor import kernels
from gamma.tensor.rounding import U64
from tests.tensor.drawn import LENGTHS, TYPES, charge, exact, mixed

Array = npt.NDArray[np.generic]
pytestmark = pytest.mark.usefixtures("isa")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_relax_rows(n: int, dtype: type) -> None:
    rng = np.random.default_rng(n)
    N, B = 3, 2
    A, d = mixed(rng, (N, n), dtype), rng.standard_normal(N)
    box = np.array([1, 0, 1])
    ls, us = mixed(rng, (B, n), dtype), mixed(rng, (B, n), dtype)
    lc, uc = rng.standard_normal((2, B, n))
    new, total = A.copy(), d.copy()
    kernels.relax_rows(new, total, box, ls, us, lc, uc)
    with np.errstate(all="ignore"):
        expected = np.where(A >= 0, A * ls[box], A * us[box])
    assert new.tobytes() == expected.tobytes()
    for i in range(N):
        const = np.where(A[i] >= 0, lc[box[i]], uc[box[i]])
        terms = [a * c for a, c in zip(exact(A[i]), exact(const), strict=True)]
        truth = Fraction(d[i]) + sum(terms)
        slack = charge(n + 2, sum(map(abs, terms), Fraction(0))) + Fraction(U64) * abs(truth) * 2
        assert abs(Fraction(total[i]) - truth) <= slack


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_rows_with_slopes_of_their_own(n: int, dtype: type) -> None:
    rng = np.random.default_rng(n)
    A, d, box = mixed(rng, (3, n), dtype), rng.standard_normal(3), np.array([1, 0, 1])
    slope, above = rng.random((3, n)).astype(dtype), rng.random((2, n)).astype(dtype)
    base, gain, const = rng.standard_normal((3, 2, n))
    new, total = A.copy(), d.copy()
    kernels.relax_own_rows(new, total, box, slope, base, gain, above, const)
    with np.errstate(all="ignore"):
        expected = np.where(A >= 0, A * slope, A * above[box])
    assert new.tobytes() == expected.tobytes()
    for i, b in enumerate(box):
        low = [x + s * g for x, s, g in zip(*map(exact, (base[b], slope[i], gain[b])), strict=True)]
        high = exact(const[b])
        pairs = zip(exact(A[i]), low, high, strict=True)
        terms = [a * (x if a >= 0 else y) for a, x, y in pairs]
        size = sum(
            (
                abs(a) * (abs(x) + abs(g) + abs(y))
                for a, x, g, y in zip(
                    exact(A[i]), exact(base[b]), exact(gain[b]), high, strict=True
                )
            ),
            Fraction(0),
        )
        truth = Fraction(d[i]) + sum(terms)
        slack = charge(n + 4, size) + Fraction(U64) * abs(truth) * 2
        assert abs(Fraction(total[i]) - truth) <= slack
    x = mixed(rng, (3, n), dtype)
    found = kernels.own_lines(A, x, box, slope, base, gain, above, const)
    wide, s = x.astype(np.float64), slope.astype(np.float64)
    line = np.where(A >= 0, s * wide + (base[box] + s * gain[box]), above[box] * wide + const[box])
    assert found.tobytes() == line.astype(dtype).tobytes()


def planes_of(rng: np.random.Generator, groups: int, n: int, dtype: type) -> kernels.Planes:
    """Of two boxes; some entries of each group take their plane, others a constant."""
    steep, tilt = rng.standard_normal((2, 2, groups, n)).astype(dtype)
    below, above = rng.integers(0, 2, (2, 2, groups * n)).astype(dtype)
    low, high = np.sort(rng.standard_normal((2, 2, groups)), axis=0)
    root, constants = rng.random((2, groups)).astype(dtype), rng.standard_normal((2, 2, groups * n))
    sums, shared = float((groups + 16) * U64), float(np.float32(1 / n))
    gap = np.ascontiguousarray(low), np.ascontiguousarray(high)
    return kernels.Planes(root, steep, tilt, shared, below, above, gap, *constants, sums)


def summed(x: list[Fraction], y: list[Fraction]) -> tuple[Fraction, Fraction]:
    """Σ x·y, and the sum of the terms' sizes."""
    terms = [p * q for p, q in zip(x, y, strict=True)]
    return sum(terms, Fraction(0)), sum(map(abs, terms), Fraction(0))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", [n for n in LENGTHS if 0 < n < 100])
def test_planes(n: int, dtype: type) -> None:
    """Rows past planes, and planes at points, against exact sums."""
    rng, groups, box = np.random.default_rng(n), 3, np.array([1, 0, 1])
    made = planes_of(rng, groups, n, dtype)
    A, d = rng.standard_normal((3, groups * n)).astype(dtype), rng.standard_normal(3)
    A[1, n : 2 * n] = 0
    x = rng.standard_normal(A.shape).astype(dtype)
    new, total, unit = A.copy(), d.copy(), (n + 6) * Fraction(float(np.finfo(dtype).eps))
    kernels.pass_planes(made, new, total, box)
    lines = kernels.plane_lines(made, A, x, box)
    shared, one = Fraction(made.shared), [Fraction(1)] * n
    for i, b in enumerate(box):
        taken = np.where(A[i] >= 0, made.below[b], made.above[b])
        const = np.where(A[i] >= 0, made.lower_const[b], made.upper_const[b])
        truth, lost = summed(exact(A[i]), exact(const))
        lost *= Fraction(1, 2**40)
        for g in range(groups):
            at, root = slice(g * n, (g + 1) * n), Fraction(float(made.root[b, g]))
            a, y, steep = exact(A[i, at] * taken[at]), exact(x[i, at]), exact(made.steep[b, g])
            tilt = exact(made.tilt[b, g])
            (slope, wide), (whole, size) = summed(a, steep), summed(a, one)
            (move, slack), (mean, reach) = summed(tilt, y), summed(y, one)
            low, high = (Fraction(float(end[b, g])) for end in made.gap)
            w = low if slope >= 0 else high
            for j in range(n):
                true = root * (a[j] - shared * whole) - slope * tilt[j]
                off = root * (abs(a[j]) + shared * size) + wide * abs(tilt[j])
                assert abs(Fraction(float(new[i, at][j])) - true) <= unit * off
                line = root * (y[j] - shared * mean) + steep[j] * (w - move)
                line = line * Fraction(float(taken[at][j])) + Fraction(float(const[at][j]))
                size_of = root * (abs(y[j]) + shared * reach) + abs(steep[j]) * (abs(w) + slack)
                # A slope near 0 may meet the other end.
                off = unit * (size_of + 2) + abs(steep[j]) * (high - low) * (
                    abs(slope) <= unit * wide
                )
                assert abs(Fraction(float(lines[i, at][j])) - line) <= 2 * off
            truth += slope * w
            lost += unit * wide * max(abs(low), abs(high))
        truth += Fraction(float(d[i]))
        assert abs(Fraction(float(total[i])) - truth) <= lost + Fraction(1, 2**40)
    assert (new[1, n : 2 * n] == 0).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_a_step_of_slopes(dtype: type) -> None:
    rng = np.random.default_rng(3)
    rows, x, centre, free = (rng.standard_normal((n, 19)).astype(dtype) for n in (3, 3, 2, 2))
    box, given = np.array([1, 0, 1]), rng.random((3, 19)).astype(dtype)
    x[0, :2] = np.nan, np.inf
    factors, results = (0.9, 0.1, 0.8, 0.2, 0.5), []
    for isa in (kernels.isa, "numpy"):
        slope, first, second = given.copy(), np.zeros_like(x), np.zeros_like(x)
        with kernels.pinned(isa):
            kernels.ascend(rows, x, box, centre, free, first, second, slope, factors)
        results.append((slope.tobytes(), np.nan_to_num(first).tobytes()))
        fixed = free[box] <= 0
        assert (slope[fixed] == given[fixed]).all()
        assert ((slope >= 0) & (slope <= 1)).all()
        with np.errstate(invalid="ignore"):
            gradient = np.maximum(rows, 0) * (x + centre[box])
        rises = ~fixed & (gradient > 0) & (given < 1)
        assert rises.any() and (slope[rises] > given[rises]).all()
    assert results[0] == results[1]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_row_sums(n: int, dtype: type) -> None:
    rng = np.random.default_rng(n)
    A, d = mixed(rng, (3, n), dtype), np.zeros(3)
    box, table = np.array([0, 1, 0]), rng.standard_normal((2, n))
    plus, minus = d.copy(), d.copy()
    kernels.dot_rows(A, plus, box, table)
    kernels.abs_dot_rows(A, minus, box, np.abs(table))
    for i in range(3):
        terms = [a * c for a, c in zip(exact(A[i]), exact(table[box[i]]), strict=True)]
        size = sum(map(abs, terms), Fraction(0))
        assert abs(Fraction(plus[i]) - sum(terms)) <= charge(n + 2, size)
        assert abs(Fraction(minus[i]) + size) <= charge(n + 2, size)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_a_row_sums_alike_alone_and_among_others(n: int, dtype: type, isa: str) -> None:
    """How rows are cut into blocks, and for which worker, must not show in a bound."""
    if isa == "numpy":
        pytest.skip("BLAS products depend on their shape")
    rng = np.random.default_rng(n)
    A, box = mixed(rng, (9, n), dtype), np.array([0, 0, 0, 0, 0, 1, 1, 2, 1])
    slope, const = mixed(rng, (3, n), dtype), rng.standard_normal((3, n))

    def sums(rows: Array, which: npt.NDArray[np.int64]) -> list[Array]:
        found = [np.zeros(len(rows)) for _ in range(3)]
        kernels.dot_rows(rows, found[0], which, const)
        kernels.abs_dot_rows(rows, found[1], which, const)
        kernels.relax_rows(rows.copy(), found[2], which, slope, slope, const, -const)
        return found

    together = sums(A, box)
    for i in range(len(A)):
        for one, many in zip(sums(A[i : i + 1], box[i : i + 1]), together, strict=True):
            assert one[0] == many[i]


def test_many_rows_and_one_box() -> None:
    rng = np.random.default_rng(5)
    A = rng.standard_normal((200, 33)).astype(np.float32)
    vector = rng.integers(-8, 8, (1, 33)).astype(np.float64)
    A = np.round(A * 8) / np.float32(8)  # exact sums: every order gives the same number
    d = np.arange(200.0)
    kernels.dot_rows(A, d, np.zeros(200, np.int64), vector)
    assert (d == np.arange(200.0) + A.astype(np.float64) @ vector[0]).all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("m", (1, 4, 6))
def test_interval_affine(n: int, m: int, dtype: type) -> None:
    rng = np.random.default_rng(n)
    W = mixed(rng, (m, n), dtype)
    centre, radius = rng.standard_normal((2, n)), rng.random((2, n))
    z, spread = kernels.interval_affine(W, centre, radius)
    assert z.shape == spread.shape == (2, m)
    rows = 1 if n > 1000 else m
    for b in range(2):
        c, r = exact(centre[b]), exact(radius[b])
        for i in range(rows):
            w = exact(W[i])
            terms = [a * x for a, x in zip(w, c, strict=True)]
            widths = [abs(a) * x for a, x in zip(w, r, strict=True)]
            size = sum(map(abs, terms), Fraction(0))
            assert abs(Fraction(z[b, i]) - sum(terms)) <= charge(n, size)
            assert abs(Fraction(spread[b, i]) - sum(widths)) <= charge(n, sum(widths, Fraction(0)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_dot_and_sum(n: int, dtype: type) -> None:
    rng = np.random.default_rng(n)
    x, y = mixed(rng, (n,), dtype), mixed(rng, (n,), dtype)
    terms = [a * b for a, b in zip(exact(x), exact(y), strict=True)]
    size = sum(map(abs, terms), Fraction(0))
    assert abs(Fraction(kernels.dot(x, y)) - sum(terms)) <= charge(n, size)
    values = exact(x)
    slack = charge(n, sum(map(abs, values), Fraction(0)))
    assert abs(Fraction(kernels.sum(x)) - sum(values)) <= slack


def test_sums_keep_nan_and_infinity() -> None:
    A = np.full((2, 40), 1.0, np.float32)
    A[0, 3], A[1, 37] = np.nan, np.inf
    box, ones = np.zeros(2, np.int64), np.ones((1, 40))
    for kernel in (kernels.dot_rows, kernels.abs_dot_rows):
        d = np.zeros(2)
        kernel(A, d, box, ones)
        assert math.isnan(d[0]) and math.isinf(d[1])
    d = np.zeros(2)
    slopes = np.ones((1, 40), np.float32)
    kernels.relax_rows(A, d, box, slopes, slopes, ones, ones)
    assert math.isnan(d[0]) and math.isnan(A[0, 3]) and math.isinf(d[1])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("a", (0, 1, 7, 8, 16, 33))
@pytest.mark.parametrize("b", (0, 1, 5, 8, 16, 40))
def test_turned(a: int, b: int, dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal((3, a, b)).astype(dtype)
    found = kernels.turned(x)
    assert found.flags.c_contiguous and found.shape == (3, b, a)
    assert found.tobytes() == np.ascontiguousarray(x.swapaxes(1, 2)).tobytes()


def test_bad_arrays_are_refused() -> None:
    A, d, box = np.ones((2, 3), np.float32), np.zeros(2), np.zeros(2, np.int64)
    table = np.ones((1, 3))
    with pytest.raises(UsageError, match=r"box.*found indices 1\.\.1"):
        kernels.dot_rows(A, d, np.ones(2, np.int64), table)
    with pytest.raises(UsageError, match="box"):
        kernels.dot_rows(A, d, np.full(2, -1), table)
    with pytest.raises(UsageError, match="vector"):
        kernels.dot_rows(A, d, box, table.astype(np.float32))
    with pytest.raises(UsageError, match="vector"):
        kernels.dot_rows(A, d, box, np.ones((1, 4)))
    with pytest.raises(UsageError, match="strides"):
        kernels.dot_rows(np.ones((3, 2), np.float32).T, d, box, table)
    with pytest.raises(UsageError, match="A"):
        kernels.dot_rows(A.astype(">f4"), d, box, table)
    with pytest.raises(UsageError, match="A"):
        kernels.dot_rows(A.astype(np.int32), d, box, table)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="bl"):
        kernels.interval_mul(d, d, np.zeros(3), d)
    assert (d == 0).all()


def test_memory_for_c_is_checked() -> None:
    native = pytest.importorskip("gamma.tensor.native.memory")
    x = np.ones((4, 6), np.float32)
    assert len(native.pointer(x, 24, True)) == 24
    for array, size, found in (
        (x, 23, "expected 23"),
        (x.T, 24, "strides"),
        (x[:, ::2], 12, "strides"),
        (np.asfortranarray(x), 24, "strides"),
        (x.astype(">f4"), 24, "dtype >f4"),
        (x.astype(np.int16), 24, "dtype int16"),
        (x.astype(object), 24, "dtype object"),
    ):
        for writable in (False, True):
            with pytest.raises(UsageError, match=found):
                native.pointer(array, size, writable)
    x.flags.writeable = False
    assert len(native.pointer(x, 24)) == 24
    with pytest.raises(UsageError, match="read-only"):
        native.pointer(x, 24, True)


def test_arguments_are_not_written() -> None:
    A = np.arange(6, dtype=np.float32).reshape(2, 3)
    vector = np.ones((1, 3))
    A.flags.writeable = vector.flags.writeable = False
    d = np.zeros(2)
    kernels.dot_rows(A, d, np.zeros(2, np.int64), vector)
    assert d.tolist() == [3.0, 12.0]


def test_read_only_output_is_refused(isa: str) -> None:
    A, d = np.ones((1, 3), np.float32), np.zeros(1)
    d.flags.writeable = False
    with pytest.raises((UsageError, ValueError)):
        kernels.dot_rows(A, d, np.zeros(1, np.int64), np.ones((1, 3)))


def test_isa_is_pinned_by_the_environment(isa: str) -> None:
    assert kernels.isa == isa
    code = "from gamma.tensor import kernels; print(kernels.isa)"
    environment = {**os.environ, "GAMMA_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == isa


def test_unavailable_isa_is_an_error() -> None:
    for name in ("neon" if "neon" not in kernels.available() else "avx2", "sse9"):
        with pytest.raises(UsageError, match=f"GAMMA_ISA={name}.*choose one of"):
            kernels.use(name)


@pytest.mark.parametrize("isa", [name for name in kernels.available() if name != "numpy"])
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("rows, terms, columns", ((25, 130, 256), (12, 64, 130), (41, 1700, 128)))
def test_products_of_rows_a_power_of_two_apart(
    isa: str, dtype: type, rows: int, terms: int, columns: int
) -> None:
    """Panels laid side by side where lines of a cache would be few; integers are exact."""
    rng = np.random.default_rng(terms)
    weight = np.zeros((terms, kernels.padded(columns, np.dtype(dtype))), dtype)
    weight[:, :columns] = rng.integers(-3, 4, (terms, columns))
    given = rng.integers(-3, 4, (rows, terms)).astype(dtype)
    exact = given.astype(np.int64) @ weight[:, :columns].astype(np.int64)
    with kernels.pinned(isa):
        assert (kernels.product(given, weight, columns) == exact).all()
