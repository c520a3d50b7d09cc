"""Leaves of a finished tree: the parts that cover the input set, each with what excludes it there.

Of boxes a leaf is a part of a box that was bounded, and the rows of that box exclude a clause on
it: one by its bound on the whole box, or they cut the part off, by turns with a sum of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct, field

from gamma.frozen import Frozen
from gamma.verification.branching.clauses import Array, Float64
from gamma.verification.branching.frontier import Items, chosen, joined
from gamma.verification.targets import Int64


class Leaves(Frozen):
    """The leaves of one tree, those of conjunctions that it closed.

    Attributes:
        kind: "input" or "relu". inputs: int64, those that vary, where inputs were split.
        columns: name -> array with an entry or a row for each leaf, see `InputBranching.leaves` and
            `CaseTree.leaves`. ``target`` is the number of the unsafe conjunction.
        relus: (2, ReLUs), layer and place of the ReLUs that cases assume something of.
    """

    kind: str
    inputs: Int64
    columns: Items
    relus: Int64

    @classmethod
    def of(cls, tree: Any) -> Leaves:
        """Of a tree whose leaves were kept."""
        columns, closed = together(tree.leaves), tree.found()[1]
        if columns:
            columns = chosen(columns, closed[columns["clause"]])
            columns["target"] = tree.clauses.target[columns["clause"]]
        walk = getattr(tree, "walk", None)
        none = np.zeros((2, 0), np.int64)
        if walk is None:
            return cls("input", tree.free, columns, none)
        return cls("relu", none[0], columns, np.stack((walk.layer, walk.place)))


class Parts(Struct):
    """Parts of the boxes of one batch, each with the pair of a box and a clause it is of.

    Attributes:
        pair: int64 (parts,). lower, upper: (parts, inputs). weight: (pairs, most rows), of the
            sum of each pair's rows, None where no pair has any.
    """

    pair: list[Int64] = field(default_factory=list)
    lower: list[Float64] = field(default_factory=list)
    upper: list[Float64] = field(default_factory=list)
    weight: Float64 | None = None

    def add(self, pair: Int64, lower: Float64, upper: Float64) -> None:
        """A part for each pair."""
        self.pair.append(pair)
        self.lower.append(lower)
        self.upper.append(upper)

    def around(self, pair: Int64, outer: tuple[Float64, Float64], inner: Items) -> None:
        """What of the ``outer`` boxes, one for each pair, the boxes inside of them leave: side
        by side, so that volumes add up."""
        low, high = (end.copy() for end in outer)
        for axis in range(low.shape[1]):
            first, last = inner["lower"][:, axis], inner["upper"][:, axis]
            below, above = low[:, axis] < first, last < high[:, axis]
            for which, end, cut in ((below, high, first), (above, low, last)):
                ends = low[which].copy(), high[which].copy()
                ends[0 if end is low else 1][:, axis] = cut[which]
                self.add(pair[which], *ends)
            low[:, axis], high[:, axis] = first, last

    def leaves(self, items: Items, pairs: Items) -> Items:
        """The parts as leaves of these boxes and pairs."""
        pair = np.concatenate([np.zeros(0, np.int64), *self.pair])
        weight = np.zeros((len(pairs["box"]), 1)) if self.weight is None else self.weight
        box, blank = pairs["box"][pair], np.zeros((0, items["lower"].shape[1]))
        return {
            "lower": np.concatenate([blank, *self.lower]),
            "upper": np.concatenate([blank, *self.upper]),
            "box_lower": items["lower"][box],
            "box_upper": items["upper"][box],
            "region": items["region"][box],
            "depth": items["depth"][box],
            "clause": pairs["clause"][pair],
            "question": pairs["question"][pair],
            "weight": weight[pair],
        }


def together(parts: list[Items]) -> Items:
    """Leaves of several rounds, with room for as many assumptions as any has."""
    if not parts:
        return {}
    most = {n: max(p[n].shape[1] for p in parts) for n in parts[0] if parts[0][n].ndim == 2}
    blank = {"relu": -1}
    return joined(
        [{name: _wide(c, most.get(name, -1), blank.get(name, 0)) for name, c in p.items()}
         for p in parts]
    )  # fmt: skip


def fitting(found: Items, names: frozenset[str], clauses: int) -> list[Items]:
    """Stored leaves of so many clauses. Raises ValueError for what does not fit."""
    if not found:
        return []
    if set(found) != names or found["clause"].ndim != 1:
        raise ValueError("columns of leaves")
    clause = found["clause"]
    alike = all(column.ndim in (1, 2) and len(column) == len(clause) for column in found.values())
    if not alike or clause.dtype != np.int64 or not ((clause >= 0) & (clause < clauses)).all():
        raise ValueError("leaves")
    return [found]


def _wide(column: Array, width: int, blank: int) -> Array:
    if width < 0 or column.shape[1] == width:
        return column
    return np.pad(column, ((0, 0), (0, width - column.shape[1])), constant_values=blank)
