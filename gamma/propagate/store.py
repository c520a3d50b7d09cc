"""Intermediate bounds that are kept at checkpoints and recomputed segment by segment.

A checkpoint is a node that every path from the input to later nodes passes. It is kept whole, in
float64, so a recomputed segment has the bits it had. One segment is alive at a time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from gamma.network.graph import Network
from gamma.propagate.plan import plan_of
from gamma.propagate.state import NodeBounds


def checkpoints(network: Network, interval: int) -> tuple[int, ...]:
    """Nodes to keep: the input, then cut nodes at least ``interval`` nodes apart.

    Never a linear node whose activation carries its charge: that needs both sides at once.
    """
    carried = plan_of(network).carried
    reach, kept = 0, [0]
    furthest = [max((*readers, 0)) for readers in network.consumers]
    for index in range(1, network.output):
        reach = max(reach, furthest[index - 1])
        if reach <= index and index - kept[-1] >= interval and not carried[index]:
            kept.append(index)
    return tuple(kept)


class CheckpointedBounds(list[NodeBounds]):
    """The list of bounds of a walk without CROWN refinement, most of them not in memory.

    Args:
        network: whose nodes are bounded. interval: nodes from one checkpoint to the next, at least.
        step: bounds of a node from those of its inputs; the same arguments give the same bits.
        dropped: called with every node whose bounds leave memory.

    Attributes:
        recomputed: nodes bounded a second time, or more often.
    """

    def __init__(
        self,
        network: Network,
        interval: int,
        step: Callable[[int, list[NodeBounds]], NodeBounds],
        dropped: Callable[[int], None],
    ) -> None:
        super().__init__()
        self.network, self._step, self._dropped = network, step, dropped
        self.starts = checkpoints(network, interval)
        self._kept: dict[int, NodeBounds] = {}
        self._live: dict[int, NodeBounds] = {}
        self.recomputed = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[NodeBounds]:
        return (self[index] for index in range(self._count))

    def append(self, bounds: NodeBounds) -> None:
        """Keep the next node's bounds: for good at a checkpoint, else while its segment lives."""
        index, self._count = self._count, self._count + 1
        if index in self.starts:
            self._leave()
            self._kept[index] = bounds
        else:
            self._live[index] = bounds

    def __getitem__(self, index: int) -> NodeBounds:  # type: ignore[override]
        if index in self._kept:
            return self._kept[index]
        if index not in self._live:
            self._recompute(bisect_right(self.starts, index) - 1)
        return self._live[index]

    def _leave(self) -> None:
        gone, self._live = self._live, {}
        for index in gone:
            self._dropped(index)

    def _recompute(self, segment: int) -> None:
        self._leave()
        ends = dict(pairwise((*self.starts, self._count)))
        first = self.starts[segment]
        with np.errstate(all="ignore"):
            for index in range(first + 1, ends[first]):
                inputs = [self[i] for i in self.network.nodes[index].inputs]
                self._live[index] = self._step(index, inputs)
                self.recomputed += 1
