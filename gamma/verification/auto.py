"""Method auto: from the cheapest bounds and attacks to branch and bound, until there is a verdict.

Each phase works on what the ones before left open; the clock is only a guard between them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from gamma.errors import ResourceError
from gamma.propagate import bounding_method, expected_seconds
from gamma.verification import branching
from gamma.verification.attack import Attack
from gamma.verification.effort import LONG
from gamma.verification.replay import Replay
from gamma.verification.result import Counterexample, Phase, Result
from gamma.verification.targets import distinct
from gamma.verification.tree_run import IN_SIGHT, NEURON_SECONDS, TreeRun

if TYPE_CHECKING:
    from gamma.verification.tree_run import Tree

FEW_INPUTS = 20
"""Up to so many inputs that vary, boxes of them are split."""
FIRST_ROUNDS, MORE_ROUNDS = 7, 40
"""Rounds of input splitting before a quick attack, and before a longer one: easy proofs need no
more."""
FEWEST_RACED = 5
"""Up to so many inputs that vary, boxes are split without a race."""
RACE_SECONDS = 1.0
"""What each side of a race does, roughly and on one thread."""
FEW_ROUNDS = 2
"""The same for ReLUs: what bounds leave open by little."""
CHEAP = 0.02
"""Expected seconds of crown's bounds below which slopes are optimised before a quick attack."""
DEAR = 0.1
"""The same above which an attack of its full work comes before slopes: these take twenty times as
long."""
ATTACK_SECONDS, ATTACK_SHARE = 4.0, 0.15
"""What the first longer attack may take, and which share of the time each at most."""

Work = Callable[[], Counterexample | None]
Turn = Callable[[int], Counterexample | None]


class AutoRun(TreeRun):
    """One verification by all means."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.phases: list[Phase] = []

    def decide(self, attack: bool, explain: bool, seed: int) -> Result:
        self.explain = explain
        self.replay = Replay(self.net, self.prop, self.guarantee, self.deadline)
        self.notes = self.replay.notes
        self.search = Attack(self.net, self.prop, self.targets, self.replay, seed, self.progress)
        self.attack = attack
        self.attackable = self.search.attackable if attack else np.zeros(0, np.int64)
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
        regions = distinct(self.targets.region[~self.proved])
        low, high = self.prop.region_arrays()
        free = int((low[regions] < high[regions]).any(axis=0).sum())
        inputs = self.branch == "input" or (self.branch == "auto" and free <= FEW_INPUTS)
        if inputs and not self.prop.balls:
            self.bounding = bounding_method(self.net, free)
        phases: list[tuple[str, Work]] = [(self.bounding, self._bounds), ("attack", self._first)]
        if inputs and not self.prop.balls:
            phases += self._by_inputs()
            phases.insert(1, phases.pop(2))
        else:
            if not self._bounds_are_cheaper(self.search, self.attackable):
                phases.reverse()
            phases += self._by_relus()
            seconds = expected_seconds(self.net, "crown", len(regions), 9)
            if seconds > DEAR:
                phases.insert(2, ("attack", partial(self._longer, math.inf)))
            elif seconds < CHEAP and self._splits_relus():
                # Slopes, and a few splits, before any attack.
                phases = [p for p in phases if p[1] != self._first]
                phases.insert(3, ("attack", self._first))
        if self.waiting and self.saved is not None:
            inputs = self.saved.kind == "input"
            phases = self._by_inputs() if inputs else self._by_relus()
            phases = [p for p in phases if p[0] in ("alpha", "")]
        for name, phase in phases:
            if found is None:
                found = self._phase(name, phase)
        return found

    def _bounds(self) -> None:
        self._bound(self.bounding, self.deadline)

    def _alpha(self) -> None:
        self._bound("alpha", self.deadline)

    def _first(self) -> Counterexample | None:
        return self._quick(self.search, self.attackable)

    def _phase(self, name: str, work: Work) -> Counterexample | None:
        """One phase, unless everything is proved or the time is out; "" consists of others."""
        if not self._still_open():
            return None
        begin, before = time.monotonic(), int(self.proved.sum())
        try:
            return work()
        finally:
            spent, proved = time.monotonic() - begin, int(self.proved.sum()) - before
            if name:
                self.phases.append(Phase(name, spent, proved))

    def _still_open(self) -> bool:
        return not self.proved.all() and time.monotonic() < self.deadline

    def _longer(self, seconds: float = ATTACK_SECONDS) -> Counterexample | None:
        limit = min(seconds, ATTACK_SHARE * (self.timeout or math.inf))
        return self._attack(self.search, self._open(self.attackable), LONG, limit)

    def _in_turns(self, *works: tuple[str, Turn]) -> Counterexample | None:
        """Several works by turns, which get longer and longer."""
        turn = 0
        while self._still_open() and (turn == 0 or not all(tree.done for tree in self.trees)):
            for name, work in works:
                found = self._phase(name, partial(work, turn))
                if found is not None:
                    return found
            turn += 1
        return None

    def _attack_longer(self, turn: int) -> Counterexample | None:
        return self._longer(ATTACK_SECONDS * 2**turn)

    def _attack_unless_in_sight(self, turn: int) -> Counterexample | None:
        """A longer search; the first one waits where cases will end before long.

        The least bound of a violated question rises, too, before it stands still: not twice.
        """
        near = sum(tree.seconds_left() for tree in self.trees) <= IN_SIGHT * ATTACK_SECONDS
        return None if turn == 0 and near else self._attack_longer(turn)

    # --- branch and bound -----------------------------------------------------------------------

    def _by_inputs(self) -> list[tuple[str, Work]]:
        """Rounds of input splitting, with a longer attack in between; cases, where they race."""
        return [
            ("branching", lambda: self._rounds(FIRST_ROUNDS)),
            ("race", self._race),
            ("", lambda: self._in_turns(*(self._boxes() if self._on_boxes else self._cases()))),
        ]

    def _boxes(self) -> tuple[tuple[str, Turn], ...]:
        """What takes turns where inputs are split."""

        def rounds(turn: int) -> Counterexample | None:
            return self._rounds(MORE_ROUNDS << turn)

        return ("branching", rounds), ("attack", self._attack_longer)

    def _cases(self) -> tuple[tuple[str, Turn], ...]:
        """What takes turns where ReLUs are split."""

        def rounds(turn: int) -> Counterexample | None:
            return self._grow(lambda tree: tree.rounds(NEURON_SECONDS * 4**turn))

        attack = self._attack_unless_in_sight
        return ("neurons", self._neurons), ("branching", rounds), ("attack", attack)

    @property
    def _on_boxes(self) -> bool:
        return not self.trees or isinstance(self.trees[0], branching.InputBranching)

    def _race(self) -> Counterexample | None:
        """The same work for boxes and for cases of ReLUs: those that will end sooner go on.

        Where inputs are few, boxes are best, and with several regions cases begin too often.
        """
        if (
            not self.trees
            or self.trees[0].done
            or self.cut_up
            or self.leaves
            or self.branch != "auto"
        ):
            return None
        boxes = self.trees[0]
        assert isinstance(boxes, branching.InputBranching)
        if len(boxes.free) <= FEWEST_RACED or len(boxes.widths) > 1 or not self._splits_relus():
            return None
        found = self._compete(boxes)
        if found is not None or boxes.done:
            return found
        before, self.trees = self.branched, []
        self._roots()
        for cases in self.trees:
            found = found or self._compete(cases)
        if found is None and self.trees and not self.proved.all():
            if sum(tree.seconds_left() for tree in self.trees) >= boxes.seconds_left():
                self.trees, self.branched = [boxes], before
        return found

    def _by_relus(self) -> list[tuple[str, Work]]:
        """Optimised slopes, a longer attack, and rounds of ReLU splitting."""
        if not self._splits_relus():
            if self.streaming is not None:
                self.notes.append(
                    "bounds are streamed or have a memory limit: no slopes are optimised and no "
                    "ReLUs split"
                )
            alpha = [("alpha", self._alpha)] if self.streaming is None else []
            return [*alpha, ("attack", self._longer)]

        return [
            ("alpha", self._roots),
            ("branching", lambda: self._grow(lambda _: FEW_ROUNDS)),
            ("", lambda: self._in_turns(*self._cases())),
        ]

    def _compete(self, tree: Tree) -> Counterexample | None:
        """Rounds of a tree that come to `RACE_SECONDS`."""
        begin, found = tree.bounded, None
        while found is None and not tree.done:
            if (tree.bounded - begin) * tree.cost > RACE_SECONDS:
                break
            found = self._run_rounds(tree, 1)
        return found

    def _splits_relus(self) -> bool:
        relus = any(node.op.hinge for node in self.net.nodes)
        return relus and self.streaming is None and self.branch in ("auto", "relu")

    def _result(self, found: Counterexample | None, tried: int, cut: bool) -> Result:
        return replace(super()._result(found, tried, cut), phases=tuple(self.phases))
