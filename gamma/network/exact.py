"""From exact fractions to floating point, in a chosen direction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def enclose(value: Fraction) -> tuple[float, float]:
    """The largest float64 <= value and the smallest >= value (equal when value is a float64).

    Beyond the range of float64 one of the two is infinite.
    """
    numerator, denominator = value.numerator, value.denominator
    try:
        nearest = numerator / denominator  # correctly rounded for integers of any size
    except OverflowError:
        largest = math.nextafter(math.inf, 0.0)
        return (largest, math.inf) if numerator > 0 else (-math.inf, -largest)
    found, scale = nearest.as_integer_ratio()
    difference = found * denominator - numerator * scale
    if difference == 0:
        return nearest, nearest
    if difference > 0:
        return math.nextafter(nearest, -math.inf), nearest
    return nearest, math.nextafter(nearest, math.inf)


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


def float32_below(values: Float64) -> Float32:
    """The largest float32 <= each float64 (also of every real between it and the next float64)."""
    with np.errstate(over="ignore", under="ignore"):
        nearest = values.astype(np.float32)
        lower = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, lower, nearest)


def float32_above(values: Float64) -> Float32:
    """The smallest float32 >= each float64."""
    return -float32_below(-values)


def exact_fractions(values: npt.ArrayLike) -> tuple[Fraction, ...]:
    """Every entry of a finite float array, flattened row-major, as the fraction it is."""
    flat: Iterable[Any] = np.asarray(values, dtype=np.float64).ravel().tolist()
    return tuple(Fraction(value) for value in flat)
