"""The one door for numbers from outside: taken exactly, or refused.

Whatever dtype and byte order an array has, what comes in is the same numbers in a dtype that the
kernels know. Nothing is rounded on the way: a rounded weight is another network, a rounded end of
a box another question.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError

Array = npt.NDArray[Any]
EXACT_INTEGERS = 2**53


def exact_floats(values: npt.ArrayLike, what: str) -> Array:
    """``values`` as float32 or float64 in native byte order, no entry changed.

    float32 and float64 arrays are returned as they are; float16 becomes float32, integers and long
    doubles float64. Raises UsageError, which names ``what``, for other dtypes and for entries that
    float64 does not hold.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        raise UsageError(f"{what} is no array of numbers of one shape") from None
    if array.dtype.char in "fd":
        native = array.dtype.isnative
        return array if native else array.astype(array.dtype.newbyteorder("="))
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind not in "fiu":
        raise UsageError(f"{what} has dtype {array.dtype}, expected float32, float64 or integers")
    with np.errstate(all="ignore"):
        wide = array.astype(np.float64)
    if not _same(array, wide):
        raise UsageError(
            f"{what} has {array.dtype} entries that float64 does not hold: round them yourself, in "
            "the direction that is safe"
        )
    return wide


def _same(array: Array, wide: npt.NDArray[np.float64]) -> bool:
    if array.dtype.kind == "f":
        return bool(((wide.astype(array.dtype) == array) | np.isnan(array)).all())
    far = abs(wide) >= EXACT_INTEGERS
    return all(int(a) == int(b) for a, b in zip(array[far].tolist(), wide[far], strict=True))


def exact_float(value: Any, what: str) -> float:
    """One number, as float64 holds it. Raises UsageError when it does not, and for NaN."""
    array = exact_floats(value, what)
    if array.ndim or np.isnan(array):
        raise UsageError(f"{what}: found {value!r}, expected one number")
    return float(array)


def exact_integer(value: Any, what: str, least: int | None = None) -> int:
    """A whole number, at least ``least``. Raises UsageError for anything else."""
    if type(value) is int and (least is None or value >= least):  # every call of a walk has some
        return value
    try:
        found = operator.index(value)
    except TypeError:
        raise UsageError(f"{what}: found {value!r}, expected a whole number") from None
    if least is not None and found < least:
        raise UsageError(f"{what}: found {found}, expected at least {least}")
    return found


@contextmanager
def fitting(what: str) -> Iterator[None]:
    """NumPy's errors about shapes, axes and indices as UsageError."""
    try:
        yield
    except (ValueError, IndexError, TypeError) as error:
        raise UsageError(f"{what}: {error}") from None
