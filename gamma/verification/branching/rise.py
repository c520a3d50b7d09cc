"""How the worst bound of a tree rises, and how many sub-problems are left if it goes on so."""

from __future__ import annotations

import math

QUARTER = 4
"""The rise is measured since there were a quarter of the sub-problems."""
MOST_DOUBLINGS = 60.0


class Rise:
    """The worst bound round by round.

    It rises about with the logarithm of the number of sub-problems that were bounded: each level of
    a tree has twice as many as the one before.
    """

    def __init__(self) -> None:
        self._known: list[tuple[int, float]] = []

    def add(self, bounded: int, worst: float) -> None:
        """After a round: sub-problems bounded so far, and the least bound of open ones."""
        if worst > -math.inf:
            self._known.append((bounded, worst))

    def left(self) -> float:
        """Sub-problems still to be bounded, roughly; infinity where nothing tells."""
        if not self._known:
            return math.inf
        count, worst = self._known[-1]
        if worst >= 0:
            return 0.0
        before = [known for known in self._known if QUARTER * known[0] <= count]
        if not before or not worst > before[-1][1]:
            return math.inf
        gain = (worst - before[-1][1]) / math.log2(count / before[-1][0])
        return count * (2.0 ** min(-worst / gain, MOST_DOUBLINGS) - 1) if gain > 0 else math.inf
