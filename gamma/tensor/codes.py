"""Numbers stored in fewer bits, rounded to the side that is asked for.

    code   bytes  normal range        unit     rounding
    f16    2      2^-14 .. 65504      2^-11    kernels f16_down, f16_up
    bf16   2      2^-126 .. 2^128     2^-8     on the bits of the float32, below
    f32    4      2^-126 .. 2^128     2^-24    none: values arrive as float32

Every value of a code is a float32, so rounding to float32 and then to the code in one direction is
rounding to the code in that direction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.tensor import kernels
from gamma.tensor.rounding import down, up

CODES = ("f16", "bf16", "f32")
STORED: dict[str, np.dtype[Any]] = {
    "f16": np.dtype("<u2"),
    "bf16": np.dtype("<u2"),
    "f32": np.dtype("<f4"),
}
LARGEST = {"f16": 65504.0, "bf16": 255 * 2.0**120, "f32": float(np.finfo(np.float32).max)}
LEAST_NORMAL = {"f16": 2.0**-14, "bf16": 2.0**-126, "f32": 2.0**-126}

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_INFINITY = np.uint32(0x7F800000)
_SIZE = np.uint32(0x7FFFFFFF)


def encode(code: str, values: Float32, upward: bool) -> Array:
    """The least number of ``code`` >= each value (``upward``), or the greatest <= it.

    NaN becomes the infinity of that side.
    """
    if code == "f16":
        return kernels.f16_up(values) if upward else kernels.f16_down(values)
    if code == "bf16":
        return _bf16(values, upward)
    return values


def decode(code: str, stored: Array) -> Float32:
    """The float32 values of stored numbers, exact."""
    if code == "f16":
        return kernels.f16_to_f32(np.ascontiguousarray(stored, np.uint16))
    if code == "bf16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(stored, np.float32)


def nearest(code: str, values: Float64) -> Array:
    """A number of ``code`` (f16 or bf16) near each finite value of at most half its range."""
    with np.errstate(all="ignore"):
        if code == "f16":
            return values.astype(np.float16).view(np.uint16)
        bits = values.astype(np.float32).view(np.uint32)
    rounded: Array = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return rounded.astype(np.uint16)


def _bf16(values: Float32, upward: bool) -> npt.NDArray[np.uint16]:
    bits = np.ascontiguousarray(values).view(np.uint32)
    kept = bits >> 16
    # Dropping bits moves towards zero: right for one sign, one step short for the other.
    negative = bits >> 31 != 0
    short = ((bits & 0xFFFF) != 0) & (~negative if upward else negative)
    out: npt.NDArray[np.uint16] = (kept + short).astype(np.uint16)
    out[(bits & _SIZE) > _INFINITY] = 0x7F80 if upward else 0xFF80
    return out


def difference_up(a: Float64, b: Float64) -> Float64:
    """At least a − b, and exactly that where float64 holds it; a and b of moderate size."""
    d = a - b
    back = d - a
    error = (a - (d - back)) - (b + back)  # Knuth: d + error = a − b exactly
    return np.where(error > 0, up(d), d)


def times_power(x: Array, exponent: int, upward: bool) -> Float64:
    """x·2^exponent as float64, rounded up or down where it falls below the normal range."""
    wide = np.asarray(x, dtype=np.float64)
    if exponent == 0:
        return wide
    with np.errstate(all="ignore"):
        scaled = np.ldexp(wide, exponent)
        back = np.ldexp(scaled, -exponent)
    wrong = back < wide if upward else back > wide
    if not wrong.any():
        return scaled
    return np.where(wrong, up(scaled) if upward else down(scaled), scaled)
