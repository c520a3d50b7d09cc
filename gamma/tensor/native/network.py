"""Bounds of the nodes of a network of images in one call: the call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.runtime import pool, workers
from gamma.tensor._simd import ffi, lib
from gamma.tensor.kernels.network import ImageNode, Reached, Signs
from gamma.tensor.native.course import MetTables
from gamma.tensor.native.memory import pointer

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

_NEURONS: int = lib.GAMMA_IMAGE_NEURONS
_SIGNS: int = lib.GAMMA_IMAGE_SIGNS
_ENDS = ("lower", "upper", "centre", "_radius")
_KINDS = frozenset(("convolution", "sum", "dense"))
_LINEAR = ("centre", "spread", "noise", "lower", "upper", "_radius")


class ImageNetwork:
    """See `kernels.ImageNetwork`."""

    def __init__(self, nodes: Sequence[ImageNode], dtype: np.dtype[Any], every: bool) -> None:
        self.nodes, self.dtype = tuple(nodes), dtype
        self.entries = ffi.new("struct gamma_image[]", len(nodes))
        self._alive: list[Any] = []
        self._reached: set[int] = set()
        single = dtype.itemsize == 4
        self.run = lib.gamma_images_f32 if single else lib.gamma_images_f64
        self.ask = lib.gamma_images_ask_f32 if single else lib.gamma_images_ask_f64
        # Of all nodes the largest: see gamma_images.
        self.rooms = [0] * 7
        for index, (entry, node) in enumerate(zip(self.entries, nodes, strict=True)):
            if not all(0 <= source < index for source in node.reads):
                raise UsageError(f"image network: node {index} reads {node.reads}")
            self._enter(entry, node, every)
        self.reached = frozenset(self._reached)
        self.sizes = ffi.new("size_t[7]", self.rooms)
        self.places = lru_cache(maxsize=4)(self._places)

    def _enter(self, entry: Any, node: ImageNode, every: bool) -> None:
        entry.kind = getattr(lib, f"GAMMA_IMAGE_{node.kind.upper()}")
        entry.inputs = len(node.reads)
        entry.reads = (*node.reads, 0, 0)[:2]
        entry.C, entry.P = node.shape[0], math.prod(node.shape[1:])
        entry.most, entry.sided, entry.carries = node.most, node.sided, node.carries
        entry.charge, entry.join, entry.factors = node.charge, node.join, node.factors
        entry.lines = node.lines
        entry.met, entry.asked = bool(node.met & {"relax", "pay"}), node.asked
        if node.row_sum is not None:
            entry.row_sum = memory = pointer(node.row_sum, math.prod(node.shape))
            self._alive.append((memory, node.row_sum))
        if node.constants is not None:
            weight, bias = node.constants
            entry.single = weight.dtype == np.float32
            inputs = math.prod(self.nodes[node.reads[0]].shape)
            entry.weight = memory = pointer(weight, node.shape[0] * inputs)
            self._alive.append((memory, weight))
            if bias is not None:
                entry.bias = memory = pointer(bias, node.shape[0])
                self._alive.append((memory, bias))
        if node.step is not None:
            self._alive.append(node.step)
            self._need(0, node.step.enter(entry))  # type: ignore[attr-defined]
        if node.course is not None and node.starts is not None:
            entry.walk = self._walk(node.course, every, starts=True)
            entry.start = node.starts.start  # type: ignore[attr-defined]
            self._need(1, math.prod(node.shape))
            self._alive.append(node.starts)
            if node.signs is not None:
                self._enter_signs(entry, node.signs, every)

    def _enter_signs(self, entry: Any, signs: Signs, every: bool) -> None:
        entry.signs = found = ffi.new("struct gamma_signs *")
        found.first, found.framed = signs.first, signs.framed
        found.shape, found.grid = signs.shape, signs.grid
        if signs.down is not None:
            found.down = self._walk(signs.down, every, starts=True)
        found.rest = self._walk(signs.rest, every)
        height, width, _, _, channels = signs.shape
        self._need(6, _SIGNS * height * width * channels)
        self._alive.append(found)
        self._reached.add(signs.first)

    def _walk(self, course: Any, every: bool, starts: bool = False) -> Any:
        walk, rooms = course.template(every)
        moves, lists, first, others = rooms
        self._need(2, 3 * moves * _NEURONS)
        self._need(3, -(-lists // 2))
        self._need(4, max(walk.block, _SIGNS) * first if starts else 0)
        self._need(5, others)
        self._alive.append((walk, course))
        return walk

    def _need(self, room: int, size: int) -> None:
        self.rooms[room] = max(self.rooms[room], size)

    def _places(self, boxes: int) -> tuple[list[int], list[tuple[int, str, int]]]:
        """Where the numbers of each node begin and end, in a row; of which node what else is, by
        its field of struct gamma_image, and where that begins, and the end."""
        values, others, total = [0], [], 0
        for index, (entry, node) in enumerate(zip(self.entries, self.nodes, strict=True)):
            n = math.prod(node.shape)
            values.append(values[-1] + boxes * ((6 if node.kind in _KINDS else 4) * n + 1))
            lines = boxes * (3 * n + 1) + 5 * n + -(-2 * (boxes + 1) * n * self.dtype.itemsize // 8)
            sizes = {
                "tables": (lines if node.kind == "relu" else (boxes + 1) * n + boxes) * entry.met,
                "joins": (boxes + 1) * n * ("join" in node.met),
                "reach": (boxes + 1) * n * (index in self.reached),
                "mask": -(-boxes * n // 8) * bool(entry.walk),
            }
            for name, size in sizes.items():
                if size:
                    others.append((index, name, total))
                    total += size
        return values, [*others, (len(self.nodes), "", total)]

    def batch(self, lower: Float64, upper: Float64, centre: Float64) -> ImageBatch:
        made = ImageBatch(self, len(lower))
        for name, end in zip(("lower", "upper", "centre"), (lower, upper, centre), strict=True):
            made.parts(0)[name].reshape(end.shape)[...] = end
        return made

    def known(self, batch: ImageBatch) -> ImageBatch:
        return ImageBatch(self, batch.boxes, batch)


class ImageBatch:
    """See `kernels.ImageBatch`."""

    def __init__(self, network: ImageNetwork, boxes: int, known: ImageBatch | None = None) -> None:
        self._network, self.boxes = network, boxes
        self.rows, self.seconds = (np.zeros(len(network.nodes), t) for t in (np.int64, np.float64))
        self._open, self.open = ffi.new("double[2]"), 1.0
        self._pause, self._work = ffi.new("struct gamma_pause *"), (0, pool.empty(0, np.float64))
        self._entries = ffi.new("struct gamma_image[]", len(network.nodes))
        ffi.memmove(self._entries, network.entries, ffi.sizeof(self._entries))
        self._begins, (*others, (_, _, total)) = network.places(boxes)
        size = self._begins[-1]
        if known is not None and known._begins != self._begins:
            raise UsageError("image network: found bounds of other nodes")
        self._values: Float64 = pool.empty(size, np.float64) if known is None else known._values
        self._tables = pool.empty(total, np.float64)
        self._made = known is None  # the tables of nodes, as their bounds are
        values = pointer(self._values, size, True)
        self._pointer = tables = pointer(self._tables, total, True)
        for entry, begin in zip(self._entries, self._begins, strict=False):
            entry.values = values + begin
        for index, name, begin in others:
            kind = "uint8_t *" if name == "mask" else "double *"
            setattr(self._entries[index], name, ffi.cast(kind, tables + begin))
        self._masks = {index: begin for index, name, begin in others if name == "mask"}

    def ask(self, index: int, tables: MetTables) -> Reached:
        network = self._network
        threads, work, crossed = self._enter(tables)
        paused = network.ask(
            self._entries,
            tables.met,
            work,
            network.sizes,
            crossed,
            self._pause,
            self.boxes,
            index,
            not self._made,
            threads,
        )
        self._made = True
        return Reached(index, crossed[0], bool(paused) and not crossed[0])

    def go(self, index: int, tables: MetTables, *, resume: bool, few: float) -> Reached:
        network = self._network
        threads, work, crossed = self._enter(tables)
        self._open[0], self._open[1] = self.open, few
        reached: int = network.run(
            self._entries,
            tables.met,
            work,
            network.sizes,
            pointer(self.rows, len(self.rows), True),
            pointer(self.seconds, len(self.seconds), True),
            self._open,
            crossed,
            self._pause,
            self.boxes,
            index,
            len(network.nodes),
            resume,
            threads,
        )
        self.open = self._open[0]
        return Reached(reached, crossed[0], bool(self._pause.listed) and not crossed[0])

    def _enter(self, tables: MetTables) -> tuple[int, Any, Any]:
        """How many threads share a call, the memory that it works in, and a counter."""
        boxes, rooms, line = self.boxes, self._network.rooms, lib.GAMMA_LINE
        if tables.boxes != boxes or tables.dtype != self._network.dtype:
            raise UsageError(f"image network: found tables of {tables.boxes} boxes, not {boxes}")
        tables.keep(self._pointer)
        if not self._pause.listed:
            threads = workers.sharing()
            elements = (2 * rooms[4] + rooms[5] + rooms[6]) * self._network.dtype.itemsize
            own = 11 * _NEURONS + rooms[2] + rooms[3] + elements // 8 + 9
            numbers = boxes + rooms[0] + 2 * boxes * rooms[1] + threads * (-(-own // line) * line)
            self._work = threads, pool.empty(numbers, np.float64)
        threads, work = self._work
        return threads, pointer(work, work.size, True), ffi.new("int64_t *")

    def parts(self, index: int) -> dict[str, Any]:
        node, at = self._network.nodes[index], self._begins[index]
        names = _LINEAR if node.kind in _KINDS else _ENDS
        end = at + len(names) * self.boxes * math.prod(node.shape)
        arrays = self._values[at:end].reshape(len(names), self.boxes, *node.shape)
        found: dict[str, Any] = dict(zip(names, arrays, strict=True))
        found["_mass"] = self._values[end : end + self.boxes]
        return found

    def mask(self, index: int) -> npt.NDArray[np.bool_]:
        at, n = self._masks[index], math.prod(self._network.nodes[index].shape)
        count = self.boxes * n
        bits = self._tables[at : at - (-count // 8)].view(np.bool_)
        return bits[:count].reshape(self.boxes, n)

    def meet(self, index: int, lower: Float64, upper: Float64) -> None:
        parts = self.parts(index)
        parts["lower"][...], parts["upper"][...] = lower, upper
