"""What a box hands on to its parts: on which side of 0 the inputs of its ReLUs are.

A part needs no rows for a neuron whose ReLU is linear on the whole, and most are soon.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gamma.network.graph import Network
from gamma.ops.bounds import NodeBounds
from gamma.propagate.domain import Facts
from gamma.verification.branching.clauses import Array
from gamma.verification.targets import distinct

MOST = 1 << 12
"""Neurons whose signs boxes carry at most: a byte each."""


class Signs:
    """Signs (boxes, ``width``) as int8: 1 for what is >= 0 on a whole box, -1 for <= 0, else 0."""

    def __init__(self, net: Network) -> None:
        read = distinct(np.array([n.inputs[0] for n in net.nodes if n.op.hinge], np.int64))
        nodes = {int(index): net.nodes[index].shape for index in read if index}
        sizes = [net.nodes[index].size for index in nodes]
        self.width = sum(sizes)
        if self.width > MOST:
            nodes, sizes, self.width = {}, [], 0
        ends = np.cumsum([0, *sizes]).tolist()
        self._nodes = [
            (index, shape, slice(*span))
            for (index, shape), *span in zip(nodes.items(), ends, ends[1:], strict=False)
        ]

    def facts(self, sign: Array) -> Facts:
        """Signs as ends of the nodes they are of."""
        lower, upper = np.where(sign > 0, 0.0, -np.inf), np.where(sign < 0, 0.0, np.inf)
        return {
            index: (lower[:, own].reshape(-1, *shape), upper[:, own].reshape(-1, *shape))
            for index, shape, own in self._nodes
        }

    def of(self, bounds: Sequence[NodeBounds], boxes: int) -> Array:
        """The signs that bounds of so many boxes prove."""
        found = np.zeros((boxes, self.width), np.int8)
        for index, _, own in self._nodes:
            known = bounds[index]
            above, below = known.lower.reshape(boxes, -1) >= 0, known.upper.reshape(boxes, -1) <= 0
            np.subtract(above, below, out=found[:, own], dtype=np.int8)
        return found
