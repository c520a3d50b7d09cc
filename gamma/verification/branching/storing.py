"""A tree of sub-problems as plain arrays: what a file keeps of it, and what a part of it became."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from gamma.verification.branching.clauses import Clauses
from gamma.verification.branching.frontier import Frontier, Items, joined, named, stored
from gamma.verification.branching.leaves import fitting, together


class Storable(ABC):
    """A tree that another run of the same question can go on with, as a whole or in parts.

    Attributes:
        frontier: what is open. stuck: what is open and cannot be split.
        leaves: what is closed, where somebody asked for it before the first round. leaf: names of
            their columns.
        bounded: sub-problems bounded so far. depth: of the deepest. batch, chunk: of a round.
    """

    frontier: Frontier
    stuck: list[Items]
    leaves: list[Items] | None
    leaf: frozenset[str]
    clauses: Clauses
    bounded: int
    depth: int
    batch: int
    chunk: int

    @abstractmethod
    def _fitting(self, items: Items) -> Items:
        """Sub-problems of this question alone. Raises ValueError for what does not fit."""

    def _alike(self, items: Items) -> Items:
        """Sub-problems with columns as wide as the frontier's."""
        return items

    def state(self) -> Items:
        """All that another tree of the same question needs to go on."""
        counts = [self.bounded, self.depth, self.batch, self.chunk, self.frontier.full]
        left = stored(joined([self._alike(i) for i in self.stuck]), "stuck") if self.stuck else {}
        found = {"target": self.clauses.target, "counts": np.array(counts, np.int64)}
        return found | left | stored(self.frontier.everything(), "open")

    def kept(self) -> Items:
        """`state`, and the leaves, where somebody wants them."""
        if self.leaves is None:
            return self.state()
        count = np.array([len(self.leaves)], np.int64)
        return self.state() | stored(together(self.leaves), "leaf") | {"leaves": count}

    def restore(self, state: Items) -> None:
        """Go on from a `state`. Raises ValueError for what does not fit."""
        counts = state["counts"].tolist()
        self.bounded, self.depth, self.batch, self.chunk, full = map(int, counts)
        if min(self.bounded, self.depth, self.batch - 1, self.chunk - 1) < 0:
            raise ValueError("counts")
        self.frontier.full, self.stuck = bool(full), []
        if len(self.frontier):
            self.frontier.take(len(self.frontier))
        self._put_back(state)
        if self.leaves is not None:
            if "leaves" not in state:
                raise ValueError("what was closed without leaves=True")
            self.leaves[:] = fitting(named(state, "leaf"), self.leaf, len(self.clauses))

    def rejoin(self, state: Items) -> None:
        """Take back a part of the sub-problems, as another tree left them."""
        bounded, depth = state["counts"].tolist()[:2]
        self.bounded, self.depth = self.bounded + bounded, max(self.depth, depth)
        self._put_back(state)

    def _put_back(self, state: Items) -> None:
        if items := named(state, "open"):
            self.frontier.push(self._alike(self._fitting(items)))
        if items := named(state, "stuck"):
            self.stuck.append(self._fitting(items))
