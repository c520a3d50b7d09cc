"""The start-up probe: are the assumptions of the error formulas true in this process?

Round to nearest, gradual underflow, and plain products inside BLAS (no TF32 or bfloat16 inputs, no
Strassen or Winograd). Every test has one exactly known result, so it compares with ==. One
millisecond or so, once per process. Where only float32 fails, rows take float64; where float64
fails nothing here is sound, and `float32_failures` refuses.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UnsupportedError
from gamma.tensor import kernels

Array = npt.NDArray[Any]
SIDE = 128  # OpenBLAS runs a product of this size on all its threads
TYPES = (np.dtype(np.float32), np.dtype(np.float64))


def _rounds_to_nearest(dtype: np.dtype[Any]) -> bool:
    unit = np.finfo(dtype).eps / 2
    ones = np.full(16, 1, dtype)
    half, more = dtype.type(unit), dtype.type(unit * 1.5)
    near = (ones + half == 1) & (ones + more > 1)
    return bool((near & (-ones - half == -1) & (-ones - more < -1)).all())


def _underflows_gradually(dtype: np.dtype[Any]) -> bool:
    tiny = np.full(16, np.finfo(dtype).smallest_subnormal, dtype)
    normal = np.full(16, np.finfo(dtype).smallest_normal, dtype)
    return bool((tiny * 1 > 0).all() and (normal * 0.5 * 2 == normal).all())


def _product_rows(dtype: np.dtype[Any]) -> dict[str, tuple[float, float]]:
    """Per assumption a diagonal entry and the value it multiplies; the result is representable."""
    info = np.finfo(dtype)
    root = 2.0 ** (int(info.minexp) // 2)
    return {
        "subnormal results of a matrix product": (root, root * 2.0**-10),
        "subnormal inputs of a matrix product": (2.0**20, float(info.smallest_subnormal) * 3),
        "full-precision inputs of a matrix product": (1.0, 1.0 + float(info.eps)),
        # A Strassen-like scheme adds rows of different size and loses the small one.
        "rows of a matrix product stay apart": (2.0**-40, 1.0 - float(info.eps)),
    }


def _product_failures(dtype: np.dtype[Any]) -> list[str]:
    """One product diag(a)·V whose row i is exactly a_i·v_i; the assumptions take turns by row, so
    that every thread of the product meets each of them."""
    rows = _product_rows(dtype)
    diagonal, value = (np.array([pair[k] for pair in rows.values()], np.float64) for k in (0, 1))
    turns = np.arange(SIDE) % len(rows)
    left = np.diag(diagonal[turns]).astype(dtype)
    right = np.repeat(value[turns].astype(dtype)[:, None], SIDE, axis=1)
    expected = (diagonal * value)[turns].astype(dtype)
    good = (left @ right == expected[:, None]).all(axis=1) & (left @ right[:, 0] == expected)
    return [name for k, name in enumerate(rows) if not good[turns == k].all()]


def _kernels_keep_subnormals() -> bool:
    root = np.full((1, 40), 2.0**-535)
    z, spread = kernels.interval_affine(np.full((5, 40), 2.0**-535), root, root)
    return bool((z == 40 * 2.0**-1070).all() and (spread == z).all())


@lru_cache(maxsize=1)
def _failures() -> tuple[str, ...]:
    found = []
    with np.errstate(all="ignore"):
        for dtype in TYPES:
            if not _rounds_to_nearest(dtype):
                found.append(f"round to nearest ({dtype})")
            if not _underflows_gradually(dtype):
                found.append(f"gradual underflow ({dtype})")
            found += [f"{name} ({dtype})" for name in _product_failures(dtype)]
        if not _kernels_keep_subnormals():
            found.append("gradual underflow in the kernels")
    return tuple(found)


def check_arithmetic() -> list[str]:
    """Names of the assumptions that do not hold here; empty when the error formulas apply."""
    return list(_failures())


def float32_failures() -> list[str]:
    """Assumptions on float32 that do not hold here.

    Raises UnsupportedError when one on float64 does not: every bound rests on those.
    """
    failed = check_arithmetic()
    if not failed:
        return failed
    wide = [name for name in failed if not name.endswith("(float32)")]
    if wide:
        raise UnsupportedError(
            f"this machine's arithmetic breaks what sound bounds assume: {', '.join(wide)}; "
            "use another BLAS, and load no code that sets flush-to-zero or a rounding mode"
        )
    return failed
