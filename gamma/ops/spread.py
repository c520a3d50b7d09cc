"""The adjoint of a convolution on rows with channels last."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.ops.affine import Linear
from gamma.ops.base import Array
from gamma.ops.window import Window
from gamma.runtime import pool
from gamma.tensor import kernels

# Rows of one block of the adjoint: the unfolded columns stay in the second-level cache.
_BLOCK_BYTES = 1 << 20
SUM_LENGTH = 32
"""Most channels summed inside one product of the adjoint: short sums have small error bounds."""
# With fewer channels most of a vector of them would be empty.
GATHER_FROM = 4
# What a visit to a cell takes, in products with one entry of a row.
_VISIT = 200
# With as many groups, of few channels or pixels, a call for each takes longer than its sums.
MANY_GROUPS = 16
FEW_PIXELS = 64


def summed(out: int) -> int:
    """Channels, of ``out``, summed inside one product: where that must be cut, into short sums."""
    return SUM_LENGTH if out <= SUM_LENGTH else SUM_LENGTH // 2


def last_bytes(weight: Array, dtype: np.dtype[Any]) -> int:
    """Bytes of `last_weight`."""
    return len(weight) * kernels.padded(weight[0].size, dtype) * dtype.itemsize


def last_weight(
    op: Linear, weight: Array, dtype: npt.DTypeLike, absolute: bool, groups: int
) -> Array:
    """A kernel (out, in/group, *k) as (group, out/group, kh·kw·in/group), channels last.

    Zero columns fill each row up to whole 64 bytes.
    """

    def arrange() -> Array:
        split = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
        flat = split.transpose(0, 1, 3, 2).reshape(*split.shape[:2], -1)
        full = np.zeros((*flat.shape[:2], kernels.padded(flat.shape[2], kind)), kind)
        full[:, :, : flat.shape[2]] = flat
        return np.abs(full, out=full) if absolute else full

    kind = np.dtype(dtype)
    key = f"last.{kind.char}{'.abs' if absolute else ''}"
    return op.cached(key, arrange)  # type: ignore[no-any-return]


class Taps(NamedTuple):
    """A kernel as `kernels.gather` reads it; a tuple, as whatever operators derive and count.

    Attributes:
        weight: (group, panels, places, out/group, panel). kernel: its places.
        size: lines and columns of a cell, a single pixel or the strides.
    """

    weight: Array
    kernel: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of(cls, weight: Array, window: Window, channels: int) -> Taps:
        """From a `last_weight` of ``channels`` to a group."""
        groups, out, _ = weight.shape
        (kh, kw), size = window.kernel, _cell(window, channels, out, groups)
        places = -(-kh // size[0]), -(-kw // size[1])
        high, wide = places[0] * size[0], places[1] * size[1]
        whole = np.zeros((groups, out, high, wide, channels), weight.dtype)
        split = weight[:, :, : kh * kw * channels].reshape(groups, out, kh, kw, channels)
        whole[:, :, :kh, :kw] = split
        # (group, line and column of the place, out, line of the cell, its pixels' channels)
        cells = whole.reshape(groups, out, places[0], size[0], places[1], -1)
        cells = cells.transpose(0, 2, 4, 1, 3, 5)
        used, segment = cells.shape[-1], kernels.Cells(size).segment(channels)
        filled = np.zeros((*cells.shape[:-1], segment), weight.dtype)
        filled[..., :used] = cells
        flat = filled.reshape(groups, places[0] * places[1], out, -1)
        columns = kernels.padded(flat.shape[-1], weight.dtype)
        full = np.zeros((*flat.shape[:-1], columns), weight.dtype)
        full[..., : flat.shape[-1]] = flat
        panels = full.reshape(*flat.shape[:-1], -1, kernels.padded(1, weight.dtype))
        return cls(np.ascontiguousarray(panels.transpose(0, 3, 1, 2, 4)), places, size)

    @classmethod
    def cached(
        cls, op: Linear, weight: Array, window: Window, channels: int, absolute: bool = False
    ) -> Taps:
        """`of` an operator's `last_weight`, made once."""
        key = cls.key(weight.dtype, absolute)
        return op.cached(key, lambda: cls.of(weight, window, channels))  # type: ignore[no-any-return]

    @staticmethod
    def key(dtype: np.dtype[Any], absolute: bool = False) -> str:
        """What `cached` ones in ``dtype`` are kept by."""
        cells = "cells" if tuning.enabled("pixel_cells") else "pixels"
        return f"taps.{dtype.char}.{cells}{'.abs' if absolute else ''}"

    @staticmethod
    def nbytes(weight: Array, window: Window, dtype: np.dtype[Any], groups: int) -> int:
        """Bytes of those of a kernel (out, in/group, *k)."""
        out, channels = len(weight) // groups, int(weight.shape[1])
        size = _cell(window, channels, out, groups)
        places = math.prod(-(-k // s) for k, s in zip(window.kernel, size, strict=True))
        columns = size[0] * kernels.Cells(size).segment(channels)
        return groups * places * out * kernels.padded(columns, dtype) * dtype.itemsize

    def scatter(self, window: Window, channels: int) -> tuple[kernels.Scatter, kernels.Cells]:
        """How rows reach the cells of ``window``'s image."""
        (top, left), part = window.pads[:2], summed(int(self.weight.shape[3]))
        if self.size == (1, 1):
            spans = (*window.kernel, *window.strides, *window.dilations)
            return kernels.Scatter(spans, top, left, channels, part), kernels.Cells()
        # A cell begins where windows do: before the image by what is left of the pads.
        (by, bx), before = self.size, (top % self.size[0], left % self.size[1])
        spans = (*self.kernel, 1, 1, 1, 1)
        scatter = kernels.Scatter(spans, top // by, left // bx, channels, part)
        return scatter, kernels.Cells(self.size, before, window.kernel)


def _cell(window: Window, channels: int, out: int, groups: int) -> tuple[int, int]:
    """The strides, where cells of these take less than single pixels."""
    size, kernel = window.strides, window.kernel
    if size == (1, 1) or window.dilations != (1, 1) or groups > 1:
        return 1, 1
    if kernel[0] < size[0] and kernel[1] < size[1]:
        return 1, 1  # most pixels are not reached: where rows are added to others, not even visited
    if not tuning.enabled("pixel_cells"):
        return 1, 1
    area = math.prod(size)
    reached = math.prod(kernel) / area
    places = math.prod(-(-k // s) for k, s in zip(kernel, size, strict=True))
    pixels = reached * out * kernels.Cells().segment(channels) + _VISIT
    cells = places * out * size[0] * kernels.Cells(size).segment(channels) + _VISIT
    return size if cells < area * pixels else (1, 1)


def spread(
    rows: Array,
    weight: Array,
    window: Window,
    channels: int,
    taps: Callable[[], Taps] | None = None,
) -> Array:
    """Adjoint of a convolution: (N, h, w, out) back onto (N, H, W, in), channels last.

    ``weight`` is from `last_weight`, ``taps`` gives its `Taps` (made here when absent),
    ``channels`` those of one group of the result.
    ``window.positions`` need not be (h, w): windows beyond the image add nothing.
    """
    groups, out, _ = weight.shape
    (kh, kw), (height, width) = window.kernel, window.image
    shape = (len(rows), height, width, groups * channels)
    small = channels < GATHER_FROM or math.prod(rows.shape[:3]) < FEW_PIXELS
    if groups >= MANY_GROUPS and out <= SUM_LENGTH and small:
        return _spread_groups(rows, weight[:, :, : kh * kw * channels], window, channels)
    if kernels.isa != "numpy" and tuning.enabled("gathered_adjoint"):
        known = Taps.of(weight, window, channels) if taps is None else taps()
        if channels >= GATHER_FROM or known.size != (1, 1):
            images = pool.empty(shape, rows.dtype)
            if gather(rows, known, images, window, channels):
                return images
    spans = (*window.kernel, *window.strides, *window.dilations)
    scatter = kernels.Scatter(spans, window.pads[0], window.pads[1], channels, summed(out))
    images = pool.zeros(shape, rows.dtype)
    for group in range(groups):
        offsets = (group * out, group * channels)
        if not tuning.enabled("fused_adjoint") or not kernels.spread(
            rows, weight[group], images, scatter, offsets
        ):
            mine = rows[..., offsets[0] : offsets[0] + out]
            image = _spread(mine, weight[group, :, : kh * kw * channels], window, channels)
            images[..., offsets[1] : offsets[1] + channels] = image
    return images


def gather(
    rows: Array, taps: Taps, images: Array, window: Window, channels: int, add: bool = False
) -> bool:
    """`spread` by cells, over ``images`` or added to them; False where the library cannot."""
    scatter, cells = taps.scatter(window, channels)
    every, out = not tuning.enabled("live_channels"), taps.weight.shape[3]
    return all(
        kernels.gather(
            rows,
            weight,
            images,
            scatter,
            (group * out, group * channels),
            cells=cells,
            every=every,
            add=add,
        )
        for group, weight in enumerate(taps.weight)
    )


def _spread(rows: Array, weight: Array, window: Window, channels: int) -> Array:
    """`spread` of one group by products of the BLAS and a scatter of their columns."""
    n, h, w, out = rows.shape
    (kh, kw), depth = window.kernel, weight.shape[1]
    image = np.zeros((n, *window.image, channels), rows.dtype)
    block, length = min(n, max(1, _BLOCK_BYTES // (depth * h * w * rows.itemsize))), summed(out)
    columns = np.empty((2, block * h * w, depth), rows.dtype)
    for start in range(0, n, block):
        part = np.ascontiguousarray(rows[start : start + block]).reshape(-1, out)
        target, more = columns[:, : len(part)]
        np.matmul(part[:, :length], weight[:length], out=target)
        for first in range(length, out, length):
            some = slice(first, first + length)
            np.matmul(part[:, some], weight[some], out=more)
            target += more
        kernels.fold_last(
            target.reshape(-1, h, w, kh, kw, channels),
            image[start : start + block],
            *window.steps,
        )
    return image


def _spread_groups(rows: Array, weight: Array, window: Window, channels: int) -> Array:
    """`spread` of all groups, each of at most ``SUM_LENGTH`` channels, at once."""
    n, h, w, _ = rows.shape
    groups, out, depth = weight.shape
    images = pool.zeros((n, *window.image, groups * channels), rows.dtype)
    block = max(1, _BLOCK_BYTES // (groups * depth * h * w * rows.itemsize))
    for start in range(0, n, block):
        part = rows[start : start + block]
        columns = np.matmul(part.reshape(len(part), h, w, groups, 1, out), weight)
        split = columns.reshape(len(part), h, w, groups, *window.kernel, channels)
        last = np.ascontiguousarray(split.transpose(0, 1, 2, 4, 5, 3, 6))
        kernels.fold_last(
            last.reshape(len(part), h, w, *window.kernel, groups * channels),
            images[start : start + block],
            *window.steps,
        )
    return images
