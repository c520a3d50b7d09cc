"""One forward pass of ellipsotopes (`gamma.ops.ellipsotope`) through a network, box by box.

The input's own symbols stay what they are, so that every node has its linear form in the input.
Errors become symbols too: in front of and behind a normalisation that every path passes, those of a
node are replaced by an ellipsoid around those of each place (of all where places share some) as
soon as they are more than the node's entries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.network.graph import Network
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import TINY
from gamma.ops.ellipsoid import around
from gamma.ops.ellipsotope import INPUT, Ellipsotope, Symbols, alone, new_key
from gamma.ops.tables import Precision
from gamma.propagate.facts import facts_of
from gamma.propagate.options import Options
from gamma.tensor import rounding
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
MOST_SYMBOLS = 1.25
"""Symbols of errors, for every entry of a node, from which on an ellipsoid takes their place."""
COPIES = 4
"""Arrays of all columns of the widest node that are alive at once."""
SET_BYTES = 20
"""Bytes of sets for each byte of rows that are alive at once."""


def suited(network: Network) -> bool:
    """Whether the network is one that these sets are for: it has a normalisation."""
    return facts_of(network).normalizes


def too_large(network: Network, box: Box, row_bytes: int) -> str:
    """Why there are no sets where ``row_bytes`` of rows are alive at once; empty where they fit."""
    need, limit = memory_needed(network, box), SET_BYTES * row_bytes
    if need <= limit:
        return ""
    return (
        f"sets through all nodes would take {need / 1e9:.1f} GB, more than {limit / 1e9:.1f} GB: "
        "rows are made of every inner neuron instead, which takes far longer"
    )


def memory_needed(network: Network, box: Box) -> int:
    """Bytes, roughly, that the sets of one box take at the widest node."""
    sizes = facts_of(network).sizes
    cuts = [sizes[i] for i in range(1, network.output + 1) if _merges(network, i)]
    varying = int((box.lower < box.upper).any(axis=0).sum())
    return 8 * COPIES * (varying + 2 * max(cuts, default=0)) * max(sizes[: network.output + 1])


def _merges(network: Network, index: int) -> bool:
    nodes = network.nodes
    near = [index, *network.consumers[index]]
    return facts_of(network).cut[index] and any(nodes[i].op.normalizes for i in near)


class Ellipsotopes:
    """Sets of the nodes up to the last one visited; None where nothing is known.

    Attributes:
        sets: node -> one set for each box, as long as a later node reads it.
    """

    def __init__(self, network: Network, box: Box, guarantee: str) -> None:
        self.network, self.box = network, box
        self.how = Precision(guarantee, np.dtype(np.float64))
        self.sets: dict[int, list[Ellipsotope]] = {}
        self._last = [max(readers, default=0) for readers in network.consumers]

    def visit(self, index: int, bounds: Any) -> tuple[Float64, Float64] | None:
        """Make the sets of a node, whose own bounds are in ``bounds``: the boxes around them."""
        node = self.network.nodes[index]
        if any(i not in self.sets for i in node.inputs):
            return None
        made: list[Ellipsotope] = []
        for b in range(len(self.box.lower)):
            found = self._set(index, [bounds[i] for i in node.inputs], bounds[index], b)
            if found is None:
                return None
            made.append(found)
        self.sets[index] = made
        for i in {*node.inputs}:
            if self._last[i] <= index and i not in (0, self.network.output):
                self.sets.pop(i, None)
        lower, upper = zip(*(s.ends for s in made), strict=True)
        if len(made) == 1:
            return lower[0][None], upper[0][None]
        return np.stack(lower), np.stack(upper)

    def _set(
        self, index: int, before: Sequence[NodeBounds], after: NodeBounds, b: int
    ) -> Ellipsotope | None:
        node = self.network.nodes[index]
        if index == 0:
            return input_set(self.box, after, b)
        inputs = [self.sets[i][b] for i in node.inputs]
        if len(self.box.lower) > 1:
            one = np.array([b])
            before, after = [x.take(one) for x in before], after.take(one)
        found: Ellipsotope | None = node.op.enclose(inputs, before, after, self.how)
        if found is None or not found.known:
            return None
        if not _merges(self.network, index):
            return found
        errors = sum(part.count for key, part in found.parts.items() if key != INPUT)
        if errors <= MOST_SYMBOLS * len(found.middle):
            return found
        made = merged(found)
        return made if made.known else None

    def knows(self, frontier: Mapping[int, Any]) -> bool:
        """Whether every node of the rows ``frontier`` has a set."""
        return all(index in self.sets for index in frontier)

    def least(
        self, frontier: Mapping[int, Array], d: Float64, box: Indices, bounds: Any
    ) -> Float64:
        """Sound lower bounds of d + Σ rows·(node - its centre), rows (R, size) for each node."""
        found = np.empty_like(d)
        for b in np.unique(box):
            at = np.flatnonzero(box == b)
            rows = {i: np.asarray(r[at], np.float64) for i, r in frontier.items()}
            sets = {i: self.sets[i][b] for i in frontier}
            centres = {i: bounds[i].centre[b].reshape(-1) for i in frontier}
            found[at] = least(rows, sets, centres, d[at])
        return found


def sets_of(
    network: Network, box: Box, options: Options, bounds: Sequence[NodeBounds]
) -> Ellipsotopes | None:
    """Sets that begin at the input, where the network is made for them and memory allows."""
    if not suited(network) or not tuning.enabled("ellipsotopes"):
        return None
    if too_large(network, box, options.row_bytes):
        return None
    made = Ellipsotopes(network, box, options.guarantee)
    return made if made.visit(0, bounds) is not None else None


def input_set(box: Box, known: NodeBounds, b: int) -> Ellipsotope:
    """The input set about the middle of its box: a symbol for every entry that varies, or a ball.

    A ball in the 1-norm has the box around it. A point has one symbol that moves nothing.
    """
    middle, radius = known.centre[b].reshape(-1), known.radius[b].reshape(-1)
    varying = np.flatnonzero(radius > 0)
    reach, rest, each = radius[varying], np.zeros_like(middle), 1
    if box.norm == "2" and len(varying):
        assert box.center is not None and box.radius is not None
        shift = abs(box.center[b].reshape(-1)[varying] - middle[varying])
        rest[varying] = shift * (1 + 2.0**-50) + TINY
        reach, each = np.full_like(reach, box.radius), len(varying)
    # A ball is one block, whatever its place; of a box as many symbols as entries that vary.
    shape = known.lower.shape[1:]
    own = alone(shape if each == 1 else (len(middle),), varying, reach, 1.0)
    return Ellipsotope(shape, middle, rest, {INPUT: Symbols(own.columns, each, own.places)})


def merged(x: Ellipsotope) -> Ellipsotope:
    """The same with one ellipsoid around all errors of each place, instead of their symbols."""
    n, errors = len(x.middle), [part for key, part in x.parts.items() if key != INPUT]
    places = math.gcd(*(part.places for part in errors))
    spelled = [(p.at(places).columns.reshape(-1, places, n // places), p.each) for p in errors]
    parts = {new_key(): around(spelled, x.rest.reshape(places, -1))}
    if INPUT in x.parts:
        parts[INPUT] = x.parts[INPUT]
    return Ellipsotope(x.shape, x.middle, np.zeros(n), parts)


def least(
    rows: Mapping[int, Float64],
    sets: Mapping[int, Ellipsotope],
    centres: Mapping[int, Float64],
    d: Float64,
) -> Float64:
    """Lower bounds of d + Σ rows·(node - centre) over sets that share symbols."""
    keys = {key: part for x in sets.values() for key, part in x.parts.items()}
    total, size, terms = d.copy(), abs(d), sum(r.shape[1] for r in rows.values())
    for i, r in rows.items():
        shift, wide = sets[i].middle - centres[i], abs(r)
        total += r @ shift - wide @ sets[i].rest
        size += wide @ (2 * abs(shift) + abs(centres[i]) * 2.0**-50 + sets[i].swing)
    for key, part in keys.items():
        own = {i: x.parts[key] for i, x in sets.items() if key in x.parts}
        places, turned = math.gcd(*(p.places for p in own.values())), np.zeros(())
        for i, one in own.items():
            columns = one.at(places).columns.reshape(-1, places, rows[i].shape[1] // places)
            at_place = rows[i].reshape(len(d), places, -1).transpose(1, 2, 0)
            turned = turned + columns.transpose(1, 0, 2) @ at_place
        total -= Symbols(np.reshape(turned, (-1, len(d))), part.each).reach
        terms += 8
    g = rounding.gamma_factor(2 * terms + 16, np.float64)
    result: Float64 = total - g * size * (1 + 2.0**-20) - TINY
    return np.where(np.isnan(result), -np.inf, result)
