"""One hard instance on a dask cluster: its open sub-problems in parts, a tree for each.

A part comes with a budget of work, not of time, and is put back in its place: what is bounded and
decided depends neither on the number of workers nor on who did what. A part whose worker ended is
done again by another (`gamma.verification.cluster`).
"""

from __future__ import annotations

import math
import pickle
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gamma.errors import ResourceError
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.propagate.alpha import AlphaWalk, Ascent, alpha_walk
from gamma.runtime.threads import limit_blas
from gamma.verification import cluster
from gamma.verification.attack import Attack
from gamma.verification.auto import AutoRun
from gamma.verification.branching.frontier import Items
from gamma.verification.branching.inputs import InputBranching
from gamma.verification.branching.relus import ReluBranching
from gamma.verification.frontier_file import Saved, State
from gamma.verification.replay import Replay
from gamma.verification.result import Counterexample, Result
from gamma.verification.run import select
from gamma.verification.tree_run import TreeRun
from gamma.verification.verdict import limited_threads

if TYPE_CHECKING:
    from gamma.verification.tree_run import Tree

PARTS = 16
"""Parts of a round; each has so many sub-problems at least, or they stay here."""
LEAST = 8
PART_SECONDS = 2.0
"""What each part is worth, roughly and on one thread."""


class Asked(Frozen, eq=True):
    """What all parts are about, the same for every worker."""

    net: Network
    prop: Property
    guarantee: str
    dtype: str
    branch: str
    bounding: str
    attack: bool
    seed: int
    leaves: bool


class Part(Frozen, eq=True):
    """Some of a tree's sub-problems, how much to do (`PART_SECONDS`), and after how many seconds to
    give them back as they are."""

    number: int
    state: State
    work: float
    seconds: float


class Grown(Frozen, eq=True):
    """What became of a part; ``state`` is None where every worker that had it ended."""

    number: int
    state: State | None
    found: Counterexample | None = None
    leaves: tuple[Items, ...] = ()


class SharedRun(AutoRun):
    """Method auto, with rounds of branch and bound on the workers of a cluster.

    Hidden neurons get no trees of their own: their bounds would have to go along.
    """

    scheduler = ""

    def decide(self, attack: bool, explain: bool, seed: int) -> Result:
        self.seed = seed
        cluster.connected(self.scheduler).close()  # before any work: is anybody there?
        return super().decide(attack, explain, seed)

    def _neurons(self, turn: int) -> None:
        """None."""

    def _round(self, tree: Tree) -> tuple[Counterexample | None, int]:
        if len(tree.frontier) < PARTS * LEAST:
            return super()._round(tree)
        self._check()
        asked = Asked(
            *(self.net, self.prop, self.guarantee, self.dtype, self.branch, self.bounding),
            *(self.attack, self.seed, self.cut_up),
        )
        left = math.inf if math.isinf(self.deadline) else self.deadline - time.monotonic()
        parts = [Part(k, s, PART_SECONDS, left) for k, s in enumerate(parted(tree.state(), PARTS))]
        work = partial(grow, pickle.dumps(asked))
        done = list(cluster.each(self.scheduler, work, _given_up, parts))
        lost = [part.number for part in done if part.state is None]
        if lost:
            raise ResourceError(f"every worker that took part {lost[0]} of the tree ended")
        tree.frontier.take(len(tree.frontier))
        found = None
        for part in sorted(done, key=lambda part: part.number):
            assert part.state is not None
            tree.rejoin(part.state)
            found = found or part.found
            if isinstance(tree, InputBranching) and tree.leaves is not None:
                tree.leaves += part.leaves
        return found, PARTS * tree.rounds(PART_SECONDS)


def parted(state: State, count: int) -> list[State]:
    """States of so many parts: the worst sub-problems are dealt out one after the other."""
    bound = state["open.bound"]
    order = np.argsort(bound, kind="stable")
    counts = state["counts"].copy()
    counts[0] = 0
    found = []
    for k in range(count):
        rows = np.sort(order[k::count])
        part = {n: a[rows] if n.startswith("open.") else a for n, a in state.items()}
        part = {name: array for name, array in part.items() if not name.startswith("stuck.")}
        found.append(part | {"counts": counts})
    return found


def grow(asked: bytes, part: Part) -> Grown:
    """A worker's share: rounds of a tree over the part, until their work is done."""
    with limited_threads(1), limit_blas(1):
        run, tree = _tree(asked, part)
        found = None
        try:
            for _ in range(tree.rounds(part.work)):
                if found is None and not tree.done:
                    found = tree.round(run._check)
        except ResourceError:
            if time.monotonic() < run.deadline:
                raise
    leaves = tree.leaves if isinstance(tree, InputBranching) else None
    return Grown(part.number, tree.state(), found, tuple(leaves or ()))


def _given_up(part: Part, seconds: float) -> Grown:
    return Grown(part.number, None)


@lru_cache(1)
def _question(asked: bytes) -> Asked:
    found: Asked = pickle.loads(asked)
    return found


@lru_cache(4)
def _walk(asked: bytes, region: int) -> AlphaWalk:
    """The root's bounds, once for all parts: they are the same bits wherever they are made."""
    run = _run(asked, math.inf)
    one = select(run.prop.box(), np.array([region])).batched(run.net.input_shape)
    return alpha_walk(run.net, one, run._options("alpha"), Ascent())


def _run(asked: bytes, seconds: float) -> TreeRun:
    """A run that asks what the others ask."""
    q = _question(asked)
    timeout = None if math.isinf(seconds) else seconds
    run = TreeRun(q.net, q.prop, "auto", q.guarantee, q.dtype, timeout, time.monotonic(), None)
    run.branch, run.bounding, run.attack, run.cut_up = q.branch, q.bounding, q.attack, q.leaves
    replay = Replay(run.net, run.prop, run.guarantee, run.deadline)
    run.search = Attack(run.net, run.prop, run.targets, replay, q.seed, run.progress)
    return run


def _tree(asked: bytes, part: Part) -> tuple[TreeRun, InputBranching | ReluBranching]:
    run = _run(asked, part.seconds)
    kind = "relu" if "relus" in part.state else "input"
    run.saved = Saved(Path(), kind, run.proved, run.lower, (part.state,))
    run.waiting = [part.state]
    if kind == "input":
        boxes = run._inputs()
        assert boxes is not None
        return run, boxes
    region = int(run.targets.region[part.state["target"][0]])
    cases = run._tree(region, partial(_walk, asked, region), part.state)
    assert cases is not None
    return run, cases
