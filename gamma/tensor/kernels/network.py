"""Bounds of the nodes of a network of images in one call, as far as few neurons need rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.course import Course
from gamma.tensor.kernels.images import Convolution
from gamma.tensor.kernels.met import MetTables
from gamma.tensor.kernels.starts import Starts

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


class Signs(Frozen):
    """How rows of a node go down where the sign of a neuron alone may do.

    Attributes:
        first: node, a ReLU, whose interval may decide them. down: to it; None where they start
            there. rest: from it on.
        shape, grid, framed: how they lie there, as in `Move`.
    """

    first: int
    down: Course | None
    rest: Course
    shape: tuple[int, int, int, int, int]
    grid: tuple[int, int, int, int]
    framed: bool


class ImageNode(Frozen):
    """A node as struct gamma_image has it.

    Attributes:
        kind: "input", "convolution", "sum", "relu", "flat" (an image as a vector, or turned: of
            so many ``lines`` columns are made) or "dense".
        shape: (channels, height, width), of the last three also (entries,).
        step: of a convolution. row_sum, factors: of a sum, and of a dense layer with these
            constants (weight, bias).
        charge, join: factors of `MetTables`, as is what is ``met``, "relax" or "pay", and "join".
        carries: a ReLU the charge of what it reads.
        starts, course: of the rows of neurons, of ``most`` in a call. signs: of those of more than
            ``sided`` while few of the last keep both signs; None: these are left to the caller.
        asked: rows of all its neurons are made by `ImageBatch.ask`, and none before.
    """

    kind: str
    shape: tuple[int, ...]
    reads: tuple[int, ...] = ()
    step: Convolution | None = None
    constants: tuple[Array, Float64 | None] | None = None
    row_sum: Float64 | None = None
    factors: tuple[float, float] = (0.0, 0.0)
    charge: tuple[float, ...] = (0.0,) * 7
    join: tuple[float, float] = (0.0, 0.0)
    met: frozenset[str] = frozenset()
    carries: bool = False
    starts: Starts | None = None
    course: Course | None = None
    most: int = 0
    sided: int = 0
    signs: Signs | None = None
    asked: bool = False
    lines: int = 1


class Reached(Frozen):
    """Where a call ended, the ends that contradict each other there, and whether it was amid rows
    that the next call goes on with."""

    node: int
    crossed: int
    paused: bool


class ImageBatch(Protocol):
    """The nodes over one batch of boxes, bounded in order.

    Attributes:
        rows, seconds: of each node, neurons that got rows and time.
        open: the share of neurons last bounded that kept both signs. boxes: how many.
    """

    boxes: int

    rows: npt.NDArray[np.int64]
    seconds: Float64
    open: float

    def go(self, index: int, tables: MetTables, *, resume: bool, few: float) -> Reached:
        """Bound nodes from ``index`` on, up to one that is left to the caller, or the end.

        ``resume``: bounds of the node before were `met`. ``few``: share up to which the least
        number of neurons counts.
        """

    def ask(self, index: int, tables: MetTables) -> Reached:
        """Bound all neurons of a node that vary, whose interval is known, on both sides."""

    def parts(self, index: int) -> dict[str, Any]:
        """Bounds of a node by their names in `gamma.ops.bounds.NodeBounds`; views."""

    def mask(self, index: int) -> npt.NDArray[np.bool_]:
        """Which neurons (boxes, size) of a node got rows; a view."""

    def meet(self, index: int, lower: Float64, upper: Float64) -> None:
        """Bounds of a node that the caller tightened."""


class ImageNetwork(Protocol):
    """The nodes of a network from its input on, with rows of some dtype."""

    def batch(self, lower: Float64, upper: Float64, centre: Float64) -> ImageBatch:
        """Start from boxes (boxes, *shape)."""

    def known(self, batch: ImageBatch) -> ImageBatch:
        """The bounds of another network's batch, of the same nodes, with rows of this dtype."""


def image_network(
    nodes: Sequence[ImageNode], dtype: np.dtype[Any], every: bool
) -> ImageNetwork | None:
    """The nodes in C memory, ``every`` as in `gather`; None without the compiled library."""
    if not backend.compiled:
        return None
    made: ImageNetwork = backend.current.ImageNetwork(nodes, dtype, every)
    return made
