"""Rows of many neurons of one node as they start on their way down: the call."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor.kernels import backend

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class Neurons(NamedTuple):
    """Which neurons have which rows: the fields of struct gamma_start, in its order.

    Attributes:
        size, pixels, width: of the node, of a channel of it, of a line of that.
        out, own: output and input channels of a group. kernel, strides, dilations: height, width.
        first: pads above and left. image: of rows, height, width, channels; of a window, or of the
            whole image where ``framed``.
    """

    size: int
    pixels: int
    width: int
    out: int
    own: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    first: tuple[int, int]
    image: tuple[int, int, int]
    framed: bool


class Rows(Frozen):
    """Rows (R, h, w, channels), constants (R,), those of their negatives where these have no rows
    of their own, and the box (R,) and place (R,) of each; where: (places, 3), as in `Course`."""

    array: Array
    d: Float64
    opposite: Float64 | None
    box: Int64
    place: Int64
    where: Int64


class Starts(Protocol):
    """The rows of one node."""

    def rows(
        self,
        boxes: Int64,
        neurons: Int64,
        centre: Float64,
        charge: tuple[Float64, Float64, Float64],
        factors: tuple[float, ...],
        above: int | None,
    ) -> Rows:
        """Rows of neurons, those of one pixel of one box together, and then of their negatives;
        with ``above`` one each, negated from the neuron of that number on.

        ``centre``: of the node, float64 (boxes, size). ``charge``, ``factors``: as in `MetTables`.
        """


def starts(neurons: Neurons, weight: Array | None, dtype: np.dtype[Any]) -> Starts:
    """From a kernel (out of all groups, own, kh, kw) in ``dtype``, or for units (None); needs the
    compiled library."""
    made: Starts = backend.current.Starts(neurons, weight, dtype)
    return made
