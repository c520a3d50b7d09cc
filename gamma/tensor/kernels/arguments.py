"""What the kernels demand of their arguments; the compiled ones check memory again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError

Array = npt.NDArray[Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
F64 = np.dtype(np.float64)
I64 = np.dtype(np.int64)


def refuse(what: str, found: object, expected: object) -> UsageError:
    return UsageError(f"kernel argument {what}: found {found}, expected {expected}")


def check(what: str, array: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Type, shape and contiguity, with the argument's name; `native.memory` adds writability."""
    if array.dtype != dtype:
        raise refuse(what, f"dtype {array.dtype}", dtype)
    if array.shape != shape:
        raise refuse(what, f"shape {array.shape}", shape)
    if not array.flags.c_contiguous:
        raise refuse(what, f"strides {array.strides}", "a C-contiguous array")


def padded(n: int, dtype: np.dtype[Any]) -> int:
    """The least number of columns >= n that fills whole 64 bytes."""
    per = 64 // dtype.itemsize
    return -(-n // per) * per
