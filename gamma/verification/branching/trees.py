"""ReLU splitting: cases in which some ReLUs are assumed to be on one side of 0 (β-CROWN).

All cases of a region share the bounds of one walk with optimised slopes; a case adds assumptions,
their multipliers and the slopes of its row. One round takes the worst cases, tries a few ReLUs on
each, splits the one whose worse half gains most, and raises the bounds of both halves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np
from msgspec.structs import replace

from gamma.network.graph import Network
from gamma.propagate.blocks import row_cost
from gamma.propagate.cases import Cases, CaseWalk
from gamma.propagate.rows.ascent import in_one_call
from gamma.runtime import workers
from gamma.verification.branching.clauses import Array, Bool, Float64
from gamma.verification.branching.frontier import Frontier, Items, chosen, divided
from gamma.verification.branching.rise import Rise
from gamma.verification.result import Counterexample
from gamma.verification.targets import Int64

ROUND, CHUNK = 512, 128
"""Cases of a round at most, and those whose rows go down together."""
ROUND_SECONDS = 0.25
"""What a round may take, roughly: all that it did is lost when the time runs out in it."""
DESCENT_SECONDS = 0.05
"""What one descent of a chunk may take, roughly: the clock is not looked at inside a node."""
FIRST_STEPS, STEPS, MORE_STEPS, LAST_STEPS = 20, 4, 8, 60
"""Descents of a root's row, of a new case's, of one that may be near its proof, and of one whose
relaxations cost nothing: its multipliers alone are not at their best."""
LAST_TIMES = 8
"""How often the latter start anew from their multipliers."""
TRIED = 6
"""ReLUs that are tried before one is split."""
DESCENTS = 2 * TRIED + 4 * (STEPS + MORE_STEPS)
"""What a split takes at most, in descents of one row; a sweep costs what a descent does."""


STEP_SECONDS, ONE_CALL_SECONDS = 4e-4, 4e-5
"""What it takes beside them, roughly; and where the C library takes all steps of an ascent."""


def split_seconds(network: Network, last: int) -> float:
    """What a split takes, roughly, of a row from node ``last``."""
    beside = ONE_CALL_SECONDS if in_one_call(network, last) else STEP_SECONDS
    return 1e-9 * DESCENTS * row_cost(network, last, dense=True) + beside


class Questions(Protocol):
    """What a tree decides: clauses of one row or more, as `Clauses` has them."""

    def __len__(self) -> int: ...

    def members(self, clause: Int64, /) -> tuple[Int64, Int64]:
        """Rows of these clauses one after the other, and where each one's begin."""

    def limit(self, rows: Int64, /) -> Float64:
        """Lower bounds from which on these rows settle what they stand for, where finite."""

    def excluded(self, rows: Int64, lower: Float64, /) -> Bool:
        """Whether lower bounds of these rows do."""

    def in_units(self, rows: Int64, lower: Float64, /) -> Float64:
        """Lower bounds of these rows in the units of the answer."""


Q = TypeVar("Q", bound=Questions)


class CaseTree(Generic[Q]):
    """Branch and bound over cases of one walk.

    A clause of several rows is one question for each of them; excluding one of these excludes the
    clause. The tree follows the row that starts nearest to a proof.

    Attributes:
        frontier: ``clause``, ``question``, ``bound``, ``depth``, ``relu``, ``sign``, ``beta``,
            ``slope`` (see `Cases`) and ``tried``, the ReLUs worth splitting.
        cost: of a case, in seconds, roughly: a split bounds two. rise: of the worst bound.
        bounded: cases bounded so far. depth: of the deepest. stuck: cases without a ReLU to split.
        worth: (ReLUs,), what each one's relaxation costs the open roots together.
        leaves: where somebody asked for them (an empty list, before the first round), the cases
            that were closed: assumptions, the row that closed each, and the slopes and β with which
            it did, as they were.
    """

    leaves: list[Items] | None = None

    def __init__(self, walk: CaseWalk, clauses: Q, most_bytes: int) -> None:
        self.walk, self.clauses = walk, clauses
        self.frontier = Frontier(most_bytes)
        self.bounded, self.depth = 0, 0
        self.stuck: list[Items] = []
        self.worth = np.zeros(walk.relus)
        self.rise, self._before = Rise(), 0
        self.cost = 0.5 * split_seconds(walk.made.network, walk.last)
        descent = row_cost(walk.made.network, walk.last, dense=True) * 1e-9
        self.batch = int(np.clip(ROUND_SECONDS / (descent * DESCENTS + 1e-9), 2, ROUND))
        together = int(DESCENT_SECONDS / (4 * TRIED * descent + 1e-9))
        self.chunk = max(1, min(CHUNK, self.batch // 2, together))
        self.batch -= self.batch % self.chunk
        self.started = False

    def rounds(self, seconds: float) -> int:
        """How many rounds take so long, roughly and on one thread; at least one."""
        network = self.walk.made.network
        return max(1, int(seconds / (self.batch * split_seconds(network, self.walk.last))))

    def seconds_left(self) -> float:
        """What is left will take so long, roughly and on one thread."""
        return self.rise.left() * self.cost

    def follow(self, other: CaseTree[Q]) -> None:
        """Take another tree's place: what that one bounded counts as well."""
        self._before += other.bounded
        self.bounded += other.bounded

    @property
    def done(self) -> bool:
        """Whether nothing is left that could be split."""
        return self.started and not len(self.frontier)

    def round(self, check: Callable[[], None]) -> Counterexample | None:
        """Split the worst cases; ``check`` may raise, and then nothing has changed."""
        if not self.started:
            self._start(check)
            return None
        items = self.take()
        parts = divided(items, self.chunk)
        try:
            check()
            found = workers.run([partial(self._split, part, check) for part in parts])
        except BaseException:
            self.frontier.push(items)
            raise
        for children in found:
            self._add(children)
        self.rise.add(self.bounded - self._before, self.frontier.worst)
        return None

    def take(self) -> Items:
        """Remove the cases that a round splits from the frontier."""
        return self.frontier.take(self.batch)

    def _start(self, check: Callable[[], None]) -> None:
        """Rows of all clauses, of each the one nearest to its proof."""
        rows, begin = self.clauses.members(np.arange(len(self.clauses)))
        cases = self.walk.start(rows)
        lower, cost = self._ascend(cases, FIRST_STEPS, check)
        value = self.clauses.in_units(rows, lower)
        best = [
            int(first + np.argmax(value[first:last]))
            for first, last in zip(begin, np.append(begin[1:], len(rows)), strict=True)
        ]
        owner = np.arange(len(self.clauses))
        self.started = True
        items = self._items(cases.take(np.array(best)), owner, lower[best], cost[best], 0)
        self.worth = np.maximum(cost[best][~items["done"]], 0).sum(axis=0)
        self._add(items)
        self.rise.add(self.bounded - self._before, self.frontier.worst)

    def _items(
        self, cases: Cases, clause: Int64, lower: Float64, cost: Array, depth: int | Array
    ) -> Items:
        """Cases that were bounded, as rows of the frontier."""
        value = self.clauses.in_units(cases.question, lower)
        done = self.clauses.excluded(cases.question, lower)
        tried = np.full((len(lower), TRIED), -1)
        order = dearest(_worth_splitting(cost, cases.relu), TRIED)
        tried[:, : order.shape[1]] = order
        return {
            "clause": clause,
            "question": cases.question,
            "bound": value,
            "depth": np.broadcast_to(np.asarray(depth, np.int16), value.shape).copy(),
            "relu": cases.relu.astype(np.int32),
            "sign": cases.sign,
            "beta": cases.beta,
            "slope": cases.slope,
            "tried": tried.astype(np.int32),
            "done": done,
        }

    def _add(self, items: Items) -> None:
        """Count bounded cases and keep those that are open."""
        self.bounded += len(items["bound"])
        self.depth = max(self.depth, int(items["depth"].max(initial=0)))
        done = np.asarray(items.pop("done"))
        if self.leaves is not None:
            self.leaves.append(chosen(items, done))
        left = chosen(items, ~done)
        # What is open starts anew from these: less of them will do.
        left["beta"] = left["beta"].astype(np.float32)
        left["slope"] = left["slope"].astype(np.float16)
        hopeless = np.asarray(~(left["tried"] >= 0).any(axis=1))
        if hopeless.any():
            self.stuck.append(chosen(left, hopeless))
        self.frontier.push(self._widened(chosen(left, ~hopeless)))

    def _widened(self, items: Items) -> Items:
        """Room for one more assumption than any case has had so far."""
        have = self.frontier["relu"].shape[1] if self.frontier.columns else 0
        want = max(have, items["relu"].shape[1])
        if have < want and self.frontier.columns:
            self.frontier.widen({"relu": (want, -1), "sign": (want, 0), "beta": (want, 0)})
        for name, blank in (("relu", -1), ("sign", 0), ("beta", 0)):
            short = want - items[name].shape[1]
            items[name] = np.pad(items[name], ((0, 0), (0, short)), constant_values=blank)
        return items

    def _cases(self, items: Items) -> Cases:
        dtype = self.walk.tables.how.dtype
        return Cases(
            items["question"],
            items["slope"].astype(dtype),
            items["relu"].astype(np.int64),
            items["sign"],
            items["beta"].astype(np.float64),
        )

    def _split(self, items: Items, check: Callable[[], None]) -> Items:
        """Both halves of some cases, bounded."""
        parents = self._cases(items)
        count = len(items["bound"])
        relu, known = self._choose(parents, items["tried"].astype(np.int64), check)
        cases = _assuming(
            parents, np.tile(np.arange(count), 2), np.tile(relu, 2), _SIDES.repeat(count)
        )
        # What the choice closed already stays as it is.
        lower = known.T.ravel()
        cost = np.zeros((2 * count, self.walk.relus), self.walk.tables.how.dtype)
        self._again(cases, lower, cost, np.ones(2 * count, bool), STEPS, check)
        # Far from a proof more steps do not help; a split does.
        gain = lower - np.tile(known.min(axis=1), 2)
        self._again(cases, lower, cost, lower + 3 * abs(gain) > 0, MORE_STEPS, check)
        self._at_last(cases, lower, cost, check)
        depth = np.tile(items["depth"], 2) + 1
        found = self._items(cases, np.tile(items["clause"], 2), lower, cost, depth)
        found["bound"] = np.maximum(found["bound"], np.tile(items["bound"], 2))
        return found

    def _ascend(self, cases: Cases, steps: int, check: Callable[[], None]) -> tuple[Float64, Array]:
        """`CaseWalk.ascend`; where leaves are wanted, closed cases end as they were closed."""
        limit = self.clauses.limit(cases.question)
        if self.leaves is None:
            return self.walk.ascend(cases, steps, check, limit=limit)
        kept = cases.take(np.arange(len(cases.question)))
        lower, cost = self.walk.ascend(cases, steps, check, kept, limit)
        closed = self.clauses.excluded(cases.question, lower)
        cases.slope[closed], cases.beta[closed] = kept.slope[closed], kept.beta[closed]
        return lower, cost

    def _again(
        self,
        cases: Cases,
        lower: Float64,
        cost: Array,
        which: Array,
        steps: int,
        check: Callable[[], None],
    ) -> None:
        """Raise the bounds of ``which`` cases, where these are open, by more steps, in place."""
        chosen = np.flatnonzero(which & ~self.clauses.excluded(cases.question, lower))
        if len(chosen):
            again = cases.take(chosen)
            better, costs = self._ascend(again, steps, check)
            lower[chosen], cost[chosen] = np.maximum(lower[chosen], better), costs
            cases.slope[chosen], cases.beta[chosen] = again.slope, again.beta

    def _at_last(
        self, cases: Cases, lower: Float64, cost: Array, check: Callable[[], None]
    ) -> None:
        """Raise the multipliers of cases whose relaxations cost nothing: no split will help them.

        Where no input meets the assumptions a bound rises with its multipliers without end, and
        each time these grow by what they have.
        """
        last = np.asarray(~(cost > 0).any(axis=1))
        for _ in range(LAST_TIMES):
            self._again(cases, lower, cost, last, LAST_STEPS, check)
            last &= ~(cost > 0).any(axis=1)

    def _choose(
        self, parents: Cases, tried: Int64, check: Callable[[], None]
    ) -> tuple[Int64, Float64]:
        """The ReLU of each case whose halves have the best bounds together, and these bounds."""
        count, most = tried.shape
        row, slot = np.nonzero(tried >= 0)
        relu = tried[row, slot]
        owner, slope = np.tile(row, 2), parents.slope
        light = replace(parents, slope=slope[:, :0])
        twice = _assuming(light, owner, np.tile(relu, 2), _SIDES.repeat(len(row)))
        lower = self.walk.lower(replace(twice, slope=slope), check, owner).reshape(2, -1)
        bounds = np.full((count, most, 2), -np.inf)
        bounds[row, slot] = lower.T
        # Both halves count alike, but neither beyond its proof: the worse one alone would say no
        # more than that a split of little worth is even.
        score = np.minimum(bounds, 0.0).sum(axis=2)
        best = np.where(tried >= 0, score, -np.inf).argmax(axis=1)
        each = np.arange(count)
        return tried[each, best], bounds[each, best]

    # --- what is known so far ---------------------------------------------------------------------

    def found(self) -> tuple[Float64, Bool]:
        """Lower bounds of the clauses (clauses,) in the property's units, and which are proved."""
        lower = np.zeros(len(self.clauses))
        left = np.full(len(self.clauses), not self.started)
        lower[left] = -np.inf
        for items in self._all():
            left[items["clause"]] = True
            np.minimum.at(lower, items["clause"], items["bound"])
        return lower, ~left

    def _all(self) -> list[Items]:
        names = ("clause", "bound", "depth")
        if not len(self.frontier):
            return self.stuck
        return [{name: self.frontier[name] for name in names}, *self.stuck]


def _worth_splitting(cost: Array, relu: Int64) -> Array:
    """What relaxations cost; where none does, and yet the bound is not reached, the same for all
    ReLUs about which nothing is assumed: it takes multipliers of more of them."""
    rows = np.flatnonzero(~(cost > 0).any(axis=1) & (cost < 0).any(axis=1))
    if not len(rows):
        return cost
    found = cost.copy()
    found[rows] = 1.0
    row, depth = np.nonzero(relu[rows] >= 0)
    found[rows[row], relu[rows[row], depth]] = 0.0
    return found


def dearest(cost: Array, count: int) -> Int64:
    """Places of the ``count`` largest entries of each row, -1 for those that are not above 0."""
    order = (
        np.argpartition(-cost, count, axis=1)[:, :count]
        if cost.shape[1] > count
        else (np.broadcast_to(np.arange(cost.shape[1]), cost.shape))
    )
    # Where entries are the same, the first ones come first.
    order = np.sort(order, axis=1)
    value = np.take_along_axis(cost, order, 1)
    rank = np.argsort(-value, axis=1, kind="stable")
    found: Int64 = np.take_along_axis(np.where(value > 0, order, -1), rank, 1)
    return found


_SIDES = np.array([1, -1], np.int8)


def _assuming(parents: Cases, row: Int64, relu: Int64, side: Array) -> Cases:
    """Cases of the rows ``row`` with one more assumption each."""
    cases = parents.take(row)
    blank = cases.relu < 0
    if not cases.relu.shape[1] or not blank[:, -1].all():
        cases.relu = np.pad(cases.relu, ((0, 0), (0, 1)), constant_values=-1)
        cases.sign = np.pad(cases.sign, ((0, 0), (0, 1)))
        cases.beta = np.pad(cases.beta, ((0, 0), (0, 1)))
        blank = cases.relu < 0
    at = np.arange(len(row)), blank.argmax(axis=1)
    cases.relu[at], cases.sign[at], cases.beta[at] = relu, side, 0.0
    return cases
