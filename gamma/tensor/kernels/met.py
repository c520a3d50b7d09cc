"""What rows meet at the nodes of a network of images, as `kernels.Course` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gamma.tensor.kernels import backend

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Shape3 = tuple[int, int, int]


class Met(NamedTuple):
    """What rows meet at a node: tables (boxes, entries of the node, channels last), None: nothing.

    The fields of struct gamma_met, in its order.

    Attributes:
        lower_slope, upper_slope, lower_const, upper_const, loss (boxes,): of an activation.
        pay, pay_loss (boxes,): of a linear node. join: of another rounding. strip: what the
            negated rows pay at an activation.
    """

    lower_slope: Array | None = None
    upper_slope: Array | None = None
    lower_const: Float64 | None = None
    upper_const: Float64 | None = None
    loss: Float64 | None = None
    pay: Float64 | None = None
    pay_loss: Float64 | None = None
    join: Float64 | None = None
    strip: Float64 | None = None


class MetTables(Protocol):
    """`Met` of all nodes of a network over one batch of boxes, in C memory.

    `meet` keeps tables made elsewhere, the others make what they keep: bounds are float64 (boxes,
    *shape) of a node of ``shape`` (channels, height, width), factors as in csrc/simd/meet.inc.
    Tables of other kinds stay as they are until `drop`.
    """

    def drop(self, node: int) -> None:
        """Forget a node's tables; nobody may be reading them."""

    def meet(self, node: int, size: int, met: Met) -> None:
        """Keep the tables of ``met`` of a node of ``size`` entries."""

    def relu(
        self,
        node: int,
        shape: Shape3,
        ends: Sequence[Float64],
        charge: tuple[Float64, Float64, Float64] | None,
        factors: tuple[float, ...],
        strip: bool,
    ) -> None:
        """Lines of a ReLU, with its ``strip`` if asked for.

        ``ends``: lower, upper and centre of its input, and its own centre. ``charge`` of the input:
        spread, noise and the sum of the radii that it reads (boxes,).
        """

    def charge(
        self,
        node: int,
        shape: Shape3,
        charge: tuple[Float64, Float64, Float64],
        factors: tuple[float, ...],
    ) -> None:
        """The charge of a linear node, as in `relu`."""

    def reach(
        self,
        node: int,
        shape: Shape3,
        ends: Sequence[Float64],
        factors: tuple[float, float],
        join: bool,
    ) -> None:
        """Radii times ``factors``, for rows that end there or ``join``; lower, upper, centre."""


def met_tables(nodes: int, boxes: int, dtype: np.dtype[Any]) -> MetTables:
    """Room for the tables of that many nodes, slopes in ``dtype``; needs the compiled library."""
    made: MetTables = backend.current.MetTables(nodes, boxes, dtype)
    return made
