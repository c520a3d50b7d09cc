"""Numbers that a search draws: few decisions each, so that a find shrinks to small integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.exact.families import WEIGHTS, Draw

Array = Any
SIMPLE = ("integers", "tenths", "plain")
HARD = (*WEIGHTS, "huge", "small", "vast")
DTYPES = ("float32", "float64", "int64", "int32", "float16", ">f4")
CENTRES = (0.0, 1.0, 12.0, 100.0, 2.0**-30, 2.0**30, 2.0**24, 1e38, 3e38, 2.0**-140, 1e-36, 1e-37)
RADII = (0.0, 1.0, 0.25, 2.0**-10, 2.0**-24, 2.0**-60, 30.0)


class Numbers:
    """Weights and boxes of one case.

    Args:
        draw: hypothesis' choice function. family: of the hard arrays of this case ("" for none).
        dtypes: element types that weights may have.
    """

    def __init__(self, draw: Any, family: str, dtypes: tuple[str, ...]) -> None:
        self.draw, self.family, self.dtypes = draw, family, dtypes

    def array(self, *shape: int, bias: bool = False, dtype: str = "") -> Array:
        """Entries of one family, in ``dtype`` or float32 (float64 where the family needs it)."""
        families = (*SIMPLE, self.family, self.family) if self.family else SIMPLE
        family = self.draw(st.sampled_from(families))
        rng = np.random.default_rng(self.draw(st.integers(0, 9999)))
        if family in ("integers", "tenths", "huge", "small", "vast"):
            values = rng.integers(-3, 4, shape).astype(np.float64)
            if family == "tenths":
                values = rng.integers(-30, 31, shape) / 10
            if family == "huge":
                values = values * rng.choice([1e38, 2.0**100, 1e30], shape)
            if family == "vast":  # sums that overflow, beside zeros that nothing may come through
                values = values * rng.choice([0.0, 1.0, 1e38, 1e154, 1e300], shape)
            if family == "small":
                values = values * rng.choice([2.0**-30, 2.0**-100, 1e-38], shape)
        else:
            chosen = Draw(family, rng)
            values = chosen.bias(*shape) if bias or not shape else chosen.weight(*shape)
        kind = "float64" if family in ("float64", "vast") else "float32"
        if dtype or family in ("integers", "tenths"):
            kind = dtype or self.draw(st.sampled_from(("float32", *self.dtypes)))
        with np.errstate(all="ignore"):
            return np.asarray(values).astype(kind)

    def number(self, *choices: float) -> float:
        """One of the numbers."""
        return float(self.draw(st.sampled_from(choices)))

    def boxes(self, shape: tuple[int, ...], extreme: bool) -> tuple[Array, Array]:
        """Ends (batch, *shape), float64 numbers of float32 or of float64, scales all unlike."""
        batch = self.draw(st.integers(1, 3))
        single = self.draw(st.sampled_from((True, True, True, False)))
        rng = np.random.default_rng(self.draw(st.integers(0, 9999)))
        lows, highs = [], []
        for _ in range(batch):
            centre = self.draw(st.sampled_from(CENTRES if extreme else CENTRES[:4]))
            radius = self.draw(st.sampled_from(RADII)) * max(abs(centre), 2.0**-140)
            signs = rng.choice((1, -1), shape) if self.draw(st.booleans()) else 1
            middle = signs * centre + (rng.integers(-19, 20, shape) / 10) * min(1.0, radius or 1.0)
            reach = radius * rng.integers(0, 11, shape) / 10
            lows.append(middle - reach)
            highs.append(middle + reach)
        low, high = np.array(lows), np.array(highs)
        largest = float(np.finfo(np.float32).max)
        low, high = np.clip(low, -largest, largest), np.clip(high, -largest, largest)
        if single:
            low, high = (end.astype(np.float32).astype(np.float64) for end in (low, high))
        return np.minimum(low, high), np.maximum(low, high)

    def batch(self, shape: tuple[int, ...], extreme: bool) -> tuple[Array, Array]:
        """Ends of many boxes: of one radius or nearly, some of them of another."""
        count = self.draw(st.sampled_from((16, 17, 32, 37, 48)))
        rng = np.random.default_rng(self.draw(st.integers(0, 9999)))
        far = (1e30, 3e37) if extreme else ()
        centre = self.number(1.0, 2.0**-12, 0.0, 12.0, 2.0**-30, 1000.0, *far)
        radius = self.number(1.0, 0.25, 2.0**-10, 2.0**-24, 0.0, 30.0) * max(centre, 2.0**-20)
        reach = radius * rng.integers(0, 9, shape) / 8
        kind = self.draw(st.sampled_from(("signs", "one", "near", "any")))
        middle = np.broadcast_to(centre * rng.integers(-8, 9, shape) / 8, (count, *shape)).copy()
        if kind == "signs":
            middle *= rng.choice((1, -1), middle.shape)
        elif kind != "one":
            middle += (
                centre * rng.integers(-8, 9, middle.shape) / 2.0 ** (30 if kind == "near" else 3)
            )
        reach = np.broadcast_to(reach, middle.shape).copy()
        other = rng.random(count) < self.number(0.0, 0.0, 0.1, 0.5)
        reach[other] *= self.number(0.0, 0.5, 1 + 2.0**-20, 1 + 2.0**-25, 1e6)
        largest = float(np.finfo(np.float32).max)
        return np.clip(middle - reach, -largest, largest), np.clip(
            middle + reach, -largest, largest
        )
