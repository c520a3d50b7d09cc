"""From exact fractions to floating point, in a chosen direction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.tensor.rounding import next_down, next_up

Float64 = npt.NDArray[np.float64]


def enclose(value: Fraction) -> tuple[float, float]:
    """The largest float64 <= value and the smallest >= value (equal when value is a float64).

    Beyond the range of float64 one of the two is infinite.
    """
    numerator, denominator = value.numerator, value.denominator
    try:
        nearest = numerator / denominator  # correctly rounded for integers of any size
    except OverflowError:
        largest = next_down(math.inf)
        return (largest, math.inf) if numerator > 0 else (-math.inf, -largest)
    found, scale = nearest.as_integer_ratio()
    difference = found * denominator - numerator * scale
    if difference == 0:
        return nearest, nearest
    if difference > 0:
        return next_down(nearest), nearest
    return nearest, next_up(nearest)


def enclose_rows(rows: Sequence[Sequence[Fraction]], width: int) -> tuple[Float64, Float64]:
    """``enclose`` for a table: two float64 arrays (rows, width). Repeated objects cost once."""
    known: dict[int, tuple[float, float]] = {}
    below = np.empty((len(rows), width))
    above = np.empty((len(rows), width))
    for index, row in enumerate(rows):
        for value in row:
            if id(value) not in known:
                known[id(value)] = enclose(value)
        below[index] = [known[id(value)][0] for value in row]
        above[index] = [known[id(value)][1] for value in row]
    return below, above


def exact_fractions(values: npt.ArrayLike) -> tuple[Fraction, ...]:
    """Every entry of a finite float array, flattened row-major, as the fraction it is."""
    flat: Iterable[Any] = np.asarray(values, dtype=np.float64).ravel().tolist()
    return tuple(Fraction(value) for value in flat)
