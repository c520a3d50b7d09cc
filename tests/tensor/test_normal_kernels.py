"""Normalisations in one call, on every instruction set: as NumPy has them, but for the order of
sums.

What they claim is held against exact values in tests/exact/test_normalization.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma import ops
from gamma.ops.bounds import Forms, NodeBounds
from gamma.ops.ellipsotope import INPUT, Ellipsotope, Symbols, new_key
from gamma.ops.quotient import Quotients, forms
from gamma.ops.tables import Precision
from gamma.runtime import workers
from gamma.tensor import kernels, rounding

Array = np.ndarray[Any, Any]
SETS = [name for name in kernels.available() if name != "numpy"]
pytestmark = pytest.mark.skipif(not SETS, reason="no compiled library")


def case(seed: int, n: int) -> tuple[NodeBounds, np.random.Generator]:
    """Bounds of two boxes of three groups: some entries fixed, a group of zeros."""
    r = np.random.default_rng(seed)
    centre = r.normal(size=(2, 3, n)) * 10.0 ** r.integers(-2, 3)
    width = abs(r.normal(size=centre.shape)) * 10.0 ** r.integers(-3, 1)
    width *= r.random(centre.shape) < 0.8
    centre[0, 0] = width[0, 0] = 0.0
    low, high = centre - width, centre + width
    return NodeBounds(low, high, rounding.midpoint(low, high)), r


def parts_of(q: Quotients) -> list[Array]:
    made = q.planes
    sides = [made.below, made.above, made.lower_const, made.upper_const]
    return [made.root, made.steep, made.tilt, *made.gap, *sides, q.loss]


def near(found: Array, expected: Array, share: float, least: float = 0.0) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    known = np.isfinite(expected)
    assert (found[~known] == expected[~known]).all()
    scale = abs(expected[known]).max(initial=max(least, 1e-300))
    assert (abs(found[known] - expected[known]) <= share * scale).all()


@pytest.mark.parametrize("n", (1, 2, 7, 8, 33))
@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("seed", range(3))
def test_image(seed: int, centred: bool, n: int) -> None:
    op = ops.Normalize(-1, (0.0, 1e-5, 1e-2)[seed], centred)
    x, _ = case(seed, n)
    x.upper[1, 2, 0] = np.inf
    with kernels.pinned("numpy"):
        expected = op.image(x.lower, x.upper)
    found = []
    for isa in SETS:
        with kernels.pinned(isa):
            found.append(op.image(x.lower, x.upper))
    for end, other in zip(found[0], expected, strict=True):
        near(end, other, 1e-12)
    assert len({(low.tobytes(), high.tobytes()) for low, high in found}) == 1


@pytest.mark.parametrize("n", (1, 2, 7, 8, 33))
@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("seed", range(4))
def test_planes(seed: int, dtype: Any, centred: bool, n: int) -> None:
    op, how = ops.Normalize(-1, 1e-3, centred), Precision("real", np.dtype(dtype))
    x, r = case(seed, n)
    low, high = op.image(x.lower, x.upper)
    after = NodeBounds(low, high, rounding.midpoint(low, high))
    if seed % 2:  # rows bounded the forms
        weights = forms(x, centred)
        wide, about = weights.astype(np.float64), x.centre[..., None, :]
        middle = (wide * about).sum(axis=-1)
        reach = (abs(wide) * x.radius[..., None, :]).sum(axis=-1) * r.uniform(0.2, 1.1)
        after.forms = Forms(weights, middle - reach, middle + reach)
    with kernels.pinned("numpy"):
        expected = parts_of(op.relax([x], after, how))
    found = []
    for isa in SETS:
        with kernels.pinned(isa):
            found.append(parts_of(op.relax([x], after, how)))
    # A root that is rounded elsewhere moves the gap of its lines as well.
    share = 1e-9 if dtype == np.float64 else 1e-6
    # The gap between lines is a difference of numbers about as large as the root; constants are
    # differences of numbers as large as the image.
    scales = {3: expected[0], 4: expected[0], 7: after.centre, 8: after.centre}
    for index, (one, other) in enumerate(zip(found[0], expected, strict=True)):
        near(one, other, share, abs(scales[index]).max() if index in scales else 0.0)
    assert len({b"".join(part.tobytes() for part in parts) for parts in found}) == 1


@pytest.mark.parametrize("d", (1, 5, 8, 33, 63))
@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("groups", (1, 4))
def test_sets(groups: int, centred: bool, d: int) -> None:
    """Of an ellipsoid nothing but its eigenvalue is found otherwise, which is no larger."""
    op, how = ops.Normalize(-1, 1e-3, centred), Precision("real", np.dtype(np.float64))
    r, n = np.random.default_rng(d), groups * d
    columns = [1e-2 * r.normal(size=(k, n)) for k in (4, 6, 5)]
    parts = {
        INPUT: Symbols(columns[0], 1, groups),
        new_key(): Symbols(columns[1], 3, groups),
        new_key(): Symbols(columns[2], 5, max(1, groups // 2)),
    }
    middle, rest = r.normal(size=n), 1e-3 * abs(r.normal(size=n)) * (r.random(n) < 0.5)
    found = []
    for isa in ("numpy", *SETS):
        with kernels.pinned(isa):
            x = Ellipsotope((groups, d), middle, rest, parts)
            low, high = (end.reshape(1, groups, d) for end in x.ends)
            before = NodeBounds(low, high, rounding.midpoint(low, high))
            made = op.enclose([x], [before], op.propagate([before], how), how)
            assert made is not None and made.known
            found.append(made)
    expected, one, *_ = found
    assert (one.swing <= expected.swing * (1 + 1e-6)).all()
    assert (one.swing >= expected.swing * 0.9).all()
    for part, other in zip(one.parts.values(), expected.parts.values(), strict=True):
        assert (part.each, part.places) == (other.each, other.places)
        assert part.columns.shape == other.columns.shape
    near(one.middle, expected.middle, 0.05)
    kept = [list(made.parts.values())[:3] for made in (one, expected)]
    for part, other in zip(*kept, strict=True):
        near(part.columns, other.columns, 0.05)
    held = [[made.middle, made.rest, *(p.columns for p in made.parts.values())] for made in found]
    assert len({b"".join(part.tobytes() for part in parts) for parts in held[1:]}) == 1


@pytest.mark.parametrize("n", (3, 700))
def test_threads_take_whole_groups(n: int) -> None:
    """The same bits for any number of threads, which share the groups of a large node."""
    op, how = ops.Normalize(-1, 1e-3, True), Precision("real", np.dtype(np.float64))
    centre = np.random.default_rng(0).normal(size=(1, 8192 // n, n))
    x = NodeBounds(centre - 1e-2, centre + 1e-2, centre)
    found = []
    for count in (1, 2, 3):
        with workers.limited(count):
            low, high = op.image(x.lower, x.upper)
            made = parts_of(op.relax([x], NodeBounds(low, high, centre), how))
            found.append(b"".join(part.tobytes() for part in (low, high, *made)))
    assert len(set(found)) == 1


def test_a_set_of_what_is_no_number_is_none() -> None:
    op, how = ops.Normalize(-1, 1e-3, True), Precision("real", np.dtype(np.float64))
    for bad in (np.inf, np.nan):
        columns = np.ones((2, 6))
        columns[0, 2] = bad
        x = Ellipsotope((2, 3), np.arange(6.0), np.zeros(6), {INPUT: Symbols(columns, 1, 2)})
        known = NodeBounds(*(np.full((1, 2, 3), end) for end in (-9.0, 9.0, 0.0)))
        with np.errstate(all="ignore"):
            made = op.enclose([x], [known], op.propagate([known], how), how)
        assert made is None or not made.known
