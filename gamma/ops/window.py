"""Windows of images: geometry, unfolding, the order of channels."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from gamma.frozen import Frozen
from gamma.ops.base import Array
from gamma.tensor import kernels

_TURNED = 1 << 13
"""Entries from which on a call of the C library is sooner than NumPy's copy."""


class Window(Frozen, eq=True):
    """Geometry of a 2-d window: image (H, W), kernel, strides, pads, dilations, positions."""

    image: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]  # top, left, bottom, right
    dilations: tuple[int, int]

    @cached_property
    def positions(self) -> tuple[int, int]:
        """Number of window positions along each axis."""
        counts = []
        for axis in range(2):
            span = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            room = self.image[axis] + self.pads[axis] + self.pads[axis + 2] - span
            counts.append(room // self.strides[axis] + 1 if room >= 0 else 0)
        return counts[0], counts[1]

    @property
    def steps(self) -> tuple[tuple[int, int], ...]:
        """Kernel, strides, first pads and dilations, in the order of the kernels' arguments."""
        return self.kernel, self.strides, self.pads[:2], self.dilations


def unfold(x: Array, window: Window) -> Array:
    """im2col: (N, C, H, W) -> (N, C·kh·kw, Ho·Wo), zeros in the padding."""
    top, left, bottom, right = window.pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right))) if any(window.pads) else x
    n, c = x.shape[:2]
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilations
    ho, wo = window.positions
    step = padded.strides
    view = np.lib.stride_tricks.as_strided(
        padded,
        (n, c, kh, kw, ho, wo),
        (step[0], step[1], dh * step[2], dw * step[3], sh * step[2], sw * step[3]),
        writeable=False,
    )
    return view.reshape(n, c * kh * kw, ho * wo)


def channels_last(x: Array, image: tuple[int, int]) -> Array:
    """(N, C, ...) -> (N, H, W, C)."""
    flat = x.reshape(*x.shape[:2], image[0] * image[1])
    return _turned(flat).reshape(len(x), *image, x.shape[1])


def channels_first(x: Array) -> Array:
    """(N, H, W, C) -> (N, C, H, W)."""
    n, height, width, channels = x.shape
    return _turned(x.reshape(n, height * width, channels)).reshape(n, channels, height, width)


def _turned(x: Array) -> Array:
    """The columns of matrices (N, a, b) as lines."""
    if x.size < _TURNED or not x.flags.c_contiguous:
        return np.ascontiguousarray(x.swapaxes(1, 2))
    return kernels.turned(x)
