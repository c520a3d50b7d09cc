"""Rows over nodes whose positions nothing has mixed yet, as rows over one position each.

A sequence network does the same to every position until something looks across. Up to there a row
that starts at one position knows no other, and one that comes from behind is a sum of rows over
single ones: both go down through the network of one position, of which every position is a box.
Rows and tables are shorter by as many times as there are positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Network, Node
from gamma.ops.bounds import Forms, NodeBounds
from gamma.ops.charges import TINY
from gamma.ops.tables import NodeSlopes
from gamma.propagate.domain import Slopes
from gamma.propagate.facts import facts_of
from gamma.propagate.rows.block import Dense, Frontier
from gamma.propagate.rows.descend import Descent
from gamma.propagate.rows.tables import Bounds, Tables
from gamma.tensor import rounding
from gamma.tensor.box import Box

Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
LEAST_RELAXED = 3
"""Nonlinear nodes from which on it is worth it."""


class Position(Frozen):
    """The network of one of ``count`` positions: of the nodes up to the last one where they are
    apart, in the same order."""

    network: Network
    count: int


def position_of(network: Network) -> Position | None:
    """The network of one position along the first axis, where enough nodes keep them apart."""
    found: Position | None = network.cached("positions.apart", _position_of)
    return found


def _position_of(network: Network) -> Position | None:
    shape, cut = network.input_shape, facts_of(network).cut
    if len(shape) < 2 or shape[0] < 2:
        return None
    nodes = [replace(network.nodes[0], shape=shape[1:])]
    for node in network.nodes[1 : network.output + 1]:
        one = _one(network, node, nodes)
        if one is None:
            break
        nodes.append(one)
    # Rows from behind arrive at the last node alone, whose charge nobody has taken over.
    while nodes and not (cut[len(nodes) - 1] or len(nodes) - 1 == network.output):
        nodes.pop()
    if sum(node.op.affine is None for node in nodes[1:]) < LEAST_RELAXED:
        return None
    return Position(Network(tuple(nodes), len(nodes) - 1), shape[0])


def _one(network: Network, node: Node, before: list[Node]) -> Node | None:
    """A node of one position; None where it mixes them, or does something else to each."""
    axes, count = node.op.mixes(len(node.shape)), network.input_shape[0]
    if axes is None or 0 in axes or any(i >= len(before) for i in node.inputs):
        return None
    shapes = [network.nodes[i].shape for i in node.inputs]
    if any(s[0] != count or len(s) < 2 for s in (node.shape, *shapes)):
        return None
    shape = node.shape[1:]
    try:
        op = node.op.without_axes(1, (1, *shape), True)
        if op is None or op.shape(*(before[i].shape for i in node.inputs)) != shape:
            return None
    except (UsageError, ValueError):  # an array with numbers for every position
        return None
    return replace(node, op=op, shape=shape)


class Apart:
    """How rows go down from nodes of single positions.

    Attributes:
        last: the last such node. descent: through the network of one position.
    """

    def __init__(self, position: Position, tables: Tables) -> None:
        network, box = position.network, tables.box
        self.last, self._count, self._whole = network.output, position.count, tables.network
        view = _Views(network, tables.bounds)
        lower, upper = (end.reshape(-1, *network.input_shape) for end in (box.lower, box.upper))
        forms = _Forms(position.count, tables.forms)
        self.descent = Descent(Tables(network, Box(lower, upper), view, tables.how, forms=forms))

    def places(self, index: int, boxes: Indices, neurons: Indices) -> tuple[Indices, Indices]:
        """Boxes and neurons of the network of one position."""
        position, neuron = np.divmod(neurons, self.descent.tables.network.nodes[index].size)
        return boxes * self._count + position, neuron

    def slopes(self, given: Slopes) -> Slopes:
        """Slopes of the whole network's nodes as of one position's."""
        nodes, made = self.descent.tables.network.nodes, {}
        for index, one in given.items():
            if index <= self.last:
                ends = (None if p is None else p.reshape(-1, nodes[index].size)
                        for p in (one.lower, one.upper))  # fmt: skip
                made[index] = NodeSlopes(*ends)
        return made

    def takes(self, frontier: Frontier) -> bool:
        """Whether rows may go on here: they have all columns, and nobody else pays for a node."""
        if max(frontier) > self.last:
            return False
        tables = self.descent.tables
        return not any(tables.carried(i) or tables.columns(i) is not None for i in frontier)

    def near(self, frontier: Frontier) -> bool:
        """Whether rows meet nothing but linear nodes before they may go on here."""
        nodes = self._whole.nodes[self.last + 1 : max(frontier) + 1]
        return all(node.op.affine is not None for node in nodes)

    def finish(
        self,
        frontier: Frontier,
        d: Float64,
        box: Indices,
        bound: Callable[[Frontier, Float64, Indices], Float64],
    ) -> None:
        """Bound rows over nodes up to ``last``: ``d`` becomes their lower bounds.

        ``bound`` finds those of rows over one position, with their constants and boxes.
        """
        n, count = self._count, len(d)
        rows = {i: block.dense().reshape(count * n, -1) for i, block in frontier.items()}
        each = (box[:, None] * n + np.arange(n)).reshape(-1)
        # A row that begins at one position is 0 at the others, and so is what it says of them.
        some = np.flatnonzero(np.logical_or.reduce([part.any(axis=1) for part in rows.values()]))
        own: Frontier = {i: Dense(part[some]) for i, part in rows.items()}
        found = np.zeros((count, n))
        if len(some):
            found.reshape(-1)[some] = bound(own, np.zeros(len(some)), each[some])
        size = abs(d) + abs(found).sum(axis=1)
        d += found.sum(axis=1)
        d -= rounding.gamma_factor(n + 4, np.float64) * size + TINY
        frontier.clear()


class _Views:
    """Bounds of a walk's nodes with every position as a box."""

    def __init__(self, network: Network, bounds: Bounds) -> None:
        self._network, self._bounds = network, bounds
        self._made: dict[int, tuple[Float64, NodeBounds]] = {}

    def __len__(self) -> int:
        return min(len(self._bounds), len(self._network.nodes))

    def __getitem__(self, index: int, /) -> NodeBounds:
        known = self._bounds[index]
        made = self._made.get(index)
        if made is None or made[0] is not known.lower:  # or it was tightened
            made = self._made[index] = known.lower, self._view(index, known)
        return made[1]

    def _view(self, index: int, known: NodeBounds) -> NodeBounds:
        shape = self._network.nodes[index].shape

        def view(array: Float64 | None) -> Float64 | None:
            return None if array is None else array.reshape(-1, *shape)

        lower, upper, centre = (
            end.reshape(-1, *shape) for end in (known.lower, known.upper, known.centre)
        )
        made = NodeBounds(lower, upper, centre)
        made.spread, made.noise, made._radius = (
            view(part) for part in (known.spread, known.noise, known._radius)
        )
        return made


class _Forms(Mapping[int, Forms]):
    """Forms of a walk's nodes with every position as a box."""

    def __init__(self, count: int, forms: Mapping[int, Forms]) -> None:
        self._count, self._forms = count, forms

    def __len__(self) -> int:
        return len(self._forms)

    def __iter__(self) -> Iterator[int]:
        return iter(self._forms)

    def __getitem__(self, index: int) -> Forms:
        known = self._forms[index]
        weights, lower, upper = (
            part.reshape(len(part) * self._count, -1, *part.shape[2:])
            for part in (known.weights, known.lower, known.upper)
        )
        return Forms(weights, lower, upper)
