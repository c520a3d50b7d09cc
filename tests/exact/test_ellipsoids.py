"""Ellipsoids about sets of symbols, what merging keeps, rows over sets: against exact values."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gamma.ops.ellipsoid import outer
from gamma.ops.ellipsotope import Ellipsotope, Symbols, new_key
from gamma.propagate.ellipsotopes import least, merged
from tests.exact.symbols import exact, point, spread, spread_like, whole

Array = Any
pytestmark = pytest.mark.usefixtures("precise")


def test_ellipsoids_hold_their_symbols() -> None:
    """(a·x)² <= aᵀRRᵀa exactly, also where symbols are few and Q is singular."""
    r = np.random.default_rng(9)
    for k, each, d in ((1, 1, 4), (3, 1, 3), (4, 4, 6), (6, 2, 4), (2, 2, 8)):
        columns = r.normal(size=(k, 2, d)) * np.array([1e-200, 1.0])[:, None]
        columns[:, 1] *= 10.0 ** r.integers(-9, 9, d)
        factors = outer([(columns, each)], np.zeros((2, d))).factors()
        assert np.isfinite(factors).all()
        for v in range(2):
            R, G = exact(factors[v]), exact(columns[:, v])
            null = np.linalg.svd(columns[:, v] / abs(columns[:, v]).max())[2][k:]
            for row in (*np.eye(d), *r.normal(size=(2, d)), *null):
                a = exact(row)
                turned = (G @ a).reshape(-1, each)
                if each == 1:
                    reach = abs(turned).sum() ** 2
                elif len(turned) == 1:
                    reach = (turned * turned).sum()
                else:  # at least, for two blocks: (s + t)² >= s² + t²; their roots below
                    roots = np.sqrt((turned.astype(np.float64) ** 2).sum(axis=1)).sum()
                    reach = Fraction(float(roots) * (1 - 1e-12)) ** 2
                assert ((R @ a) ** 2).sum() >= reach


@pytest.mark.parametrize("size", (1.0, 2.0**-530, 2.0**-545))
def test_the_longest_vector_is_within_its_bound(size: float) -> None:
    r = np.random.default_rng(10)
    columns, rest = r.normal(size=(4, 1, 5)) * size, abs(r.normal(size=(1, 5))) * size
    most = float(outer([(columns, 1)], rest).largest()[0])
    for signs in np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T:
        x = exact(signs) @ exact(columns[:, 0])
        x = x + exact(rest[0]) * np.where(x > 0, 1, -1)
        assert (x * x).sum() <= Fraction(most)


def test_symbols_whose_squares_underflow_reach_as_far() -> None:
    """All of them, or those of one entry; and in products of rows with columns."""
    for size in (2.0**-530, 2.0**-545, 2.0**-1060):
        columns = np.random.default_rng(13).normal(size=(6, 4)) * size
        columns[:, 3] = 0.0
        for each in (1, 2, 3, 6):
            reach = Symbols(columns, each).reach
            assert reach[3] == 0
            for i in range(4):
                blocks = exact(columns[:, i]).reshape(-1, each)
                longest = max((b * b).sum() for b in blocks)  # the whole reaches no less
                assert longest <= Fraction(float(reach[i])) ** 2


def test_merging_and_reach() -> None:
    r = np.random.default_rng(11)
    x = spread(r, (8,), 1.0)
    ball = merged(x)
    assert (ball.swing >= x.swing * (1 - 1e-12)).all() and len(ball.parts) == 1
    for part in x.parts.values():
        for i in range(8):
            column = exact(part.columns[:, i])
            if part.each == 1:
                assert abs(column).sum() <= Fraction(float(part.reach[i]))
            else:
                assert (column * column).sum() <= Fraction(float(part.reach[i])) ** 2
    columns = r.normal(size=(200, 8)) * 10.0 ** r.integers(-3, 3, (200, 1))
    exactly = abs(exact(columns)).sum(axis=0)
    assert all(
        t <= Fraction(float(f)) for t, f in zip(exactly, Symbols(columns).reach, strict=True)
    )


def test_rows_over_two_sets() -> None:
    """What both owe to the same symbols is counted once; the bound is exact but for rounding."""
    r = np.random.default_rng(12)
    x = spread(r, (5,), 1.0)
    y = Ellipsotope((4,), r.normal(size=4), np.zeros(4), spread_like(r, x, spread(r, (4,), 1.0)))
    rows = {1: r.normal(size=(6, 5)), 2: r.normal(size=(6, 4))}
    centres, d = {1: r.normal(size=5), 2: r.normal(size=4)}, r.normal(size=6)
    found = least(rows, {1: x, 2: y}, centres, d)
    lows = np.full(6, np.inf)
    for _ in range(8):
        known, first = point(r, x, {})
        known, second = point(r, y, known)
        value = exact(d) + exact(rows[1]) @ (first - exact(centres[1]))
        value = value + exact(rows[2]) @ (second - exact(centres[2]))
        assert all(Fraction(float(f)) <= v for f, v in zip(found, value, strict=True))
        lows = np.minimum(lows, value.astype(np.float64))
    assert (found > lows - 40).all()


def test_rows_over_sets_with_places() -> None:
    """Symbols that one set has apart and the other has not; rows reach every place."""
    r = np.random.default_rng(14)
    x, y = spread(r, (2, 3), 1.0), spread(r, (4,), 0.0)
    y = replace(y, parts={key: Symbols(r.normal(size=(part.count, 4)), part.each)
                          for key, part in x.parts.items()})  # fmt: skip
    rows = {1: r.normal(size=(6, 6)), 2: r.normal(size=(6, 4))}
    d, centres = r.normal(size=6), {1: np.zeros(6), 2: np.zeros(4)}
    found = least(rows, {1: x, 2: y}, centres, d)
    apart = least(rows, {1: replace(x, parts=whole(x)), 2: y}, centres, d)
    assert np.allclose(found, apart, rtol=1e-12)
    worst = exact(d) - abs(exact(rows[1])) @ exact(x.rest) - abs(exact(rows[2])) @ exact(y.rest)
    worst = worst + exact(rows[1]) @ exact(x.middle) + exact(rows[2]) @ exact(y.middle)
    for key, part in whole(x).items():
        turned = (
            exact(rows[1]) @ exact(part.columns).T + exact(rows[2]) @ exact(y.parts[key].columns).T
        )
        blocks = turned.reshape(6, -1, part.each)
        reach = np.sqrt((blocks * blocks).sum(axis=-1).astype(np.float64)).sum(axis=-1)
        worst = worst - exact(reach * (1 - 1e-14))
    assert all(Fraction(float(f)) <= w for f, w in zip(found, worst, strict=True))
    assert (found > worst.astype(np.float64) - 1e-9).all()


def test_merging_keeps_places() -> None:
    """An ellipsoid for each, of symbols that none shares: in every direction one of them all."""
    r = np.random.default_rng(24)
    x = spread(r, (3, 2), 1.0)
    some = list(x.parts)[2:]
    x = replace(x, rest=np.zeros(6), parts={key: x.parts[key] for key in some})
    ball = merged(x)
    ((_, part),) = ball.parts.items()
    assert (part.places, part.each, part.count) == (3, 2, 6)
    for a in (*np.eye(6), *r.normal(size=(9, 6))):
        far = [
            np.sqrt(np.square((p.columns @ a).reshape(-1, p.each)).sum(axis=1)).sum()
            for y in (x, ball)
            for p in whole(y).values()
        ]
        assert sum(far[:-1]) <= far[-1] * (1 + 1e-13)


def test_rows_over_points() -> None:
    """SET.ROWS: where the set is a point, the rounding of the row's sums is all there is."""
    r = np.random.default_rng(13)
    still = {new_key(): Symbols(np.zeros((1, 40)))}
    x = Ellipsotope((40,), r.normal(size=40), np.zeros(40), still)
    rows, centre, d = r.normal(size=(20, 40)), r.normal(size=40), r.normal(size=20)
    found = least({1: rows}, {1: x}, {1: centre}, d)
    true = exact(d) + exact(rows) @ (exact(x.middle) - exact(centre))
    assert all(Fraction(float(f)) <= t for f, t in zip(found, true, strict=True))
    assert (found > true.astype(np.float64) - 1e-11).all()
