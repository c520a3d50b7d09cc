"""The walk: what is known of every node, for every input at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext

import numpy as np
from msgspec.structs import replace

from gamma import telemetry
from gamma.errors import ResourceError
from gamma.network.graph import Network
from gamma.propagate.ranges import layout, rotary
from gamma.propagate.ranges.context import Context, Turn
from gamma.propagate.ranges.norms import layer_norms
from gamma.propagate.ranges.rules import known_of
from gamma.propagate.ranges.sets import Known, Storage
from gamma.runtime import heap, threads, workers

REAL = Storage("real")
FORMATS = {
    "f16": Storage("f16", 2.0**-11, 2.0**-25, 65504.0),
    "bf16": Storage("bf16", 2.0**-8, 2.0**-134, float.fromhex("0x1.fep127")),
}
"""Formats of activations: half a unit in the last place, half the least number, the largest one."""


def range_walk(
    network: Network,
    source: Known,
    storage: Storage = REAL,
    *,
    guarantee: str = "real",
    everywhere: bool = False,
    positions: int = 0,
    norms_alone: bool = False,
    thrifty: bool = False,
    joined: int | None = None,
    memory: int = 0,
    deadline: float | None = None,
    progress: Callable[[str], None] | None = None,
    streamed: bool = False,
    kept: dict[int, Known] | None = None,
) -> list[Known]:
    """What is known of every node up to the output when the input is in ``source``.

    ``guarantee``: of real arithmetic, or "float32": of every float32 execution as well.
    ``everywhere``: rotary positions may be any, not those of this network alone; ``positions`` are
    the most there are. ``norms_alone``: nothing is taken over from in front of a norm. ``thrifty``:
    without the norms of feed-forward layers. ``joined``: a node whose places along its first axis
    are not told apart, so that far less is to be told behind it. ``memory``: bytes that all of it
    may take, 0 for any. ``streamed``: weights are given back as soon as they were read.
    ``kept``: what holds of nodes whatever the input is (`anywhere`), taken from and added to.

    Raises ResourceError when the deadline (time.monotonic) or the memory has passed.
    """
    heap.keep()
    turns = rotary.turns_of(network)
    factors = [n for t in turns.values() if everywhere and t.pure for n in t.factors]
    walk = Context(network, storage, guarantee, everywhere, positions, norms_alone, thrifty)
    walk.turns, walk.factors = turns, frozenset(factors)
    walk.known.append(storage.stored(source, positions))
    held = walk.known[0].nbytes
    # gamma's threads share the weights: threads of the BLAS would take the processors from them.
    alone = nullcontext() if workers.workers() == 1 else threads.limit_blas(1)
    free = frozenset[int]() if kept is None else anywhere(network)
    # What is kept has the norms of its layers.
    asked = layer_norms(network, thrifty or bool(kept), deadline)
    with np.errstate(all="ignore"), alone, asked as norms:
        walk.layer_norms, last = norms, _read_last(network, turns)
        for index, node in enumerate(network.nodes[1 : network.output + 1], start=1):
            if deadline is not None and time.monotonic() > deadline:
                raise ResourceError("the time limit was reached")
            if kept is not None and index in kept:
                walk.known.append(kept[index])
                continue
            if progress is not None:
                progress(f"ranges: node {index} of {network.output}, {node.name}")
            started = time.perf_counter()
            found = known_of(walk, node, [walk.known[i] for i in node.inputs])
            found = layout.joined(found) if index == joined else found
            copied = node.op.moves
            walk.known.append(found if copied else storage.stored(found, positions))
            if kept is not None and index in free:
                read = any(reader not in free for reader in network.consumers[index])
                kept[index] = walk.known[-1] if read else replace(walk.known[-1], form=None)
            held += walk.known[-1].nbytes
            for one in last.get(index, ()):
                held -= walk.known[one].nbytes
                walk.known[one] = replace(walk.known[one], form=None)
                held += walk.known[one].nbytes
            if streamed:
                node.op.forget()
                node.op.release()
            if memory and held > memory:
                raise ResourceError(
                    f"memory: ranges up to {node.name} take {held:,} bytes, the limit is {memory:,}"
                )
            if telemetry.recorder is not None:
                name = f"ranges.node.{node.op.name.lower()}"
                telemetry.record(name, started, time.perf_counter(), neurons=node.size)
    return walk.known


def anywhere(network: Network) -> frozenset[int]:
    """Nodes of which the same is known for every input, where a norm's output may be any point of
    its sphere: those with a norm along the last axis on every path to them."""
    return network.cached("ranges.anywhere", _anywhere)


def _anywhere(network: Network) -> frozenset[int]:
    free: set[int] = set()
    turns = rotary.turns_of(network)
    for index, node in enumerate(network.nodes):
        rank = len(node.shape)
        along = node.op.normalizes and node.op.mixes(rank) == (rank - 1,)
        read = [*node.inputs, *([turns[node.name].source] if node.name in turns else [])]
        if along or (node.inputs and free.issuperset(read)):
            free.add(index)
    return frozenset(free)


def _read_last(network: Network, turns: Mapping[str, Turn]) -> dict[int, list[int]]:
    """For each node those whose forms nobody reads behind it; a turn reads what it turns."""
    found: dict[int, list[int]] = {}
    readers = [[r for r in every if r <= network.output] for every in network.consumers]
    for index, node in enumerate(network.nodes):
        if node.name in turns:
            readers[turns[node.name].source].append(index)
    for index, own in enumerate(readers[: network.output]):
        if own:
            found.setdefault(max(own), []).append(index)
    return found
