"""ReLU splitting: cases in which some ReLUs are assumed to be on one side of 0 (β-CROWN).

All cases of a region share the bounds of one walk with optimised slopes; a case adds assumptions,
their multipliers and the slopes of its row. One round takes the worst cases, tries a few ReLUs on
each, splits the one whose worse half gains most, and raises the bounds of both halves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from gamma.propagate.blocks import row_cost
from gamma.propagate.cases import Cases, CaseWalk
from gamma.runtime import workers
from gamma.verification.branching.clauses import Array, Bool, Clauses, Float64
from gamma.verification.branching.frontier import (
    Column,
    Frontier,
    Items,
    chosen,
    fitting,
    joined,
    named,
    stored,
)
from gamma.verification.result import Branched, Counterexample
from gamma.verification.targets import Int64

ROUND, CHUNK = 256, 64
"""Cases of a round at most, and those whose rows go down together."""
ROUND_SECONDS = 0.25
"""What a round may take, roughly: all that it did is lost when the time runs out in it."""
DESCENT_SECONDS = 0.05
"""What one descent of a chunk may take, roughly: the clock is not looked at inside a node."""
FIRST_STEPS, STEPS, MORE_STEPS = 20, 4, 8
"""Descents of a root's row, of a new case's, and of one that may be near its proof."""
TRIED = 4
"""ReLUs that are tried before one is split."""


class ReluBranching:
    """Branch and bound over cases of one region.

    A clause of several rows is one question for each of them; excluding one of these excludes the
    clause. `ReluBranching` follows the row that starts nearest to a proof.

    Attributes:
        frontier: ``clause``, ``question``, ``bound``, ``depth``, ``relu``, ``sign``, ``beta``,
            ``slope`` (see `Cases`) and ``tried``, the ReLUs worth splitting.
        bounded: cases bounded so far. depth: of the deepest. stuck: cases without a ReLU to split.
    """

    def __init__(self, walk: CaseWalk, clauses: Clauses, most_bytes: int) -> None:
        self.walk, self.clauses = walk, clauses
        self.frontier = Frontier(most_bytes)
        self.bounded, self.depth, self.open_share = 0, 0, 1.0
        self.stuck: list[Items] = []
        network = walk.made.network
        descent = row_cost(network, network.output) * 1e-9
        steps = 2 * TRIED + 4 * (STEPS + MORE_STEPS)  # a sweep costs what a descent does
        self.batch = int(np.clip(ROUND_SECONDS / (descent * steps + 1e-9), 2, ROUND))
        together = int(DESCENT_SECONDS / (4 * TRIED * descent + 1e-9))
        self.chunk = max(1, min(CHUNK, self.batch // 2, together))
        self.started = False

    @property
    def done(self) -> bool:
        """Whether nothing is left that could be split."""
        return self.started and not len(self.frontier)

    def round(self, check: Callable[[], None]) -> Counterexample | None:
        """Split the worst cases; ``check`` may raise, and then nothing has changed."""
        if not self.started:
            self._start(check)
            return None
        items = self.frontier.take(self.batch)
        count = len(items["bound"])
        parts = [
            chosen(items, np.arange(start, min(start + self.chunk, count)))
            for start in range(0, count, self.chunk)
        ]
        try:
            check()
            found = workers.run([partial(self._split, part, check) for part in parts])
        except BaseException:
            self.frontier.push(items)
            raise
        for children in found:
            self._add(children)
        return None

    def _start(self, check: Callable[[], None]) -> None:
        """Rows of all clauses, of each the one nearest to its proof."""
        rows, begin = self.clauses.members(np.arange(len(self.clauses)))
        cases = self.walk.start(rows)
        lower, cost = self.walk.ascend(cases, FIRST_STEPS, check)
        value = self.clauses.in_units(rows, lower)
        best = [
            int(first + np.argmax(value[first:last]))
            for first, last in zip(begin, np.append(begin[1:], len(rows)), strict=True)
        ]
        owner = np.arange(len(self.clauses))
        self.started = True
        self._add(self._items(cases.take(np.array(best)), owner, lower[best], cost[best], 0))

    def _items(
        self, cases: Cases, clause: Int64, lower: Float64, cost: Array, depth: int | Array
    ) -> Items:
        """Cases that were bounded, as rows of the frontier."""
        value = self.clauses.in_units(cases.question, lower)
        done = self.clauses.excluded(cases.question, lower)
        order = np.argsort(-cost, axis=1, kind="stable")[:, :TRIED]
        worth = np.take_along_axis(cost, order, 1) > 0
        tried = np.full((len(lower), TRIED), -1)
        tried[:, : order.shape[1]] = np.where(worth, order, -1)
        return {
            "clause": clause,
            "question": cases.question,
            "bound": value,
            "depth": np.broadcast_to(np.asarray(depth, np.int16), value.shape).copy(),
            "relu": cases.relu.astype(np.int32),
            "sign": cases.sign,
            "beta": cases.beta.astype(np.float32),
            "slope": cases.slope.astype(np.float16),
            "tried": tried.astype(np.int32),
            "done": done,
        }

    def _add(self, items: Items) -> None:
        """Count bounded cases and keep those that are open."""
        self.bounded += len(items["bound"])
        self.depth = max(self.depth, int(items["depth"].max(initial=0)))
        left = chosen(items, np.asarray(~items.pop("done")))
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
        lower, cost = self.walk.ascend(cases, STEPS, check)
        lower = np.maximum(lower, known.T.ravel())
        # Far from a proof more steps do not help; a split does.
        gain = lower - np.tile(known.min(axis=1), 2)
        near = np.flatnonzero(
            ~self.clauses.excluded(cases.question, lower) & (lower + 3 * abs(gain) > 0)
        )
        if len(near):
            again = cases.take(near)
            better, costs = self.walk.ascend(again, MORE_STEPS, check)
            lower[near], cost[near] = np.maximum(lower[near], better), costs
            cases.slope[near], cases.beta[near] = again.slope, again.beta
        depth = np.tile(items["depth"], 2) + 1
        found = self._items(cases, np.tile(items["clause"], 2), lower, cost, depth)
        found["bound"] = np.maximum(found["bound"], np.tile(items["bound"], 2))
        return found

    def _choose(
        self, parents: Cases, tried: Int64, check: Callable[[], None]
    ) -> tuple[Int64, Float64]:
        """The ReLU of each case whose worse half has the best bound, and both halves' bounds."""
        count, most = tried.shape
        row, slot = np.nonzero(tried >= 0)
        relu = tried[row, slot]
        twice = _assuming(parents, np.tile(row, 2), np.tile(relu, 2), _SIDES.repeat(len(row)))
        lower = self.walk.lower(twice, check).reshape(2, -1)
        bounds = np.full((count, most, 2), -np.inf)
        bounds[row, slot] = lower.T
        # The worse half decides; of equal ones the sum, for one half may be closed already.
        worse = np.minimum(bounds[..., 0], bounds[..., 1])
        total = np.maximum(bounds[..., 0], bounds[..., 1])
        score = worse + 2.0**-10 * np.minimum(total, abs(worse))
        best = np.where(tried >= 0, score, -np.inf).argmax(axis=1)
        each = np.arange(count)
        return tried[each, best], bounds[each, best]

    # --- in a file, and from there ----------------------------------------------------------------

    def state(self) -> Items:
        """All that another `ReluBranching` of the same question needs to go on."""
        counts = [self.bounded, self.depth, self.batch, self.chunk, self.frontier.full]
        found = {"target": self.clauses.target, "counts": np.array(counts, np.int64)}
        found["relus"] = np.stack((self.walk.layer, self.walk.place))
        left = stored(joined([self._widened(i) for i in self.stuck]), "stuck") if self.stuck else {}
        return found | left | stored(self.frontier.everything(), "open")

    def restore(self, state: Items) -> None:
        """Go on from a `state`. Raises ValueError for what does not fit."""
        if not np.array_equal(state["relus"], np.stack((self.walk.layer, self.walk.place))):
            raise ValueError("the ReLUs that cross 0")
        counts = state["counts"].tolist()
        self.bounded, self.depth, self.batch, self.chunk, full = map(int, counts)
        if min(self.bounded, self.depth, self.batch - 1, self.chunk - 1) < 0:
            raise ValueError("counts")
        self.frontier.full, self.started = bool(full), True
        for kind in ("open", "stuck"):
            items = named(state, kind)
            if items and kind == "open":
                self.frontier.push(self._fitting(items))
            elif items:
                self.stuck.append(self._fitting(items))

    def _fitting(self, items: Items) -> Items:
        """Cases of clauses that are asked about, with assumptions on ReLUs that cross 0."""
        last = self.walk.relus - 1
        columns = {
            "clause": Column("int64", -1, 0, len(self.clauses) - 1),
            "question": Column("int64", -1, 0, len(self.clauses.rows.constant) - 1),
            "bound": Column("float64", -1, -np.inf, np.inf),
            "depth": Column("int16", -1, 0, 32767),
            "relu": Column("int32", None, -1, last),
            "sign": Column("int8", items["relu"].shape[-1], -1, 1),
            "beta": Column("float32", items["relu"].shape[-1], 0, np.finfo(np.float32).max),
            "slope": Column("float16", self.walk.relus, 0, 1),
            "tried": Column("int32", TRIED, -1, last),
        }
        items = fitting(items, columns)
        first = self.clauses.start[items["clause"]]
        own = (items["question"] >= first) & (
            items["question"] < self.clauses.start[items["clause"] + 1]
        )
        if not own.all() or ((items["relu"] >= 0) != (items["sign"] != 0)).any():
            raise ValueError("cases of other clauses")
        return items

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

    def share(self) -> float:
        """How much of the tree of cases is closed."""
        if not self.started:
            return 0.0
        left = sum(float((2.0 ** -items["depth"].astype(float)).sum()) for items in self._all())
        return max(0.0, 1.0 - left / len(self.clauses) * (1 + 2.0**-30)) if left else 1.0

    def summary(self, regions: int, beside: int) -> Branched:
        """How far this came."""
        everything = self._all()
        count = sum(len(items["bound"]) for items in everything)
        worst = min((float(items["bound"].min()) for items in everything), default=np.inf)
        share = self.share() if not beside else 0.0
        return Branched("relu", self.bounded, self.depth, count, worst, share, self.frontier.full)

    def progress(self) -> str:
        """One line for people."""
        done, left = f"{self.bounded:,} cases", f"{len(self.frontier):,} open"
        return f"branching: {done}, {left}, {100 * self.share():.1f} % of the tree closed"


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
