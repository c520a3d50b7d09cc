"""Method auto: from the cheapest bounds and attacks to branch and bound, until there is a verdict.

Each phase works on what the ones before left open; the clock is only a guard between them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gamma.errors import ResourceError
from gamma.propagate.api import options_of
from gamma.verify.attack import LONG, Attack
from gamma.verify.branching.clauses import Clauses
from gamma.verify.branching.inputs import InputBranching
from gamma.verify.branching.witness import Witnesses
from gamma.verify.replay import Replay
from gamma.verify.result import Branched, Counterexample, Phase, Result
from gamma.verify.run import Run

FEW_INPUTS = 20
"""Up to so many inputs that vary, boxes of them are split."""
FIRST_ROUNDS, MORE_ROUNDS = 7, 40
"""Rounds of input splitting before a quick attack, and before a longer one: easy proofs need no
more."""
ATTACK_SECONDS, ATTACK_SHARE = 4.0, 0.15
"""What the longer attack may take, and which share of the time at most."""
MEMORY = 1 << 30
"""Bytes of open sub-problems when nobody gave a limit."""

Work = Callable[[], Counterexample | None]


class AutoRun(Run):
    """One verification by all means."""

    branched: Branched | None = None
    tree: InputBranching | None = None

    def decide(self, attack: bool, explain: bool, seed: int) -> Result:
        self.explain = explain
        self.replay = Replay(self.net, self.prop, self.guarantee, self.deadline)
        self.notes = self.replay.notes
        self.search = Attack(self.net, self.prop, self.targets, self.replay, seed, self.progress)
        self.attack = attack
        self.attackable = self.search.attackable if attack else np.zeros(0, np.int64)
        self.phases: list[Phase] = []
        cut = False
        try:
            found = self._phases()
        except ResourceError:
            if time.monotonic() < self.deadline:
                raise
            found, cut = None, True
        if found is None and not self.used:
            self._bounds_at_least()
        result = self._result(found, self.search.tried, cut)
        return result

    def _phases(self) -> Counterexample | None:
        """The phases in order, until one settles the question."""
        found = self._centres(self.replay, self.attackable) if self.attack else None
        regions = np.unique(self.targets.region[~self.proved])
        low, high = self.prop.region_arrays()
        free = int((low[regions] < high[regions]).any(axis=0).sum())
        inputs = self.branch == "input" or (self.branch == "auto" and free <= FEW_INPUTS)
        phases: list[tuple[str, Work]] = [("crown", self._crown), ("attack", self._first)]
        if inputs and not self.prop.balls:
            phases += self._by_inputs()
            phases.insert(1, phases.pop(2))
        elif not self._bounds_are_cheaper(self.search, self.attackable):
            phases.reverse()
        for name, phase in phases:
            if found is None:
                found = self._phase(name, phase)
        return found

    def _crown(self) -> None:
        self._bound("crown", self.deadline)

    def _first(self) -> Counterexample | None:
        return self._quick(self.search, self.attackable)

    def _phase(self, name: str, work: Work) -> Counterexample | None:
        """One phase, unless everything is proved or the time is out."""
        if not self._still_open():
            return None
        begin, before = time.monotonic(), int(self.proved.sum())
        try:
            return work()
        finally:
            spent, proved = time.monotonic() - begin, int(self.proved.sum()) - before
            self.phases.append(Phase(name, spent, proved))

    def _still_open(self) -> bool:
        return not self.proved.all() and time.monotonic() < self.deadline

    def _longer(self) -> Counterexample | None:
        limit = min(ATTACK_SECONDS, ATTACK_SHARE * (self.timeout or math.inf))
        return self._attack(self.search, self._open(self.attackable), LONG, limit)

    # --- branch and bound -----------------------------------------------------------------------

    def _by_inputs(self) -> list[tuple[str, Work]]:
        """Rounds of input splitting, with a longer attack in between."""
        return [
            ("branching", lambda: self._rounds(FIRST_ROUNDS)),
            ("branching", lambda: self._rounds(MORE_ROUNDS)),
            ("attack", self._longer),
            ("branching", lambda: self._rounds(None)),
        ]

    def _inputs(self) -> InputBranching | None:
        """The boxes of all that is open; None where no row could close any."""
        left = np.flatnonzero(~self.proved).astype(np.int64)
        clauses = Clauses.of(self.targets, left, len(self.prop.regions))
        if not len(clauses):
            return None
        deadline = None if math.isinf(self.deadline) else self.deadline
        options = options_of(self.net, "crown", self.guarantee, self.dtype, deadline)
        witnesses = Witnesses(clauses, self.search if self.attack else None)
        limit = self.streaming.max_memory_bytes if self.streaming is not None else 0
        self.used.append("branching on inputs")
        return InputBranching(
            self.net, self.prop.box(), clauses, options, witnesses, limit // 2 or MEMORY
        )

    def _rounds(self, most: int | None) -> Counterexample | None:
        """Rounds of branch and bound: so many, or until all is closed or the time is out."""
        if self.tree is None:
            self.tree = self._inputs()
        tree = self.tree
        if tree is None:
            return None
        begin = time.monotonic()
        number = 0
        try:
            while not tree.done and (most is None or number < most):
                self.progress(tree.progress())
                found = tree.round(self._check)
                number += 1
                if found is not None:
                    return found
        finally:
            self._spent("branching", begin)
            self._take_over(tree)
        return None

    def _check(self) -> None:
        if time.monotonic() > self.deadline:
            raise ResourceError("the time limit was reached")

    def _take_over(self, tree: InputBranching) -> None:
        """What branch and bound has proved so far."""
        target = tree.clauses.target
        lower, closed = tree.found()
        self.proved[target[closed]] = True
        better = np.isfinite(lower)
        np.maximum.at(self.lower, target[better], lower[better])
        # Regions with a conjunction that no row could close count as open.
        left = np.setdiff1d(np.flatnonzero(~self.proved), target)
        beside = len(np.unique(self.targets.region[left]))
        self.branched = tree.summary(len(self.prop.regions), beside)

    def _result(self, found: Counterexample | None, tried: int, cut: bool) -> Result:
        result = super()._result(found, tried, cut)
        return replace(result, branched=self.branched, phases=tuple(self.phases))
