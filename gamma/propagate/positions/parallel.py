"""Bounds position by position, where a proof says that positions do not see each other.

A sequence network applies one function to every position until something (attention, a mixing
layer) looks across. `gamma.propagate.positions.dependency` decides which: independent positions
are bounded in networks of their own, alike ones as one batch, others some together, shared among
threads. Otherwise the whole network is walked and the threads share its rows, which is always
sound. The result says what was done and why; nothing depends on the number of threads.
"""

from __future__ import annotations

import math
import sys
import time
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import field

from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.methods import METHODS, REFINING
from gamma.network.graph import Network
from gamma.propagate import blocks
from gamma.propagate.api import bounds
from gamma.propagate.blocks import boxes_at_once, row_cost
from gamma.propagate.facts import facts_of
from gamma.propagate.options import DEFAULT_ROW_BYTES
from gamma.propagate.positions import dependency
from gamma.propagate.positions.dependency import Part
from gamma.propagate.positions.squeeze import squeezed
from gamma.runtime import threads, workers
from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.box import Box

Array = npt.NDArray[Any]

# Batches that may be walked together: each has this part of the memory.
_AT_ONCE = 8
# Batches of one kind of position: enough for many threads to even out.
_MOST_BATCHES, _LEAST_BOXES = 16, 16
# Networks into which positions of no kind are gathered: a walk each.
_GROUPS = 8
# Nanoseconds (`row_cost`) below which a batch is not worth a thread: short calls of NumPy make
# threads wait for the interpreter.
_LEAST_COST = 2.5e7


class ParallelConfig(Frozen, eq=True):
    """How positions are bounded.

    Attributes:
        method: "ibp", "crown-ibp" or "crown".
        min_positions_for_parallel: with fewer positions the whole network is walked as it is.
        max_threads: None for as many as the BLAS may have.
        report_progress: one line on stderr for each batch of positions.

    Raises:
        UsageError: an unknown method, a number below 1.
    """

    method: str = "crown"
    min_positions_for_parallel: int = 4
    max_threads: int | None = None
    report_progress: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"method {self.method!r}: expected one of {', '.join(METHODS)}")
        for name in ("min_positions_for_parallel", "max_threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}: expected at least 1")


class ParallelResult(Frozen):
    """What `ParallelVerifier` found and how.

    Attributes:
        output_bounds: as `gamma.bounds` gives them.
        num_positions: along the axis. parallel_positions: how many were bounded apart.
        total_time_ms: milliseconds, wall clock.
        split: "positions", "rows" (the walk of the whole network shared its rows) or "none".
        reason: why, in words.
        kinds: different networks the positions were bounded in (1: all alike), 0 when not split.
    """

    output_bounds: BoundedTensor
    num_positions: int
    parallel_positions: int
    total_time_ms: float
    split: str
    reason: str
    kinds: int = 0


class ParallelVerifier(Frozen, eq=True):
    """Bounds networks over sequences; see the module's text."""

    config: ParallelConfig = field(default_factory=ParallelConfig)

    def verify_positions_parallel(
        self,
        network: Network,
        box: Box,
        axis: int = 0,
        *,
        guarantee: str = "real",
        dtype: str = "auto",
        deadline: float | None = None,
        row_bytes: int = DEFAULT_ROW_BYTES,
    ) -> ParallelResult:
        """Certified bounds on the outputs for every input in ``box``.

        Args:
            axis: of the input, without the batch axis, whose indices are the positions.
            guarantee, dtype, deadline, row_bytes: as for `gamma.bounds`.

        Raises:
            UsageError: no such axis, or what `gamma.bounds` refuses.
            ResourceError: the deadline passed.
        """
        start = time.perf_counter()
        axis = dependency.position_axis(network, axis)
        count = network.input_shape[axis]
        options: dict[str, Any] = {"method": self.config.method, "guarantee": guarantee}
        options |= {"dtype": dtype, "deadline": deadline}
        most = self.config.max_threads
        # One thread means one: those of the BLAS count too.
        with workers.limited(most), threads.limit_blas(most) if most else nullcontext():
            split, reason, parts = self._parts(network, axis, count)
            if parts:
                options["row_bytes"] = max(1, row_bytes // _AT_ONCE)
                out = self._by_position(network, box, axis, parts, options)
            else:
                out = bounds(network, box, row_bytes=row_bytes, **options)
        spent = (time.perf_counter() - start) * 1e3
        done = count if parts else 0
        return ParallelResult(out, count, done, spent, split, reason, len(parts))

    def _parts(self, network: Network, axis: int, count: int) -> tuple[str, str, list[_Batch]]:
        """How to split and why; what is walked together when positions are split."""
        if count < self.config.min_positions_for_parallel:
            least = self.config.min_positions_for_parallel
            return "none", f"{count} positions, fewer than {least}", []
        known = dependency.labels(network, axis)
        node = dependency.mixing(network, known)
        if node is not None:
            return "rows", f"positions meet in node {node.name} ({node.op.name})", []
        batches = _batches(network, known, count)
        if batches is None:
            return "rows", "positions are independent, but a node cannot be cut along them", []
        return "positions", "no node reads two positions", batches

    def _by_position(
        self, network: Network, box: Box, axis: int, kinds: list[_Batch], options: dict[str, Any]
    ) -> BoundedTensor:
        many = box.batched(network.input_shape)
        batch, total = len(many.lower), network.input_shape[axis]
        batches = [part for kind in kinds for part in kind.divided(self.config.method, batch)]
        done = [0]

        def bound(part: _Batch) -> BoundedTensor:
            chosen = _positions(many, axis, part.positions)
            alone = squeezed(part.parts[0].network)
            chosen = chosen.batched(alone.input_shape)
            with blocks.by_memory():
                found: BoundedTensor = bounds(alone, chosen, **options)
            done[0] += sum(map(len, part.positions))
            if self.config.report_progress:
                print(f"positions: {done[0]}/{total}", file=sys.stderr)
            return found

        found = workers.run([partial(bound, part) for part in batches], _AT_ONCE)
        kind = np.result_type(*(out.lower.dtype for out in found))
        lower, upper = (np.empty((batch, math.prod(network.output_shape)), kind) for _ in range(2))
        for part, out in zip(batches, found, strict=True):
            for k, one in enumerate(part.parts):
                # The positions of one box come together.
                lower[:, one.entries] = out.lower.reshape(batch, len(part.parts), -1)[:, k]
                upper[:, one.entries] = out.upper.reshape(batch, len(part.parts), -1)[:, k]
        single = many.shape != box.shape and batch == 1
        shape = network.output_shape if single else (batch, *network.output_shape)
        return BoundedTensor(lower.reshape(shape), upper.reshape(shape))


class _Batch(Frozen):
    """Parts with the same network; ``positions[k]`` are those of ``parts[k]``."""

    parts: list[Part]
    positions: list[list[int]]

    def divided(self, method: str, batch: int) -> list[_Batch]:
        """Batches for several threads: by cost and memory, never by the number of threads."""
        network, count = self.parts[0].network, len(self.parts)
        cost = _cost(network, method) * count * batch
        most = min(count * batch // _LEAST_BOXES, int(cost / _LEAST_COST), _MOST_BATCHES)
        step = -(-count // max(1, most - most % 2 if most > 1 else 1))
        step = max(1, min(step, boxes_at_once(network) // _AT_ONCE // batch))
        return [
            _Batch(self.parts[start : start + step], self.positions[start : start + step])
            for start in range(0, count, step)
        ]


def _batches(network: Network, known: list[Array], count: int) -> list[_Batch] | None:
    """Alike positions in one batch; the others, if any, in a few networks of neighbours."""
    cut = dependency.cuts(network, known)
    if cut is None:
        return None
    alike: dict[Network, _Batch] = {}
    for position in range(count):
        one = dependency.part(cut, [position])
        if one is None:
            return None
        batch = alike.setdefault(one.network, _Batch([], []))
        batch.parts.append(one)
        batch.positions.append([position])
    alone = [b.positions[0][0] for b in alike.values() if len(b.parts) == 1]
    batches = [b for b in alike.values() if len(b.parts) > 1]
    step = -(-len(alone) // _GROUPS)
    for start in range(0, len(alone), max(1, step)):
        group = alone[start : start + step]
        some = dependency.part(cut, group)
        if some is None:
            return None
        batches.append(_Batch([some], [group]))
    return batches


def _cost(network: Network, method: str) -> float:
    """Nanoseconds, roughly, for one box."""
    outputs = network.nodes[network.output].size
    cost = row_cost(network, network.output) * (1 if method == "ibp" else 2 * outputs)
    if method in REFINING:
        plan = facts_of(network)
        hidden = (i for i, relaxed in enumerate(plan.relaxed) if relaxed)
        cost += sum(plan.sizes[i] * row_cost(network, i) for i in hidden)
    return cost


def _positions(box: Box, axis: int, positions: list[list[int]]) -> Box:
    """Boxes (batch·groups, *shape with the positions of one group along ``axis``).

    Some positions of a norm ball are a ball of the same radius: the others may be at the centre.
    """
    groups = np.array(positions)

    def cut(array: Array) -> Array:
        chosen = np.moveaxis(np.take(array, groups, axis=axis + 1), axis + 1, 1)
        return np.ascontiguousarray(chosen).reshape(-1, *chosen.shape[2:])

    centre = None if box.center is None else cut(box.center)
    return Box(cut(box.lower), cut(box.upper), box.norm, centre, box.radius)


def verify_parallel(
    network: Network, box: Box, axis: int = 0, config: ParallelConfig | None = None
) -> ParallelResult:
    """`ParallelVerifier.verify_positions_parallel` with ``config``."""
    verifier = ParallelVerifier() if config is None else ParallelVerifier(config)
    return verifier.verify_positions_parallel(network, box, axis)


def verify_parallel_with_method(
    network: Network, box: Box, method: str, axis: int = 0
) -> ParallelResult:
    """`verify_parallel` by one method: "ibp", "crown-ibp" or "crown"."""
    return verify_parallel(network, box, axis, ParallelConfig(method))
