"""Interval passes that hold little: attention in strips, and bounds no longer than they are read.

Scores have positions² entries for every head, and so have the chances made of them, which nothing
reads but the product with the values. Some rows of them at a time, from the product of queries and
keys to that with the values, are never in memory as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NoReturn

import numpy as np
from msgspec.structs import replace

from gamma.errors import InternalError
from gamma.frozen import Frozen
from gamma.network.graph import Network, Shape
from gamma.ops.base import Cut, Operator
from gamma.ops.bounds import NodeBounds
from gamma.ops.products import TERMS_LIMIT
from gamma.ops.tables import Precision
from gamma.propagate.domain import Domain
from gamma.propagate.interval import node_bounds
from gamma.runtime import workers

LARGE = 1 << 20
"""Entries from which on a node is not held where nothing but a strip of it is ever read."""
ENTRIES = 1 << 17
"""Entries of a strip: one megabyte for each of the dozen arrays that a step makes."""
NUMBERS, COPIES = 6, 16
"""Of every entry of a node in its bounds, and while one step makes them."""


Step = tuple[int, Operator, tuple[Cut, ...]]


class Chain(Frozen, eq=True):
    """Products of two variables with what lies between, cut along axes that no step mixes.

    Attributes:
        nodes: in order; each but the last is large, and read by the next one alone.
        step: entries of a strip of the large ones.
    """

    nodes: tuple[int, ...]
    step: int

    def cuts(self, shape: Shape) -> Iterator[Cut]:
        """Parts of the leading axes of ``shape``, the large nodes' one, of about equal size."""
        lead = shape[:-1]
        behind = [math.prod(shape[a + 1 :]) for a in range(len(lead))]
        axis = next((a for a, n in enumerate(behind) if n <= self.step), len(lead) - 1)
        count = -(-lead[axis] // max(1, self.step // behind[axis]))
        ends = [lead[axis] * k // count for k in range(count + 1)]
        whole = tuple(slice(None) for _ in lead[axis + 1 :])
        for place in np.ndindex(*lead[:axis]):
            own = tuple(slice(i, i + 1) for i in place)
            for start, end in zip(ends, ends[1:], strict=False):
                yield (*own, slice(start, end), *whole)


class Gone:
    """In the place of bounds that were not kept."""

    def __getattr__(self, name: str) -> NoReturn:
        raise InternalError(f"{name} of bounds that were not kept")


GONE = Gone()


def within(network: Network) -> frozenset[int]:
    """The nodes of chains that no bounds are ever held of."""
    return network.cached("strips.within", _within)


def _within(network: Network) -> frozenset[int]:
    return frozenset(i for c in chains_of(network).values() for i in c.nodes[:-1])


def chains_of(network: Network) -> Mapping[int, Chain]:
    """The chains of a network, by their last nodes."""
    found: Mapping[int, Chain] = network.cached("strips.chains", _chains)
    return found


def _chains(network: Network) -> dict[int, Chain]:
    nodes, found = network.nodes, {}
    for first, node in enumerate(nodes[: network.output]):
        large_input = any(nodes[i].size >= LARGE for i in node.inputs)
        if node.size < LARGE or len(node.shape) < 2 or len(node.inputs) != 2 or large_input:
            continue
        chain = [first]
        while nodes[chain[-1]].size >= LARGE and (reader := _reader(network, chain[-1])):
            chain.append(reader)
        made = Chain(tuple(chain), _entries(network, chain))
        if nodes[chain[-1]].size < LARGE and _cuttable(network, made):
            found[chain[-1]] = made
    return found


def _reader(network: Network, index: int) -> int | None:
    """The one node that reads ``index``, as its first input and no other."""
    readers = network.consumers[index]
    if len(readers) != 1 or readers[0] > network.output:
        return None
    node = network.nodes[readers[0]]
    same = node.shape[:-1] == network.nodes[index].shape[:-1]
    return readers[0] if same and node.inputs[0] == index else None


def _entries(network: Network, chain: Sequence[int]) -> int:
    """Entries of a strip: its products have more terms than are taken one by one."""
    nodes = network.nodes
    terms = min(nodes[chain[0]].op.summed(*(nodes[i].shape for i in nodes[chain[0]].inputs)),
                nodes[chain[-1]].shape[-1])  # fmt: skip
    return max(ENTRIES, 2 * TERMS_LIMIT // terms)


def _cuttable(network: Network, chain: Chain) -> bool:
    cut = next(chain.cuts(network.nodes[chain.nodes[0]].shape))
    return _parts(network, chain, cut) is not None


def _parts(network: Network, chain: Chain, cut: Cut) -> list[Step] | None:
    """For each node its operator on the part ``cut``, and the parts of its inputs."""
    found = []
    for index in reversed(chain.nodes):
        node = network.nodes[index]
        part = node.op.part(cut, *(network.nodes[i].shape for i in node.inputs))
        if part is None:
            return None
        found.append((index, *part))
    return found[::-1]


def passed(
    network: Network,
    chain: Chain,
    domain: Domain,
    bounds: Mapping[int, NodeBounds] | Sequence[NodeBounds],
    how: Precision,
    check: Callable[[], None],
) -> NodeBounds:
    """Interval bounds of the last node of a chain; those of its others are not kept."""
    last, first = network.nodes[chain.nodes[-1]], network.nodes[chain.nodes[0]]
    lower, upper, centre = (np.empty((domain.batch, *last.shape)) for _ in range(3))

    def strip(cut: Cut) -> None:
        check()
        found: dict[int, NodeBounds] = {}
        parts = _parts(network, chain, cut)
        assert parts is not None
        for index, op, cuts in parts:
            node = network.nodes[index]
            inputs = [
                found[i] if i in found else _taken(bounds[i], c)
                for i, c in zip(node.inputs, cuts, strict=True)
            ]
            made = node_bounds(replace(node, op=op), inputs, how)
            found = {index: domain.part(index, cut).known(index, made)}
        at, known = (slice(None), *cut), found[chain.nodes[-1]]
        lower[at], upper[at], centre[at] = known.lower, known.upper, known.centre

    workers.run([partial(strip, cut) for cut in chain.cuts(first.shape)])
    return NodeBounds(lower, upper, centre).frozen()


def _taken(bounds: NodeBounds, cut: Cut) -> NodeBounds:
    at = (slice(None), *cut)
    ends = (bounds.lower, bounds.upper, bounds.centre)
    lower, upper, centre = (np.ascontiguousarray(end[at]) for end in ends)
    return NodeBounds(lower, upper, centre)


def read_last(network: Network) -> Sequence[Sequence[int]]:
    """For each node those that nobody reads once it is bounded, itself among them.

    Nodes inside a chain are never there; what they read is read by the last one.
    """
    found: Sequence[Sequence[int]] = network.cached("strips.last", _read_last)
    return found


def _read_last(network: Network) -> list[list[int]]:
    end = {i: last for last, chain in chains_of(network).items() for i in chain.nodes}
    found: list[list[int]] = [[] for _ in network.nodes]
    for index, readers in enumerate(network.consumers[: network.output + 1]):
        if end.get(index, index) == index:
            inside = (r for r in readers if r <= network.output)
            found[max((end.get(r, r) for r in inside), default=index)].append(index)
    return found


def peak(network: Network, boxes: int, keep: frozenset[int]) -> tuple[int, int]:
    """Bytes of the bounds that one pass holds at most, and of what its widest step makes."""
    nodes, chains, inside = network.nodes, chains_of(network), within(network)
    live, most, step = 0, 0, 0
    for index, node in enumerate(nodes[: network.output + 1]):
        if index in inside:
            continue
        live += NUMBERS * 8 * boxes * node.size
        most = max(most, live)
        made = COPIES * 8 * boxes * max(node.size, *(nodes[i].size for i in node.inputs or (0,)))
        if index in chains:
            made = COPIES * 8 * boxes * chains[index].step * workers.workers()
        step = max(step, made)
        live -= sum(NUMBERS * 8 * boxes * nodes[i].size
                    for i in read_last(network)[index] if i not in keep)  # fmt: skip
    return most, step
