"""Ellipsotopes of a few entries, points of theirs, and what must lie inside."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from gamma.ops.bounds import NodeBounds
from gamma.ops.ellipsotope import Ellipsotope, Symbols, new_key
from gamma.ops.tables import Precision

Array = Any
HOW = Precision("real", np.dtype(np.float64))


def exact(values: Array) -> Array:
    return np.vectorize(Fraction, otypes=[object])(np.asarray(values, np.float64))


def spread(r: Any, shape: tuple[int, ...], size: float, middle: float = 1.0) -> Ellipsotope:
    """Single symbols, balls, both of all entries and of every place, and an interval, of about
    ``size``."""
    n, places = int(np.prod(shape)), int(np.prod(shape[:-1]))
    parts = {
        new_key(): Symbols(r.normal(size=(count, n)) * size, each, apart)
        for count, each, apart in ((4, 1, 1), (3, 3, 1), (2, 1, places), (2, 2, places))
    }
    return Ellipsotope(shape, r.normal(size=n) * middle, abs(r.normal(size=n)) * size * 0.1, parts)


def whole(x: Ellipsotope) -> dict[int, Symbols]:
    """The symbols one after another, place by place."""
    return {key: part.at(1) for key, part in x.parts.items()}


Point = tuple[dict[int, Array], Array]


def point(r: Any, x: Ellipsotope, known: dict[int, Array]) -> Point:
    """Symbols at corners, or unit vectors rounded down, where not ``known``; the exact value."""
    value = exact(x.middle) + exact(x.rest) * np.where(r.random(len(x.rest)) < 0.5, -1, 1)
    for key, part in whole(x).items():
        if key not in known:
            xi = r.normal(size=(len(part.columns) // part.each, part.each))
            if part.each > 1:
                xi = xi / np.sqrt((xi * xi).sum(axis=1, keepdims=True)) * (1 - 1e-14)
            else:
                xi = np.sign(xi)
            known[key] = exact(xi.reshape(-1))
        value = value + known[key] @ exact(part.columns)
    return known, value


def bounds_of(x: Ellipsotope) -> NodeBounds:
    lower, upper = (end.reshape(1, *x.shape) for end in x.ends)
    return NodeBounds(lower, upper, 0.5 * lower + 0.5 * upper)


def image(op: Any, *inputs: Ellipsotope) -> Ellipsotope:
    before = [bounds_of(x) for x in inputs]
    after = op.interval_bounds(before, HOW)
    found = op.enclose(inputs, before, after, HOW)
    assert found is not None and found.known
    return found


def inside(r: Any, found: Ellipsotope, known: dict[int, Array], value: Array) -> None:
    """The value is in the set, where symbols are ``known`` and others may be anything."""
    left = value - exact(found.middle)
    new: list[Symbols] = []
    for key, part in whole(found).items():
        if key in known:
            left = left - known[key] @ exact(part.columns)
        else:
            new.append(part)
    # Each entry, and few random rows of small whole numbers: fractions of those are cheap.
    some = r.integers(-3, 4, (3, len(left)))
    for row in np.concatenate((np.eye(len(left), dtype=np.int64), some)):
        a = row.astype(object)
        far = abs(a) @ exact(found.rest)
        for part in new:
            turned = (a @ exact(part.columns).T).astype(np.float64).reshape(-1, part.each)
            far += Fraction(float(np.sqrt((turned * turned).sum(axis=1)).sum())) * (1 + 2**-45)
        assert abs(a @ left) <= far


def check(
    op: Any, truth: Callable[..., Array], *inputs: Ellipsotope, seed: int = 0, times: int = 4
) -> Ellipsotope:
    r, found = np.random.default_rng(seed), image(op, *inputs)
    for _ in range(times):
        known: dict[int, Array] = {}
        values = []
        for x in inputs:
            known, value = point(r, x, known)
            values.append(value.reshape(x.shape))
        # What a copy of the set spells out as symbols is part of the interval.
        inside(r, found, known, truth(*values).reshape(-1))
    return found


def spread_like(r: Any, x: Ellipsotope, y: Ellipsotope) -> dict[int, Symbols]:
    """Symbols of x in y as well."""
    key, part = next(iter(x.parts.items()))
    return {key: Symbols(r.normal(size=(len(part.columns), len(y.middle))) * 0.5, part.each)}
