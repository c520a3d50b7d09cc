"""Branch and bound on what a verification left open: trees over inputs or ReLUs, kept in a file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from gamma.propagate.options import Options, options_of
from gamma.propagate.questions import question
from gamma.runtime import workers
from gamma.runtime.threads import limit_blas
from gamma.telemetry import spanned
from gamma.verification import branching
from gamma.verification.attack import Attack
from gamma.verification.result import Branched, Counterexample, Result
from gamma.verification.run import Run, select
from gamma.verification.targets import Int64, distinct

if TYPE_CHECKING:
    from gamma.propagate.alpha import AlphaWalk
    from gamma.verification.branching import InputBranching, ReluBranching
    from gamma.verification.frontier_file import FrontierFile, Saved, State

    Tree = InputBranching | ReluBranching

NEURON_SECONDS = 1.0
"""What splits for bounds of hidden neurons take in the first turn, roughly, and as much the cases
after them; four times as much each turn."""
IN_SIGHT = 4.0
"""Times what hidden neurons would take: cases that end in less go on."""
MEMORY = 1 << 30
"""Bytes of open sub-problems when nobody gave a limit."""

SPLITS_RELUS = "branching on ReLUs"


class TreeRun(Run):
    """One verification with trees of sub-problems.

    Attributes:
        search, attack: what tries the points that trees propose, and whether it is asked to.
        trees: over all that was open (inputs), or one for each region (ReLUs).
        bounding: method that bounds boxes. branched: what trees came to. cut_up: whether leaves are
            kept, for a partition.
    """

    search: Attack
    attack = False
    bounding = "crown"
    branched: Branched | None = None
    cut_up = leaves = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.trees: list[Tree] = []
        # Number of a tree -> turn before which its hidden neurons get no trees.
        self.resting: dict[int, int] = {}
        self.file: FrontierFile | None = None
        self.saved: Saved | None = None
        self.waiting: list[State] = []

    def keep_open(self, file: str | Path | None, resume: str | Path | None) -> None:
        """Write what is open to ``file``; start from what the run that wrote ``resume`` had."""
        if file is None and resume is None:
            return
        from gamma.verification.frontier_file import FrontierFile, key_of, read

        key = key_of(self.net, self.prop, self.guarantee, self.dtype)
        if resume is not None:
            self.saved = saved = read(resume, key, len(self.targets))
            self.waiting = list(saved.trees)
            self.proved |= saved.proved
            self.lower = np.maximum(self.lower, saved.lower)
        self.file = None if file is None else FrontierFile(file, key)

    def _restored(self, tree: Tree, state: State | None) -> Tree:
        """The tree, where another run was with it if it had begun."""
        if state is None or self.saved is None:
            return tree
        try:
            tree.restore(state)
        except (ValueError, KeyError) as error:
            from gamma.verification.frontier_file import damaged

            raise damaged(self.saved.path, str(error)) from None
        self.waiting = [other for other in self.waiting if other is not state]
        return tree

    def _targets_of(self, state: State) -> Int64:
        """The targets that a stored tree is about."""
        target = state.get("target", np.zeros(0))
        fits = target.dtype == np.int64 and target.ndim == 1 and len(target)
        if not fits or target.min() < 0 or target.max() >= len(self.targets):
            from gamma.verification.frontier_file import damaged

            raise damaged(self.saved.path if self.saved else "", "what a tree is about")
        return distinct(target)

    def _keep(self) -> None:
        """Write what is open."""
        if self.file is not None:
            # Cases over neurons' trees stand on bounds that the file does not hold: their root
            # begins anew.
            kept = [tree for tree in self.trees if not _over_neurons(tree)]
            trees = [*(tree.kept() for tree in kept), *self.waiting]
            inputs = any(isinstance(tree, branching.InputBranching) for tree in self.trees)
            kind = self.saved.kind if self.waiting and self.saved else "relu" if trees else ""
            kind = "input" if inputs else kind
            self.file.write(kind, self.proved, self.lower, trees)

    @spanned("alpha")
    def _roots(self) -> None:
        """Bounds with optimised slopes, of each region that is open, as roots of trees."""
        from gamma.propagate.alpha import Ascent, alpha_walk

        begun = {int(self.targets.region[t[0]]): s for s in self.waiting
                 if len(t := self._targets_of(s))}  # fmt: skip
        box, options = self.prop.box(), self._options("alpha")
        self.used.append("alpha")
        begin = time.monotonic()
        try:
            for region in distinct(self.targets.region[~self.proved]):
                self.progress(f"alpha: region {region}")
                one = select(box, np.array([region])).batched(self.net.input_shape)
                walk = partial(alpha_walk, self.net, one, options, Ascent())
                with self._one_blas():
                    tree = self._tree(int(region), walk, begun.get(int(region)))
                self.trees += [] if tree is None else [tree]
        finally:
            self._spent("alpha", begin)

    def _tree(
        self, region: int, made: Callable[[], AlphaWalk], state: State | None = None
    ) -> ReluBranching | None:
        """What is open of a region, bounded by a walk over it; or a tree that was stored."""
        from gamma.propagate.cases import CaseWalk

        left = np.flatnonzero(~self.proved & (self.targets.region == region)).astype(np.int64)
        left = left if state is None else self._targets_of(state)
        clauses = branching.Clauses.of(self.targets, left, len(self.prop.regions))
        if not len(clauses):
            return None
        rows = np.arange(len(clauses.rows.constant))
        asked = clauses.specification(rows, np.zeros(len(rows), np.int64))
        walk = made()
        tree = branching.ReluBranching(
            CaseWalk(walk, *question(walk, asked)), clauses, self._memory
        )
        tree.leaves = [] if self.leaves else None
        if state is None:
            tree.round(self._check)
        self._restored(tree, state)
        self._take_over(tree)
        return tree

    @spanned("neurons")
    def _neurons(self, turn: int) -> None:
        """Roots of the trees that are open, anew, with bounds of hidden neurons by splitting."""
        begin = time.monotonic()
        try:
            self._again_by_neurons(turn)
        finally:
            self._spent("neurons", begin)

    def _again_by_neurons(self, turn: int) -> None:
        from gamma.propagate.alpha import AlphaWalk

        if self.leaves:  # the bounds that they stand on would have to go along
            return
        opened = [k for k, tree in enumerate(self.trees) if not tree.done]
        for k in opened:
            if turn < self.resting.get(k, 0):
                continue
            old = self.trees[k]
            assert isinstance(old, branching.ReluBranching)
            share = NEURON_SECONDS * 4**turn / len(opened)
            # Cases whose end is in sight go on: better bounds of hidden neurons begin them anew.
            plan = branching.planned(old, share) if old.seconds_left() > IN_SIGHT * share else None
            if plan is None:
                continue
            self.progress(f"neurons: {plan.count:,} get {plan.splits} splits")
            made = old.walk.made
            assert isinstance(made, AlphaWalk)
            region = int(self.targets.region[old.clauses.target[0]])
            with self._one_blas():
                tree = self._tree(region, partial(branching.split_walk, made, plan))
            # Cases that came farther than the new root stay: only a better root begins anew.
            if tree is not None and (tree.done or tree.frontier.worst > old.frontier.worst):
                tree.follow(old)
                self.trees[k] = tree
            else:
                # Where cases come farther, as in convolutional networks, the time is theirs.
                self.resting[k] = 2 * turn + 2

    @staticmethod
    def _one_blas() -> AbstractContextManager[Any]:
        """Threads share the blocks of a walk, each with a BLAS of one thread."""
        return limit_blas(1) if workers.workers() > 1 else nullcontext()

    def _grow(self, most: Callable[[ReluBranching], int]) -> Counterexample | None:
        """Rounds of ReLU splitting, so many, region by region."""
        for tree in self.trees:
            if isinstance(tree, branching.ReluBranching) and not tree.done:
                self.used += [] if SPLITS_RELUS in self.used else [SPLITS_RELUS]
                found = self._run_rounds(tree, most(tree))
                if found is not None:
                    return found
        return None

    def _options(self, method: str) -> Options:
        deadline = None if math.isinf(self.deadline) else self.deadline
        return options_of(self.net, method, self.guarantee, self.dtype, deadline)

    @property
    def _memory(self) -> int:
        limit = self.streaming.max_memory_bytes if self.streaming is not None else 0
        return limit // 2 or MEMORY

    def _inputs(self) -> InputBranching | None:
        """The boxes of all that is open; None where no row could close any."""
        state = self.waiting[0] if self.waiting else None
        left = np.flatnonzero(~self.proved).astype(np.int64)
        left = left if state is None else self._targets_of(state)
        clauses = branching.Clauses.of(self.targets, left, len(self.prop.regions))
        if not len(clauses):
            return None
        witnesses = branching.Witnesses(clauses, self.search if self.attack else None)
        self.used.append("branching on inputs")
        tree = branching.InputBranching(
            self.net,
            self.prop.box(),
            clauses,
            self._options(self.bounding),
            witnesses,
            self._memory,
        )
        tree.leaves = [] if self.cut_up or self.leaves else None
        self._restored(tree, state)
        return tree

    def _rounds(self, most: int) -> Counterexample | None:
        """Rounds of input splitting: so many, or until all is closed or the time is out."""
        if not self.trees:
            tree = self._inputs()
            self.trees += [] if tree is None else [tree]
        return self._run_rounds(self.trees[0], most) if self.trees else None

    @spanned("branching")
    def _run_rounds(self, tree: Tree, most: int) -> Counterexample | None:
        begin = time.monotonic()
        number = 0
        try:
            while not tree.done and number < most:
                self.progress(tree.progress())
                found, done = self._round(tree)
                number += done
                if self.file is not None and self.file.due:
                    self._keep()
                if found is not None:
                    return found
        finally:
            self._spent("branching", begin)
            self._take_over(tree)
        return None

    def _round(self, tree: Tree) -> tuple[Counterexample | None, int]:
        """A witness, if one round or more found one, and how many they were."""
        # Rounds share their chunks among threads; a last, single chunk gains nothing from threads
        # of the BLAS, and would round by their number.
        with limit_blas(1):
            return tree.round(self._check), 1

    def _take_over(self, tree: Tree) -> None:
        """What branch and bound has proved so far."""
        target = tree.clauses.target
        lower, closed = tree.found()
        self.proved[target[closed]] = True
        better = np.isfinite(lower)
        np.maximum.at(self.lower, target[better], lower[better])
        # Regions with a conjunction that no row could close count as open.
        left = np.setdiff1d(np.flatnonzero(~self.proved), target)
        beside = len(distinct(self.targets.region[left]))
        self.branched = tree.summary(len(self.prop.regions), beside)

    def _result(self, found: Counterexample | None, tried: int, cut: bool) -> Result:
        result = super()._result(found, tried, cut)
        self._keep()
        if self.leaves:
            from gamma.verification.branching.leaves import Leaves

            result = replace(result, leaves=tuple(map(Leaves.of, self.trees)))
        if self.cut_up:
            from gamma.verification.partition import partition

            regions = np.arange(len(self.prop.regions))
            before = np.setdiff1d(regions, self.targets.region[~self.proved])
            in_trees = [tree.clauses.region for tree in self.trees]
            whole = np.setdiff1d(before, np.concatenate([np.zeros(0, np.int64), *in_trees]))
            result = replace(result, partition=partition(self.prop, whole.tolist(), self.trees))
        return replace(result, branched=self.branched)


def _over_neurons(tree: Tree) -> bool:
    """Whether the tree's cases stand on bounds by other trees."""
    return isinstance(tree, branching.ReluBranching) and isinstance(
        tree.walk.made, branching.NeuronWalk
    )
