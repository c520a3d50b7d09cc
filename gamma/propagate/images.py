"""CROWN over the nodes of images that a network begins with: one call of the C library, or as many
as rows of a while each.

Convolutions, sums of two images, ReLUs, channels that become the first axis or the last, and the
dense layers behind them. The rules are those of `gamma.propagate.walks`, but that a dense layer's
step over many boxes adds in another order; a node whose rows are better made there is left to it,
and the next call goes on behind that. Tests hold the two against each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field
from msgspec.structs import replace

from gamma import telemetry, tuning
from gamma.frozen import Frozen
from gamma.network.graph import Network, Node
from gamma.ops import Add, Conv, Gemm
from gamma.ops.bounds import NodeBounds, check_order
from gamma.ops.charges import UNIT
from gamma.ops.dense_interval import constants_of
from gamma.ops.image_interval import prepared, sum_constants
from gamma.propagate import sides
from gamma.propagate.blocks import row_cost
from gamma.propagate.domain import Domain
from gamma.propagate.facts import facts_of
from gamma.propagate.needs import is_tight
from gamma.propagate.options import Options
from gamma.propagate.rows.course import UNCHECKED, Way, planned_way
from gamma.propagate.rows.met import factors_of, inflation
from gamma.propagate.rows.moves import Spot, turned
from gamma.propagate.rows.pixels import Pixels, planned_pixels
from gamma.tensor import kernels

if TYPE_CHECKING:
    from gamma.propagate.walks import Walk

Float64 = npt.NDArray[np.float64]

# Gates of the one call: all off where one of them is.
_GATES = frozenset(
    {"fused_images", "fused_windows", "fused_tables", "fused_starts", "fused_image", "fused_layers"}
    | {"fused_charge", "windows", "gathered_adjoint", "fused_adjoint", "added_adjoint", "unstable"}
)
# Boxes whose neurons are all looked at one after the other.
_MOST_BOXES = 64


class Images(Frozen):
    """The first nodes of a network as `kernels.ImageNetwork` takes them.

    Attributes:
        last: the first node that is none of them. boxes: that one call takes.
        met: kinds of tables that are made of each. rowed: those whose neurons may get rows.
        asks: the last node of these is the output, whose neurons get them when they are asked for.
    """

    kernel: kernels.ImageNetwork
    dtype: np.dtype[Any]
    last: int
    boxes: int
    met: tuple[frozenset[str], ...]
    rowed: frozenset[int]
    asks: bool


def images_of(network: Network, domain: Domain, options: Options) -> Images | None:
    """The nodes that a walk may bound in one call; None where it must go node by node."""
    plain = options.guarantee == "real" and options.refines and options.progress is None
    if not plain or not domain.plain or domain.box.norm != "inf" or kernels.isa == "numpy":
        return None
    if not tuning.off().isdisjoint(_GATES):
        return None
    gates = tuning.enabled("live_channels"), tuning.enabled("pixel_cells")
    sided = tuning.enabled("one_sided")
    key = "images", options.dtype.char, gates, sided
    make = partial(_make, dtype=options.dtype, every=not gates[0], sided=sided)
    made: Images | None = network.cached(key, make)
    return made if made is not None and domain.batch <= made.boxes else None


class ImageWalk:
    """The nodes of `Images` over one batch of boxes, bounded as far as each call comes.

    Attributes:
        paused: the last call ended amid the rows of a node.
    """

    def __init__(
        self, images: Images, batch: kernels.ImageBatch, tables: kernels.MetTables
    ) -> None:
        self.images, self._batch, self._tables = images, batch, tables
        self._next, self._left, self.paused = 0, False, False

    def go(self) -> tuple[range, list[NodeBounds], int]:
        """The nodes that were bounded, the last of them but for its rows if `left`; their bounds,
        without the input's; ends that contradict each other."""
        first, resume = self._next, self._left
        found = self._batch.go(first, self._tables, resume=resume, few=sides.OPEN)
        self.paused = found.paused
        self._left = found.node < self.images.last and not found.paused
        self._next = found.node if found.paused else min(found.node + 1, self.images.last)
        done = range(max(first, 1), self._next)
        return done, [self.bounds(i).frozen() for i in done], found.crossed

    def bounds(self, index: int) -> NodeBounds:
        """Of a node, in the memory of the calls; of what is asked for later, a copy."""
        parts = self._batch.parts(index)
        if self.images.asks and index + 1 == self.images.last:
            parts = {name: part.copy() for name, part in parts.items()}
        return NodeBounds(**parts)

    def ask(self, check: Callable[[], None]) -> NodeBounds:
        """Bounds of the output with rows for every neuron that varies."""
        output, paused = self.images.last - 1, True
        with telemetry.measure("crown.images", nodes=1):
            while paused:
                check()
                paused = self._batch.ask(output, self._tables).paused
        return self.bounds(output)

    def wide(self, images: Images) -> ImageWalk | None:
        """The same bounds with rows of another dtype; None where it has other nodes."""
        if not images.asks or images.last != self.images.last:
            return None
        batch = images.kernel.known(self._batch)
        tables = kernels.met_tables(images.last, batch.boxes, images.dtype)
        return ImageWalk(images, batch, tables)

    @property
    def left(self) -> int | None:
        """The node whose rows were left to the caller, who returns its bounds by `meet`."""
        return self._next - 1 if self._left else None

    def meet(self, bounds: NodeBounds, open_: float) -> None:
        """Bounds of the node that was `left`, and the share of its rows that kept both signs."""
        self._batch.meet(self._next - 1, bounds.lower, bounds.upper)
        self._batch.open = open_

    @property
    def open(self) -> float:
        """The share of neurons last bounded by rows that kept both signs."""
        return self._batch.open

    def rows(self, index: int) -> tuple[int, npt.NDArray[np.bool_]] | None:
        """How many neurons of a node got rows, and which; None where none needs any."""
        if index not in self.images.rowed:
            return None
        return int(self._batch.rows[index]), self._batch.mask(index)

    def seconds(self, index: int) -> float:
        """That a node took."""
        return float(self._batch.seconds[index])


def walk_images(walk: Walk, images: Images) -> int:
    """Bound the nodes of ``images``; the first node behind them."""
    source, tables = walk.bounds[0], walk.descent.courses.met.known
    batch = images.kernel.batch(source.lower, source.upper, source.centre)
    walked = ImageWalk(images, batch, tables)
    while True:
        walk.options.check()
        started = time.perf_counter()
        done, bounds, crossed = walked.go()
        walk.bounds.extend(bounds)
        if crossed:
            check_order(bounds[-1].lower, bounds[-1].upper, walk.network.nodes[done[-1]].name)
        for index in done:
            walk.tight[index] = is_tight(walk.network, index, walk.tight)
            if index != walked.left:
                _adopt(walk, walked, index)
        if telemetry.recorder is not None:
            telemetry.record("crown.images", started, time.perf_counter(), nodes=len(done))
        if walked.left is not None:
            _refine(walk, walked, walked.left)
        elif not walked.paused:
            walk.imaged = walked if images.asks else None
            return images.last


def _adopt(walk: Walk, walked: ImageWalk, index: int) -> None:
    """What the call did at a node."""
    walk.seconds[index] = walked.seconds(index)
    walk.descent.courses.adopt(index, walked.images.met[index])
    if (rows := walked.rows(index)) is not None:
        walk.unstable[index], walk.rowed[index] = rows
        walk.tight[index] = walk.tight[index] or rows[0] > 0


def _refine(walk: Walk, walked: ImageWalk, index: int) -> None:
    """Bound the neurons of the node that the call left."""
    started, known = time.perf_counter(), walk.sides
    if known is not None:
        known.open = walked.open
    walk.refine(index)
    walked.meet(walk.bounds[index], 1.0 if known is None else known.open)
    walk.descent.courses.adopt(index, walked.images.met[index])
    walk.seconds[index] = time.perf_counter() - started


class _Maker(Struct):
    """The nodes of a network as they come, until one is of another kind."""

    network: Network
    dtype: np.dtype[Any]
    sided: bool
    nodes: list[kernels.ImageNode] = field(default_factory=list)
    tight: dict[int, bool] = field(default_factory=lambda: {0: True})
    ways: dict[int, Way] = field(default_factory=dict)
    more: dict[int, list[Way]] = field(default_factory=dict)
    boxes: float = _MOST_BOXES

    def visit(self, index: int) -> bool:
        """Add a node; False where it is none of the kinds."""
        node = self.network.nodes[index]
        made = self._kind(node) if len(node.shape) == 3 else self._flat(node)
        if made is None:
            return False
        factors = factors_of(self.network, index, self.dtype) if index else made.charge
        if index:
            self.tight[index] = is_tight(self.network, index, self.tight)
        facts = facts_of(self.network)
        asked = index == self.network.output
        if asked or (node.op.affine is not None and facts.relaxed[index] and not self.tight[index]):
            rows = self._rows(index)
            if rows is None or (not asked and (facts.needed[index] or not facts.hinged[index])):
                return False
            pixels, self.ways[index] = rows
            factors = pixels.factors
            most, sided = self._limits(index)
            made = replace(
                made,
                starts=pixels.starts,
                course=self.ways[index].course,
                most=most,
                sided=sided,
                signs=self._signs(index, pixels) if sided < _MOST_BOXES * node.size else None,
                asked=asked,
            )
        join = inflation(node.size), 1.01 * UNIT[self.dtype]
        self.nodes.append(replace(made, charge=factors, join=join))
        return True

    def _kind(self, node: Node) -> kernels.ImageNode | None:
        shape: Any = node.shape
        if not node.inputs:  # channels last there are as rows have them
            last = turned(self.network) is not None
            return kernels.ImageNode("input", (node.size,) if last else shape)
        before: Any = self.network.nodes[node.inputs[0]].shape
        if isinstance(node.op, Conv):
            step = prepared(node.op, before)
            if step is None:
                return None
            self.boxes = min(self.boxes, step.boxes, step.most)
            return kernels.ImageNode("convolution", shape, node.inputs, step.kernel)
        if node.op.hinge:
            return self._hinge(node)
        if node.op.affine is not None and (turns := node.op.affine.turns):
            lines = before[0] if turns == "last" else before[0] * before[1]
            known = turns == "last" or turned(self.network) == len(self.nodes)
            return kernels.ImageNode("flat", shape, node.inputs, lines=lines) if known else None
        if isinstance(node.op, Add) and node.op.signs == (1, 1) and len(set(node.inputs)) == 2:
            row_sum, factors = sum_constants(node.op, before)
            row_sum = np.ascontiguousarray(np.broadcast_to(row_sum, shape))
            return kernels.ImageNode("sum", shape, node.inputs, row_sum=row_sum, factors=factors)
        return None

    def _hinge(self, node: Node) -> kernels.ImageNode:
        carries = facts_of(self.network).carried[node.inputs[0]]
        return kernels.ImageNode("relu", node.shape, node.inputs, carries=carries)

    def _flat(self, node: Node) -> kernels.ImageNode | None:
        """An image as a vector, a dense layer that reads one, its activation."""
        if not node.inputs or len(node.shape) != 1:
            return None
        before = self.network.nodes[node.inputs[0]].shape
        if node.op.keeps_order:
            return kernels.ImageNode("flat", node.shape, node.inputs)
        if len(before) != 1:
            return None
        if node.op.hinge:
            return self._hinge(node)
        if not isinstance(node.op, Gemm) or node.op.inexact:
            return None
        weight, bias, row_sum, factors = constants_of(node.op)
        if weight.dtype not in (np.float32, np.float64):
            return None
        constants = weight, bias
        return kernels.ImageNode(
            "dense", node.shape, node.inputs, None, constants, row_sum, factors
        )

    def _rows(self, index: int) -> tuple[Pixels, Way] | None:
        pixels = planned_pixels(self.network, index, self.dtype)
        if pixels is None or not (pixels.carried or len(self.network.nodes[index].shape) == 1):
            return None
        way = planned_way(self.network, self.dtype, pixels.aligned, 0)
        return None if way is None else (pixels, way)

    def _limits(self, index: int) -> tuple[int, int]:
        """Neurons whose rows are done with soon; that are not better taken one-sided."""
        cost, size = row_cost(self.network, index), self.network.nodes[index].size
        most = max(1, int(min(UNCHECKED / (2 * cost), _MOST_BOXES * size)))
        asked = index == self.network.output
        if asked or not self.sided or facts_of(self.network).sequential[index]:
            return most, _MOST_BOXES * size
        relus = self.network.cached("sides.relus", sides.only_relus)
        return most, int(sides.CALLS * index / cost) if relus else _MOST_BOXES * size

    def _signs(self, index: int, pixels: Pixels) -> kernels.Signs | None:
        """One-sided rows, by way of the first ReLU; None where they lie over other nodes, too."""
        first = next(i for i, n in enumerate(self.network.nodes) if i and n.op.affine is None)
        start, down = pixels.aligned, None
        if {node for node, *_ in start} != {first}:
            down = planned_way(self.network, self.dtype, start, first + 1)
            if down is None or down.end is None:
                return None
            end = down.end
        else:
            channels, *image = self.network.nodes[first].shape
            end = Spot(0, pixels.size, channels, (image[0], image[1]), start[0][2])
        over = ((first, end.size, end.framed, (0, 0)),)
        rest = planned_way(self.network, self.dtype, over, 0)
        if rest is None:
            return None
        self.more[index] = [rest] if down is None else [down, rest]
        shape = (*end.size, *end.image, end.channels)
        grid = (*end.scale, *end.shift)
        course = None if down is None else down.course
        return kernels.Signs(first, course, rest.course, shape, grid, end.framed)

    def met(self, last: int) -> tuple[frozenset[str], ...]:
        """What the rows of these nodes meet at each of them."""
        facts, found = facts_of(self.network), [set[str]() for _ in range(last)]
        ways = [*self.ways.values(), *(way for ways in self.more.values() for way in ways)]
        for index, kinds in (met for way in ways for met in way.met):
            op = self.network.nodes[index].op.affine
            free = index and op is not None and (facts.carried[index] or op.turns)
            unpaid = {"pay"} if free else set()
            found[index] |= kinds - unpaid
        return tuple(map(frozenset, found))


def _make(network: Network, dtype: np.dtype[Any], every: bool, sided: bool) -> Images | None:
    maker, last = _Maker(network, dtype, sided), 0
    while last <= network.output and maker.visit(last):
        last += 1
    if not any(index < min(last, network.output) for index in maker.ways):
        return None
    maker.ways = {index: way for index, way in maker.ways.items() if index < last}
    maker.more = {index: ways for index, ways in maker.more.items() if index < last}
    met = maker.met(last)
    nodes = [replace(n, met=kinds) for n, kinds in zip(maker.nodes, met, strict=False)]
    kernel = kernels.image_network(nodes, dtype, every)
    if kernel is None:
        return None
    rowed = frozenset(maker.ways) - {network.output}
    return Images(kernel, dtype, last, int(maker.boxes), met, rowed, last > network.output)
