"""Reaches of symbols, and ellipsoids around them, on every instruction set.

What they claim is held against exact sets in tests/exact/test_ellipsoids.py.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gamma.errors import UsageError
from gamma.ops.ellipsoid import around, outer
from gamma.ops.ellipsotope import Symbols
from gamma.tensor import kernels

pytestmark = pytest.mark.usefixtures("isa")


@pytest.mark.parametrize("n", (0, 1, 7, 16, 33, 97))
@pytest.mark.parametrize(("k", "each"), ((0, 1), (1, 1), (6, 1), (6, 3), (8, 8)))
def test_reach(isa: str, n: int, k: int, each: int) -> None:
    r = np.random.default_rng(n)
    columns = r.normal(size=(k, n)) * 10.0 ** r.integers(-5, 5, (k, n))
    columns[:, :1] = 0.0
    found = kernels.reach(columns, each, 1.5, 0.25)
    blocks = columns.reshape(k // each, each, n)
    sizes = np.sqrt((blocks * blocks).sum(axis=1)).sum(axis=0)
    moved = columns.any(axis=0) if each > 1 else np.zeros(n, bool)
    assert np.allclose(found, 1.5 * sizes + np.where(moved, 0.25, 0.0), rtol=1e-13, atol=0)
    if isa != "numpy":
        with kernels.pinned("scalar"):
            assert kernels.reach(columns, each, 1.5, 0.25).tobytes() == found.tobytes()


@pytest.mark.parametrize("n", (0, 1, 7, 33))
def test_swing(isa: str, n: int) -> None:
    """A step outward of what the parts reach together; what is not finite is counted."""
    r = np.random.default_rng(n)
    parts = [(r.normal(size=(k, n)), each, 1.5, 0.25) for k, each in ((3, 1), (6, 3), (0, 1))]
    rest, middle = abs(r.normal(size=n)), r.normal(size=n)
    out, lost = kernels.swing(parts, rest, middle)
    total = rest + sum(kernels.reach(*part) for part in parts)
    assert (out[0] >= total).all() and (out[0] <= total * (1 + 1e-14)).all()
    assert (out[1] == np.nextafter(middle - out[0], -np.inf)).all()
    assert (out[2] == np.nextafter(middle + out[0], np.inf)).all()
    assert lost == 0
    if n:
        rest[0] = np.inf
        middle[-1] = np.nan
        assert kernels.swing(parts, rest, middle)[1] == min(n, 2)
    if isa != "numpy":
        with kernels.pinned("scalar"):
            again = kernels.swing(parts, abs(rest), np.nan_to_num(middle))
        same = kernels.swing(parts, abs(rest), np.nan_to_num(middle))
        assert again[0].tobytes() == same[0].tobytes()


@pytest.mark.parametrize("d", (1, 5, 8, 32, 63))
def test_ellipsoids(isa: str, d: int) -> None:
    """As NumPy makes them, but for the order of sums; the same bits on every set."""
    r = np.random.default_rng(d)
    scales = 10.0 ** r.integers(-9, 9, d)
    parts = [(r.normal(size=(k, 3, d)) * scales, each) for k, each in ((3, 1), (8, 4), (7, 7))]
    rest = abs(r.normal(size=(3, d))) * scales * (r.random((3, d)) < 0.5)
    for columns, _ in parts:
        columns[:, 2] = 0.0
    rest[2] = 0.0
    found = outer(parts, rest)
    with kernels.pinned("numpy"):
        expected = outer(parts, rest)
    assert (found.scale == expected.scale).all()
    assert np.allclose(found.matrix, expected.matrix, rtol=1e-11, atol=1e-13 * found.matrix.max())
    assert np.allclose(found.error, expected.error, rtol=1e-11)
    assert not found.matrix[2].any() and found.error[2] == 0
    assert (found.matrix == np.swapaxes(found.matrix, 1, 2)).all()
    if isa != "numpy":
        with kernels.pinned("scalar"):
            again = outer(parts, rest)
        assert again.matrix.tobytes() == found.matrix.tobytes()
        assert again.error.tobytes() == found.error.tobytes()


@pytest.mark.parametrize("d", (1, 5, 8, 33, 63))
def test_symbols_of_ellipsoids(isa: str, d: int) -> None:
    """As LAPACK factors them, but for rounding; the same bits on every set, and for any threads."""
    r = np.random.default_rng(d)
    parts = [(r.normal(size=(k, 3, d)), each) for k, each in ((d + 3, 1), (8, 4))]
    rest = abs(r.normal(size=(3, d)))
    for columns, _ in parts:
        columns[:, 1] = 0.0
    rest[1] = 0.0
    found = around(parts, rest)
    with kernels.pinned("numpy"):
        expected = around(parts, rest)
    assert (found.each, found.places) == (expected.each, expected.places) == (d, 3)
    assert np.allclose(found.columns, expected.columns, rtol=1e-7, atol=1e-9)
    assert not found.columns.reshape(d, 3, d)[:, 1].any()
    if isa != "numpy":
        assert (
            kernels.balls(parts, rest, 1e-10, 1e-10, 2).tobytes()
            == kernels.balls(parts, rest, 1e-10, 1e-10, 1).tobytes()
        )
        with kernels.pinned("scalar"):
            assert around(parts, rest).columns.tobytes() == found.columns.tobytes()
    with np.errstate(all="ignore"):
        parts[0][0][0, 2, 0] = np.inf
        assert not np.isfinite(around(parts, rest).columns.reshape(d, 3, d)[0, 2]).all()


def test_the_error_is_enough_where_a_set_hardly_reaches() -> None:
    """Of directions nearly across the only symbol the matrix alone knows what it rounded."""
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=3)
        across = np.array([x[1], -x[0], 2.0**-28])
        found = outer([(x.reshape(1, 1, 3), 1)], np.zeros((1, 3)))
        a = [Fraction(v) * Fraction(s) for v, s in zip(across, found.scale[0], strict=True)]
        reach = sum(Fraction(v) * Fraction(w) for v, w in zip(across, x, strict=True))
        rows = [[Fraction(entry) for entry in row] for row in found.matrix[0]]
        bound = sum(
            v * w * m for v, row in zip(a, rows, strict=True) for w, m in zip(a, row, strict=True)
        )
        assert reach**2 <= bound + Fraction(found.error[0]) * sum(v * v for v in a)


@pytest.mark.parametrize("bad", (np.nan, np.inf))
def test_no_number_stays_none(bad: float) -> None:
    columns = np.zeros((2, 1, 3))
    columns[1, 0, 2] = bad
    rest = np.array([[0.0, bad, 0.0]])
    with np.errstate(all="ignore"):
        assert not np.isfinite(Symbols(columns[:, 0], 2).reach[2])
        assert not np.isfinite(outer([(columns, 1)], np.zeros((1, 3))).matrix).all()
        assert not np.isfinite(outer([(np.zeros((1, 1, 3)), 1)], rest).matrix).all()


def test_blocks_are_whole() -> None:
    with pytest.raises(UsageError, match="columns"):
        kernels.swing([(np.zeros((3, 2)), 2, 1.0, 0.0)], np.zeros(2), np.zeros(2))
    with pytest.raises(UsageError, match="columns"):
        kernels.reach(np.zeros((3, 2)), 2, 1.0, 0.0)
    if kernels.isa != "numpy":
        with pytest.raises(UsageError, match="columns"):
            kernels.outer([(np.zeros((3, 1, 2)), 2)], np.zeros((1, 2)), 0.0)
