"""Windowed rows: a row that starts at one pixel touches only its receptive field.

A block holds (rows, channels, h, w) windows. Rows that start at the same pixel of the same box
share a *place* (box, y, x); y and x may lie outside the image, where there is nothing: entries
out there are zero. A place plays the part that a box plays for dense rows: the tables of a node
are cut to the windows of all places once, and the kernels index them by place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.ops import Conv
from gamma.ops.base import cast_weight
from gamma.ops.convolution import Window, fold

Array = npt.NDArray[Any]
Int64 = npt.NDArray[np.int64]

# A window over more than this share of the image is laid into a dense frame.
DENSE_FROM = 0.6


@dataclass(frozen=True)
class Windows:
    """Rows over one image node; see the module's text.

    Attributes:
        array: (rows, channels, h, w). place: int64 (rows,).
        box, y, x: int64 (places,): the box of a place and its window's first pixel.
        image: (height, width) of the node.
    """

    array: Array
    place: Int64
    box: Int64
    y: Int64
    x: Int64
    image: tuple[int, int]

    @property
    def flat(self) -> Array:
        """(rows, channels·h·w), sharing memory."""
        return self.array.reshape(len(self.array), -1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the windows."""
        return self.array.shape[2], self.array.shape[3]

    @property
    def covering(self) -> bool:
        """Whether dense frames are the cheaper form."""
        (h, w), (height, width) = self.size, self.image
        return h * w >= DENSE_FROM * height * width

    def cut(self, table: Array) -> Array:
        """Windows (places, channels·h·w) of a table (batch, channels·height·width); zero outside."""
        (h, w), (height, width) = self.size, self.image
        images = table.reshape(len(table), -1, height, width)
        top, left = max(0, -int(self.y.min())), max(0, -int(self.x.min()))
        bottom = max(0, int(self.y.max()) + h - height)
        right = max(0, int(self.x.max()) + w - width)
        padded = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)))
        views = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(2, 3))
        return np.ascontiguousarray(views[self.box, :, self.y + top, self.x + left]).reshape(
            len(self.box), -1
        )

    def masked(self) -> Windows:
        """The same rows with exact zeros outside the image."""
        (h, w), (height, width) = self.size, self.image
        rows = self.y[:, None] + np.arange(h)
        columns = self.x[:, None] + np.arange(w)
        inside_y, inside_x = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
        if inside_y.all() and inside_x.all():
            return self
        mask = inside_y[:, :, None] & inside_x[:, None, :]
        return replace(self, array=np.where(mask[self.place][:, None], self.array, 0))

    def dense(self) -> Array:
        """Frames (rows, channels·height·width)."""
        (h, w), (height, width) = self.size, self.image
        frame = np.zeros((*self.array.shape[:2], height, width), self.array.dtype)
        order = np.argsort(self.place, kind="stable")
        ends = np.searchsorted(self.place[order], np.arange(len(self.box) + 1))
        for p in np.flatnonzero(np.diff(ends)):
            rows = order[ends[p] : ends[p + 1]]
            y, x = int(self.y[p]), int(self.x[p])
            top, left = max(y, 0), max(x, 0)
            bottom, right = min(y + h, height), min(x + w, width)
            if top < bottom and left < right:
                part = self.array[rows, :, top - y : bottom - y, left - x : right - x]
                frame[rows, :, top:bottom, left:right] = part
        return frame.reshape(len(frame), -1)

    def negated_too(self) -> Windows:
        """These rows followed by their negatives."""
        return replace(
            self,
            array=np.concatenate((self.array, -self.array)),
            place=np.concatenate((self.place, self.place)),
        )

    def plus(self, other: Windows) -> Windows:
        """Sum of two blocks with the same rows and places, on the common window."""
        if self.size == other.size and (self.y == other.y).all() and (self.x == other.x).all():
            return replace(self, array=self.array + other.array)
        y, x = np.minimum(self.y, other.y), np.minimum(self.x, other.x)
        height = int(np.maximum(self.y + self.size[0], other.y + other.size[0])[0] - y[0])
        width = int(np.maximum(self.x + self.size[1], other.x + other.size[1])[0] - x[0])
        total = np.zeros((*self.array.shape[:2], height, width), self.array.dtype)
        # Both started at the same pixels and passed the same strides: one shift for all places.
        for block in (self, other):
            top, left = int(block.y[0] - y[0]), int(block.x[0] - x[0])
            h, w = block.size
            total[:, :, top : top + h, left : left + w] += block.array
        return replace(self, array=total, y=y, x=x)

    def aligned_with(self, other: Windows) -> bool:
        """Whether the two differ by one shift of the window, the same for all places."""
        return (
            len(np.unique(self.y - other.y)) <= 1 and len(np.unique(self.x - other.x)) <= 1
        )


def can_window(op: object, shape: tuple[int, ...]) -> bool:
    """Whether a convolution's rows can stay windows on its input of ``shape``."""
    return isinstance(op, Conv) and op.group == 1 and len(shape) == 3


def starts(neurons: Int64, boxes: Int64, shape: tuple[int, ...], dtype: Any) -> Windows:
    """Unit rows: one pixel of one channel each, on a node of ``shape`` (channels, H, W)."""
    channels, height, width = shape
    channel, pixel = np.divmod(neurons, height * width)
    places, place = np.unique(boxes * (height * width) + pixel, return_inverse=True)
    box, at = np.divmod(places, height * width)
    unit = np.zeros((len(neurons), channels, 1, 1), dtype)
    unit[np.arange(len(neurons)), channel] = 1
    return Windows(unit, place, box, at // width, at % width, (height, width))


def through_conv(op: Conv, windows: Windows, shape: tuple[int, ...]) -> Windows:
    """Rows over a convolution's output become rows over its input of ``shape``."""
    n, out = windows.array.shape[:2]
    h, w = windows.size
    window = op.window(shape)
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilations
    weight = cast_weight(op, op.weight, "weight", windows.array.dtype, False)
    flat = weight.reshape(out, -1)
    y, x = windows.y * sh - window.pads[0], windows.x * sw - window.pads[1]
    image = window.image
    if h == 1 and w == 1:
        grown = windows.array.reshape(n, out) @ flat
        array = grown.reshape(n, shape[0], kh, kw)
        if (dh, dw) == (1, 1):
            return replace(windows, array=array, y=y, x=x, image=image)
    columns = np.matmul(flat.T, windows.array.reshape(n, out, h * w))
    size = ((h - 1) * sh + (kh - 1) * dh + 1, (w - 1) * sw + (kw - 1) * dw + 1)
    compact = Window(size, (kh, kw), (sh, sw), (0, 0, 0, 0), (dh, dw))
    return replace(windows, array=fold(columns, shape[0], compact), y=y, x=x, image=image)
