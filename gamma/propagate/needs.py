"""Which neurons are worth rows of their own, beyond the interval bounds of their node."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.network.graph import Network
from gamma.ops.bounds import NodeBounds
from gamma.propagate.facts import facts_of


def is_tight(network: Network, index: int, tight: Mapping[int, bool]) -> bool:
    """Whether rows cannot improve a node's interval bounds (see `Linear.independent`).

    ``tight`` says so of the nodes before it.
    """
    node = network.nodes[index]
    if node.op.diagonal:  # the image of its input's bounds is as good as rows of its own
        return tight[node.inputs[0]]
    if node.op.affine is None:
        return False
    alone = len(node.inputs) == 1 and facts_of(network).separate[node.inputs[0]]
    exact = alone or node.op.moves
    return exact and all(tight[i] for i in node.inputs)


def wanted(network: Network, index: int, bounds: NodeBounds) -> npt.NDArray[np.bool_] | None:
    """Neurons (batch, size) of a node that some nonlinear reader needs better bounds of."""
    facts = facts_of(network)
    if not facts.relaxed[index]:
        return None
    varies: npt.NDArray[np.bool_] = (bounds.lower < bounds.upper).reshape(len(bounds.lower), -1)
    if facts.needed[index] or not tuning.enabled("unstable"):
        return varies
    found = np.zeros_like(varies)
    for reader in network.consumers[index]:
        op = network.nodes[reader].op
        if op.affine is None:
            (mask,) = op.unstable((bounds,))
            found |= mask.reshape(found.shape)
    return found
