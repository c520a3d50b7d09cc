"""Which neurons are worth rows of their own, beyond the interval bounds of their node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.network.graph import Network
from gamma.ops.bounds import NodeBounds
from gamma.propagate.facts import facts_of

Mask = npt.NDArray[np.bool_]


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


RIVALS = 256
"""Neurons of a long maximum that get rows at once."""


def in_turns(
    network: Network, index: int, mask: Mask, bounds: Callable[[], NodeBounds]
) -> Iterator[Mask]:
    """The neurons in ``mask`` (batch, size), all at once unless one long maximum alone reads them.

    Then the highest come first, and others as long as they matter by the ``bounds`` known then.
    Where one that had its turn may reach what the maximum is compared with, no other decides.
    """
    readers = [network.nodes[r] for r in network.consumers[index]]
    aim = readers[0].op.aim if len(readers) == 1 else None
    if aim is None or network.nodes[index].size <= RIVALS * readers[0].size:
        yield mask
        return
    done = np.zeros_like(mask)
    while mask.any():
        chosen = _highest(mask, bounds())
        yield chosen
        done |= chosen
        upper = bounds().upper.reshape(mask.shape)
        missed = (done & (upper > aim)).any(axis=1, keepdims=True) & (aim > -np.inf)
        left = wanted(network, index, bounds())
        mask = (mask if left is None else left) & ~done & ~missed


def _highest(mask: Mask, bounds: NodeBounds) -> Mask:
    """Of the neurons in ``mask`` those of the largest upper bounds, in each box."""
    upper = np.where(mask, bounds.upper.reshape(mask.shape), -np.inf)
    edge = -np.partition(-upper, RIVALS - 1, axis=1)[:, RIVALS - 1 : RIVALS]
    return mask & (upper >= edge)


def wanted(network: Network, index: int, bounds: NodeBounds) -> Mask | None:
    """Neurons (batch, size) of a node that some nonlinear reader needs better bounds of."""
    facts = facts_of(network)
    if not facts.relaxed[index]:
        return None
    varies: Mask = (bounds.lower < bounds.upper).reshape(len(bounds.lower), -1)
    if facts.needed[index] or not tuning.enabled("unstable"):
        return varies
    found = np.zeros_like(varies)
    for reader in network.consumers[index]:
        op = network.nodes[reader].op
        if op.affine is None:
            (mask,) = op.unstable((bounds,))
            found |= mask.reshape(found.shape)
    return found
