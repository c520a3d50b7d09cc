"""Which moves take rows through a network of images: see `gamma.propagate.rows.course`.

The steps are those of the descent (`gamma.propagate.rows.descend`), and so is the way windows grow,
meet and become whole images (`gamma.propagate.rows.windows`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field
from msgspec.structs import replace

from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops import Conv, Gemm
from gamma.ops.spread import GATHER_FROM, MANY_GROUPS, Taps, last_weight, summed
from gamma.propagate.facts import facts_of
from gamma.propagate.rows.windows import DENSE_FROM
from gamma.tensor import kernels

Array = npt.NDArray[Any]
Pair = tuple[int, int]

# Offsets that `kernels.gather` has room for.
_OFFSETS = 1 << 31


class Spot(Frozen):
    """Where and how rows of one node lie.

    Attributes:
        slot: that holds them. size: of windows. channels, image: of the node.
        framed: windows are whole images.
        scale, shift: a place whose first pixel is y has its window at y·scale + shift.
    """

    slot: int
    size: Pair
    channels: int
    image: Pair
    framed: bool
    scale: Pair = (1, 1)
    shift: Pair = (0, 0)

    @property
    def room(self) -> int:
        """Entries of a row."""
        return math.prod(self.size) * self.channels


Start = tuple[int, Pair, bool, Pair]
"""Node, size of windows, whether they are whole images, and how far they lie from the first."""


class UnplannedError(Exception):
    """Some step has no move."""


class Plan(Struct):
    """Moves of rows from some nodes down to node ``last``, or past the input where that is 0."""

    network: Network
    dtype: np.dtype[Any]
    last: int
    moves: list[kernels.Move] = field(default_factory=list)
    rooms: list[int] = field(default_factory=list)
    met: dict[int, set[str]] = field(default_factory=dict)
    given: int = 0
    end: Spot | None = None
    _fresh: set[int] = field(default_factory=set)
    _readers: dict[int, int] = field(default_factory=dict)
    _free: list[int] = field(default_factory=list)
    _frontier: dict[int, Spot] = field(default_factory=dict)
    # Convolutions that skip pixels of a node, and their rows, until others lie there to add to.
    _later: dict[int, list[tuple[Conv, Spot]]] = field(default_factory=dict)

    def make(self, starts: Sequence[Start]) -> kernels.Course | None:
        """The whole way; None where some step has no move."""
        for slot, (node, size, whole, shift) in enumerate(starts):
            channels, *image = image_shape(self.network, node)
            spot = Spot(slot, size, channels, (image[0], image[1]), whole, shift=shift)
            self._frontier[node] = spot
            self.rooms.append(spot.room)
            self._readers[slot] = 1
        self.given = len(starts)
        try:
            for index in range(starts[0][0], self.last - 1, -1):
                self._arrive(index)
                if index in self._frontier:
                    self._step(index, self._frontier.pop(index))
            if self.last:
                self._leave()
        except UnplannedError:
            return None
        return kernels.course(self.moves, self.rooms, self.given, self.dtype)

    def _leave(self) -> None:
        """What is left lies over one node: its slot becomes the last of the caller's."""
        self._arrive(self.last - 1)
        if self._frontier.keys() != {self.last - 1}:
            raise UnplannedError
        self.end = end = self._frontier[self.last - 1]
        if end.slot not in self._fresh:
            raise UnplannedError
        order = [*range(self.given), end.slot]
        order += [slot for slot in range(self.given, len(self.rooms)) if slot != end.slot]
        moved = {slot: at for at, slot in enumerate(order)}
        self.rooms = [self.rooms[slot] for slot in order]
        self.moves = [replace(m, source=moved[m.source], to=moved[m.to]) for m in self.moves]
        self.given += 1

    # -- slots -------------------------------------------------------------------------------------

    def _slot(self, room: int, last: bool = False) -> int:
        """Room for rows; ``last``: perhaps those that are left at the end, and no others before."""
        if self._free and not last:
            slot = self._free.pop()
            self.rooms[slot] = max(self.rooms[slot], room)
        else:
            slot = len(self.rooms)
            self.rooms.append(room)
            self._fresh |= {slot} if last else set()
        self._readers[slot] = 1
        return slot

    def _release(self, spot: Spot) -> None:
        self._readers[spot.slot] -= 1
        if not self._readers[spot.slot] and spot.slot >= self.given:
            self._free.append(spot.slot)

    def _own(self, spot: Spot, last: bool = False) -> Spot:
        """Rows that nobody else reads."""
        if self._readers[spot.slot] == 1:
            return spot
        made = replace(spot, slot=self._slot(spot.room, last))
        self._move("copy", spot, to=made.slot, target=spot.size)
        self._release(spot)
        return made

    def _move(self, kind: str, spot: Spot, node: int = 0, **more: Any) -> None:
        if kind in ("relax", "pay", "join"):
            self.met.setdefault(node, set()).add(kind)
        shape = (*spot.size, *spot.image, spot.channels)
        grid = (*spot.scale, *spot.shift)
        self.moves.append(kernels.Move(kind, node, spot.slot, more.pop("to", spot.slot), shape,
                                       spot.framed, grid, **more))  # fmt: skip

    # -- steps -------------------------------------------------------------------------------------

    def _step(self, index: int, spot: Spot) -> None:
        node = self.network.nodes[index]
        op = node.op
        if index and op.affine is None:
            if not op.diagonal or len(node.inputs) != 1:
                raise UnplannedError
            spot = self._own(spot)
            self._move("relax", spot, index)
            self._join(node.inputs[0], spot)
        else:
            self._move("mark", spot)
            if not (index == 0 and self._reach(spot)):
                self._move("pay", spot, index)
            if index:
                self._linear(index, spot)
            else:
                self._release(spot)
        self._move("follow", spot)

    def _reach(self, spot: Spot) -> bool:
        """Rows that a convolution leaves over the whole input pay as they are made."""
        at = len(self.moves) - 1
        while at >= 0 and self.moves[at].kind in ("mark", "follow"):
            at -= 1
        made = self.moves[at] if at >= 0 else kernels.Move("zero")
        product = made.product
        if product is None or made.kind != "gather" or made.to != spot.slot or not spot.framed:
            return False
        if product.add or product.scatter.channels != spot.channels:
            return False
        del self.moves[at]
        source = replace(spot, slot=made.source)
        self._move("reach", source, to=spot.slot, target=made.target, product=product)
        self.met.setdefault(0, set()).add("pay")
        return True

    def _linear(self, index: int, spot: Spot) -> None:
        """Rows of a linear node whose charge is paid onto its inputs."""
        node = self.network.nodes[index]
        inputs, nodes = node.inputs, self.network.nodes
        if (conv := node.op.correlation) is not None:
            if len(nodes[inputs[0]].shape) != 3:
                raise UnplannedError
            others = any(inputs[0] < i < index for i in self.network.consumers[inputs[0]])
            if others and inputs[0] not in self._frontier and spot.framed and conv.skips:
                self._later.setdefault(inputs[0], []).append((conv, spot))
            else:
                self._convolve(inputs[0], conv, spot)
        elif node.op.signs is not None and len(set(inputs)) == len(inputs):
            if min(node.op.signs) < 0:
                raise UnplannedError
            self._readers[spot.slot] += len(inputs) - 1
            for source in inputs:
                self._join(source, spot)
        elif (dense := node.op.dense) is not None:
            self._multiply(index, dense, spot)
        elif turned(self.network) == index and not self.last:
            # Channels are last already: the rows lie as the input does.
            self._frontier[0] = spot
        else:
            raise UnplannedError

    def _join(self, index: int, spot: Spot) -> None:
        if index not in self._frontier:
            self._frontier[index] = spot
            self._arrive(index)
            return
        self._round(index, self._plus(self._frontier[index], spot, index == self.last - 1))

    def _arrive(self, index: int) -> None:
        """Rows that waited for others over this node."""
        for op, spot in self._later.pop(index, ()):
            self._convolve(index, op, spot)

    def _round(self, index: int, spot: Spot) -> None:
        self._move("join", spot, index)
        self._frontier[index] = spot

    def _convolve(self, index: int, op: Conv, spot: Spot) -> None:
        shape = self.network.nodes[index].shape
        before, window = self._frontier.get(index), op.window(shape)
        weight = last_weight(op, op.weight, self.dtype, False, op.group)
        taps = Taps.cached(op, weight, window, int(op.weight.shape[1]))
        gathered = self._gathered(op, taps, spot)
        if spot.framed and before is not None and before.framed and gathered:
            to = self._own(before, index == self.last - 1)
            self._product(op, weight, taps, spot, to, gathered, True)
            self._release(spot)
            self._round(index, to)
            return
        to = self._grown(op, shape, spot, index == self.last - 1)
        self._product(op, weight, taps, spot, to, gathered, False)
        self._release(spot)
        h, w = to.size
        covering = h * w >= DENSE_FROM * math.prod(to.image)
        self._join(index, self._frame(to, index == self.last - 1) if covering else to)

    def _multiply(self, index: int, op: Gemm, spot: Spot) -> None:
        """Rows of a dense layer: those of a convolution of images of one pixel, whose channels are
        the entries that the layer reads, an image's in the order that its rows have."""
        (source, last), nodes = read_by(self.network, index, alone=True), self.network.nodes
        shape = image_shape(self.network, source)
        vector = len(nodes[nodes[index].inputs[0]].shape) == 1
        if not (vector and op.gathers) or (source == 0 and len(nodes[0].shape) != 3):
            raise UnplannedError
        size = shape[1], shape[2]
        made = Spot(0, size, shape[0], size, True)
        to = replace(made, slot=self._slot(made.room, source == self.last - 1))
        scatter = kernels.Scatter((1, 1, 1, 1, 1, 1), 0, 0, made.room, summed(spot.room))
        weight = op.panels((made.room, 1, 1) if last else shape, self.dtype)
        if weight is None:
            raise UnplannedError
        rows, images = (1, 1, spot.room), (1, 1, made.room)
        product = kernels.Product(weight, rows, images, scatter, (0, 0))
        self._move("gather", spot, to=to.slot, target=size, product=product)
        self._release(spot)
        self._join(source, to)

    def _gathered(self, op: Conv, taps: Taps, spot: Spot) -> bool:
        """Whether rows pass cell by cell, as `gamma.ops.spread.spread` decides."""
        if op.group >= MANY_GROUPS:
            raise UnplannedError
        out = taps.weight.shape[3]
        if max(32 * math.prod(spot.size) * out, taps.weight[0].size) >= _OFFSETS:
            raise UnplannedError
        return int(op.weight.shape[1]) >= GATHER_FROM or taps.size != (1, 1)

    def _grown(self, op: Conv, shape: tuple[int, ...], spot: Spot, last: bool) -> Spot:
        """Where rows lie behind a convolution, in a slot of their own."""
        window, image = op.window(shape), (shape[1], shape[2])
        if spot.framed:
            made = Spot(0, image, shape[0], image, True)
            return replace(made, slot=self._slot(made.room, last))
        geometry = zip(spot.size, window.kernel, window.strides, window.dilations, strict=True)
        h, w = ((n - 1) * s + (k - 1) * d + 1 for n, k, s, d in geometry)
        (sh, sw), (top, left) = window.strides, window.pads[:2]
        scale = spot.scale[0] * sh, spot.scale[1] * sw
        shift = spot.shift[0] * sh - top, spot.shift[1] * sw - left
        made = Spot(0, (h, w), shape[0], image, False, scale, shift)
        return replace(made, slot=self._slot(made.room, last))

    def _product(
        self, op: Conv, weight: Array, taps: Taps, spot: Spot, to: Spot, gathered: bool, add: bool
    ) -> None:
        channels, out = int(op.weight.shape[1]), weight.shape[1]
        window = op.window((to.channels, *to.image))
        if not spot.framed:
            window = replace(window, image=to.size, pads=(0, 0, 0, 0))
        scatter, cells = taps.scatter(window, channels)
        if not gathered:
            spans = (*window.kernel, *window.strides, *window.dilations)
            scatter = kernels.Scatter(spans, *window.pads[:2], channels, scatter.part)
        for group in range(op.group):
            product = kernels.Product(
                taps.weight[group] if gathered else weight[group],
                (*spot.size, spot.channels),
                (*to.size, to.channels),
                scatter,
                (group * out, group * channels),
                cells if gathered else kernels.PIXELS,
                add or (not gathered and group > 0),
            )
            kind = "gather" if gathered else "spread"
            self._move(kind, spot, to=to.slot, target=to.size, product=product)

    def _frame(self, spot: Spot, last: bool = False) -> Spot:
        """The same rows on the whole image."""
        if spot.framed:
            return spot
        made = Spot(0, spot.image, spot.channels, spot.image, True)
        made = replace(made, slot=self._slot(made.room, last))
        self._move("zero", made, target=made.size)
        self._move("frame", spot, to=made.slot, target=made.size)
        self._release(spot)
        return made

    def _plus(self, here: Spot, other: Spot, last: bool) -> Spot:
        """The sum of two blocks, on the common window."""
        if here.framed != other.framed or here.scale != other.scale:
            here, other = self._frame(here, last), self._frame(other, last)
        y, x = (min(a, b) for a, b in zip(here.shift, other.shift, strict=True))
        size = tuple(
            max(a + n, b + m) - low
            for a, n, b, m, low in zip(
                here.shift, here.size, other.shift, other.size, (y, x), strict=True
            )
        )
        blocks = [here, other]
        total = next((b for b in blocks if b.size == size), None)
        if total is None:
            total = replace(here, size=(size[0], size[1]), shift=(y, x))
            total = replace(total, slot=self._slot(total.room, last))
            self._move("zero", total, target=total.size)
        else:
            blocks.remove(total)
            total = self._own(total, last)
        for block in blocks:
            corner = block.shift[0] - y, block.shift[1] - x
            self._move("add", block, to=total.slot, target=total.size, corner=corner)
            self._release(block)
        return total


def turned(network: Network) -> int | None:
    """The one node that reads the input, where that has its channels last."""
    (first, *others) = network.consumers[0]
    op = network.nodes[first].op.affine
    return first if op is not None and op.turns == "first" and not others else None


def image_shape(network: Network, index: int) -> tuple[int, int, int]:
    """Channels, height and width of a node; a vector is one pixel."""
    shape = network.nodes[index].shape
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (math.prod(shape), 1, 1)


def read_by(network: Network, index: int, alone: bool = False) -> tuple[int, bool]:
    """The node whose entries dense node ``index`` reads, in their order, or, of an image, where the
    second is true, with channels last; ``alone``: and nobody between does."""
    (source,), nodes = network.nodes[index].inputs, network.nodes

    def passed(node: int) -> bool:
        return not alone or network.consumers[node] == (index,)

    while nodes[source].op.keeps_order and passed(source):
        index, (source,) = source, nodes[source].inputs
    op = nodes[source].op.affine
    if op is None or op.turns != "last" or not passed(source):
        return source, False
    (image,) = nodes[source].inputs
    return (image, True) if facts_of(network).image[image] else (source, False)
