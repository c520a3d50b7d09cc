"""ReLU splitting of one region's open conjunctions: a tree of cases that can be stored."""

from __future__ import annotations

import numpy as np

from gamma.decimals import below
from gamma.verification.branching.clauses import Clauses
from gamma.verification.branching.frontier import Column, Items, fitting
from gamma.verification.branching.storing import Storable
from gamma.verification.branching.trees import TRIED, CaseTree
from gamma.verification.result import Branched


class ReluBranching(CaseTree[Clauses], Storable):
    """Branch and bound over cases of one region."""

    leaf = frozenset("clause question bound depth relu sign beta slope tried".split())

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
        proved = f"{100 * self.share():.1f} % of the tree closed"
        return f"branching: {proved}, worst margin {below(self.frontier.worst)}, {done}, {left}"

    # --- in a file, and from there ----------------------------------------------------------------

    def _alike(self, items: Items) -> Items:
        return self._widened(items)

    def state(self) -> Items:
        return super().state() | {"relus": np.stack((self.walk.layer, self.walk.place))}

    def restore(self, state: Items) -> None:
        if not np.array_equal(state["relus"], np.stack((self.walk.layer, self.walk.place))):
            raise ValueError("the ReLUs that cross 0")
        super().restore(state)
        self.started = True

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
