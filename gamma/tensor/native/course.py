"""Rows through a network of images: the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.runtime import pool
from gamma.tensor._simd import ffi, lib
from gamma.tensor.native.images import gathering, spreading
from gamma.tensor.native.memory import pick, pointer

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Rows at once: whole register blocks of `gather`, whose largest slots fill a share of the
# second-level cache.
_SLOT_BYTES = 256 << 10
_LEAST, _MOST = 12, 96
_DOUBLE = np.dtype(np.float64)


class Tables:
    """Struct gamma_met of all nodes, and the arrays that they point to."""

    def __init__(self, nodes: int, boxes: int) -> None:
        self.met = ffi.new("struct gamma_met[]", nodes)
        self.boxes = boxes
        self.alive: list[Any] = [()] * nodes


class Course:
    """See `kernels.Course`."""

    def __init__(
        self, moves: Sequence[Any], rooms: Sequence[int], given: int, dtype: np.dtype[Any]
    ) -> None:
        self.dtype, self._rooms, self._given = dtype, tuple(rooms), given
        self._moves = ffi.new("struct gamma_move[]", len(moves))
        self._room_memory = ffi.new("int64_t[]", self._rooms)
        self._alive: list[Any] = []
        self._lists, self._scratch = 1, 0
        for entry, move in zip(self._moves, moves, strict=True):
            self._enter(entry, move)
        widest = max(self._rooms) * dtype.itemsize
        self._block = max(_LEAST, min(_MOST, _SLOT_BYTES // widest)) // _LEAST * _LEAST
        self._own = sum(self._rooms[given:])

    @classmethod
    def of(
        cls, moves: Sequence[Any], rooms: Sequence[int], given: int, dtype: np.dtype[Any]
    ) -> Course | None:
        """None with more slots than the library has."""
        return None if len(rooms) > lib.GAMMA_SLOTS else cls(moves, rooms, given, dtype)

    def _enter(self, entry: Any, move: Any) -> None:
        entry.kind = getattr(lib, f"GAMMA_{move.kind.upper()}")
        entry.node, entry.to, entry.framed = move.node, move.to, move.framed
        setattr(entry, "from", move.source)
        entry.shape, entry.grid = move.shape, move.grid
        entry.target, entry.corner = move.target, move.corner
        if (product := move.product) is None:
            return
        weight = product.weight
        shapes = product.rows, weight.shape, product.images
        if move.kind == "gather":
            near, lists, room, geometry = gathering(shapes, product.scatter, product.cells)
            self._lists = max(self._lists, lists)
            scratch, entry.near = lib.GAMMA_BROAD * room, near
            self._alive.append(near)
        else:
            scratch, geometry = spreading(shapes, product.scatter, weight.itemsize)
        self._scratch = max(self._scratch, scratch)
        entry.offsets, entry.add, entry.window = product.offsets, product.add, geometry
        entry.weight = memory = pointer(weight, weight.size)
        self._alive.append((memory, weight))

    def tables(self, nodes: int, boxes: int) -> Tables:
        return Tables(nodes, boxes)

    def meet(self, tables: Tables, node: int, size: int, met: Any) -> None:
        boxes, whole = tables.boxes, tables.boxes * size
        lower, upper, *rest = met
        slopes = [self._table(table, whole, self.dtype) for table in (lower, upper)]
        sizes = (boxes if field.endswith("loss") else whole for field in met._fields[2:])
        found = (*slopes, *map(self._table, rest, sizes))
        tables.met[node] = found
        tables.alive[node] = met, found

    def _table(self, table: Array | None, size: int, dtype: np.dtype[Any] = _DOUBLE) -> Any:
        if table is None:
            return ffi.NULL
        if table.dtype != dtype:
            raise UsageError(f"move: found a table of {table.dtype}, expected {dtype}")
        return pointer(table, size)

    def run(
        self,
        tables: Tables,
        blocks: Sequence[Array],
        d: Float64,
        opposite: Float64 | None,
        box: Int64,
        place: Int64,
        first: Int64,
        every: bool,
    ) -> None:
        N, P, count = len(d), len(first), len(self._moves)
        if len(blocks) != self._given:
            raise UsageError(f"rows: found {len(blocks)} blocks, expected {self._given}")
        block = max(1, min(self._block, N))
        memory = pool.empty((self._scratch + block * self._own,), self.dtype)
        spots, lists = np.empty(3 * count * P, np.int64), np.empty(self._lists, np.int32)
        before = np.empty(block)
        sizes = zip(blocks, self._rooms, strict=False)
        given = [self._block_of(block, N * room) for block, room in sizes]
        element = "float" if self.dtype.itemsize == 4 else "double"
        walk = ffi.new(
            "struct gamma_walk *",
            (
                self._moves,
                tables.met,
                self._room_memory,
                count,
                len(self._rooms),
                self._given,
                block,
                self._scratch,
                every,
            ),
        )
        status = pick("walk", memory)(
            walk,
            ffi.new(f"{element} *[]", given),
            pointer(d, N, True),
            ffi.NULL if opposite is None else pointer(opposite, N, True),
            pointer(box, N),
            pointer(place, N),
            pointer(first, 3 * P),
            pointer(spots, spots.size, True),
            pointer(memory, memory.size, True),
            pointer(lists, lists.size, True),
            pointer(before, before.size, True),
            tables.boxes,
            P,
            N,
        )
        if status != 0:
            raise UsageError("kernel argument place: found a place or a box that does not exist")

    def _block_of(self, block: Array, size: int) -> Any:
        if block.dtype != self.dtype:
            raise UsageError(f"rows: found {block.dtype}, expected {self.dtype}")
        return pointer(block, size, True)
