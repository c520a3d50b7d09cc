"""Rows whose slopes and multipliers rise step by step: the call."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.runtime import pool, workers
from gamma.tensor._simd import ffi, lib
from gamma.tensor.kernels.arguments import padded
from gamma.tensor.kernels.rows import Sparse
from gamma.tensor.native.images import gathering, spreading
from gamma.tensor.native.memory import nonzeros, pointer
from gamma.tensor.native.planes import described

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

_STAGE = ffi.sizeof("struct gamma_stage")


def _size(kind: str, stage: Any, before: Any) -> int:
    """Neurons of a stage."""
    if kind == "SumStage":
        return int(before.n)
    if kind == "OrderStage":
        return len(stage.order)
    if kind == "PlaneStage":
        return int(stage.planes.below.shape[1])
    if kind == "ImageStage":
        return math.prod(stage.result)
    if kind == "DenseStage":
        sparse = isinstance(stage.weight, Sparse)
        return len(stage.weight.starts) - 1 if sparse else int(stage.weight.shape[0])
    return int((stage.radius if kind == "InputStage" else stage.base).shape[1])


class Ascent:
    """See `kernels.Ascent`."""

    def __init__(self, dtype: np.dtype[Any], most: int) -> None:
        self._dtype, self.count, self._boxes = dtype, 0, 1
        self._stages = ffi.new("struct gamma_stage[]", most)
        self._held: list[list[Any]] = []
        single = dtype.itemsize == 4
        self._run = lib.gamma_ascent_f32 if single else lib.gamma_ascent_f64
        self._room = lib.gamma_ascent_room_f32 if single else lib.gamma_ascent_room_f64
        self._block = lib.gamma_ascent_block_f32 if single else lib.gamma_ascent_block_f64

    def add(self, stage: Any, place: Any) -> None:
        index, kind, inputs = self.count, type(stage).__name__, place.inputs
        first, reads = kind == "InputStage", 2 if kind == "SumStage" else 1
        if index == len(self._stages) or (index == 0) != first:
            raise UsageError(f"stage {index}: found {kind}, expected the input first alone, and "
                             f"{len(self._stages)} stages at most")  # fmt: skip
        if index and not (len({*inputs}) == reads and 0 <= min(inputs) <= max(inputs) < index):
            raise UsageError(f"stage {index}: found {kind} of stages {inputs}, expected {reads}")
        entry = self._stages[index]
        entry.slot, entry.also = place.slot, inputs[-1] if inputs else 0
        setattr(entry, "from", inputs[0] if inputs else 0)
        before = self._stages[inputs[0]] if index else None
        previous = self._stages[index - 1] if index else None
        size = _size(kind, stage, before)
        entry.n, entry.back = size, padded(size, self._dtype)
        kept = previous is not None and (previous.base or previous.planes)
        entry.at = previous.at + (previous.back if kept else 0) if previous else 0
        entry.number, entry.count = previous.number + previous.count if previous else 0, 0
        self._held.append([])
        try:
            getattr(self, f"_{kind[:-5].lower()}")(entry, before, stage)
            if place.joined is not None:
                entry.joined = self._wide(place.joined, size)
        except UsageError:
            self.keep(index)
            raise
        self.count += 1

    def keep(self, count: int) -> None:
        for index in range(count, len(self._held)):
            ffi.memmove(self._stages + index, bytes(_STAGE), _STAGE)
        del self._held[count:]
        self.count = min(self.count, count)

    def _rows(self, array: Array, size: int) -> Any:
        return self._hold(np.ascontiguousarray(array, self._dtype), size)

    def _own(self, array: Array, size: int) -> Any:
        return self._rows(array, self._boxes * size)

    def _wide(self, array: Array, size: int) -> Any:
        return self._hold(np.ascontiguousarray(array, np.float64), self._boxes * size)

    def _hold(self, array: Array, size: int) -> Any:
        found = pointer(array, size)
        self._held[-1] += [array, found]
        return found

    def _input(self, entry: Any, before: Any, stage: Any) -> None:
        self._boxes = len(stage.radius)
        entry.middle = self._own(stage.radius, entry.n)
        entry.pay = self._wide(stage.pay, entry.n)

    def _dense(self, entry: Any, before: Any, stage: Any) -> None:
        n, weight = entry.n, stage.weight
        sparse = isinstance(weight, Sparse)
        shape = (len(weight.starts) - 1, weight.width) if sparse else weight.shape
        if shape != (n, before.n):
            raise UsageError(f"stage {self.count}: found a weight {shape}, before it {before.n} "
                             "entries")  # fmt: skip
        if sparse:
            found = nonzeros(weight, n, self._dtype)
            entry.starts, entry.columns, entry.weight = found
            self._held[-1] += [weight, found]
        else:
            entry.weight = self._rows(weight.rows, n * before.back)
            entry.turned = self._rows(weight.turned, before.n * entry.back)
        self._charges(entry, stage)

    def _image(self, entry: Any, before: Any, stage: Any) -> None:
        (C, H, W), (out, h, w), depth = stage.image, stage.result, stage.weight.shape[1]
        kh, kw, sh, sw, dh, dw = spans = stage.frame.spans
        if before.n != C * H * W or stage.weight.shape != (out, C * kh * kw):
            raise UsageError(f"stage {self.count}: found a convolution of {stage.image}, before it "
                             f"{before.n} entries")  # fmt: skip
        shapes = (h, w, out), stage.taps.shape, (H, W, C)
        if stage.cells is None:
            entry.room, window = spreading(shapes, stage.scatter, self._dtype.itemsize)
        else:
            entry.near, entry.lists, entry.room, window = gathering(
                shapes, stage.scatter, stage.cells
            )
        rows = (h - 1) * sh + (kh - 1) * dh + 1
        span = w + (kw - 1) * dw // sw + 64 // self._dtype.itemsize
        sizes = (h, w, H, W, C, out, 1, rows, span)
        made = (
            ffi.new("struct gamma_window *", window),
            ffi.new("struct gamma_frame *", (*spans, stage.frame.top, stage.frame.left, *sizes)),
        )
        self._held[-1] += [made, stage]
        entry.window, entry.frame = made
        entry.copy, entry.every = C * rows * sw * span, stage.every
        entry.weight = self._rows(stage.taps, stage.taps.size)
        entry.turned = self._rows(stage.weight, out * depth)
        self._charges(entry, stage)

    def _sum(self, entry: Any, before: Any, stage: Any) -> None:
        if self._stages[entry.also].n != entry.n or {*stage.signs} - {-1, 1}:
            raise UsageError(f"stage {self.count}: found a sum with signs {stage.signs} of "
                             f"{entry.n} and {self._stages[entry.also].n} entries")  # fmt: skip
        entry.signs = stage.signs
        self._charges(entry, stage)

    def _order(self, entry: Any, before: Any, stage: Any) -> None:
        if before.n != entry.n or not np.array_equal(np.sort(stage.order), np.arange(entry.n)):
            raise UsageError(f"stage {self.count}: found no order of {before.n} entries")
        entry.order = self._hold(np.ascontiguousarray(stage.order, np.int32), entry.n)

    def _plane(self, entry: Any, before: Any, stage: Any) -> None:
        n, planes = entry.n, stage.planes
        if planes.below.dtype != self._dtype or planes.below.shape != (self._boxes, before.n):
            raise UsageError(f"stage {self.count}: found planes of {planes.below.dtype} "
                             f"{planes.below.shape}, before it {before.n} entries")  # fmt: skip
        entry.planes, held = described(planes)
        entry.loss = self._wide(stage.loss, 1)
        self._held[-1] += [held, n]

    def _charges(self, entry: Any, stage: Any) -> None:
        n = entry.n
        if stage.charge is not None:
            entry.pay, entry.loss = self._wide(stage.charge[0], n), self._wide(stage.charge[1], 1)
        if (given := stage.assumable) is not None:
            entry.centre, entry.rounded = self._wide(given.centre, n), self._wide(given.rounded, n)
            entry.carried_loss, entry.share = given.loss, given.share
            if given.carried is not None:
                entry.carried = self._wide(given.carried, n)

    def _relu(self, entry: Any, before: Any, stage: Any) -> None:
        n, count = entry.n, len(stage.places)
        inside = count == 0 or (stage.places.min() >= 0 and stage.places.max() < n)
        linear = before == self._stages[self.count - 1] and (before.weight or before.signs[0])
        if before.n != n or not linear or not inside:
            raise UsageError(f"stage {self.count}: found {n} ReLUs and places {stage.places[:4]}, "
                             f"before it {before.n} entries")  # fmt: skip
        entry.base, entry.gain = self._wide(stage.base, n), self._wide(stage.gain, n)
        entry.upper_slope = self._own(stage.upper_slope, n)
        entry.upper_const = self._wide(stage.upper_const, n)
        entry.free, entry.fixed = self._own(stage.free, n), self._own(stage.fixed, n)
        entry.middle = self._own(stage.centre, n)
        if stage.sides is not None:
            entry.sides = self._wide(stage.sides, 4 * n)
        entry.low, entry.high = self._own(stage.low, count), self._own(stage.high, count)
        entry.places = self._hold(np.ascontiguousarray(stage.places, np.int64), count)
        entry.count, entry.loss = count, self._wide(stage.loss, 1)

    def run(
        self,
        last: int,
        asked: tuple[Array, Float64],
        rows: Any,
        read: tuple[Array, Array] | None,
        factors: Float64,
        limit: Float64 | None,
        best: Float64,
        cost: Array | None,
        kept: tuple[Array, Float64] | None,
        beside: tuple[int, Array] | None = None,
    ) -> None:
        if not 0 <= last < self.count:
            raise UsageError(f"ascent: found rows over stage {last} of {self.count}")
        end = self._stages[last]
        (N, depth), relus = rows.relu.shape, end.number + end.count
        questions, owners = len(asked[1]), len(rows.slope)
        if rows.owner is None and owners != N:
            raise UsageError(f"ascent: found slopes of {owners} rows, expected {N}")
        if self._boxes > 1 and (depth or cost is not None):
            raise UsageError(f"ascent: found assumptions over {self._boxes} boxes, expected one")
        if rows.paired and N % 2:
            raise UsageError(f"ascent: found {N} rows, expected pairs")
        for part in (asked[0], rows.slope, *(() if cost is None else (cost,))):
            if part.dtype != self._dtype:
                raise UsageError(f"ascent: found {part.dtype}, expected {self._dtype}")
        cases = ffi.new("struct gamma_cases *")
        cases.rows, cases.questions, cases.owners, cases.relus = N, questions, owners, relus
        cases.boxes = self._boxes
        cases.depth, cases.steps, cases.paired = depth, len(factors), rows.paired
        alive = (
            pointer(rows.question, N),
            pointer(rows.relu, N * depth),
            pointer(rows.sign, N * depth),
            pointer(asked[0], questions * end.n),
            pointer(asked[1], questions),
            pointer(factors, 5 * len(factors)),
            pointer(rows.slope, owners * relus, cost is not None),
            pointer(rows.beta, N * depth, True),
            pointer(best, N, True),
        )
        cases.question, cases.relu, cases.sign, cases.asked, cases.constant = alive[:5]
        cases.factors, cases.slope, cases.beta, cases.best = alive[5:]
        more: list[Any] = []
        if read is not None:
            more += [pointer(part, relus) for part in read]
            cases.stage, cases.place = more
        elif depth:
            raise UsageError("ascent: found assumptions, expected where ReLUs are with them")
        if rows.owner is not None:
            more.append(pointer(rows.owner, N))
            cases.owner = more[-1]
        if beside is not None:
            second, part = beside
            if not 0 <= second < last or part.dtype != self._dtype:
                raise UsageError(f"ascent: found {part.dtype} rows over stage {second} besides")
            more.append(pointer(part, questions * self._stages[second].n))
            cases.second, cases.beside = second, more[-1]
        if rows.box is not None:
            more.append(pointer(rows.box, N))
            cases.box = more[-1]
        if limit is not None:
            more.append(pointer(limit, N))
            cases.limit = more[-1]
        if cost is not None:
            more.append(pointer(cost, N * relus, True))
            cases.cost = more[-1]
        if kept is not None:
            more += [pointer(kept[0], N * relus, True), pointer(kept[1], N * depth, True)]
            cases.kept_slope, cases.kept_beta = more[-2:]
        self._call(last, cases, depth)

    def _call(self, last: int, cases: Any, depth: int) -> None:
        block = self._block(self._stages, last, depth)
        room, threads = self._room(self._stages, last, depth, block), workers.sharing()
        memory = pool.empty(threads * -(-room // 8), np.float64)
        place = pointer(memory, memory.size, True)
        if self._run(self._stages, last, cases, place, block, threads) != 0:
            raise UsageError("ascent: found an index of rows, ReLUs or assumptions that is none")
