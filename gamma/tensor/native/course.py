"""Rows through a network of images: the call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.runtime import pool, workers
from gamma.tensor._simd import ffi, lib
from gamma.tensor.kernels.met import Met
from gamma.tensor.native.images import gathering, spreading
from gamma.tensor.native.memory import pick, pointer

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Rows at once: whole register blocks of `gather`, of 12 or 16, whose largest slots fill a share of
# the second-level cache.
_SLOT_BYTES = 768 << 10
_LEAST, _MOST = 24, 96
_LINE: int = lib.GAMMA_LINE
_DOUBLE = np.dtype(np.float64)


class MetTables:
    """See `kernels.MetTables`: struct gamma_met of all nodes, and the memory that they point to."""

    def __init__(self, nodes: int, boxes: int, dtype: np.dtype[Any]) -> None:
        self.met = ffi.new("struct gamma_met[]", nodes)
        self.boxes, self.dtype = boxes, dtype
        self._alive: list[list[Any]] = [[] for _ in range(nodes)]
        self._kept: Any = None
        self._relu = lib.gamma_meet_relu_f32 if dtype.itemsize == 4 else lib.gamma_meet_relu_f64

    def drop(self, node: int) -> None:
        self.met[node] = (ffi.NULL,) * len(Met._fields)
        self._alive[node] = []

    def keep(self, memory: Any) -> None:
        """Memory that tables made elsewhere point to."""
        self._kept = memory

    def meet(self, node: int, size: int, met: Met) -> None:
        boxes, whole, entry = self.boxes, self.boxes * size, self.met[node]
        for name, table in zip(met._fields, met, strict=True):
            if table is None:
                continue
            dtype = self.dtype if name.endswith("slope") else _DOUBLE
            if table.dtype != dtype:
                raise UsageError(f"move: found a table of {table.dtype}, expected {dtype}")
            found = pointer(table, boxes if name.endswith("loss") else whole)
            setattr(entry, name, found)
            self._alive[node].append(found)

    def relu(
        self,
        node: int,
        shape: tuple[int, int, int],
        ends: Sequence[Float64],
        charge: tuple[Float64, Float64, Float64] | None,
        factors: tuple[float, ...],
        strip: bool,
    ) -> None:
        boxes, n = self.boxes, math.prod(shape)
        lower, upper, centre, after = ends
        spread = noise = mass = ffi.NULL
        if charge is not None:
            spread, noise = pointer(charge[0], boxes * n), pointer(charge[1], boxes * n)
            mass = pointer(charge[2], boxes)
        doubles = boxes * ((3 if strip else 2) * n + 1) + 5 * n
        memory = self._room(node, doubles + -(-2 * (boxes + 1) * n * self.dtype.itemsize // 8))
        self._relu(
            self.met + node,
            pointer(lower, boxes * n),
            pointer(upper, boxes * n),
            pointer(centre, boxes * n),
            pointer(after, boxes * n),
            *(spread, noise, mass),
            memory,
            ffi.new("double[7]", factors),
            *(boxes, shape[0], n // shape[0], strip),
        )

    def charge(
        self,
        node: int,
        shape: tuple[int, int, int],
        charge: tuple[Float64, Float64, Float64],
        factors: tuple[float, ...],
    ) -> None:
        boxes, n = self.boxes, math.prod(shape)
        spread, noise, mass = charge
        lib.gamma_meet_charge(
            self.met + node,
            pointer(spread, boxes * n),
            pointer(noise, boxes * n),
            pointer(mass, boxes),
            self._room(node, boxes * (n + 1) + n),
            ffi.new("double[7]", factors),
            *(boxes, shape[0], n // shape[0]),
        )

    def reach(
        self,
        node: int,
        shape: tuple[int, int, int],
        ends: Sequence[Float64],
        factors: tuple[float, float],
        join: bool,
    ) -> None:
        boxes, n = self.boxes, math.prod(shape)
        lib.gamma_meet_reach(
            self.met + node,
            *(pointer(end, boxes * n) for end in ends),
            self._room(node, (boxes + 1) * n),
            ffi.new("double[2]", factors),
            *(boxes, shape[0], n // shape[0], join),
        )

    def _room(self, node: int, count: int) -> Any:
        """Memory for tables of a node, kept with them."""
        memory = pool.empty(count, np.float64)
        found = pointer(memory, count, True)
        self._alive[node].append(found)
        return found


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
        # Of a struct gamma_walk but for its tables, block, scratch and whether all channels count.
        counts = len(moves), len(self._rooms), given
        self._fixed = self._moves, ffi.NULL, self._room_memory, *counts
        self._array = ffi.typeof("float *[]" if dtype.itemsize == 4 else "double *[]")

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
        if move.kind in ("gather", "reach"):
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

    def template(self, every: bool) -> tuple[Any, tuple[int, int, int, int]]:
        """Struct gamma_walk without tables; its moves, entries of lists, of the first slot and of
        memory that is not given. The course must outlive it."""
        own = self._block, self._scratch, self._lists
        walk = ffi.new("struct gamma_walk *", (*self._fixed, *own, every))
        return walk, (len(self._moves), self._lists, self._rooms[0], self._room(self._block))

    def _room(self, block: int) -> int:
        """Entries of memory for a thread that takes so many rows at once."""
        return -(-(self._scratch + block * self._own) // _LINE) * _LINE

    def run(
        self,
        tables: MetTables,
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
        threads = min(workers.sharing(), -(-N // block)) if block < N else 1
        memory = pool.empty((threads * self._room(block),), self.dtype)
        work = np.empty(3 * count * P + threads * block + -(-threads * self._lists // 2), np.int64)
        spots = pointer(work, work.size, True)
        before = spots + 3 * count * P
        given = [self._block_of(rows, N * r) for rows, r in zip(blocks, self._rooms, strict=False)]
        walk = ffi.new(
            "struct gamma_walk *", (*self._fixed, block, self._scratch, self._lists, every)
        )
        walk.met = tables.met
        status = pick("walk", memory)(
            walk,
            ffi.new(self._array, given),
            pointer(d, N, True),
            ffi.NULL if opposite is None else pointer(opposite, N, True),
            pointer(box, N),
            pointer(place, N),
            pointer(first, 3 * P),
            spots,
            pointer(memory, memory.size, True),
            ffi.cast("int32_t *", before + threads * block),
            ffi.cast("double *", before),
            tables.boxes,
            P,
            N,
            threads,
        )
        if status != 0:
            raise UsageError("kernel argument place: found a place or a box that does not exist")

    def _block_of(self, block: Array, size: int) -> Any:
        if block.dtype != self.dtype:
            raise UsageError(f"rows: found {block.dtype}, expected {self.dtype}")
        return pointer(block, size, True)
