"""CROWN with little memory: another store for the bounds, weights read when they are used.

Streaming changes where numbers are kept, not what is computed: rows, relaxations and charges are
those of `gamma.propagate.walks`. With IBP bounds inside, one segment between checkpoints is
computed again at a time; with CROWN bounds inside nothing is, and they are packed or in a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.propagate.domain import Domain
from gamma.propagate.facts import facts_of
from gamma.propagate.interval import input_bounds
from gamma.propagate.known import STREAMED_BLOCKS, T
from gamma.propagate.memory.store import CheckpointedBounds, PackedBounds, let_go
from gamma.propagate.options import Options
from gamma.propagate.rows.block import Frontier
from gamma.propagate.rows.descend import Descent
from gamma.propagate.rows.tables import Tables
from gamma.propagate.walks import Walk
from gamma.runtime import heap
from gamma.tensor import kernels
from gamma.tensor.box import Box
from gamma.tensor.exactly import exact_integer

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class StreamingConfig(Frozen, eq=True):
    """How little memory a walk may use.

    Attributes:
        checkpoint_interval: layers between two checkpoints, with IBP bounds inside.
        enable_crown_streaming: False runs the ordinary walk.
        max_memory_bytes: what the walk, its network and its results may take of this process's
            memory; 0: no limit. Kept by a plan, or refused with the least that would do.
        use_f16_checkpoints: keep bounds in 16, 24 or 32 bits an end, rounded outward, as few as
            widen them by less than a thousandth of their width in all, where 32 are enough for
            that: half the memory or less.
        spill: keep CROWN's intermediate bounds in a temporary file, exactly.

    Raises UsageError for an interval below 1 or a negative limit.
    """

    checkpoint_interval: int = 10
    enable_crown_streaming: bool = True
    max_memory_bytes: int = 0
    use_f16_checkpoints: bool = False
    spill: bool = False

    def __post_init__(self) -> None:
        exact_integer(self.checkpoint_interval, "checkpoint_interval", least=1)
        exact_integer(self.max_memory_bytes, "max_memory_bytes", least=0)

    @classmethod
    def balanced(cls) -> StreamingConfig:
        """Checkpoints every ten layers, exact."""
        return cls()

    @classmethod
    def min_memory(cls) -> StreamingConfig:
        """Checkpoints every three layers, shortened; CROWN's bounds in a file."""
        return cls(checkpoint_interval=3, use_f16_checkpoints=True, spill=True)

    @classmethod
    def with_memory_limit(cls, limit: int) -> StreamingConfig:
        """As exact as fits into ``limit`` bytes."""
        return cls(max_memory_bytes=limit)


class MemorySavings(Frozen, eq=True):
    """What `estimate_memory_savings` says; bytes. Unpacks as full, streamed and per cent saved.

    Attributes:
        full: bounds of all layers at once. checkpoints, segment: what streaming keeps of them.
        rows: coefficient rows at the widest layer. weights: of the layer in use.
        saving: the share of ``full`` that is saved.
    """

    full: int
    checkpoints: int
    segment: int
    rows: int
    weights: int

    def __iter__(self) -> Iterator[float]:
        return iter((self.full, self.streamed, 100 * self.saving))

    @property
    def streamed(self) -> int:
        """Bytes in all when streaming."""
        return self.checkpoints + self.segment + self.rows + self.weights

    @property
    def saving(self) -> float:
        """Share of the bounds' memory that streaming does without."""
        return 1.0 - (self.checkpoints + self.segment) / self.full if self.full else 0.0


def estimate_memory_savings(
    layers: int,
    neurons: int,
    interval: int = 10,
    *,
    f16: bool = False,
    outputs: int = 0,
    weight_bytes: int = 0,
) -> MemorySavings:
    """Memory of CROWN with IBP bounds on ``layers`` dense layers and activations of ``neurons``.

    A layer holds five float64 numbers per neuron and its activation four; a checkpoint keeps two
    of them exactly, or with ``f16`` in float32 at most. ``outputs`` rows of each sign are alive
    three times over.
    """
    for name, value in (("layers", layers), ("neurons", neurons), ("interval", interval)):
        exact_integer(value, name, least=1)
    for name, value in (("outputs", outputs), ("weight_bytes", weight_bytes)):
        exact_integer(value, name, least=0)
    kept = -(-layers // interval) - 1
    return MemorySavings(
        full=layers * neurons * 72,
        checkpoints=kept * neurons * (8 if f16 else 16),
        segment=min(interval, layers) * neurons * 72,
        rows=3 * 2 * outputs * neurons * 4,
        weights=weight_bytes,
    )


class StreamedDescent(Descent):
    """Tables of a node live while rows pass it; its weight is given back then.

    Attributes:
        above: the node whose rows go down now.
    """

    above = 0

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        # All steps in one call would need all tables and weights at once.
        self.chain, self.courses.possible = None, False
        self._would_chain = not tables.linear_only and tuning.enabled("fused_walk")

    def run(
        self,
        frontier: Frontier,
        d: Float64,
        box: Int64,
        check: Callable[[], None] | None = None,
        **own: Any,
    ) -> Float64:
        last = max(frontier)
        # The weight that rows start from would be in memory beside each one that they pass.
        for node in self.tables.network.nodes[last + 1 : self.above + 1]:
            let_go(node.op)
        self._tiled = len(frontier) == 1 and self._chains(last)
        return super().run(frontier, d, box, check, **own)

    def _chains(self, last: int) -> bool:
        """Whether the ordinary walk would use the C product: then so does this one, bit for bit."""
        tables = self.tables
        nodes = tables.network.nodes[1 : last + 1]
        return (
            self._would_chain
            and tables.box.norm == "inf"
            and bool(last and facts_of(tables.network).sequential[last])
            and kernels.isa != "numpy"
            and all(op.tiled(tables.how.dtype) for n in nodes if (op := n.op.dense) is not None)
        )

    def passed(self, index: int) -> None:
        self.forget(index)
        let_go(self.tables.network.nodes[index].op)

    def times_weight(self, index: int, rows: Array) -> Array:
        if not self._tiled:
            return super().times_weight(index, rows)
        weight = self.tables.weight(index)
        spare = kernels.padded(weight.shape[1], self.tables.how.dtype) - weight.shape[1]
        padded = np.pad(weight, ((0, 0), (0, spare))) if spare else weight
        found = kernels.product(rows, np.ascontiguousarray(padded), weight.shape[1])
        assert found is not None
        return found


class StreamedTables(Tables):
    """Tables that live for one descent, of a hidden layer's rows or of the output's."""

    above = 0
    # Starts would keep what they copy of a weight.
    fuses_starts = False

    def passing(self, index: int) -> float:
        if self.above == self.network.output:
            return 2 * self._facts.sizes[self.network.output]
        return self.later_rows(index)


def streamed_walk(
    network: Network,
    domain: Domain | Box,
    options: Options,
    config: StreamingConfig,
    keep: frozenset[int] | None = None,
) -> StreamedWalk:
    """`gamma.propagate.walks.walk` with little memory."""
    heap.give_back()
    domain = Domain(domain) if isinstance(domain, Box) else domain
    made = StreamedWalk(network, domain, options, config)
    made.keep = keep
    made.run()
    return made


class StreamedWalk(Walk):
    """A `Walk` whose bounds are in a store, and whose rows pass one node at a time."""

    # Blocks of coefficients alive at the widest step, the copies of weights included.
    blocks = STREAMED_BLOCKS
    encloses = False

    def __init__(
        self, network: Network, domain: Domain, options: Options, config: StreamingConfig
    ) -> None:
        super().__init__(network, domain, options, [])
        self.config = config

    def run(self) -> None:
        network, options, config = self.network, self.options, self.config
        if options.refines:
            self.tight[0] = self.box.norm == "inf"
            packed = PackedBounds(
                network,
                config.use_f16_checkpoints,
                config.spill,
                options.guarantee,
                options.dtype,
                self.domain,
            )
            packed.append(input_bounds(self.box))
            self._bounds = packed
            with np.errstate(all="ignore"):
                for index in range(1, network.output + 1):
                    packed.seal()
                    self._visit(index)
                    let_go(network.nodes[index].op)
            return
        if self.keep is not None:
            self._bounds = [input_bounds(self.box)]
            with np.errstate(all="ignore"):
                for index in range(1, network.output + 1):
                    self._visit(index)
                    let_go(network.nodes[index].op)
            return
        started = time.perf_counter()
        self._bounds = CheckpointedBounds(
            network,
            self.domain,
            config.checkpoint_interval,
            options.guarantee,
            config.use_f16_checkpoints,
            options.check,
            options.dtype,
            self._ceilings,
        )
        self.seconds[network.output] = time.perf_counter() - started

    def _make_descent(self) -> Descent:
        return StreamedDescent(self._make_tables(StreamedTables))

    def in_blocks(self, index: int, count: int, bound: Callable[[slice], T], each: int) -> list[T]:
        """Blocks one after the other: each goes through all segments."""
        self.descent.above = self.descent.tables.above = index  # type: ignore[attr-defined]
        most = max(1, self._rows_at_once(index) // each)
        return [bound(slice(start, start + most)) for start in range(0, count, most)]

    def _with(self, options: Options) -> Walk:
        other = StreamedWalk(self.network, self.domain, options, self.config)
        other._bounds, other.rowed = self.bounds, dict(self.rowed)
        other.seconds, other.unstable = self.seconds, self.unstable
        return other
