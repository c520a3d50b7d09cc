"""Interval pass through dense layers of mostly zeros, boxes abreast."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import F64, check, refuse
from gamma.tensor.kernels.rows import Sparse

Float64 = npt.NDArray[np.float64]

RELU, PLAIN, LAST = range(3)
"""Kinds of sums: read by a ReLU, by other sums, by none."""


class Sums(Frozen):
    """Sums in an order, each of products with numbers that lie in slots.

    Attributes:
        inputs: the input's entries, which are in the first slots. outputs: sums of kind `LAST`.
            slots: of all numbers.
        weight: float64, a row for each sum; places are slots. Those of what a ReLU leaves are half
            of the network's: it leaves the sum of its ends.
        charge: float64 (count, 2): an offset; what a radius gains by it and by underflow.
        to: int32: the slot, or which output it is. kind: uint8.
        grow, share: factor of a sum of radii; the share of a centre that its products are charged.
    """

    inputs: int
    outputs: int
    slots: int
    weight: Sparse
    charge: Float64
    to: npt.NDArray[np.int32]
    kind: npt.NDArray[np.uint8]
    grow: float
    share: float


class Abreast(Protocol):
    """The sums of a network, ready for interval passes."""

    def ends(
        self, lower: Float64, upper: Float64, out: Float64, span: tuple[int, int], threads: int
    ) -> int:
        """Bound boxes span[0]..span[1] of B: (B, inputs) each; out (2, B, outputs): their ends.

        Returns of how many boxes numbers leave the range of float64: their ends are invalid.
        """


def abreast(sums: Sums) -> Abreast | None:
    """The sums ready for interval passes; None without the compiled library."""
    if not backend.compiled:
        return None
    count, last = len(sums.to), sums.kind == LAST
    check("charge", sums.charge, F64, (count, 2))
    check("to", sums.to, np.dtype(np.int32), (count,))
    check("kind", sums.kind, np.dtype(np.uint8), (count,))
    most = np.where(last, sums.outputs, sums.slots)
    if (sums.kind > LAST).any() or ((sums.to < 0) | (sums.to >= most)).any():
        raise refuse("to", "sums without a place", f"{sums.slots} slots, {sums.outputs} outputs")
    if sums.weight.width != sums.slots or not sums.inputs <= sums.slots:
        raise refuse("weight", sums.weight.width, f"{sums.slots} slots")
    from gamma.tensor.native import abreast as native  # few questions need it

    made: Abreast = native.Abreast(sums)
    return made
