"""Convolutions and their adjoints; rows as windows of images."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import F64, FLOATS, I64, check, refuse

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Pair = tuple[int, int]


def turned(x: Array) -> Array:
    """The columns of each matrix of x (N, a, b) as lines: (N, b, a)."""
    if x.ndim != 3 or x.dtype not in FLOATS:
        raise refuse("x", f"{x.dtype} {x.shape}", "floats (N, a, b)")
    check("x", x, x.dtype, x.shape)
    out = np.empty((len(x), x.shape[2], x.shape[1]), x.dtype)
    backend.current.turned(x, out)
    return out


def fold_last(
    cols: Array,
    out: Array,
    kernel: Pair,
    strides: Pair = (1, 1),
    pads: Pair = (0, 0),
    dilations: Pair = (1, 1),
) -> None:
    """Add windows back into frames with channels last: out += scatter(cols), in place.

    Per pixel the terms are added in ascending (window row, kernel row, window column, kernel
    column), in f, so the bits do not depend on the instruction set.

    Args:
        cols: f (N, Ho, Wo, kh, kw, C). out: f (N, H, W, C), zero-filled by the caller.
        pads: (top, left): pixels of the first window that lie outside the frame.
    """
    if out.dtype not in FLOATS or out.ndim != 4 or cols.ndim != 6:
        raise refuse("out", f"{out.dtype} {out.shape}", "float32 or float64 of shape (N, H, W, C)")
    if min(*kernel, *strides, *dilations) < 1:
        raise refuse("kernel, strides, dilations", (kernel, strides, dilations), "all positive")
    N, _, _, C = out.shape
    check("cols", cols, out.dtype, (N, *cols.shape[1:3], *kernel, C))
    check("out", out, out.dtype, out.shape)
    backend.current.fold_last(cols, out, kernel, strides, pads, dilations)


class Scatter(NamedTuple):
    """Geometry of `spread`.

    Attributes:
        spans: kernel, strides, dilations (height and width each). top, left: pads, of any sign.
        channels: of the images that are written. part: channels of the rows summed at once.
    """

    spans: tuple[int, int, int, int, int, int]
    top: int
    left: int
    channels: int
    part: int


def spread(
    rows: Array, weight: Array, images: Array, scatter: Scatter, offsets: Pair = (0, 0)
) -> bool:
    """Adjoint of a convolution, channels last: images += scatter(rows·weight), in place.

    Up to ``part`` channels are summed in one product, products added, and windows then added in
    ascending order. False, with nothing done, without the compiled library.

    Args:
        rows: f (N, h, w, C'); weight: f (out, columns), kh·kw·channels columns, `padded`, for the
            channels offsets[0]..offsets[0] + out of the rows.
        images: f (N, H, W, C), zero-filled; channels from offsets[1] on are written.
    """
    if not backend.compiled:
        return False
    kh, kw, *_ = scatter.spans
    out, columns = weight.shape
    if rows.dtype not in FLOATS or rows.ndim != 4 or images.ndim != 4 or min(scatter.spans) < 1:
        raise refuse("rows", f"{rows.dtype} {rows.shape}", "float32 or float64 (N, h, w, C)")
    check("weight", weight, rows.dtype, (out, columns))
    check("images", images, rows.dtype, (len(rows), *images.shape[1:]))
    if (
        columns < kh * kw * scatter.channels
        or columns * rows.itemsize % 64
        or not 0 <= offsets[0] <= rows.shape[3] - out
        or not 0 <= offsets[1] <= images.shape[3] - scatter.channels
        or scatter.part < 1
    ):
        raise refuse("weight", (weight.shape, offsets, scatter), "channels that fit")
    if rows.size and images.size:
        backend.current.spread(rows, weight, images, scatter, offsets)
    return True


# Offsets are this wide in the library's lists.
_OFFSETS = 1 << 31

SEGMENT = 8
"""Entries that the channels of a line of a cell are filled up to whole multiples of."""


class Cells(NamedTuple):
    """Pixels that `gather` takes together.

    Attributes:
        size: lines and columns of a cell. before: those of the first cell outside the image.
        kernel: its lines and columns, where they are no whole cells.
    """

    size: Pair = (1, 1)
    before: Pair = (0, 0)
    kernel: Pair | None = None

    def segment(self, channels: int) -> int:
        """Columns of the weight for a line of a cell."""
        return -(-self.size[1] * channels // SEGMENT) * SEGMENT


PIXELS = Cells()
"""Each pixel a cell."""


def gather(
    rows: Array,
    weight: Array,
    images: Array,
    scatter: Scatter,
    offsets: Pair = (0, 0),
    *,
    cells: Cells = PIXELS,
    every: bool = False,
    add: bool = False,
) -> bool:
    """`spread`, cell by cell of the images, which are written or, with ``add``, added to.

    The error of sums is that of `spread`. Channels that are 0 in all rows of a register block are
    passed over unless ``every``. False, with nothing done, without the compiled library and for
    arrays whose offsets it has no room for.

    Args:
        rows, images: as there. weight: f (panels, kh·kw, out, 64 bytes of entries), whose columns
            are for each line of a cell the channels of its pixels, `Cells.segment` of them.
        scatter: how rows reach cells.
    """
    kh, kw, *_ = scatter.spans
    panels, _, out, panel = weight.shape
    pixels = rows.shape[1] * rows.shape[2] if rows.ndim == 4 else 0
    if not backend.compiled or max(32 * pixels * out, weight.size) >= _OFFSETS:
        return False
    if rows.dtype not in FLOATS or rows.ndim != 4 or images.ndim != 4 or min(scatter.spans) < 1:
        raise refuse("rows", f"{rows.dtype} {rows.shape}", "float32 or float64 (N, h, w, C)")
    check("weight", weight, rows.dtype, (panels, kh * kw, out, 64 // rows.itemsize))
    check("images", images, rows.dtype, (len(rows), *images.shape[1:]))
    if (
        panels * panel < cells.size[0] * cells.segment(scatter.channels)
        or not 0 <= offsets[0] <= rows.shape[3] - out
        or not 0 <= offsets[1] <= images.shape[3] - scatter.channels
        or min(scatter.part, out, *cells.size) < 1
        or min(cells.before) < 0
    ):
        raise refuse("weight", (weight.shape, offsets, scatter, cells), "channels that fit")
    if images.size:
        backend.current.gather(rows, weight, images, scatter, offsets, cells, every, add)
    return True


class Frame(NamedTuple):
    """Geometry of `correlate`: kernel, strides, dilations (height and width each); pads."""

    spans: tuple[int, int, int, int, int, int]
    top: int
    left: int


def correlate(images: Array, weight: Array, frame: Frame, positions: Pair) -> Array | None:
    """Convolution with channels first, every entry one sum in f; None without compiled kernels.

    Args:
        images: f (N, groups, C, H, W). weight: f (groups, out, C·kh·kw).
        positions: rows and columns of the result; windows may reach beyond the image, which is
            zero there.

    Returns:
        f (N, groups, out, *positions).
    """
    if not backend.compiled:
        return None
    if images.dtype not in FLOATS or images.ndim != 5 or min(*frame.spans, *positions) < 1:
        raise refuse("images", f"{images.dtype} {images.shape}", "f (N, groups, C, H, W)")
    N, groups, C = images.shape[:3]
    depth = C * frame.spans[0] * frame.spans[1]
    check("images", images, images.dtype, images.shape)
    check("weight", weight, images.dtype, (groups, weight.shape[1], depth))
    result = np.empty((N, groups, weight.shape[1], *positions), images.dtype)
    backend.current.correlate(images, weight, result, frame)
    return result


# Output channels that lie side by side in the weight of a `Convolution`.
PANEL = 8


class Image(NamedTuple):
    """Geometry of a `Convolution`: groups, their channels, height and width, in and out."""

    frame: Frame
    inputs: tuple[int, int, int, int]
    outputs: tuple[int, int, int, int]


class Convolution(Protocol):
    """The interval step of one convolution on images of one size."""

    def run(self, centre: Float64, radius: Float64, out: Float64, boxes: Pair) -> int:
        """Bound boxes[0]..boxes[1] of B; returns how many ends contradict each other.

        Args:
            centre, radius: of the input, float64 (B, ...).
            out: float64 (5, B, ...): centre, spread, noise, lower, upper as
                `gamma.ops.affine_interval` defines them; written for ``boxes``.
        """


def convolution(
    weight: Float64,
    bias: Float64 | None,
    row_sum: Float64,
    factors: tuple[float, float],
    image: Image,
) -> Convolution | None:
    """The convolution ready for interval steps; None without the compiled library.

    Args:
        weight: float64 (groups, panels, kh, kw, C, PANEL): output channels in panels, 0 beyond.
        bias: float64 of one box's entries, or None. row_sum: the same entries, at least |L|·1.
        factors: γ of float64 sums, relative uncertainty of L.
    """
    if not backend.compiled:
        return None
    kh, kw, *_ = image.frame.spans
    groups, channels, *_ = image.inputs
    panels = -(-image.outputs[1] // PANEL)
    if min(*image.frame.spans, *image.inputs, *image.outputs) < 1 or groups != image.outputs[0]:
        raise refuse("image", image, "positive sizes and as many groups in as out")
    check("weight", weight, F64, (groups, panels, kh, kw, channels, PANEL))
    made: Convolution = backend.current.Convolution(weight, bias, row_sum, factors, image)
    return made


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
) -> bool:
    """`relax_rows` on windows of images; entries outside become 0. False without compiled kernels.

    Args:
        A: f (N, h, w, C), overwritten. d: float64 (N,), overwritten. place: int64 (N,).
        where: int64 (P, 3): box, first row and first column of each place; may lie outside.
        image: height and width. Tables: (B, height, width, C), slopes f, constants float64.
    """
    if not backend.compiled:
        return False
    shape = _on_image(A, d, place, where, image, len(lower_slope))
    for name, table in (("lower_slope", lower_slope), ("upper_slope", upper_slope)):
        check(name, table, A.dtype, shape)
    for name, table in (("lower_const", lower_const), ("upper_const", upper_const)):
        check(name, table, F64, shape)
    backend.current.relax_windows(
        A, d, place, where, image, lower_slope, upper_slope, lower_const, upper_const
    )
    return True


def abs_dot_windows(
    A: Array, d: Float64, place: Int64, where: Int64, image: Pair, weight: Float64
) -> bool:
    """`abs_dot_rows` on windows of images, arguments as in `relax_windows`."""
    if not backend.compiled:
        return False
    check("weight", weight, F64, _on_image(A, d, place, where, image, len(weight)))
    backend.current.abs_dot_windows(A, d, place, where, image, weight)
    return True


def _on_image(
    A: Array, d: Float64, place: Int64, where: Int64, image: Pair, B: int
) -> tuple[int, ...]:
    if A.dtype not in FLOATS or A.ndim != 4:
        raise refuse("A", f"{A.dtype} {A.shape}", "float32 or float64 of shape (rows, h, w, C)")
    check("d", d, F64, (len(A),))
    check("place", place, I64, (len(A),))
    check("where", where, I64, (len(where), 3))
    return B, *image, A.shape[3]
