"""Bounds of the nodes of a network of images in one call: the call."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
        self.run = lib.gamma_images_f32 if dtype.itemsize == 4 else lib.gamma_images_f64
        # Of all nodes the largest: see gamma_images.
        self.rooms = [0] * 7
        for index, (entry, node) in enumerate(zip(self.entries, nodes, strict=True)):
            if not all(0 <= source < index for source in node.reads):
                raise UsageError(f"image network: node {index} reads {node.reads}")
            self._enter(entry, node, every)
        self.reached = frozenset(self._reached)

    def _enter(self, entry: Any, node: ImageNode, every: bool) -> None:
        entry.kind = getattr(lib, f"GAMMA_IMAGE_{node.kind.upper()}")
        entry.inputs = len(node.reads)
        entry.reads = (*node.reads, 0, 0)[:2]
        entry.C, entry.P = node.shape[0], math.prod(node.shape[1:])
        entry.most, entry.sided, entry.carries = node.most, node.sided, node.carries
        entry.charge, entry.join, entry.factors = node.charge, node.join, node.factors
        entry.met = bool(node.met & {"relax", "pay"})
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

    def batch(self, lower: Float64, upper: Float64, centre: Float64) -> ImageBatch:
        return ImageBatch(self, (lower, upper, centre))


class ImageBatch:
    """See `kernels.ImageBatch`."""

    def __init__(self, network: ImageNetwork, ends: Sequence[Float64]) -> None:
        self._network, self._boxes = network, len(ends[0])
        nodes, boxes, size = network.nodes, self._boxes, network.dtype.itemsize
        self.rows, self.seconds = np.zeros(len(nodes), np.int64), np.zeros(len(nodes))
        self._open, self.open = ffi.new("double[2]"), 1.0
        self._pause, self._work = ffi.new("struct gamma_pause *"), (0, pool.empty(0, np.float64))
        self._entries = ffi.new("struct gamma_image[]", len(nodes))
        ffi.memmove(self._entries, network.entries, ffi.sizeof(self._entries))
        total = 0
        for index, (entry, node) in enumerate(zip(self._entries, nodes, strict=True)):
            n = math.prod(node.shape)
            linear = node.kind in _KINDS
            entry.values = total
            total += boxes * ((6 if linear else 4) * n + 1)
            if entry.met:
                entry.tables = total
                lines = boxes * (3 * n + 1) + 5 * n + -(-2 * (boxes + 1) * n * size // 8)
                total += lines if node.kind == "relu" else boxes * (n + 1) + n
            if "join" in node.met:
                entry.joins = total
                total += (boxes + 1) * n
            if index in network.reached:
                entry.reach = total
                total += (boxes + 1) * n
            if entry.walk:
                entry.mask = total
                total += -(-boxes * n // 8)
        self._memory = pool.empty(total, np.float64)
        for name, end in zip(("lower", "upper", "centre"), ends, strict=True):
            self.parts(0)[name][...] = end

    def go(self, index: int, tables: MetTables, *, resume: bool, few: float) -> Reached:
        network, boxes = self._network, self._boxes
        if tables.boxes != boxes or tables.dtype != network.dtype:
            raise UsageError(f"image network: found tables of {tables.boxes} boxes, not {boxes}")
        if not self._pause.listed:
            self._work = self._new_work()
        threads, work = self._work
        memory, crossed = pointer(self._memory, self._memory.size, True), ffi.new("int64_t *")
        self._open[0], self._open[1] = self.open, few
        tables.keep(memory)
        reached: int = network.run(
            self._entries,
            tables.met,
            memory,
            pointer(work, work.size, True),
            ffi.new("size_t[7]", network.rooms),
            pointer(self.rows, len(self.rows), True),
            pointer(self.seconds, len(self.seconds), True),
            self._open,
            crossed,
            self._pause,
            boxes,
            index,
            len(network.nodes),
            resume,
            threads,
        )
        self.open = self._open[0]
        return Reached(reached, crossed[0], bool(self._pause.listed) and not crossed[0])

    def _new_work(self) -> tuple[int, Float64]:
        """How many threads share a call, and the memory that it works in."""
        rooms, threads, line = self._network.rooms, workers.sharing(), lib.GAMMA_LINE
        elements = (2 * rooms[4] + rooms[5] + rooms[6]) * self._network.dtype.itemsize
        own = 11 * _NEURONS + rooms[2] + rooms[3] + elements // 8 + 1
        own = -(-own // line) * line
        lists = 2 * self._boxes * rooms[1]
        return threads, pool.empty(self._boxes + rooms[0] + lists + threads * own, np.float64)

    def parts(self, index: int) -> dict[str, Any]:
        node, at = self._network.nodes[index], self._entries[index].values
        names = _LINEAR if node.kind in _KINDS else _ENDS
        end = at + len(names) * self._boxes * math.prod(node.shape)
        arrays = self._memory[at:end].reshape(len(names), self._boxes, *node.shape)
        found: dict[str, Any] = dict(zip(names, arrays, strict=True))
        found["_mass"] = self._memory[end : end + self._boxes]
        return found

    def mask(self, index: int) -> npt.NDArray[np.bool_]:
        entry, n = self._entries[index], math.prod(self._network.nodes[index].shape)
        count = self._boxes * n
        bits = self._memory[entry.mask : entry.mask - (-count // 8)].view(np.bool_)
        return bits[:count].reshape(self._boxes, n)

    def meet(self, index: int, lower: Float64, upper: Float64) -> None:
        parts = self.parts(index)
        parts["lower"][...], parts["upper"][...] = lower, upper
