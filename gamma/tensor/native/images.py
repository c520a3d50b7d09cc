"""Convolutions and their adjoints; rows as windows of images: the calls."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.runtime import pool
from gamma.tensor._simd import ffi, lib
from gamma.tensor.native.memory import pick, pointer

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Pair = tuple[int, int]


_SPREAD_BYTES = 96 << 10


def fold_last(
    cols: Array, out: Array, kernel: Pair, strides: Pair, pads: Pair, dilations: Pair
) -> None:
    N, H, W, C = out.shape
    geometry = (*kernel, *strides, *pads, *dilations, cols.shape[1], cols.shape[2], H, W, C)
    pick("fold_last", out)(
        pointer(cols, cols.size),
        pointer(out, out.size, True),
        N,
        ffi.new("int64_t[13]", geometry),
    )


def turned(x: Array, out: Array) -> None:
    pick("turned", x)(pointer(x, x.size), pointer(out, x.size, True), *x.shape)


def geometry(
    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    window: Any,
    out: int,
    columns: int,
    room: int = 0,
    cells: tuple[int, ...] = (0,) * 9,
) -> tuple[int, ...]:
    """The entries of a gamma_window; see api_images.h."""
    (h, w, lda), _, (H, W, pixel) = shapes
    place = (window.top, window.left, h, w, H, W, window.channels, pixel)
    return (*window.spans, *place, out, lda, columns, window.part, room, *cells)


def _near(
    image: int, rows: int, kernel: int, stride: int, dilation: int, pad: int
) -> tuple[int, ...]:
    """For each line of an image how many places of the kernel reach it, and (place, row)."""
    found: list[int] = []
    for line in range(image):
        reach = []
        for place in range(kernel):
            row, rest = divmod(line + pad - place * dilation, stride)
            if rest == 0 and 0 <= row < rows:
                reach += [place, row]
        found += [len(reach) // 2, *reach, *[0] * (2 * kernel - len(reach))]
    return tuple(found)


@lru_cache(maxsize=256)
def _reached(*axes: tuple[int, int, int, int, int, int]) -> Any:
    """`_near` of rows and of columns, in memory for C."""
    return ffi.new("int64_t[]", [entry for axis in axes for entry in _near(*axis)])


def gathering(
    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], window: Any, cells: Any
) -> tuple[Any, int, int, tuple[int, ...]]:
    """Of `gather` of rows (h, w, lda) with a weight onto images (H, W, pixel): which places reach
    a cell, entries of the lists and of the scratch for each frame, a gamma_window."""
    (h, w, _), (panels, _, out, panel), (H, W, _) = shapes
    kh, kw, sh, sw, dh, dw = window.spans
    (by, bx), (oy, ox), kernel = cells
    ny, nx = -(-(H + oy) // by), -(-(W + ox) // bx)
    near = _reached((ny, h, kh, sh, dh, window.top), (nx, w, kw, sw, dw, window.left))
    columns = panels * panel
    reach = kernel or (kh * by, kw * bx)
    own = (by, bx, oy, ox, ny, nx, cells.segment(window.channels), *reach)
    lists = h * w * (out - (-out // window.part)) + 1
    lists += by * -(-bx * window.channels // 4) * (5 * kh * kw + 1)
    room = h * w * out + nx * columns + 24 * by
    return near, lists, room, geometry(shapes, window, out, columns, 0, own)


def gather(
    rows: Array,
    weight: Array,
    images: Array,
    window: Any,
    offsets: Pair,
    cells: Any,
    every: bool,
    add: bool,
) -> None:
    shapes = rows.shape[1:], weight.shape, images.shape[1:]
    near, entries, room, entered = gathering(shapes, window, cells)
    lists = np.empty(entries, np.int32)
    scratch = pool.empty((lib.GAMMA_BROAD * room,), rows.dtype)
    pick("gather", rows)(
        pointer(rows, rows.size) + offsets[0],
        pointer(weight, weight.size),
        pointer(images, images.size, True) + offsets[1],
        near,
        pointer(lists, lists.size, True),
        pointer(scratch, scratch.size, True),
        len(rows),
        ffi.new("struct gamma_window *", entered),
        every,
        add,
    )


def spreading(
    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], window: Any, itemsize: int
) -> tuple[int, tuple[int, ...]]:
    """Of `spread`, alike, with a weight (out, columns): entries of its scratch, a gamma_window."""
    (_, w, _), (out, columns), _ = shapes
    # Columns of a few pixels: a share of the first cache levels.
    room = max(w, 8, _SPREAD_BYTES // (columns * itemsize))
    return room * columns, geometry(shapes, window, out, columns, room)


def spread(rows: Array, weight: Array, images: Array, window: Any, offsets: Pair) -> None:
    frames, h, w, _ = rows.shape
    shapes = rows.shape[1:], weight.shape, images.shape[1:]
    entries, entered = spreading(shapes, window, weight.itemsize)
    columns = weight.shape[1]
    scratch = np.empty(min(entries, frames * h * w * columns), rows.dtype)
    pick("spread", rows)(
        pointer(rows, rows.size) + offsets[0],
        pointer(weight, weight.size),
        pointer(images, images.size, True) + offsets[1],
        pointer(scratch, scratch.size, True),
        frames,
        ffi.new("struct gamma_window *", entered),
    )


def correlate(images: Array, weight: Array, result: Array, window: Any) -> None:
    frames, groups, C, H, W = images.shape
    _, out, depth = weight.shape
    kh, kw, sh, sw, dh, dw = window.spans
    h, w = result.shape[3:]
    rows = (h - 1) * sh + (kh - 1) * dh + 1
    span = w + (kw - 1) * dw // sw + 64 // weight.itemsize
    copy, offset = np.empty(C * rows * sw * span, weight.dtype), np.empty(depth, np.int64)
    sizes = (h, w, H, W, C, out, groups, rows, span)
    pick("correlate", weight)(
        pointer(images, frames * groups * C * H * W),
        pointer(weight, groups * out * depth),
        pointer(result, frames * groups * out * h * w, True),
        pointer(copy, copy.size, True),
        pointer(offset, depth, True),
        frames,
        ffi.new("struct gamma_frame *", (*window.spans, window.top, window.left, *sizes)),
    )


class Convolution:
    """See `kernels.Convolution`."""

    def __init__(
        self,
        weight: Float64,
        bias: Float64 | None,
        row_sum: Float64,
        factors: tuple[float, float],
        image: Any,
    ) -> None:
        _, C, H, W = image.inputs
        groups, out, h, w = image.outputs
        kh, kw, sh, sw, dh, dw = image.frame.spans
        rows, span = (h - 1) * sh + (kh - 1) * dh + 1, (w - 1) * sw + (kw - 1) * dw + 1
        geometry = (*image.frame.spans, *image.frame[1:], h, w, H, W, C, out, groups, rows, span)
        self._n, self._m = math.prod(image.inputs), math.prod(image.outputs)
        self._copy: int = rows * span * C * 2 + kh * kw * C
        self._constants = (
            pointer(weight, weight.size),
            ffi.NULL if bias is None else pointer(bias, self._m),
            pointer(row_sum, self._m),
        )
        self._factors = ffi.new("double[2]", factors)
        self._frame = ffi.new("struct gamma_frame *", geometry)

    def enter(self, entry: Any) -> int:
        """Fill in struct gamma_image; the entries of the copy. The convolution must outlive it."""
        entry.weight, entry.bias, entry.row_sum = self._constants
        entry.factors, entry.frame = self._factors, self._frame[0]
        return self._copy

    def run(self, centre: Float64, radius: Float64, out: Float64, boxes: Pair) -> int:
        B = len(centre)
        if not 0 <= boxes[0] <= boxes[1] <= B:
            raise UsageError(f"kernel argument boxes: found {boxes}, expected a part of 0..{B}")
        if not centre.dtype == radius.dtype == out.dtype == np.float64:
            raise UsageError(f"kernel argument centre: found {centre.dtype}, expected float64")
        crossed: int = lib.gamma_convolve(
            pointer(centre, B * self._n),
            pointer(radius, B * self._n),
            *self._constants,
            pointer(np.empty(self._copy), self._copy, True),
            pointer(out, 5 * B * self._m, True),
            self._factors,
            B,
            *boxes,
            self._frame,
        )
        return crossed


def _shape5(A: Array, image: Pair) -> Any:
    return ffi.new("int64_t[5]", (A.shape[1], A.shape[2], *image, A.shape[3]))


def relax_windows(
    A: Array,
    d: Float64,
    place: Int64,
    where: Int64,
    image: Pair,
    lower_slope: Array,
    upper_slope: Array,
    lower_const: Float64,
    upper_const: Float64,
) -> None:
    N, P, B = len(A), len(where), len(lower_slope)
    size = B * image[0] * image[1] * A.shape[3]
    status = pick("relax_windows", A)(
        pointer(A, A.size, True),
        pointer(d, N, True),
        pointer(place, N),
        pointer(where, 3 * P),
        pointer(lower_slope, size),
        pointer(upper_slope, size),
        pointer(lower_const, size),
        pointer(upper_const, size),
        _shape5(A, image),
        B,
        P,
        N,
    )
    _placed(status)


def abs_dot_windows(
    A: Array, d: Float64, place: Int64, where: Int64, image: Pair, weight: Float64
) -> None:
    N, P, B = len(A), len(where), len(weight)
    status = pick("abs_dot_windows", A)(
        pointer(A, A.size, True),
        pointer(d, N, True),
        pointer(place, N),
        pointer(where, 3 * P),
        pointer(weight, B * image[0] * image[1] * A.shape[3]),
        _shape5(A, image),
        B,
        P,
        N,
    )
    _placed(status)


def _placed(status: int) -> None:
    if status != 0:
        raise UsageError("kernel argument place: found a place or a box that does not exist")
