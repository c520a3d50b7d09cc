"""Which bound of a neuron to prove first, where only its sign matters.

A ReLU that is active or inactive on the whole box is exact, however wide the interval of what it
reads: one row of such a neuron is enough, with whatever the other side gets from it
(`gamma.propagate.rows.opposite`). The sign of its centre tells which: a guess, but it was right for
all neurons that rows decide in residual networks. A neuron that the row leaves open gets its other
one, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.network.graph import Network
from gamma.propagate.blocks import row_cost
from gamma.propagate.facts import facts_of
from gamma.propagate.needs import wanted
from gamma.propagate.rows.signs import OneSided, one_end, signs
from gamma.propagate.rows.start import one_sign, pixel_by_pixel

if TYPE_CHECKING:
    from gamma.propagate.walks import Walk

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Nanoseconds that a second descent costs beyond its rows, for each node that it passes.
CALLS = 1e5
# Share of the neurons last bounded by rows that kept both signs, beyond which a first row is lost.
OPEN = 0.55


class Sides:
    """What a walk knows about the signs of its neurons."""

    def __init__(self, network: Network) -> None:
        self.network = network
        # Any other function makes use of both ends, of its own input or of what a ReLU makes of it.
        self._relus = network.cached("sides.relus", only_relus)
        self.open = 1.0

    def worth(self, index: int, rows: int) -> bool:
        """Whether ``rows`` neurons of node ``index`` are better bounded on one side first."""
        facts = facts_of(self.network)
        if not self._relus or facts.needed[index] or facts.sequential[index]:
            return False
        if not tuning.enabled("one_sided") or not tuning.enabled("unstable"):
            return False
        return self.open <= OPEN and rows * row_cost(self.network, index) > CALLS * index

    def bound(self, walk: Walk, index: int, mask: Mask) -> Mask:
        """Bound neurons by a row each, and those that it leaves open, returned, by their other."""
        above = walk.bounds[index].centre.reshape(mask.shape) > 0
        self._side(walk, index, mask, above, signs)
        left = wanted(self.network, index, walk.bounds[index])
        assert left is not None
        self._side(walk, index, mask & left, ~above, one_end)
        return mask & left

    def learn(self, walk: Walk, index: int, mask: Mask) -> None:
        """See how many of the neurons that got rows kept both signs."""
        known = walk.bounds[index]
        crosses = ((known.lower < 0) & (known.upper > 0)).reshape(mask.shape)
        if mask.any():
            self.open = float(crosses[mask].mean())

    def _side(self, walk: Walk, index: int, mask: Mask, above: Mask, ends: OneSided) -> None:
        """Meet bounds of the neurons in ``mask`` with one row's: the lower one where ``above``."""
        for boxes, neurons in pixel_by_pixel(mask, self.network.nodes[index].shape):
            order = np.argsort(~above[boxes, neurons], kind="stable")
            one_side(walk, index, boxes[order], neurons[order], above, ends)


def only_relus(network: Network) -> bool:
    """Whether no other node is nonlinear."""
    return all(node.op.affine is not None or node.op.hinge for node in network.nodes[1:])


def one_side(
    walk: Walk, index: int, boxes: Array, neurons: Array, above: Mask, ends: OneSided
) -> None:
    """Meet bounds of neurons with those of a row each; those ``above`` come first."""
    side = above[boxes, neurons]

    def bound(block: slice) -> tuple[Float64, Float64]:
        count = int(np.count_nonzero(side[block]))
        rows = one_sign(walk.descent, index, boxes[block], neurons[block], count)
        return ends(walk.descent, *rows, boxes[block], count, walk.options.check)

    near, far = (
        np.concatenate(both)
        for both in zip(*walk.in_blocks(index, len(boxes), bound, 1), strict=True)
    )
    lower, upper = np.where(side, near, far), -np.where(side, far, near)
    walk.tighten(index, boxes, neurons, lower, upper)
