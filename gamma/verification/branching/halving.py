"""What becomes of boxes that were bounded: closed, cut, and halved."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gamma.verification.branching.clauses import Bool, Float64
from gamma.verification.branching.clipping import Cuts, clip
from gamma.verification.branching.combining import combined
from gamma.verification.branching.frontier import Items, chosen, joined
from gamma.verification.branching.leaves import Parts
from gamma.verification.targets import Int64

THINNEST = 2.0**-40
"""An edge is halved down to this share of its region's, and of the size of its ends."""
LEAST = 2.0**-10
"""Share of the largest loss, over a region's edge, that is taken for granted on every edge."""
PROBED = 8
"""Points that are proposed as witnesses, of the worst boxes."""


class Halved(NamedTuple):
    """What a batch of boxes became.

    Attributes:
        children: halves, and what cuts left of boxes where that is too small to be halved; not
            bounded yet. stuck: boxes that were too small when they were bounded.
        points: inputs at which bounds were taken.
    """

    children: Items
    stuck: Items
    points: Items


def halve(
    widths: Float64,
    items: Items,
    pairs: Items,
    cuts: Cuts,
    proved: Bool,
    parts: Parts | None = None,
) -> Halved:
    """Close, cut and halve boxes.

    Args:
        widths: of the regions (regions, inputs). items: the boxes. cuts: a group for each of
        pairs: a box (ascending), its slot and clause, the bound found. proved: bool (pairs,).
        parts: gets what is closed, where somebody wants leaves.
    """
    ends = items["lower"][pairs["box"]], items["upper"][pairs["box"]]
    cuts, x = combined(cuts, *ends)
    if parts is not None:
        parts.weight = cuts.weight
    low, high, empty = clip(cuts, *ends)
    closed = proved | empty
    pairs["pair"] = np.arange(len(proved))
    if parts is not None:
        parts.add(pairs["pair"][closed], ends[0][closed], ends[1][closed])
        ends = ends[0][~closed], ends[1][~closed]
    pairs, cuts, low, high = chosen(pairs, ~closed), cuts.take(~closed), low[~closed], high[~closed]
    x = np.clip(x[~closed], low, high)
    left, pairs["box"] = np.unique(pairs["box"], return_inverse=True)
    items = chosen(items, left)
    wide = _long(items, widths[items["region"]]).any(axis=1)
    first = np.searchsorted(pairs["box"], np.arange(len(left)))
    if len(left):
        items["lower"] = np.minimum.reduceat(low, first, axis=0)
        items["upper"] = np.maximum.reduceat(high, first, axis=0)
        items["bound"] = np.minimum.reduceat(pairs["bound"], first)
        items["open"][:] = False
        items["open"][pairs["box"], pairs["slot"]] = True
    if parts is not None:
        parts.around(pairs["pair"], ends, chosen(items, pairs["box"]))
    points = _points(items, pairs, x)
    score = np.zeros(items["lower"].shape)
    np.add.at(score, pairs["box"][cuts.group], abs(cuts.a))
    axis = _axis(items, score, widths[items["region"]])
    # What cuts have made small was bounded as a part of something large: once more.
    stuck, again = (chosen(items, (axis < 0) & which) for which in (~wide, wide))
    pair = axis[pairs["box"]] >= 0
    number = np.cumsum(axis >= 0) - 1
    pairs = chosen(pairs, pair)
    pairs["box"] = number[pairs["box"]]
    halves = _children(chosen(items, axis >= 0), axis[axis >= 0], pairs, cuts.take(pair), parts)
    return Halved(joined([halves, again]), stuck, points)


def _points(items: Items, pairs: Items, x: Float64) -> Items:
    """The points of the worst pairs."""
    worst = np.argsort(pairs["bound"], kind="stable")[:PROBED]
    return {
        "x": x[worst],
        "clause": pairs["clause"][worst],
        "region": items["region"][pairs["box"][worst]],
        "bound": pairs["bound"][worst],
    }


def _axis(items: Items, score: Float64, widths: Float64) -> Int64:
    """The input to halve at each box, -1 where every edge is too short.

    What the rows lose over an edge says how much a half may gain; edges that are long for their
    region come a little earlier, for behind them the bounds of inner nodes are loose as well. Those
    may be loose where a row loses nothing (its slopes cancel): no edge counts less than `LEAST`.
    """
    width = items["upper"] - items["lower"]
    if not width.size:
        return np.full(len(width), -1)
    long = _long(items, widths)
    relative = width / np.where(widths > 0, widths, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):  # rows may overflow
        whole = score * widths
    floor = LEAST * np.where(long, whole, 0.0).max(axis=1, keepdims=True)
    by_rows = np.maximum(whole, floor) * relative * np.sqrt(relative)
    flat = ~(by_rows.max(axis=1, initial=0.0) > 0)
    worth = np.where(long, np.where(flat[:, None], relative, by_rows), -1.0)
    axis: Int64 = worth.argmax(axis=1)
    return np.where(long.any(axis=1), axis, -1)


def _long(items: Items, widths: Float64) -> Bool:
    """Which edges of each box may be halved."""
    size = np.maximum(abs(items["lower"]), abs(items["upper"]))
    long: Bool = items["upper"] - items["lower"] > np.maximum(THINNEST * widths, 2.0**-50 * size)
    return long


def _children(items: Items, axis: Int64, pairs: Items, cuts: Cuts, parts: Parts | None) -> Items:
    """Both halves of each box, cut, without the clauses that this closes."""
    count = len(axis)
    each = np.arange(count)
    middle = items["lower"][each, axis] + 0.5 * (
        items["upper"][each, axis] - items["lower"][each, axis]
    )
    both = {name: np.concatenate((column, column)) for name, column in items.items()}
    both["upper"][each, axis] = middle
    both["lower"][count + each, axis] = middle
    both["depth"] += 1
    twice = {name: np.concatenate((column, column)) for name, column in pairs.items()}
    twice["box"] = np.concatenate((pairs["box"], count + pairs["box"]))
    box = twice["box"]
    ends = both["lower"][box], both["upper"][box]
    low, high, closed = clip(cuts.twice(), both["lower"][box], both["upper"][box])
    both["open"][:] = False
    both["open"][box[~closed], twice["slot"][~closed]] = True
    order, rest = box[~closed], ~closed
    owner, first = np.unique(order, return_index=True)
    both = chosen(both, owner)
    if len(owner):
        both["lower"] = np.minimum.reduceat(low[rest], first, axis=0)
        both["upper"] = np.maximum.reduceat(high[rest], first, axis=0)
        both["bound"] = np.minimum.reduceat(twice["bound"][rest], first)
    if parts is not None:
        pair, inner = twice["pair"], chosen(both, np.searchsorted(owner, order))
        parts.add(pair[closed], ends[0][closed], ends[1][closed])
        parts.around(pair[rest], (ends[0][rest], ends[1][rest]), inner)
    return both
