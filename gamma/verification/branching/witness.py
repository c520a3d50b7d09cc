"""Witnesses from branch and bound: the inputs at which bounds of the worst sub-problems are taken.

They are evaluated as they are, and now and then a short descent starts from the best of them.
Nothing here decides: a candidate counts only after its replay.
"""

from __future__ import annotations

import numpy as np

from gamma.verification.attack import Attack
from gamma.verification.branching.clauses import Clauses, Float64
from gamma.verification.result import Counterexample
from gamma.verification.targets import Int64

POINTS = 64
"""Points evaluated after a round."""
DESCEND = 16
"""Every so many rounds a descent starts from the best points."""
STARTS, STEPS = 8, 10


class Witnesses:
    """Where proposals of witnesses go.

    ``search`` is the attack whose replay judges; None: nobody looks for witnesses.
    """

    def __init__(self, clauses: Clauses, search: Attack | None) -> None:
        self.clauses, self.search = clauses, search
        self.rounds = 0

    def probe(self, clause: Int64, x: Float64, bound: Float64) -> Counterexample | None:
        """Evaluate the points (points, inputs) with the least bounds, one round's."""
        self.rounds += 1
        if self.search is None or not len(clause):
            return None
        worst = np.argsort(bound, kind="stable")[:POINTS]
        target = self.clauses.target[clause[worst]]
        steps = STEPS if self.rounds % DESCEND == 0 else 0
        return self.search.near(target, x[worst], STARTS, steps)
