"""Windowed rows: a row that starts at one pixel touches only its receptive field.

A block holds (rows, h, w, channels) windows. Rows that start at the same pixel of the same box
share a *place* (box, y, x); y and x may lie outside the image, where there is nothing: entries
out there are zero. A place plays the part that a box plays for dense rows: the tables of a node
are cut to the windows of all places once, and the kernels index them by place. Channels are last,
so that products and scatters run over contiguous memory. A window that has grown over most of
the image becomes a *frame*: the whole image, one place per box.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.frozen import Frozen
from gamma.ops import Conv, Linear
from gamma.ops.spread import Taps, gather, last_weight, spread
from gamma.ops.window import channels_first, channels_last
from gamma.propagate.rows.block import Block, Dense, Images, Shape, negated_from, negated_too, taken
from gamma.runtime import pool
from gamma.tensor import kernels

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# A window over more than this share of the image is laid into a frame.
DENSE_FROM = 0.6


class Windows(Frozen):
    """Rows over one image node; see the module's text.

    Attributes:
        array: (rows, h, w, channels). place: int64 (rows,).
        box, y, x: int64 (places,): the box of a place and its window's first pixel.
        image: (height, width) of the node. clean: entries outside it are known to be zero.
    """

    array: Array
    place: Int64
    box: Int64
    y: Int64
    x: Int64
    image: tuple[int, int]
    clean: bool = False

    @property
    def flat(self) -> Array:
        """(rows, h·w·channels), sharing memory."""
        return self.array.reshape(len(self.array), -1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the windows."""
        return self.array.shape[1], self.array.shape[2]

    @cached_property
    def framed(self) -> bool:
        """Whether every window is the whole image."""
        return self.size == self.image and not self.y.any() and not self.x.any()

    @property
    def covering(self) -> bool:
        """Whether frames are the cheaper form."""
        (h, w), (height, width) = self.size, self.image
        return h * w >= DENSE_FROM * height * width

    @cached_property
    def where(self) -> Int64:
        """(places, 3): box and first pixel of each place."""
        found = np.empty((len(self.box), 3), np.int64)
        found[:, 0], found[:, 1], found[:, 2] = self.box, self.y, self.x
        return found

    def cut(self, table: Array) -> Array:
        """Windows (places, h·w·channels) of a table (boxes, H, W, channels); zero outside."""
        (h, w), (height, width) = self.size, self.image
        rows = self.y[:, None] + np.arange(h)
        columns = self.x[:, None] + np.arange(w)
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
            :, None, :
        ]
        rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
        found = table[self.box[:, None, None], rows[:, :, None], columns[:, None, :]]
        return np.where(inside[..., None], found, 0).reshape(len(self.box), -1)

    def relax(self, d: Float64, box: Int64, tables: tuple[Array, ...], images: Images) -> Windows:
        if self.framed:
            low, high, below, above = (t.reshape(len(t), -1) for t in images())
            kernels.relax_rows(self.flat, d, self.box[self.place], low, high, below, above)
            return self
        low, high, below, above = images()
        if kernels.relax_windows(
            self.array, d, self.place, self.where, self.image, low, high, below, above
        ):
            return replace(self, clean=True)
        low, high, below, above = (self.cut(t) for t in (low, high, below, above))
        kernels.relax_rows(self.flat, d, self.place, low, high, below, above)
        return self

    def pay(self, d: Float64, box: Int64, weight: Float64, images: Images) -> Windows:
        (table,) = images()
        if self.framed:
            kernels.abs_dot_rows(self.flat, d, self.box[self.place], table.reshape(len(table), -1))
            return self
        if kernels.abs_dot_windows(self.array, d, self.place, self.where, self.image, table):
            return replace(self, clean=True)
        kernels.abs_dot_rows(self.flat, d, self.place, self.cut(table))
        return self

    def through(self, op: Linear, shapes: Sequence[Shape], out: Shape) -> tuple[Block, ...]:
        """Windows stay windows through convolutions and sums, and become frames elsewhere."""
        if op.signs is not None:
            rows = self.masked()
            return tuple(
                rows if sign > 0 else replace(rows, array=-rows.array) for sign in op.signs
            )
        if op.windowed(shapes[0]):
            assert op.correlation is not None
            return (through_conv(op.correlation, self.masked(), shapes[0]),)
        if op.turns == "first":  # channels are last here, as they are before it
            return (Dense(self.frames().flat),)
        return Dense(self.dense()).through(op, shapes, out)

    def onto(self, op: Conv, shape: Shape, other: Block | None) -> Windows | None:
        """`through` a convolution, added to other rows over its input, which are overwritten.

        None, with nothing done, where that takes more than one call: all but whole images.
        """
        if not (isinstance(other, Windows) and self.framed and other.framed):
            return None
        if not np.array_equal(self.box[self.place], other.box[other.place]):
            return None
        window, channels = op.window(shape), int(op.weight.shape[1])
        weight = last_weight(op, op.weight, self.array.dtype, False, op.group)
        taps = Taps.cached(op, weight, window, channels)
        done = gather(self.array, taps, other.array, window, channels, add=True)
        return other if done else None

    def plus(self, other: Block) -> Block:
        if not isinstance(other, Windows):
            return Dense(self.dense()).plus(other)
        here = self
        if not here.aligned_with(other):  # one of them has grown to the whole image
            here, other = here.frames(), other.frames()
        return here._plus(other)

    def copy(self) -> Windows:
        return replace(self, array=self.array.copy())

    def masked(self) -> Windows:
        """The same rows with exact zeros outside the image."""
        if self.clean or self.framed:
            return self
        (h, w), (height, width) = self.size, self.image
        rows = self.y[:, None] + np.arange(h)
        columns = self.x[:, None] + np.arange(w)
        inside_y, inside_x = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
        if inside_y.all() and inside_x.all():
            return self
        mask = inside_y[:, :, None] & inside_x[:, None, :]
        return replace(self, array=np.where(mask[self.place][..., None], self.array, 0))

    def frames(self) -> Windows:
        """The same rows on the whole image."""
        if self.framed:
            return self
        (h, w), (height, width) = self.size, self.image
        frame = pool.zeros((len(self.array), height, width, self.array.shape[3]), self.array.dtype)
        ends = np.flatnonzero(np.diff(self.place, append=-1)) + 1  # of runs of rows at one place
        begins = np.append(0, ends)[:-1]
        places = self.place[begins]
        corners = zip(self.y[places].tolist(), self.x[places].tolist(), strict=True)
        spans = zip(begins.tolist(), ends.tolist(), corners, strict=True)
        for begin, end, (y, x) in spans:
            top, left = max(y, 0), max(x, 0)
            bottom, right = min(y + h, height), min(x + w, width)
            if top < bottom and left < right:
                part = self.array[begin:end, top - y : bottom - y, left - x : right - x]
                frame[begin:end, top:bottom, left:right] = part
        return framed(frame, self.box[self.place])

    def dense(self) -> Array:
        """Rows (rows, channels·height·width) in the node's own order."""
        return channels_first(self.frames().array).reshape(len(self.array), -1)

    def negated_too(self) -> Windows:
        """These rows followed by their negatives."""
        return replace(
            self,
            array=negated_too(self.array),
            place=np.concatenate((self.place, self.place)),
        )

    def take(self, rows: Int64) -> Windows:
        """Some of the rows, in memory of their own."""
        return replace(self, array=taken(self.array, rows), place=self.place[rows])

    def negated_from(self, first: int) -> Windows:
        """These rows, negated from ``first`` on."""
        return replace(self, array=negated_from(self.array, first))

    def _plus(self, other: Windows) -> Windows:
        """Sum of two blocks with the same rows and places, on the common window; may overwrite."""
        y, x = np.minimum(self.y, other.y), np.minimum(self.x, other.x)
        height = int(np.maximum(self.y + self.size[0], other.y + other.size[0])[0] - y[0])
        width = int(np.maximum(self.x + self.size[1], other.x + other.size[1])[0] - x[0])
        clean = self.clean and other.clean
        # Both started at the same pixels and passed the same strides: one shift for all places.
        blocks = [self, other]
        whole = next((b for b in blocks if b.size == (height, width)), None)
        if whole is None:
            shape = (len(self.array), height, width, self.array.shape[3])
            total = pool.zeros(shape, self.array.dtype)
        else:
            total = whole.array
            blocks.remove(whole)
        for block in blocks:
            top, left = int(block.y[0] - y[0]), int(block.x[0] - x[0])
            h, w = block.size
            part = total[:, top : top + h, left : left + w]
            np.add(part, block.array, out=part)
        return replace(self, array=total, y=y, x=x, clean=clean)

    def aligned_with(self, other: Windows) -> bool:
        """Whether both have the same places, up to one shift of the window for all of them."""
        if self.place is other.place and self.y is other.y and self.x is other.x:
            return True
        if not (np.array_equal(self.place, other.place) and np.array_equal(self.box, other.box)):
            return False
        return len(np.unique(self.y - other.y)) <= 1 and len(np.unique(self.x - other.x)) <= 1


def as_windows(block: Dense, shape: Shape, box: Int64) -> Windows:
    """Dense rows over an image of ``shape`` (channels, height, width), as frames."""
    image = block.array.reshape(len(block.array), *shape)
    return framed(channels_last(image, (shape[1], shape[2])), box)


def framed(array: Array, boxes: Int64) -> Windows:
    """Whole images (rows, height, width, channels) as windows: a place is a box."""
    count = int(boxes.max(initial=-1)) + 1
    zero = np.zeros(count, np.int64)
    return Windows(array, boxes, np.arange(count), zero, zero, array.shape[1:3])


def starts(neurons: Int64, boxes: Int64, shape: tuple[int, ...], dtype: Any) -> Windows:
    """Unit rows: one pixel of one channel each, on a node of ``shape`` (channels, H, W)."""
    channels, height, width = shape
    channel, pixel = np.divmod(neurons, height * width)
    places, place = np.unique(boxes * (height * width) + pixel, return_inverse=True)
    box, at = np.divmod(places, height * width)
    unit = np.zeros((len(neurons), 1, 1, channels), dtype)
    unit[np.arange(len(neurons)), 0, 0, channel] = 1
    return Windows(unit, place, box, at // width, at % width, (height, width))


def through_conv(op: Conv, windows: Windows, shape: tuple[int, ...]) -> Windows:
    """Rows over a convolution's output become rows over its input of ``shape``."""
    window = op.window(shape)
    weight = last_weight(op, op.weight, windows.array.dtype, False, op.group)
    channels = int(op.weight.shape[1])
    taps = partial(Taps.cached, op, weight, window, channels)
    if windows.framed:
        # A place need not be a box here: windows may have grown to the whole image by themselves.
        image = spread(windows.array, weight, window, channels, taps)
        return framed(image, windows.box[windows.place])
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilations
    h, w = windows.size
    size = ((h - 1) * sh + (kh - 1) * dh + 1, (w - 1) * sw + (kw - 1) * dw + 1)
    compact = replace(window, image=size, pads=(0, 0, 0, 0))
    grown = replace(
        windows,
        array=spread(windows.array, weight, compact, channels, taps),
        y=windows.y * sh - window.pads[0],
        x=windows.x * sw - window.pads[1],
        image=window.image,
        clean=False,
    )
    return grown.frames() if grown.covering else grown
