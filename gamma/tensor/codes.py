"""Numbers stored in fewer bits, rounded to the side that is asked for.

    code   bytes  normal range        unit     rounding
    f16    2      2^-14 .. 65504      2^-11    kernels f16_down, f16_up
    bf16   2      2^-126 .. 2^128     2^-8     on the bits of the float32, below
    f24    3      2^-126 .. 2^128     2^-16    the same, with eight bits more
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

CODES = ("f16", "bf16", "f24", "f32")
STORED: dict[str, np.dtype[Any]] = {
    "f16": np.dtype("<u2"),
    "bf16": np.dtype("<u2"),
    "f24": np.dtype((np.uint8, 3)),
    "f32": np.dtype("<f4"),
}
LARGEST = {
    "f16": 65504.0,
    "bf16": 255 * 2.0**120,
    "f24": 65535 * 2.0**112,
    "f32": float(np.finfo(np.float32).max),
}
LEAST_NORMAL = {"f16": 2.0**-14, "bf16": 2.0**-126, "f24": 2.0**-126, "f32": 2.0**-126}

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_INFINITY = np.uint32(0x7F800000)
_SIZE = np.uint32(0x7FFFFFFF)
_DROPPED = {"bf16": 16, "f24": 8}  # bits of a float32 that are not stored


def encode(code: str, values: Float32, upward: bool) -> Array:
    """The least number of ``code`` >= each value (``upward``), or the greatest <= it.

    NaN becomes the infinity of that side.
    """
    if code == "f16":
        return kernels.f16_up(values) if upward else kernels.f16_down(values)
    return _shortened(code, values, upward) if code in _DROPPED else values


def decode(code: str, stored: Array) -> Float32:
    """The float32 values of stored numbers, exact."""
    if code == "f16":
        return kernels.f16_to_f32(np.ascontiguousarray(stored, np.uint16))
    if code == "bf16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    if code == "f24":
        bits = np.zeros((len(stored), 4), np.uint8)
        bits[:, 1:] = stored
        return bits.reshape(-1).view("<f4").astype(np.float32, copy=False)
    return np.ascontiguousarray(stored, np.float32)


def nearest(code: str, values: Float64) -> Array:
    """A number of ``code`` (not f32) near each finite value of at most half its range."""
    with np.errstate(all="ignore"):
        if code == "f16":
            return values.astype(np.float16).view(np.uint16)
        bits = values.astype(np.float32).view(np.uint32)
    dropped = np.uint32(_DROPPED[code])
    half = (np.uint32(1) << (dropped - np.uint32(1))) - np.uint32(1)
    return _laid(code, (bits + half + ((bits >> dropped) & np.uint32(1))) >> dropped)


def _shortened(code: str, values: Float32, upward: bool) -> Array:
    """The upper bits of the float32."""
    dropped = _DROPPED[code]
    bits = np.ascontiguousarray(values).view(np.uint32)
    # Dropping bits moves towards zero: right for one sign, one step short for the other.
    negative = bits >> 31 != 0
    short = ((bits & np.uint32((1 << dropped) - 1)) != 0) & (~negative if upward else negative)
    kept = (bits >> dropped) + short
    infinity = _INFINITY if upward else _INFINITY | np.uint32(1 << 31)
    kept[(bits & _SIZE) > _INFINITY] = infinity >> dropped
    return _laid(code, kept)


def _laid(code: str, kept: npt.NDArray[np.uint32]) -> Array:
    """Bits of ``code`` as they are stored: bf16 as an integer, f24 as three bytes."""
    if code == "bf16":
        return kept.astype(np.uint16)
    return np.ascontiguousarray(kept.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3])


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
