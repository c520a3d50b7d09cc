"""What a float32 execution of the file's operators may do where gamma has one affine map.

Both statements are affine in the size of the input, so steps in a row combine to the same form:
``of`` states one product and one sum, ``then`` puts steps together. docs/numerics.md derives them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

FLOAT32_MAX = float(np.finfo(np.float32).max)
UNIT = 2.0**-24
# What one operation may lose to underflow, at most.
LOST = 2.0**-149
# Stands for "anything": infinite would turn 0·inf into NaN on the way.
ANYTHING = 2.0**900
# Fields of records that hold several arrays of the node's shape in one: `Execution.packed`.
PACKED = ("execution",)
_SLACK = 1 + 2.0**-40


class Execution(Frozen):
    """Float32 executions of y = scale·x + shift on |x| <= r, entry by entry.

    They err by at most ``error``·r + ``offset_error``, and form no number beyond ``peak``·r +
    ``offset_peak`` (where that exceeds the largest float32, nothing is known of them). All are
    float64 and broadcast to the node's shape.
    """

    error: Float64
    offset_error: Float64
    peak: Float64
    offset_peak: Float64

    @classmethod
    def of(cls, scale: Array, shift: Array | None) -> Execution:
        """fl(fl(scale·x) + shift), its constants rounded to float32."""
        size, more = _size(scale), 0.0 if shift is None else _size(shift)
        inexact = not (stored(scale) and stored(shift))
        steps = (0.0 if np.isin(size, (0.0, 1.0)).all() else 1.0) + (shift is not None) + inexact
        unit = steps * UNIT * (1 + 2.0**-20)
        return cls(
            np.asarray(unit * size + (LOST if inexact else 0.0)),
            np.asarray(unit * more + (2 * LOST if steps else 0.0)),
            np.asarray(size),
            np.asarray(more + _beyond(size) + _beyond(more), np.float64),
        )

    def plus(self, error: Float64 | float, offset_error: Float64 | float) -> Execution:
        """This one where the factor strays by ``error``, the constant part by ``offset_error``."""
        return Execution(
            (self.error + error * _SLACK),
            (self.offset_error + offset_error * _SLACK),
            self.peak + error,
            self.offset_peak + offset_error + _beyond(error),
        )

    def then(
        self, scale: Array, shift: Array | None, outer: Execution, outer_scale: Array
    ) -> Execution:
        """The steps of ``outer`` after those of this one; scales and shift are the real ones."""
        slope = _size(scale) + self.error
        offset = (0.0 if shift is None else _size(shift)) + self.offset_error
        steep = _size(outer_scale)
        return Execution(
            (steep * self.error + outer.error * slope) * _SLACK,
            (steep * self.offset_error + outer.error * offset + outer.offset_error) * _SLACK,
            np.maximum(self.peak, outer.peak * slope * _SLACK),
            np.maximum(self.offset_peak, (outer.peak * offset + outer.offset_peak) * _SLACK),
        )

    def packed(self) -> Array:
        """The four arrays as one (4, *shape): how a record keeps and a file stores them."""
        parts = (self.error, self.offset_error, self.peak, self.offset_peak)
        with np.errstate(all="ignore"):
            wide = np.nan_to_num(np.stack(np.broadcast_arrays(*parts)), nan=ANYTHING)
        packed: Array = np.minimum(wide, ANYTHING)
        return packed

    @classmethod
    def unpacked(cls, array: Array) -> Execution:
        """The inverse of `packed`."""
        error, offset_error, peak, offset_peak = array
        return cls(error, offset_error, peak, offset_peak)


def overflowed(noise: Float64, peak: Float64 | float) -> Float64:
    """``noise``, infinite where a number as large as ``peak`` leaves the range of float32."""
    lost = ~(np.maximum(noise, peak) * 1.01 <= FLOAT32_MAX)  # also where they are NaN
    return np.where(lost, np.inf, noise)


def _size(array: Array) -> Float64:
    return abs(np.asarray(array, np.float64))


def stored(array: Array | None) -> bool:
    """Whether every number is one of float32."""
    if array is None or array.dtype == np.float32:
        return True
    with np.errstate(all="ignore"):
        return bool((array.astype(np.float32) == array).all())


def _beyond(size: Float64 | float) -> Float64:
    """ANYTHING where a constant itself is beyond the range of float32."""
    return np.where(np.asarray(size) * 1.01 <= FLOAT32_MAX, 0.0, ANYTHING)
