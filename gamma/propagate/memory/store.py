"""Where a walk's bounds are kept: all of them, or some of them and the way to the others.

A walk asks ``store[i]`` and never how it is answered. `CheckpointedBounds` keeps the bounds of few
nodes and computes those in between again, one segment at a time; `PackedBounds` keeps those of all
nodes in less memory.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops.bounds import NodeBounds
from gamma.propagate.caps import Ceilings
from gamma.propagate.domain import Domain
from gamma.propagate.facts import facts_of
from gamma.propagate.interval import input_bounds, interval_step
from gamma.runtime import resident
from gamma.tensor import rounding
from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.box import Box
from gamma.tensor.compressed import CompressedBounds

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]


# Bounds in shorter numbers widen what they are used for by about this share, all nodes together.
LOSS = 2.0**-11
# Derived nodes in a row before one of them is kept whole: what is computed again stays bounded.
RUN = 8


class Packed(Frozen, eq=True):
    """Bounds of one node in less memory; see `pack`.

    Attributes:
        ends: lower and upper. charges: spread and noise, in one when they are compressed.
    """

    ends: CompressedBounds | tuple[Float64, Float64]
    centre: Float32 | Float64 | None
    charges: CompressedBounds | tuple[Float64, Float64] | None

    @property
    def arrays(self) -> list[Array]:
        """All that is stored."""
        pairs = [p for p in (self.ends, self.charges) if p is not None]
        found: list[Array] = [] if self.centre is None else [self.centre]
        for pair in pairs:
            found += (pair.first, pair.second) if isinstance(pair, CompressedBounds) else pair
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays)

    def mapped(self, function: Callable[[Any], Any]) -> Packed:
        """The same with every array replaced."""

        def pair(x: Any) -> Any:
            if isinstance(x, CompressedBounds):
                return replace(x, first=function(x.first), second=function(x.second))
            return x if x is None else tuple(map(function, x))

        centre = None if self.centre is None else function(self.centre)
        return Packed(pair(self.ends), centre, pair(self.charges))

    def unpack(self) -> NodeBounds:
        """The bounds, the same each time."""
        lower, upper = _pair(self.ends)
        if self.centre is None:
            return NodeBounds(lower, upper, rounding.midpoint(lower, upper)).frozen()
        centre = self.centre.astype(np.float64, copy=False)
        if self.charges is None:
            return NodeBounds(lower, upper, centre).frozen()
        spread, noise = _pair(self.charges)
        if isinstance(self.charges, CompressedBounds):
            spread = -spread
        return NodeBounds(lower, upper, centre, spread, noise).frozen()


def _pair(stored: CompressedBounds | tuple[Float64, Float64]) -> tuple[Float64, Float64]:
    if not isinstance(stored, CompressedBounds):
        return stored
    wide = stored.to_bounded_tensor(np.float64)
    return np.array(wide.lower), np.array(wide.upper)


def pack(bounds: NodeBounds, loss: float = 0.0) -> Packed:
    """``bounds`` exactly, or shorter where that widens them by at most ``loss`` of their width.

    Every number goes outward. Ends take the least of 16, 24 or 32 bits that does; 32 in any case
    when ``loss`` is not 0. A shortened node that carries no charges gets another centre, which is
    right for activations alone: their tables are made about the centre as it is unpacked.
    """
    spread, noise = bounds.spread, bounds.noise
    if not loss:
        charges = None if spread is None or noise is None else (_own(spread), _own(noise))
        middle = rounding.midpoint(bounds.lower, bounds.upper)
        known = charges is None and np.array_equal(middle, bounds.centre)
        centre = None if known else _own(bounds.centre)
        return Packed(_ends(bounds, loss), centre, charges)
    ends = _ends(bounds, loss)
    if spread is None or noise is None:
        return Packed(ends, None, None)
    with np.errstate(all="ignore"):
        single = bounds.centre.astype(np.float32)
        single = np.where(np.isfinite(single), single, np.float32(0))
        # The stored centre is another point than the one the products were about.
        moved = abs(bounds.centre - single) * (1 + 2.0**-50)
        noise = (noise + moved) * (1 + 2.0**-50)
    # Both are charges, at least 0: as an interval about 0 they are rounded up.
    spread, noise = (np.where(np.isnan(x), np.inf, x) for x in (spread, noise))
    both = CompressedBounds.from_bounded_tensor(BoundedTensor(-spread, noise), form="ends")
    return Packed(ends, single, both)


def _ends(bounds: NodeBounds, loss: float) -> CompressedBounds | tuple[Float64, Float64]:
    if not loss:
        return _own(bounds.lower), _own(bounds.upper)
    return shortened(BoundedTensor(bounds.lower, bounds.upper), loss)


def _own(array: Float64) -> Float64:
    """The array without what it is a view of: kernels return all parts of a node in one block."""
    return array if array.base is None else np.array(array, order="C")


def shortened(tensor: BoundedTensor, loss: float) -> CompressedBounds:
    """``tensor`` in the shortest code that widens it by ``loss`` of its width or less; f32 else."""
    with np.errstate(all="ignore"):
        sizes = float((abs(tensor.lower) + abs(tensor.upper)).sum())
        width = float((tensor.upper - tensor.lower).sum())
    for code, unit in (("f16", 2.0**-11), ("f24", 2.0**-16)):
        if sizes * unit / 8 > loss * width:
            continue  # hopeless: most ends lose about half a unit
        kept = CompressedBounds.from_bounded_tensor(tensor, code)
        if kept.stats(tensor).relative <= loss:
            return kept
    return CompressedBounds.from_bounded_tensor(tensor, "f32")


def cut_nodes(network: Network) -> list[int]:
    """Nodes that everything after them depends on through them alone; the output is the last."""
    cuts, furthest = [], 0
    for index in range(network.output + 1):
        # No node before this one is read by a node after it.
        if furthest <= index:
            cuts.append(index)
        readers = [r for r in network.consumers[index] if r <= network.output]
        furthest = max([furthest, *readers])
    return cuts


def checkpoints(network: Network, interval: int) -> list[int]:
    """Cut nodes about ``interval`` layers apart, the input first and the output last.

    A layer is a linear operator that computes; nodes behind an activation are preferred.
    """
    chosen, layers = [0], 0
    # A node whose activation carries its charge is needed together with that activation, and one
    # that moves entries together with what it moves: its centre must stay theirs.
    carried = facts_of(network).carried
    cuts = {index for index in cut_nodes(network) if not carried[index]}
    cuts -= {index for index in cuts if network.nodes[index].op.moves}
    for index in range(1, network.output):
        op = network.nodes[index].op
        layers += op.affine is not None and not op.moves
        behind = op.affine is None
        if index in cuts and layers >= interval and (behind or layers > interval):
            chosen.append(index)
            layers = 0
    return [*chosen, network.output]


class CheckpointedBounds:
    """Interval bounds of every node, of which a few are kept.

    ``store[i]`` computes the segment between two checkpoints that holds node ``i`` again and keeps
    it until another segment is asked for: a walk from the output to the input computes every node
    twice in all. Exact checkpoints give the bits that a walk with all bounds in memory has.

    Attributes:
        ends: the checkpoints' nodes. computed: nodes computed so far.
    """

    def __init__(
        self,
        network: Network,
        domain: Domain | Box,
        interval: int,
        guarantee: str = "real",
        f16: bool = False,
        check: Callable[[], None] | None = None,
        dtype: npt.DTypeLike = np.float64,
        ceilings: Ceilings | None = None,
    ) -> None:
        self._ceilings = ceilings
        self.network, self.guarantee, self.f16, self.dtype = network, guarantee, f16, dtype
        self.ends, self.computed = checkpoints(network, interval), 0
        self._check = check
        self._domain = Domain(domain) if isinstance(domain, Box) else domain
        self._kept = {0: pack(input_bounds(self._domain.box))}
        self._live: dict[int, NodeBounds] = {0: self._kept[0].unpack()}
        loss = LOSS / max(1, len(self.ends) - 2) if f16 else 0.0
        with np.errstate(all="ignore"):
            for start, end in pairwise(self.ends):
                last = end == network.output
                self._compute(start, end, keep=last)
                if not last:
                    self._kept[end] = pack(self._live[end], loss)
                    self._live = {end: self._kept[end].unpack()}
        # A walk tightens the output's bounds: there is only one copy of them.
        self._output = self._live[network.output]

    def __len__(self) -> int:
        return self.network.output + 1

    def __getitem__(self, index: int) -> NodeBounds:
        if index == self.network.output:
            return self._output
        if index not in self._live:
            start, end = next(p for p in pairwise(self.ends) if p[0] <= index <= p[1])
            self._live = {start: self._kept[start].unpack()}
            with np.errstate(all="ignore"):
                self._compute(start, end, keep=True)
        return self._live[index]

    def _compute(self, start: int, end: int, keep: bool) -> None:
        """Nodes start + 1 .. end into ``_live``; without ``keep`` only what is still to be read."""
        for index in range(start + 1, end + 1):
            if self._check is not None:
                self._check()
            node = self.network.nodes[index]
            if keep and index == end and end in self._kept:
                self._live[end] = self._kept[end].unpack()
            elif index == self.network.output and hasattr(self, "_output"):
                self._live[end] = self._output
            else:
                self._live[index] = self._step(index, [self._live[i] for i in node.inputs])
                self.computed += 1
                let_go(node.op)
            if not keep:
                for i in node.inputs:
                    if i in self._live and max(self.network.consumers[i]) <= index:
                        del self._live[i]

    def _step(self, index: int, inputs: list[NodeBounds]) -> NodeBounds:
        """Bounds of a node, the same each time."""
        found, ceilings = None, self._ceilings
        if ceilings is not None:
            found = ceilings.of(index, self._domain.batch)
        if found is None:
            found = interval_step(self.network.nodes[index], inputs, self.guarantee, self.dtype)
        known = self._domain.known(index, found)
        if ceilings is not None:
            ceilings.learn(index, known)
        return known

    @property
    def nbytes(self) -> int:
        """Bytes of the checkpoints."""
        return sum(kept.nbytes for kept in self._kept.values())


class PackedBounds:
    """Bounds of every node, packed as soon as the next one is appended.

    Activations and nodes that only move entries are derived: computed again from their inputs
    whenever they are asked for. Nothing but its input ever tightens an activation. Rows may tighten
    the ends of a moving node, so these are packed; its centre must be its inputs', moved, because
    rows pass it free of charge (or nearly), and shortened ends say nothing about that.

    Attributes:
        f16: pack in shorter numbers. spilled: keep them in a file that has no name.
    """

    def __init__(
        self,
        network: Network,
        f16: bool,
        spilled: bool,
        guarantee: str,
        dtype: npt.DTypeLike,
        domain: Domain | None = None,
    ) -> None:
        self.network, self.f16, self.spilled = network, f16, spilled
        self.guarantee, self.dtype, self._domain = guarantee, dtype, domain
        layers = sum(n.op.affine is not None and not n.op.moves for n in network.nodes)
        self._loss = LOSS / max(1, layers - 1) if f16 else 0.0
        self._packed: list[Packed | Spilled | None] = []
        self._run = _runs(network)
        self._open: NodeBounds | None = None
        # Nodes, and their lower ends as they were packed.
        self._cache: dict[int, tuple[NodeBounds, Float64]] = {}

    def __len__(self) -> int:
        return len(self._packed) + (self._open is not None)

    def append(self, bounds: NodeBounds) -> None:
        """Add the next node, which may be changed until `seal`."""
        self.seal()
        self._open = bounds
        self._cache.clear()

    def seal(self) -> None:
        """Pack the last node. Whatever is computed from it must see it as it is packed."""
        if self._open is None:
            return
        index = len(self._packed)
        packed = self._pack(index, self._open)
        self._packed.append(Spilled(packed) if packed and self.spilled else packed)
        self._open = None

    def _pack(self, index: int, bounds: NodeBounds) -> Packed | None:
        """What is kept of a node; None when all of it can be computed again."""
        op = self.network.nodes[index].op
        if not self._run[index]:
            computes = op.affine is not None and not op.moves
            return pack(bounds, self._loss if computes else 0.0)
        if op.affine is None:
            return None
        return Packed(_ends(bounds, self._loss), None, None)

    def __getitem__(self, index: int) -> NodeBounds:
        if index == len(self._packed) and self._open is not None:
            return self._open
        if index not in self._cache:
            # A step asks for a node and its inputs: the nodes it asked for before are done with.
            while len(self._cache) >= 4:
                del self._cache[next(iter(self._cache))]
            found = self._found(index)
            self._cache[index] = found, found.lower
        return self._cache[index][0]

    def _sealed(self, index: int) -> NodeBounds:
        """The node as it was packed. Rows that are asked for later may tighten what is in the
        cache: derived from that, a node would have another centre than its readers were made
        about."""
        bounds = self[index]
        untouched = index not in self._cache or bounds.lower is self._cache[index][1]
        return bounds if untouched else self._found(index)

    def _found(self, index: int) -> NodeBounds:
        packed = self._packed[index]
        kept = None if packed is None else packed.unpack()
        if kept is not None and not self._run[index]:
            return kept
        node = self.network.nodes[index]
        with np.errstate(all="ignore"):
            inputs = [self._sealed(i) for i in node.inputs]
            found = interval_step(node, inputs, self.guarantee, self.dtype)
        found = found if self._domain is None else self._domain.known(index, found)
        if kept is not None:
            found.intersect(kept.lower, kept.upper, node.name)
        return found

    def __iter__(self) -> Any:
        return (self[index] for index in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Bytes in memory of what is packed."""
        return sum(p.nbytes for p in self._packed if p is not None)


def _runs(network: Network) -> list[int]:
    """How many nodes in a row up to each one are derived from their inputs; 0: it is kept whole."""
    runs = [0]
    for node in network.nodes[1:]:
        run = max(runs[i] for i in node.inputs) + 1
        derived = node.op.affine is None or node.op.moves
        runs.append(run if derived and run < RUN else 0)
    return runs


class Spilled:
    """`Packed` arrays in a file that vanishes with the process."""

    nbytes = 0

    def __init__(self, packed: Packed) -> None:
        self._packed = packed.mapped(_spill)

    def unpack(self) -> NodeBounds:
        """The bounds, read from the file; its pages are given back."""
        found = self._packed.mapped(np.array).unpack()
        for array in self._packed.arrays:
            resident.release(array)
        return found


def _spill(array: Any) -> Any:
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(np.ascontiguousarray(array).tobytes())
        file.flush()
        mapped = np.memmap(file, dtype=array.dtype, mode="r", shape=array.shape)
    return mapped


def let_go(op: Any) -> None:
    """Give back what an operator was used with: pages of mapped weights, large derived copies."""
    op.forget()
    op.release()


def bytes_of(network: Network, index: int, batch: int) -> int:
    """Bytes of the bounds of one node as a walk holds them, an activation's radius included."""
    linear = network.nodes[index].op.affine is not None
    return batch * facts_of(network).sizes[index] * 8 * (5 if linear else 4)
