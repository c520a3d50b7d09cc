"""CompressedBounds: bounds kept in half the memory, and never narrower than they were.

Lower ends are rounded down and upper ends up, to float16 (or bfloat16, or the upper 24 bits of a
float32), after an exact division by a power of two that puts the largest end of the tensor into the
code's range. Two forms:

    ends    lower, upper                   keeps zeros, signs and infinities
    centre  a centre, and a radius up      about half the loss where intervals are thin

A tensor whose range the code cannot hold is kept in float32 instead. Nothing has to be widened
afterwards: decompressed intervals contain the original ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.tensor import kernels
from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.codes import (
    CODES,
    LARGEST,
    LEAST_NORMAL,
    STORED,
    decode,
    difference_up,
    encode,
    nearest,
    times_power,
)
from gamma.tensor.rounding import midpoint, to_down, to_up

FORMS = ("auto", "ends", "centre")
CHUNK = 1 << 15
"""Intervals handled at a time, so that temporaries stay in the cache and off the peak."""
OUT_OF_RANGE = 1.0 / 1024
"""Share of intervals that may lose more than the code's own precision to its range."""

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class CompressionStats(Frozen, eq=True):
    """What compression saved and what it cost; measured in float64, not a bound.

    Attributes:
        original_bytes, compressed_bytes: memory of both.
        worst, mean: largest and mean growth of an interval's width, over finite intervals.
        relative: total growth over total width; 0 when nothing grew, inf when points did.
    """

    original_bytes: int
    compressed_bytes: int
    worst: float
    mean: float
    relative: float

    @property
    def saving(self) -> float:
        """Share of the memory that is no longer needed."""
        if not self.original_bytes:
            return 0.0
        return 1.0 - self.compressed_bytes / self.original_bytes


class CompressedBounds(Frozen):
    """Intervals in 16 bits an end, or 24; make them with ``from_bounded_tensor``.

    Attributes:
        code: "f16", "bf16", "f24" or "f32". form: "ends" or "centre".
        exponent: stored numbers are the ends divided by 2^exponent.
        shape, dtype: of the tensor that was compressed; dtype is float32 or float64.
        first, second: flat stored arrays, lower and upper or centre and radius.
        floor, ceiling: least lower and greatest upper end of the tensor, exact, in centre form.
    """

    code: str
    form: str
    exponent: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    first: Array
    second: Array
    floor: float = -math.inf
    ceiling: float = math.inf

    @classmethod
    def from_bounded_tensor(
        cls, tensor: BoundedTensor, code: str = "f16", form: str = "auto"
    ) -> CompressedBounds:
        """Compress ``tensor``; "auto" takes the form that widens less.

        The centre form is taken only where all ends are finite and no interval comes to reach
        across 0 that did not before. Raises UsageError for an unknown code or form, and for
        "centre" where an end is infinite.
        """
        if code not in CODES:
            raise UsageError(f"code {code!r}: expected one of {', '.join(CODES)}")
        if form not in FORMS:
            raise UsageError(f"form {form!r}: expected one of {', '.join(FORMS)}")
        if code == "f32":
            return _ends(tensor, code)[0]
        ends, lost = _ends(tensor, code)
        if lost > OUT_OF_RANGE * tensor.size:
            return _ends(tensor, "f32")[0]
        finite = math.isfinite(_largest(tensor, finite=False))
        if form == "centre" and not finite:
            raise UsageError("an interval is unbounded, the centre form needs finite ends")
        if form == "ends" or not finite:
            return ends
        centred = _centred(tensor, code)
        if form == "centre" or _tighter(tensor, centred, ends):
            return centred
        return ends

    def to_bounded_tensor(self, dtype: npt.DTypeLike | None = None) -> BoundedTensor:
        """The intervals in ``dtype`` (the original one by default), containing the original."""
        target = self.dtype if dtype is None else np.dtype(dtype)
        if target not in (np.float32, np.float64):
            raise UsageError(f"dtype {target}: expected float32 or float64")
        lower, upper = (np.empty(self.size, target) for _ in range(2))
        for part in _parts(self.size):
            lower[part], upper[part] = self._expand(part, target)
        return BoundedTensor(lower.reshape(self.shape), upper.reshape(self.shape))

    def _expand(self, part: slice, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        first, second = decode(self.code, self.first[part]), decode(self.code, self.second[part])
        if self.form == "ends":
            if self.exponent == 0 and dtype == np.float32:
                return first, second
            # Products of a float16 with these powers are normal float32 numbers or zero.
            if self.code == "f16" and abs(self.exponent) <= 100 and dtype == np.float32:
                factor = np.float32(2.0**self.exponent)
                return first * factor, second * factor
            low, high = first.astype(np.float64), second.astype(np.float64)
        else:
            centre, radius = first.astype(np.float64), second.astype(np.float64)
            low, high = -difference_up(radius, centre), difference_up(centre, -radius)
        low = np.maximum(times_power(low, self.exponent, False), self.floor)
        high = np.minimum(times_power(high, self.exponent, True), self.ceiling)
        return to_down(low, dtype), to_up(high, dtype)

    def check(self) -> None:
        """Raise UsageError when a stored pair is not an interval (NaN, crossed ends)."""
        for part in _parts(self.size):
            with np.errstate(all="ignore"):
                BoundedTensor(*self._expand(part, self.dtype))

    @property
    def size(self) -> int:
        """Number of intervals."""
        return len(self.first)

    def memory_bytes(self) -> int:
        """Bytes of the stored arrays."""
        return self.first.nbytes + self.second.nbytes

    def __repr__(self) -> str:
        scale = f", 2^{self.exponent}" if self.exponent else ""
        return f"CompressedBounds(shape={self.shape}, {self.code}, {self.form}{scale})"

    def stats(self, original: BoundedTensor) -> CompressionStats:
        """Memory and widening against the tensor this was made from."""
        if original.shape != self.shape:
            raise UsageError(f"shape {original.shape}: expected {self.shape}, the compressed one")
        worst, total, width, count = 0.0, 0.0, 0.0, 0
        for part, low, high in _chunks(original):
            with np.errstate(all="ignore"):
                new = self._expand(part, np.dtype(np.float64))
                before = np.float64(high) - np.float64(low)
                growth = (low - new[0]) + (new[1] - high)
            finite = np.isfinite(before) & np.isfinite(growth)
            worst = max(worst, float(growth.max(initial=0.0, where=finite)))
            total += float(growth.sum(where=finite))
            width += float(before.sum(where=finite))
            count += int(finite.sum())
        relative = total / width if width else (math.inf if total else 0.0)
        before_bytes = original.lower.nbytes + original.upper.nbytes
        mean = total / count if count else 0.0
        return CompressionStats(before_bytes, self.memory_bytes(), worst, mean, relative)

    def widen_for_soundness(self, rel: float) -> CompressedBounds:
        """The same intervals moved out by ``rel`` times the size of each end.

        Never needed here, where rounding is outward already: it is for intervals that were not
        sound when they came.
        """
        if not 0 <= rel < math.inf:
            raise UsageError(f"widening {rel}: expected a finite number, zero or more")
        tensor = self.to_bounded_tensor(np.float64)
        reach = BoundedTensor(np.zeros_like(tensor.lower), np.abs(tensor.lower)) * rel
        above = BoundedTensor(np.zeros_like(tensor.upper), np.abs(tensor.upper)) * rel
        lower, upper = (tensor - reach).lower, (tensor + above).upper
        wide = BoundedTensor(lower, upper).astype(self.dtype)
        return type(self).from_bounded_tensor(wide, self.code)

    def save(self, path: str | Path) -> None:
        """Write the file atomically, with a checksum. Raises UsageError when it cannot."""
        from gamma.tensor.stored import write

        write(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> CompressedBounds:
        """Read what ``save`` wrote. Raises FormatError for any other or damaged file."""
        from gamma.tensor.stored import read

        return read(Path(path))


def _parts(size: int) -> Iterator[slice]:
    for start in range(0, size, CHUNK):
        yield slice(start, min(start + CHUNK, size))


def _chunks(tensor: BoundedTensor) -> Iterator[tuple[slice, Array, Array]]:
    low, high = tensor.lower.reshape(-1), tensor.upper.reshape(-1)
    for part in _parts(tensor.size):
        yield part, low[part], high[part]


def _largest(tensor: BoundedTensor, finite: bool = True) -> float:
    """Largest size of an end, of the finite ones by default."""
    most = 0.0
    for _, low, high in _chunks(tensor):
        for size in (np.abs(low), np.abs(high)):
            counted = np.isfinite(size) if finite else True
            most = max(most, float(size.max(where=counted, initial=0)))
    return most


def _exponent(tensor: BoundedTensor, code: str) -> int:
    """The power of two that brings the largest end just below the largest number of ``code``."""
    if code == "f32" and tensor.dtype == np.float32:
        return 0
    most = _largest(tensor)
    if not most:
        return 0
    exponent = math.frexp(most)[1] - math.frexp(LARGEST["f16"])[1]
    return exponent + (math.ldexp(most, -exponent) > LARGEST["f16"])


def _divided(x: Array, exponent: int, upward: bool) -> Float32:
    """x/2^exponent as float32, rounded up or down (exact but for the ends of the range)."""
    if x.dtype == np.float32 and -127 <= exponent <= 0:
        return np.ascontiguousarray(x) * np.float32(2.0**-exponent) if exponent else x
    wide = times_power(x, -exponent, upward)
    return kernels.narrow_up(wide) if upward else kernels.narrow_down(wide)


def _ends(tensor: BoundedTensor, code: str) -> tuple[CompressedBounds, int]:
    """Both ends in ``code``, and how many intervals the code's range costs their precision."""
    exponent = _exponent(tensor, code)
    first, second = (np.empty(tensor.size, STORED[code]) for _ in range(2))
    lost = 0
    limit = np.float32(LEAST_NORMAL[code])
    for part, low, high in _chunks(tensor):
        low, high = _divided(low, exponent, False), _divided(high, exponent, True)
        first[part], second[part] = encode(code, low, False), encode(code, high, True)
        if code == "f32":
            continue
        with np.errstate(all="ignore"):
            thin = high - low < limit
        if thin.any():
            lost += _lost(code, low[thin], high[thin], limit)
    kept = CompressedBounds(code, "ends", exponent, tensor.shape, tensor.dtype, first, second)
    return kept, lost


def _lost(code: str, low: Float32, high: Float32, limit: np.float32) -> int:
    """Intervals thinner than the least normal number with an inexact end below it."""
    inexact = np.zeros(low.shape, bool)
    for end, upward in ((low, False), (high, True)):
        small = np.abs(end) < limit
        inexact |= small & (decode(code, encode(code, end, upward)) != end)
    return int(inexact.sum())


def _centred(tensor: BoundedTensor, code: str) -> CompressedBounds:
    """Centre and radius in ``code``; all ends are finite."""
    # A radius reaches twice the largest end, and a centre's rounding a little further.
    exponent = _exponent(tensor, code) + 2
    first, second = (np.empty(tensor.size, STORED[code]) for _ in range(2))
    floor, ceiling = math.inf, -math.inf
    for part, low, high in _chunks(tensor):
        floor, ceiling = min(floor, float(low.min())), max(ceiling, float(high.max()))
        lower, upper = times_power(low, -exponent, False), times_power(high, -exponent, True)
        stored = nearest(code, midpoint(lower, upper))
        centre = decode(code, stored).astype(np.float64)
        reach = np.maximum(difference_up(upper, centre), difference_up(centre, lower))
        radius = kernels.narrow_up(np.maximum(reach, 0.0))
        first[part], second[part] = stored, encode(code, radius, True)
    if not tensor.size:
        floor, ceiling = -math.inf, math.inf
    return CompressedBounds(
        code, "centre", exponent, tensor.shape, tensor.dtype, first, second, floor, ceiling
    )


def _tighter(tensor: BoundedTensor, one: CompressedBounds, other: CompressedBounds) -> bool:
    """Whether ``one`` is narrower in total and reaches across 0 nowhere anew."""
    total = 0.0
    wide = np.dtype(np.float64)
    for part, low, high in _chunks(tensor):
        a, b = one._expand(part, wide), other._expand(part, wide)
        across = ((low >= 0) & (a[0] < 0)) | ((high <= 0) & (a[1] > 0))
        if across.any():
            return False
        total += float(((a[1] - a[0]) - (b[1] - b[0])).sum())
    return total < 0
