"""Input splitting: boxes of inputs, cut by the linear bounds of the clauses and halved.

One round bounds a batch of boxes (all open clauses of each), drops what is proved, cuts each box by
the rows that bounded it, halves it where these rows lose most, cuts the halves again and adds them.
What is bounded together never depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from gamma.decimals import below
from gamma.network.graph import Network
from gamma.propagate import expected_seconds
from gamma.propagate.blocks import boxes_at_once
from gamma.propagate.domain import Domain
from gamma.propagate.options import Options
from gamma.propagate.questions import input_rows
from gamma.runtime import workers
from gamma.tensor.box import Box
from gamma.verification.branching.clauses import Bool, Clauses, Float64
from gamma.verification.branching.clipping import Cuts, least
from gamma.verification.branching.frontier import (
    Column,
    Frontier,
    Items,
    divided,
    fitting,
    joined,
)
from gamma.verification.branching.halving import Halved, halve
from gamma.verification.branching.inherited import Signs
from gamma.verification.branching.leaves import Parts
from gamma.verification.branching.rise import Rise
from gamma.verification.branching.storing import Storable
from gamma.verification.branching.witness import Witnesses
from gamma.verification.result import Branched, Counterexample
from gamma.verification.targets import Int64, distinct

ROUND, CHUNK = 1024, 256
"""Boxes of a round at most, and those that are bounded together: calls cost what 100 do."""
ROUND_SECONDS = 0.25
"""What a round may take, roughly: the clock is looked at between rounds."""
BOX_SECONDS = 5e-5
"""What a box takes beside its bounds, roughly."""


class InputBranching(Storable):
    """Branch and bound over boxes.

    Attributes:
        frontier: boxes not bounded yet: ``lower``, ``upper`` (of the inputs ``free``), ``open``
            (clauses of the region, by slot), ``bound`` and ``sign`` (of the box they are a part of:
            see `Signs`).
        cost: of a box, in seconds, roughly. rise: of the worst bound.
        bounded: boxes bounded so far. depth: of the deepest.
        stuck: boxes too small to be halved.
        leaves: where somebody asked for them (an empty list, before the first round), the parts
            ``lower`` to ``upper`` on which a ``clause`` is excluded, by rows of the box
            ``box_lower`` to ``box_upper``: the bound of the row ``question``, or, where that is -1,
            cuts by its rows in turns with their sum with ``weight``. The parts of a clause lie side
            by side.
    """

    leaves: list[Items] | None = None
    leaf = frozenset("lower upper box_lower box_upper region depth clause question weight".split())

    def __init__(
        self,
        net: Network,
        region: Box,
        clauses: Clauses,
        options: Options,
        witnesses: Witnesses,
        most_bytes: int,
    ) -> None:
        self.net, self.clauses, self.options, self.witnesses = net, clauses, options, witnesses
        low, high = (e.reshape(len(e), -1) for e in (region.lower, region.upper))
        self.root = low, high
        regions = distinct(clauses.region)
        self.free = np.flatnonzero((low[regions] < high[regions]).any(axis=0))
        self.fixed = np.setdiff1d(np.arange(low.shape[1]), self.free)
        self.frontier = Frontier(most_bytes)
        self.bounded, self.depth = 0, 0
        self.stuck: list[Items] = []
        self.widths = (high - low)[:, self.free]
        rows = max(1, int(np.diff(clauses.start).sum()) // len(regions))
        cost = expected_seconds(net, options.method, 1, rows, len(self.free))
        self.cost, self.rise = cost + BOX_SECONDS, Rise()
        self.batch = int(np.clip(ROUND_SECONDS / max(cost, 1e-9), 1, ROUND))
        fit = boxes_at_once(net, min(256 << 20, most_bytes // 2))
        self.chunk = max(1, min(CHUNK, self.batch // 2, fit))
        self.batch -= self.batch % self.chunk
        self.signs = Signs(net)
        self.frontier.push(
            {
                "lower": low[regions][:, self.free],
                "upper": high[regions][:, self.free],
                "region": regions,
                "open": clauses.slots[regions] >= 0,
                "sign": np.zeros((len(regions), self.signs.width), np.int8),
                "bound": np.full(len(regions), -np.inf),
                "depth": np.zeros(len(regions), np.int16),
            }
        )

    @property
    def done(self) -> bool:
        """Whether nothing is left that could be bounded."""
        return not len(self.frontier)

    def rounds(self, seconds: float) -> int:
        """How many rounds take so long, roughly and on one thread; at least one."""
        return max(1, int(seconds / (self.batch * self.cost)))

    def seconds_left(self) -> float:
        """What is left will take so long, roughly and on one thread."""
        return self.rise.left() * self.cost

    def round(self, check: Callable[[], None]) -> Counterexample | None:
        """Bound and split the worst boxes; ``check`` may raise, and then nothing has changed."""
        items = self.frontier.take(self.batch)
        count = len(items["bound"])
        parts = divided(items, self.chunk)
        try:
            check()
            found = workers.run([partial(self._bound, part) for part in parts])
        except BaseException:
            self.frontier.push(items)
            raise
        self.bounded += count
        self.depth = max(self.depth, int(items["depth"].max(initial=0)))
        for part, leaves in found:
            self.frontier.push(part.children)
            self.stuck += [part.stuck] if len(part.stuck["bound"]) else []
            if self.leaves is not None:
                self.leaves.append(leaves)
        self.rise.add(self.bounded, self.frontier.worst)
        points = joined([part.points for part, _ in found])
        return self.witnesses.probe(points["clause"], self._full(points), points["bound"])

    def _full(self, items: Items) -> Float64:
        """Points of the free inputs as whole inputs."""
        x: Float64 = self.root[0][items["region"]]
        x[:, self.free] = items["x"]
        return x

    def _bound(self, items: Items) -> tuple[Halved, Items]:
        """Bound some boxes, and split what is left of them; leaves, where they are wanted."""
        box, slot = np.nonzero(items["open"])
        clause = self.clauses.slots[items["region"][box], slot]
        rows, begin = self.clauses.members(clause)
        of = np.repeat(box, np.diff(np.r_[begin, len(rows)]))
        found, cuts = self._rows(items, rows, of, begin)
        value = self.clauses.in_units(rows, found)
        pairs = {
            "box": box,
            "slot": slot,
            "clause": clause,
            "bound": np.maximum(np.maximum.reduceat(value, begin), items["bound"][box]),
        }
        excluded = self.clauses.excluded(rows, found)
        proved = np.logical_or.reduceat(excluded, begin)
        if self.leaves is None:
            return halve(self.widths, items, pairs, cuts, proved), {}
        pairs["question"] = np.maximum.reduceat(np.where(excluded, rows, -1), begin)
        parts = Parts()
        made = halve(self.widths, dict(items), dict(pairs), cuts, proved, parts)
        return made, parts.leaves(items, pairs)

    def _rows(self, items: Items, rows: Int64, of: Int64, begin: Int64) -> tuple[Float64, Cuts]:
        """Lower bounds of rows about boxes ``of``, and the rows over the free inputs."""
        low, high = (e[items["region"]] for e in self.root)
        low[:, self.free], high[:, self.free] = items["lower"], items["upper"]
        domain = Domain(
            Box(low, high).batched(self.net.input_shape), self.signs.facts(items["sign"])
        )
        found = input_rows(self.net, domain, self.clauses.specification(rows, of), self.options)
        items["sign"] = self.signs.of(found.bounds, len(low))
        strict = self.clauses.rows.strict[rows]
        a, c = found.coefficients.astype(np.float64), found.centre[of]
        constant = found.constant
        fixed = self.fixed
        if len(fixed) and (c[:, fixed] != low[:, fixed][of]).any():
            rest = Cuts(a[:, fixed], c[:, fixed], constant, strict, begin)
            constant = least(rest, low[:, fixed][of], high[:, fixed][of])
        return found.lower, Cuts(a[:, self.free], c[:, self.free], constant, strict, begin)

    # --- in a file, and from there ----------------------------------------------------------------

    def _fitting(self, items: Items) -> Items:
        """Boxes inside their regions, with clauses of these."""
        free, (low, high) = len(self.free), self.root
        columns = {
            "lower": Column("float64", free, -np.inf, np.inf),
            "upper": Column("float64", free, -np.inf, np.inf),
            "region": Column("int64", -1, 0, len(low) - 1),
            "sign": Column("int8", self.signs.width, -1, 1),
            "open": Column("bool", self.clauses.slots.shape[1], False, True),
            "bound": Column("float64", -1, -np.inf, np.inf),
            "depth": Column("int16", -1, 0, 32767),
        }
        items = fitting(items, columns)
        low, high = (e[items["region"]][:, self.free] for e in (low, high))
        inside = (items["lower"] >= low) & (items["upper"] <= high)
        known = self.clauses.slots[items["region"]] >= 0
        if (
            not (inside & (items["lower"] <= items["upper"])).all()
            or (items["open"] & ~known).any()
        ):
            raise ValueError("boxes outside their regions")
        return items

    # --- what is known so far ---------------------------------------------------------------------

    def found(self) -> tuple[Float64, Bool]:
        """Lower bounds of the clauses (clauses,) in the property's units, and which are proved.

        Of what is proved no more is known than that it is above 0: cuts leave no number behind.
        """
        lower, left = np.zeros(len(self.clauses)), np.zeros(len(self.clauses), bool)
        for items in (self._open(), *self.stuck):
            box, slot = np.nonzero(items["open"])
            clause = self.clauses.slots[items["region"][box], slot]
            left[clause] = True
            np.minimum.at(lower, clause, items["bound"][box])
        return lower, ~left

    def _open(self) -> Items:
        return {name: self.frontier[name] for name in ("open", "region", "bound")}

    def share(self, regions: int, beside: int = 0) -> float:
        """How much of the volume of so many regions is proved, rounded down.

        ``beside``: regions that are open for other reasons.
        """
        volume = float(beside)
        columns = ("lower", "upper", "region")
        for items in ({name: self.frontier[name] for name in columns}, *self.stuck):
            total = self.widths[items["region"]]
            width = items["upper"] - items["lower"]
            part = np.divide(width, total, out=np.ones_like(width), where=total > 0)
            volume += float(part.prod(axis=1).sum())
        return max(0.0, 1.0 - volume / regions * (1 + 2.0**-30) - 2.0**-40) if volume else 1.0

    def summary(self, regions: int, beside: int) -> Branched:
        """How far this came, of so many regions, ``beside`` of them open for other reasons."""
        left = sum(len(items["bound"]) for items in (self._open(), *self.stuck))
        worst = min((float(items["bound"].min()) for items in self.stuck), default=np.inf)
        return Branched(
            "input",
            self.bounded,
            self.depth,
            left,
            min(worst, self.frontier.worst),
            self.share(regions, beside),
            self.frontier.full,
        )

    def progress(self) -> str:
        """One line for people."""
        share = 100 * self.share(len(self.root[0]))
        return (
            f"branching: {share:.1f} % proved, worst margin {below(self.frontier.worst)}, "
            f"{self.bounded:,} boxes, {len(self.frontier):,} open"
        )
