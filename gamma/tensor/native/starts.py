"""Rows of many neurons of one node as they start on their way down: the call."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.runtime import pool
from gamma.tensor._simd import ffi, lib
from gamma.tensor.kernels.starts import Neurons, Rows
from gamma.tensor.native.memory import pointer

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class Starts:
    """See `kernels.Starts`."""

    def __init__(self, neurons: Neurons, weight: Array | None, dtype: np.dtype[Any]) -> None:
        self._dtype, self._neurons = dtype, neurons
        self._run = lib.gamma_start_f32 if dtype.itemsize == 4 else lib.gamma_start_f64
        size, pixels, width, out, own, kernel, strides, dilations, first, image, framed = neurons
        channels = size // pixels
        memory = ffi.NULL
        if weight is not None:
            if weight.dtype != dtype:
                raise UsageError(f"starts: found a weight of {weight.dtype}, expected {dtype}")
            memory = pointer(weight, channels * own * math.prod(kernel))
        elif image != (1, 1, channels):
            raise UsageError(f"starts: found units of {image}, expected (1, 1, {channels})")
        spans = (*kernel, *strides, *dilations, *first, *image, framed, memory)
        self.start = ffi.new("struct gamma_start *", (size, pixels, width, out, own, *spans))
        self._alive = memory, weight

    def rows(
        self,
        boxes: Int64,
        neurons: Int64,
        centre: Float64,
        charge: tuple[Float64, Float64, Float64],
        factors: tuple[float, ...],
        above: int | None,
    ) -> Rows:
        count, size, (spread, noise, mass) = len(neurons), self._neurons.size, charge
        batch = len(mass)
        if count and not (
            0 <= neurons.min() and neurons.max() < size and 0 <= boxes.min() and boxes.max() < batch
        ):
            raise UsageError(f"starts: found neurons or boxes beyond {size} and {batch}")
        total = count if above is not None else 2 * count
        array = pool.empty((total, *self._neurons.image), self._dtype)
        d, indices = np.empty(total), np.empty((2, total), np.int64)
        where = np.empty((count, 3), np.int64)
        opposite = None if above is None else np.empty(count)
        places = self._run(
            self.start,
            pointer(boxes, count),
            pointer(neurons, count),
            *(pointer(part, batch * size) for part in (centre, spread, noise)),
            pointer(mass, batch),
            ffi.new("double[7]", factors),
            pointer(array, array.size, True),
            pointer(d, total, True),
            ffi.NULL if opposite is None else pointer(opposite, count, True),
            pointer(indices[0], total, True),
            pointer(indices[1], total, True),
            pointer(where, 3 * count, True),
            above or 0,
            count,
        )
        return Rows(array, d, opposite, indices[0], indices[1], where[:places])
