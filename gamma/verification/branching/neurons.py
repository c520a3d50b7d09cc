"""Bounds of hidden neurons by ReLU splitting, where slopes alone leave relaxations wide.

Each neuron that crosses 0 is two questions, whether it is >= 0 and whether it is <= 0, with a tree
of cases each over the ReLUs before it. Nothing has to be closed: the least bound among the cases of
a tree holds for the neuron whenever one stops. Layer by layer, so that a layer's bounds serve the
layers behind at once. (Wang et al. 2021 and Zhang et al. 2022 ask a MILP solver the same.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.propagate.alpha import AlphaWalk, alpha_walk
from gamma.propagate.cases import CaseWalk
from gamma.propagate.domain import Domain
from gamma.verification.branching.clauses import Array, Bool, Float64
from gamma.verification.branching.frontier import Items
from gamma.verification.branching.trees import CHUNK, CaseTree, split_seconds
from gamma.verification.targets import Int64, distinct

LEAST, MOST = 4, 1024
"""Splits of a tree: fewer are not worth their root, and more go to the network's own cases."""
TREE_BYTES = 1 << 28


class Plan(Frozen, eq=True):
    """What one walk splits for its neurons.

    Attributes:
        splits: of each tree at most. chosen: linear node -> bool (size,), its neurons that get
            trees.
    """

    splits: int
    chosen: dict[int, Bool]

    @property
    def count(self) -> int:
        """Of the neurons."""
        return sum(int(mask.sum()) for mask in self.chosen.values())


def planned(tree: CaseTree[Any], seconds: float) -> Plan | None:
    """A plan that takes ``seconds``, roughly and on one thread; None where nothing can be gained.

    Where the time is too short for all neurons, those whose relaxations cost the open roots of
    ``tree`` most.
    """
    walk = tree.walk
    network = walk.made.network
    behind = np.flatnonzero(walk.layer > 0)
    if not len(behind):
        return None
    source = np.array([network.nodes[index].inputs[0] for index in walk.nodes])
    costs = 2 * np.array([split_seconds(network, int(index)) for index in source])
    price = costs[walk.layer[behind]]
    splits = int(min(seconds / price.sum(), MOST))
    if splits < LEAST:
        order = np.argsort(-tree.worth[behind], kind="stable")
        within = np.cumsum(price[order]) * LEAST <= seconds
        behind, splits = np.sort(behind[order[within & (tree.worth[behind[order]] > 0)]]), LEAST
    chosen: dict[int, Bool] = {}
    for k in distinct(walk.layer[behind]):
        keep = walk.tables.columns(walk.nodes[k])
        place = walk.place[behind[walk.layer[behind] == k]]
        mask = np.zeros(network.nodes[source[k]].size, bool)
        mask[place if keep is None else keep[place]] = True
        chosen[int(source[k])] = mask
    return Plan(splits, chosen) if chosen else None


def split_walk(made: AlphaWalk, plan: Plan) -> NeuronWalk:
    """A walk over the box of ``made``, a single one, from its bounds on, as planned."""
    network = made.network
    facts = {
        index: (known.lower, known.upper)
        for index, known in enumerate(made.bounds)
        if index and not network.nodes[index].op.diagonal
    }
    kind = partial(NeuronWalk, plan=plan)
    found = alpha_walk(network, Domain(made.box, facts), made.options, made.how, kind=kind)
    assert isinstance(found, NeuronWalk)
    return found


class NeuronWalk(AlphaWalk):
    """A walk with optimised slopes whose hidden neurons also get trees of cases.

    Attributes:
        plan: for which neurons, and how many splits. bounded: cases bounded so far.
    """

    at_once = False

    def __init__(self, *given: Any, plan: Plan | None = None) -> None:
        super().__init__(*given)
        self.plan, self.bounded = plan, 0

    def _bound(self, index: int, mask: npt.NDArray[np.bool_]) -> None:
        super()._bound(index, mask)
        if self.plan is not None and index in self.plan.chosen:
            known = self.bounds[index]
            crosses = ((known.lower < 0) & (known.upper > 0)).ravel()
            neurons = np.flatnonzero(crosses & self.plan.chosen[index])
            if len(neurons):
                self._split(index, neurons, self.plan.splits)

    def _split(self, index: int, neurons: Int64, splits: int) -> None:
        """Meet the neurons' bounds with those of their trees."""
        first = np.zeros(len(neurons), np.int64)
        rows, d, _ = self.both_signs(index, first, neurons)
        frontier = {i: block.dense() for i, block in rows.items()}
        tree = NeuronBranching(CaseWalk(self, frontier, d), len(neurons))
        lower, upper = tree.run(splits, self.options.check)
        self.bounded += tree.bounded
        self.tighten(index, first, neurons, lower, upper)


class Signs:
    """Questions about ``count`` neurons: whether they are >= 0, then whether they are <= 0."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return 2 * self.count

    def members(self, clause: Int64) -> tuple[Int64, Int64]:
        return clause, np.arange(len(clause))

    def limit(self, rows: Int64) -> Float64:
        return np.zeros(len(rows))

    def excluded(self, rows: Int64, lower: Float64) -> Bool:
        done: Bool = np.isfinite(lower) & (lower >= 0)
        return done

    def in_units(self, rows: Int64, lower: Float64) -> Float64:
        return lower


class NeuronBranching(CaseTree[Signs]):
    """A tree of cases for each sign of some neurons; all of them grow together.

    The rows of ``walk`` are the neurons and then their negatives.
    """

    def __init__(self, walk: CaseWalk, count: int) -> None:
        super().__init__(walk, Signs(count), TREE_BYTES)
        self.count = count

    def run(self, splits: int, check: Callable[[], None]) -> tuple[Float64, Float64]:
        """Lower and upper bounds (count,) after so many splits of each tree, or fewer."""
        self.round(check)
        done = 0
        while done < splits and len(self._worst(1)):
            # Few trees give few cases: each then splits several, for products of some size.
            self.each = max(1, min(CHUNK // max(len(self._worst(1)), 1), splits - done))
            self.round(check)
            done += self.each
        lower, _ = self.found()
        return lower[: self.count], -lower[self.count :]

    each = 1

    def take(self) -> Items:
        return self.frontier.remove(np.sort(self._worst(self.each)))

    def _worst(self, each: int) -> Array:
        """Open cases, the worst of each tree, of the neurons whose sign is open.

        None of a tree whose least bound is that of a case which cannot be split: it is final.
        """
        if not len(self.frontier):
            return np.zeros(0, np.int64)
        clause, bound = self.frontier["clause"], self.frontier["bound"]
        _, closed = self.found()
        known = closed[: self.count] | closed[self.count :]
        order = np.lexsort((bound, clause))
        begin = np.searchsorted(clause[order], clause[order])
        rank = np.arange(len(order)) - begin
        final = np.full(2 * self.count, np.inf)
        for items in self.stuck:
            np.minimum.at(final, items["clause"], items["bound"])
        open_ones = ~known[clause[order] % self.count] & (bound[order] < final[clause[order]])
        picked: Array = order[(rank < each) & open_ones]
        return picked
