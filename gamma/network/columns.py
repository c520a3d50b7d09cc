"""Many exact numbers, or other objects with slots, from columns of arrays."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import repeat
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Made = TypeVar("Made")

SAMPLE = 1000  # values that show whether they repeat
MIXING = np.int64(0x9E3779B97F4A7C1)  # odd, so that it loses no bit


def fractions(numerators: Int64, denominators: Int64) -> list[Fraction]:
    """Fractions of coprime numbers, without the greatest common divisor that Fraction computes.

    Where values repeat, as the pixels of an image do, equal ones are one object.
    """
    mixed = numerators * MIXING + denominators  # wraps around: equal pairs stay equal
    # With an index, since numpy.unique without one imports numpy.ma.
    different = len(np.unique(mixed[:SAMPLE], return_index=True)[0])
    if 2 * different < min(len(mixed), SAMPLE):
        _, first, place = np.unique(mixed, return_index=True, return_inverse=True)
        once = numerators[first], denominators[first]
        if (once[0][place] == numerators).all() and (once[1][place] == denominators).all():
            columns = {"_numerator": once[0].tolist(), "_denominator": once[1].tolist()}
            return list(map(made(Fraction, columns).__getitem__, place.tolist()))
    columns = {"_numerator": numerators.tolist(), "_denominator": denominators.tolist()}
    return made(Fraction, columns)


def made(kind: type[Made], columns: dict[str, list[Any]]) -> list[Made]:
    """Objects with slots from one list of values for each; nothing is checked."""
    count = len(next(iter(columns.values())))
    with _uncollected():
        objects: list[Made] = list(map(object.__new__, repeat(kind, count)))
        for name, values in columns.items():
            deque(map(getattr(kind, name).__set__, objects, values), 0)
    return objects


@contextmanager
def _uncollected() -> Iterator[None]:
    """The collector rests: it would look through all objects so far again for every few hundred."""
    rests = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if rests:
            gc.enable()
