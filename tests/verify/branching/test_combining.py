"""Sums of a conjunction's rows: what they exclude, and that they hold exactly."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from gamma.verification.branching import combining
from gamma.verification.branching.clipping import Cuts, clip
from gamma.verification.branching.combining import combined

F = Fraction


def exact(a: Any, c: Any, d: Any, x: Any) -> F:
    """a·(x - c) + d."""
    terms = (F(float(s)) * (y - F(float(m))) for s, m, y in zip(a, c, x, strict=True))
    return sum(terms, F(float(d)))


def test_a_sum_never_exceeds_what_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that cancel, far from 0 and in units of their own: at corners, in fractions."""
    seen: list[Any] = []
    original = combining._weights

    def kept(*given: Any) -> Any:
        found = original(*given)
        seen.append(found[0])
        return found

    monkeypatch.setattr(combining, "_weights", kept)
    rng = np.random.default_rng(0)
    needed = 0
    for number in range(200):
        n, rows = int(rng.integers(1, 4)), int(rng.integers(2, 5))
        a = rng.normal(size=(rows, n)) * 10.0 ** rng.integers(-3, 9, (rows, 1))
        a[1] = -a[0] * rng.choice([1, 1, 3])
        lower = rng.normal(size=(1, n)) * rng.choice([1, 1e4])
        upper = lower + rng.exponential(size=(1, n)) * rng.choice([1, 2.0**-30])
        c = np.repeat((lower + upper) / 2 + rng.normal(size=(1, n)) * 10.0, rows, 0)
        d = rng.normal(size=rows) * 10.0 ** rng.integers(-2, 12, rows)
        # One group of a row alone beside it, whose place must be kept.
        cuts = Cuts(
            np.vstack((a[:1], a)), np.vstack((c[:1], c)), np.r_[d[0], d],
            np.zeros(rows + 1, bool), np.array([0, 1]),
        )  # fmt: skip
        made, x = combined(cuts, lower.repeat(2, 0), upper.repeat(2, 0))
        assert made.begin.tolist() == [0, 1] and len(made.d) == rows + 2
        assert (made.a[:-1] == cuts.a).all() and (made.d[:-1] == cuts.d).all()
        assert (lower <= x).all() and (x <= upper).all()
        weight = seen[number][0]
        assert (weight >= 0).all() and weight.any()
        for share in product(*zip(lower[0], upper[0], strict=True)):
            corner = [F(float(v)) for v in share]
            whole = [F(float(w)) * exact(a[k], c[k], d[k], corner) for k, w in enumerate(weight)]
            assert exact(made.a[-1], c[0], made.d[-1], corner) <= sum(whole)
            plain = exact(made.a[-1], c[0], float((weight * d).sum()), corner)
            needed += plain > sum(whole)
    assert needed > 100


def test_rows_that_exclude_only_together() -> None:
    """y >= x + 0.1 and x >= y + 0.1: each leaves half of the box, both leave nothing."""
    a = np.array([[1.0, -1.0], [-1.0, 1.0]])
    cuts = Cuts(a, np.zeros((2, 2)), np.full(2, 0.1), np.zeros(2, bool), np.array([0]))
    box = np.full((1, 2), -1.0), np.full((1, 2), 1.0)
    assert not clip(cuts, *box)[2].any()
    assert clip(combined(cuts, *box)[0], *box)[2].all()


def test_a_touching_sum_excludes_nothing_but_for_strict_rows() -> None:
    """x <= 0 and x >= 0 meet at 0; the point found is there."""
    a = np.array([[1.0], [-1.0]])
    box = np.array([[-1.0]]), np.array([[1.0]])
    for strict in (np.zeros(2, bool), np.array([True, False])):
        cuts = Cuts(a, np.zeros((2, 1)), np.zeros(2), strict, np.array([0]))
        made, x = combined(cuts, *box)
        assert not clip(made, *box)[2].any() and not made.strict[-1]
        assert abs(x[0, 0]) < 0.1


def test_rows_that_are_not_finite_add_nothing() -> None:
    a = np.array([[np.inf, 1.0], [1.0, -1.0]])
    cuts = Cuts(a, np.zeros((2, 2)), np.array([1.0, np.nan]), np.ones(2, bool), np.array([0]))
    box = np.full((1, 2), -1.0), np.full((1, 2), 1.0)
    assert not clip(combined(cuts, *box)[0], *box)[2].any()
