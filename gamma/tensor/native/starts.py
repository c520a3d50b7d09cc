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
        total = count if above is not None else 2 * count
        array = pool.empty((total, *self._neurons.image), self._dtype)
        d, indices = np.empty(total), np.empty(2 * total + 3 * count, np.int64)
        box = pointer(indices, indices.size, True)
        opposite = None if above is None else np.empty(count)
        places = self._run(
            self.start,
            pointer(boxes, count),
            pointer(neurons, count),
            pointer(centre, batch * size),
            pointer(spread, batch * size),
            pointer(noise, batch * size),
            pointer(mass, batch),
            ffi.new("double[7]", factors),
            pointer(array, array.size, True),
            pointer(d, total, True),
            ffi.NULL if opposite is None else pointer(opposite, count, True),
            box,
            box + total,
            box + 2 * total,
            above or 0,
            batch,
            count,
        )
        if places > count:
            raise UsageError(f"starts: found neurons or boxes beyond {size} and {batch}")
        where = indices[2 * total :].reshape(count, 3)[:places]
        return Rows(array, d, opposite, indices[:total], indices[total : 2 * total], where)
