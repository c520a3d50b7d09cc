"""What a walk is about: the inputs, what is known of inner nodes, and what is assumed of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import field

from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops.base import Cut
from gamma.ops.bounds import NodeBounds, check_order
from gamma.ops.tables import NodeSlopes
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

Facts = Mapping[int, tuple[Float64, Float64]]
Slopes = Mapping[int, NodeSlopes]


class Split(Frozen):
    """Assumptions about one node: S·(x - p) >= 0 entry by entry, none where S is 0.

    Attributes:
        sign: int8 (batch, *node shape) of -1, 0, +1. point: p, a number or float64 like ``sign``.
            Both children of a split contain p.
    """

    sign: npt.NDArray[np.int8]
    point: Float64 | float = 0.0

    def ends(self) -> tuple[Float64, Float64]:
        """The assumptions as an interval."""
        point = np.broadcast_to(np.asarray(self.point, np.float64), self.sign.shape)
        lower = np.where(self.sign > 0, point, -np.inf)
        upper = np.where(self.sign < 0, point, np.inf)
        return lower, upper


class Domain(Frozen):
    """A batch of sub-problems.

    Attributes:
        box: input sets, with a batch axis.
        facts: node -> proved ends (1 or batch, *node shape): a parent's bounds, a certificate's.
        split: node -> assumptions. Bounds hold where they hold; see `Bounds.empty`.
        capped: the facts are norm caps, see `caps.Ceilings`.
    """

    box: Box
    facts: Facts = field(default_factory=dict)
    split: Mapping[int, Split] = field(default_factory=dict)
    capped: bool = False

    @property
    def batch(self) -> int:
        """Number of sub-problems."""
        return len(self.box.lower)

    @property
    def plain(self) -> bool:
        """Whether nothing but the box is known or assumed."""
        return not self.facts and not self.split

    def check(self, network: Network) -> None:
        """Raise UsageError when facts or assumptions do not fit the network."""
        for what, given in (("facts", self.facts), ("split", self.split)):
            for index, value in given.items():
                if not 0 <= index <= network.output:
                    raise UsageError(f"{what}: node {index} is none of 0..{network.output}")
                array = value.sign if isinstance(value, Split) else value[0]
                shape, found = network.nodes[index].shape, np.shape(array)
                if found[1:] != shape or found[0] not in (1, self.batch):
                    name = network.nodes[index].name
                    raise UsageError(
                        f"{what} of node {name}: shape {found}, expected ({self.batch}, *{shape})"
                    )

    def part(self, index: int, cut: Cut) -> Domain:
        """What is known of the part ``cut`` of a node, of which nothing is assumed."""
        if index not in self.facts:
            return Domain(self.box)
        low, high = (end[(slice(None), *cut)] for end in self.facts[index])
        return Domain(self.box, {index: (low, high)})

    def known(self, index: int, bounds: NodeBounds) -> NodeBounds:
        """`meet` where nothing is assumed."""
        return self.meet(index, bounds, np.zeros(self.batch, bool))

    def meet(self, index: int, bounds: NodeBounds, empty: npt.NDArray[np.bool_]) -> NodeBounds:
        """``bounds`` of a node with what is known and assumed of it; marks what is ``empty``.

        An interval that an assumption leaves nothing of becomes a point, so that the walk can go
        on: whatever is bounded there holds of nothing.
        """
        if index not in self.facts and index not in self.split:
            return bounds
        known = [self.facts[index]] if index in self.facts else []
        assumed = [self.split[index].ends()] if index in self.split else []
        lower, upper = bounds.lower, bounds.upper
        for low, high in known + assumed:
            lower, upper = np.maximum(lower, low), np.minimum(upper, high)
        crossed = lower > upper
        if crossed.any() and not self.split:
            check_order(lower, upper, f"{index}, with the facts that were given")
        if crossed.any():
            empty |= crossed.reshape(len(crossed), -1).any(axis=1)
            middle = np.clip(bounds.centre, bounds.lower, bounds.upper)
            lower, upper = np.where(crossed, middle, lower), np.where(crossed, middle, upper)
        return NodeBounds(lower, upper, bounds.centre, bounds.spread, bounds.noise).frozen()
