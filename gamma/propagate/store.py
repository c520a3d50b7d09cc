"""Where a walk's bounds are kept: all of them, or some of them and the way to the others.

A walk asks ``store[i]`` and never how it is answered. `CheckpointedBounds` keeps the bounds of few
nodes and computes those in between again, one segment at a time; `PackedBounds` keeps those of all
nodes in less memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.network.graph import Network
from gamma.ops import Linear
from gamma.propagate.interval import input_bounds, interval_step
from gamma.propagate.plan import plan_of
from gamma.propagate.state import NodeBounds
from gamma.tensor import resident, rounding
from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.box import Box
from gamma.tensor.compressed import CompressedBounds

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
_SINGLE = np.dtype(np.float32)


@dataclass(frozen=True)
class Packed:
    """Bounds of one node in less memory; see `pack`."""

    ends: CompressedBounds | tuple[Float64, Float64]
    centre: Float32 | Float64 | None
    spread: Float32 | Float64 | None
    noise: Float32 | Float64 | None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        ends = self.ends
        if isinstance(ends, CompressedBounds):
            total = ends.memory_bytes()
        else:
            total = ends[0].nbytes + ends[1].nbytes
        parts = (self.centre, self.spread, self.noise)
        return total + sum(part.nbytes for part in parts if part is not None)

    def unpack(self) -> NodeBounds:
        """The bounds, the same each time."""
        if isinstance(self.ends, CompressedBounds):
            wide = self.ends.to_bounded_tensor(np.float64)
            lower, upper = np.array(wide.lower), np.array(wide.upper)
        else:
            lower, upper = self.ends
        if self.centre is None:
            return NodeBounds(lower, upper, rounding.midpoint(lower, upper))
        spread, noise = (
            None if part is None else part.astype(np.float64, copy=False)
            for part in (self.spread, self.noise)
        )
        return NodeBounds(lower, upper, self.centre.astype(np.float64, copy=False), spread, noise)


def pack(bounds: NodeBounds, f16: bool) -> Packed:
    """``bounds`` exactly, or in float16 ends and float32 for the rest, every number outward."""
    linear = bounds.spread is not None and bounds.noise is not None
    if not f16:
        if linear:
            noise = np.ascontiguousarray(bounds.noise)
            return Packed((bounds.lower, bounds.upper), bounds.centre, bounds.spread, noise)
        middle = rounding.midpoint(bounds.lower, bounds.upper)
        same = np.array_equal(middle, bounds.centre)
        centre = None if same else bounds.centre
        return Packed((bounds.lower, bounds.upper), centre, None, None)
    lower, upper = (
        rounding.to_down(bounds.lower, _SINGLE),
        rounding.to_up(bounds.upper, _SINGLE),
    )
    ends = CompressedBounds.from_bounded_tensor(BoundedTensor(lower, upper))
    if not linear:
        return Packed(ends, None, None, None)
    assert bounds.spread is not None and bounds.noise is not None
    centre = bounds.centre.astype(np.float32)
    centre = np.where(np.isfinite(centre), centre, np.float32(0))
    # The stored centre is another point than the one the products were about.
    moved = abs(bounds.centre - centre) * (1 + 2.0**-50)
    noise = rounding.to_up((bounds.noise + moved) * (1 + 2.0**-50), _SINGLE)
    return Packed(ends, centre, rounding.to_up(bounds.spread, _SINGLE), noise)


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
    # A node whose activation carries its charge is needed together with that activation.
    carried = plan_of(network).carried
    cuts = {index for index in cut_nodes(network) if not carried[index]}
    for index in range(1, network.output):
        op = network.nodes[index].op
        layers += isinstance(op, Linear) and not op.moves
        behind = not isinstance(op, Linear)
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
        box: Box,
        interval: int,
        guarantee: str = "real",
        f16: bool = False,
        check: Callable[[], None] | None = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        self.network, self.guarantee, self.f16, self.dtype = network, guarantee, f16, dtype
        self.ends, self.computed = checkpoints(network, interval), 0
        self._check = check
        self._kept = {0: pack(input_bounds(box), False)}
        self._live: dict[int, NodeBounds] = {0: self._kept[0].unpack()}
        self._segment = (0, 0)
        with np.errstate(all="ignore"):
            for start, end in pairwise(self.ends):
                last = end == network.output
                self._compute(start, end, keep=last)
                if not last:
                    self._kept[end] = pack(self._live[end], f16)
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
                inputs = [self._live[i] for i in node.inputs]
                self._live[index] = interval_step(node, inputs, self.guarantee, self.dtype)
                self.computed += 1
                let_go(node.op)
            if not keep:
                for i in node.inputs:
                    if i in self._live and max(self.network.consumers[i]) <= index:
                        del self._live[i]

    @property
    def nbytes(self) -> int:
        """Bytes of the checkpoints."""
        return sum(kept.nbytes for kept in self._kept.values())


class PackedBounds:
    """Bounds of every node, packed as soon as the next one is appended.

    Attributes:
        f16: pack in float16 and float32. spilled: keep them in a file that has no name.
    """

    def __init__(self, network: Network, f16: bool, spilled: bool) -> None:
        self.network, self.f16, self.spilled = network, f16, spilled
        self._packed: list[Packed | Spilled] = []
        self._open: NodeBounds | None = None
        self._cache: dict[int, NodeBounds] = {}

    def __len__(self) -> int:
        return len(self._packed) + (self._open is not None)

    def append(self, bounds: NodeBounds) -> None:
        """Add the next node, which may be changed until `seal`."""
        self.seal()
        self._open = bounds
        self._cache.clear()

    def seal(self) -> None:
        """Pack the last node. Whatever is computed from it must see it as it is packed."""
        if self._open is not None:
            packed = pack(self._open, self.f16)
            self._packed.append(Spilled(packed) if self.spilled else packed)
            self._open = None

    def __getitem__(self, index: int) -> NodeBounds:
        if index == len(self._packed) and self._open is not None:
            return self._open
        if index not in self._cache:
            # A step asks for a node and its inputs: the nodes it asked for before are done with.
            while len(self._cache) >= 4:
                del self._cache[next(iter(self._cache))]
            self._cache[index] = self._packed[index].unpack()
        return self._cache[index]

    def __iter__(self) -> Any:
        return (self[index] for index in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Bytes in memory of what is packed."""
        return sum(p.nbytes for p in self._packed)


class Spilled:
    """`Packed` arrays in a file that vanishes with the process."""

    nbytes = 0

    def __init__(self, packed: Packed) -> None:
        self._packed = Packed(
            packed.ends
            if isinstance(packed.ends, CompressedBounds)
            else (_spill(packed.ends[0]), _spill(packed.ends[1])),
            *(
                None if p is None else _spill(p)
                for p in (packed.centre, packed.spread, packed.noise)
            ),
        )

    def unpack(self) -> NodeBounds:
        """The bounds, read from the file; its pages are given back."""
        found = self._packed.unpack()
        copies = [
            None if part is None else np.array(part)
            for part in (found.lower, found.upper, found.centre, found.spread, found.noise)
        ]
        ends = self._packed.ends
        for part in (
            *(ends if isinstance(ends, tuple) else ()),
            self._packed.centre,
            self._packed.spread,
            self._packed.noise,
        ):
            if part is not None:
                resident.release(part)
        lower, upper, centre, spread, noise = copies
        assert lower is not None and upper is not None and centre is not None
        return NodeBounds(lower, upper, centre, spread, noise)


def _spill(array: Any) -> Any:
    with tempfile.TemporaryFile() as file:
        file.write(np.ascontiguousarray(array).tobytes())
        file.flush()
        mapped = np.memmap(file, dtype=array.dtype, mode="r", shape=array.shape)
    return mapped


def let_go(op: Any) -> None:
    """Give back what an operator was used with: pages of mapped weights, large derived copies."""
    op.forget()
    for name in ("weight", "bias"):
        array = getattr(op, name, None)
        if isinstance(array, np.ndarray):
            resident.release(array)


def bytes_of(network: Network, index: int, batch: int) -> int:
    """Bytes of the bounds of one node as a walk holds them, an activation's radius included."""
    linear = isinstance(network.nodes[index].op, Linear)
    return batch * plan_of(network).sizes[index] * 8 * (5 if linear else 4)
