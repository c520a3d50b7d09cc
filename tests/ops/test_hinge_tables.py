"""Tables of ReLUs whose lower slopes are free: what rows pay is enough, in both executors."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gamma import ops, tuning
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import UNDERFLOW, UNIT, LinearCharge
from gamma.ops.hinges import Hinge, hinge
from gamma.ops.tables import Precision
from gamma.tensor import kernels

needs_library = pytest.mark.skipif(len(kernels.available()) == 1, reason="no compiled library")
PARTS = ("free", "fixed", "base", "gain", "upper_slope", "upper_const", "centre")


def case(rng: Any, boxes: int, size: int) -> tuple[NodeBounds, NodeBounds, LinearCharge]:
    """Ends of all magnitudes, about any centre; the ReLU's own bounds; a charge."""
    shape = boxes, size
    low = rng.normal(size=shape) * 10.0 ** rng.integers(-6, 3, shape)
    high = low + rng.exponential(size=shape) * 10.0 ** rng.integers(-6, 3, shape)
    middle = 0.5 * low + 0.5 * high + rng.normal(size=shape) * 1e-3
    charge = rng.exponential(size=shape) * 10.0 ** rng.integers(-12, -3, shape)
    after = np.maximum(middle, 0.0) + rng.normal(size=shape) * 1e-6
    inside = NodeBounds(low, high, middle)
    outside = NodeBounds(np.maximum(low, 0), np.maximum(high, 0), after)
    return inside, outside, LinearCharge(charge, np.zeros(boxes))


def exactly(array: Any) -> list[Fraction]:
    return [Fraction(float(x)) for x in array.ravel()]


@pytest.mark.parametrize("gates", [(), ("fused_layers",)], ids=["compiled", "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kept", [False, True])
def test_a_row_pays_for_what_is_exact(gates: tuple[str, ...], dtype: Any, kept: bool) -> None:
    rng = np.random.default_rng(3)
    how = Precision("real", np.dtype(dtype))
    for size in (1, 3, 8, 33):
        inside, outside, carried = case(rng, 2, size)
        keep = np.flatnonzero(rng.random(size) < 0.6) if kept else None
        with tuning.disabled(*gates):
            made = hinge(ops.Relu(), outside, inside, how, carried, keep)
        places = np.arange(size) if keep is None else keep
        for box in range(2):
            _holds(made, box, places, inside, outside, carried, Fraction(UNIT[how.dtype]))
            # Every product of a row with a radius or a charge may underflow.
            lost = sum(exactly(inside.radius[box])) + sum(exactly(carried.weight[box]))
            least = 2 * Fraction(UNDERFLOW[how.dtype]) * lost
            assert Fraction(made.loss[box]) >= least


def _holds(
    made: Hinge,
    box: int,
    places: Any,
    inside: NodeBounds,
    outside: NodeBounds,
    carried: LinearCharge,
    unit: Fraction,
) -> None:
    for k, j in enumerate(places):
        low, high, c, v, pay = (
            Fraction(float(part[box, j]))
            for part in (
                *(inside.lower, inside.upper, inside.centre, outside.centre, carried.weight),
            )
        )
        radius, free = max(high - c, c - low), low < 0 < high
        assert made.free[box, k] == free and made.centre[box, k] == made.centre.dtype.type(c)
        slopes = (0.0, 0.3, 1.0) if free else (float(made.fixed[box, k]),)
        for s in slopes:
            # As the kernels take it: in float64.
            got = Fraction(float(made.base[box, k] + s * made.gain[box, k]))
            s_, rounded = Fraction(s), 0 if s in (0.0, 1.0) else unit
            least = min(
                max(x, Fraction(0)) - s_ * x for x in (low, Fraction(0), high) if low <= x <= high
            )
            assert got <= least + s_ * c - v - s_ * pay - s_ * rounded * radius
        if free:
            s_ = Fraction(float(made.upper_slope[box, k]))
            most = max(max(x, Fraction(0)) - s_ * x for x in (low, Fraction(0), high))
            price = s_ * pay + (unit * s_ * radius if s_ < 1 else 0)
            assert Fraction(float(made.upper_const[box, k])) >= most + s_ * c - v + price


@needs_library
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_executors_agree(dtype: Any) -> None:
    """To the bit where a slope is free; elsewhere up to what pays for underflow."""
    rng = np.random.default_rng(4)
    how = Precision("real", np.dtype(dtype))
    for boxes, size in ((1, 1), (3, 7), (2, 257)):
        inside, outside, carried = case(rng, boxes, size)
        inside.lower[0, 0], inside.upper[-1, -1] = -np.inf, np.inf
        for charge in (None, carried):
            for keep in (None, np.arange(0, size, 2)):
                with np.errstate(all="ignore"):
                    made = hinge(ops.Relu(), outside, inside, how, charge, keep)
                    with tuning.disabled("fused_layers"):
                        other = hinge(ops.Relu(), outside, inside, how, charge, keep)
                free = other.free > 0
                for part in PARTS:
                    ours, theirs = getattr(made, part), getattr(other, part)
                    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
                    if part != "upper_const":  # its sums are in another order there
                        assert (ours[free] == theirs[free]).all(), part
                    np.testing.assert_allclose(ours, theirs, rtol=1e-14, atol=1e-14)
                with np.errstate(all="ignore"):
                    for ours, theirs in zip(made.sides, other.sides, strict=True):
                        assert np.array_equal(ours, theirs, equal_nan=True)


@pytest.mark.skipif(kernels.isa == "numpy", reason="no compiled library")
def test_neurons_that_are_not_there_are_refused() -> None:
    inside, outside, _ = case(np.random.default_rng(5), 1, 4)
    ends = inside.lower, inside.upper, inside.centre, outside.centre
    for keep in ([4], [-1, 2]):
        with pytest.raises(Exception, match="keep"):
            kernels.hinge_tables(*ends, None, np.array(keep), np.dtype(np.float32), (0.0, 0.0))
