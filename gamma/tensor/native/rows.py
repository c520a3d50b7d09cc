"""Linear rows on their way down: activations, dense layers, whole walks: the calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import InternalError, UsageError
from gamma.runtime import pool
from gamma.tensor._simd import ffi, lib
from gamma.tensor.kernels.arguments import padded
from gamma.tensor.kernels.rows import Sparse
from gamma.tensor.native.elementwise import described
from gamma.tensor.native.memory import nonzeros, pick, pointer

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Pairs = tuple[Array, Array]


def _inside(status: int, box: npt.NDArray[np.int64], B: int) -> None:
    if status != 0:
        raise UsageError(
            f"kernel argument box: found indices {box.min()}..{box.max()}, expected 0..{B - 1}"
        )


def relax_rows(
    A: Array,
    d: Float64,
    box: npt.NDArray[np.int64],
    lower_slope: Array,
    upper_slope: Array,
    lower_const: Float64,
    upper_const: Float64,
) -> None:
    N, n = A.shape
    B = lower_slope.shape[0]
    status = pick("relax_rows", A)(
        pointer(A, N * n, True),
        pointer(d, N, True),
        pointer(box, N),
        pointer(lower_slope, B * n),
        pointer(upper_slope, B * n),
        pointer(lower_const, B * n),
        pointer(upper_const, B * n),
        B,
        N,
        n,
    )
    _inside(status, box, B)


def relax_own_rows(
    A: Array,
    d: Float64,
    box: npt.NDArray[np.int64],
    slope: Array,
    base: Float64,
    gain: Float64,
    upper_slope: Array,
    upper_const: Float64,
) -> None:
    (N, n), B = A.shape, len(base)
    status = pick("relax_own_rows", A)(
        pointer(A, N * n, True),
        pointer(d, N, True),
        pointer(box, N),
        pointer(slope, N * n),
        pointer(base, B * n),
        pointer(gain, B * n),
        pointer(upper_slope, B * n),
        pointer(upper_const, B * n),
        B,
        N,
        n,
    )
    _inside(status, box, B)


def own_lines(
    A: Array,
    x: Array,
    box: npt.NDArray[np.int64],
    slope: Array,
    base: Float64,
    gain: Float64,
    upper_slope: Array,
    upper_const: Float64,
    out: Array,
) -> None:
    (N, n), B = A.shape, len(base)
    status = pick("own_lines", A)(
        pointer(A, N * n),
        pointer(x, N * n),
        pointer(box, N),
        pointer(slope, N * n),
        pointer(base, B * n),
        pointer(gain, B * n),
        pointer(upper_slope, B * n),
        pointer(upper_const, B * n),
        pointer(out, N * n, True),
        B,
        N,
        n,
    )
    _inside(status, box, B)


def ascend(
    A: Array,
    x: Array,
    box: npt.NDArray[np.int64],
    centre: Array,
    free: Array,
    first: Array,
    second: Array,
    slope: Array,
    factors: tuple[float, ...],
) -> None:
    (N, n), B = A.shape, len(centre)
    status = pick("ascend", A)(
        pointer(A, N * n),
        pointer(x, N * n),
        pointer(box, N),
        pointer(centre, B * n),
        pointer(free, B * n),
        pointer(first, N * n, True),
        pointer(second, N * n, True),
        pointer(slope, N * n, True),
        ffi.new("double[5]", factors),
        B,
        N,
        n,
    )
    _inside(status, box, B)


def _dots(name: str, A: Array, d: Float64, box: npt.NDArray[np.int64], vector: Float64) -> None:
    N, n = A.shape
    B = vector.shape[0]
    status = pick(name, A)(
        pointer(A, N * n),
        pointer(d, N, True),
        pointer(box, N),
        pointer(vector, B * n),
        B,
        N,
        n,
    )
    _inside(status, box, B)


def abs_dot_rows(A: Array, d: Float64, box: npt.NDArray[np.int64], weight: Float64) -> None:
    _dots("abs_dot_rows", A, d, box, weight)


def dot_rows(A: Array, d: Float64, box: npt.NDArray[np.int64], vector: Float64) -> None:
    _dots("dot_rows", A, d, box, vector)


def product(A: Array, W: Array, C: Array) -> None:
    (N, n), columns = A.shape, W.shape[1]
    pick("product", A)(
        pointer(A, N * n),
        pointer(W, n * columns),
        pointer(C, N * columns, True),
        N,
        n,
        columns,
    )


def line_tables(
    lower: Float64,
    upper: Float64,
    centre: Float64,
    after: Float64,
    charge: Float64 | None,
    slopes: Array,
    constants: Float64,
    loss: Float64,
    factors: tuple[float, float],
    lines: tuple[Float64, Float64, Float64, Float64] | None,
) -> None:
    B, n = after.shape
    name, own = "relu_tables", tuple[Any, ...]()
    if lines is not None:
        name, parts = "line_tables", tuple(pointer(part, B * n) for part in lines)
        own = (ffi.new("struct gamma_two_lines *", parts),)
    pick(name, slopes)(
        *own,
        pointer(lower, B * n),
        pointer(upper, B * n),
        pointer(centre, B * n),
        pointer(after, B * n),
        ffi.NULL if charge is None else pointer(charge, B * n),
        pointer(slopes, 2 * B * n, True),
        pointer(constants, 2 * B * n, True),
        pointer(loss, B, True),
        ffi.new("double[2]", factors),
        B,
        n,
    )


def hinge_tables(
    lower: Float64,
    upper: Float64,
    centre: Float64,
    after: Float64,
    charge: Float64 | None,
    keep: npt.NDArray[np.int64] | None,
    slopes: Array,
    constants: Float64,
    loss: Float64,
    factors: tuple[float, float],
) -> None:
    (B, n), m = after.shape, slopes.shape[2]
    pick("hinge", slopes)(
        pointer(lower, B * n),
        pointer(upper, B * n),
        pointer(centre, B * n),
        pointer(after, B * n),
        ffi.NULL if charge is None else pointer(charge, B * n),
        ffi.NULL if keep is None else pointer(keep, m),
        pointer(slopes, 4 * B * m, True),
        pointer(constants, 3 * B * m, True),
        pointer(loss, B, True),
        ffi.new("double[2]", factors),
        B,
        n,
        m,
    )


class Chain:
    """Steps of backward walks in C memory; see `gamma.tensor.kernels.Chain`."""

    def __init__(self, steps: int, boxes: int, dtype: np.dtype[Any]) -> None:
        self._steps = ffi.new("struct gamma_step[]", steps)
        self._alive: list[tuple[Any, ...]] = [()] * steps
        self._run = lib.gamma_chain_f32 if dtype.itemsize == 4 else lib.gamma_chain_f64
        self._boxes, self._dtype, self._widest = boxes, dtype, 1

    def _table(self, array: Array, n: int, dtype: Any) -> Any:
        if array.dtype != dtype:
            raise UsageError(f"step: found a table of {array.dtype}, expected {dtype}")
        return pointer(array, self._boxes * n)

    def relax(self, index: int, n: int, slopes: Pairs, constants: Pairs, loss: Float64) -> None:
        step = self._clear(index, n)
        low, high = (self._table(a, n, self._dtype) for a in slopes)
        below, above = (self._table(a, n, np.float64) for a in constants)
        pointers = (low, high, below, above, self._table(loss, 1, np.float64))
        step.lower_slope, step.upper_slope = low, high
        step.lower_const, step.upper_const, step.loss = pointers[2:]
        self._alive[index] = (pointers, slopes, constants, loss)

    def strip(self, index: int, height: Float64) -> None:
        step = self._steps[index]
        step.strip = memory = self._table(height, step.n, np.float64)
        self._alive[index] += (memory, height)

    def pay(self, index: int, n: int, weight: Float64 | None, loss: Float64 | None) -> None:
        step = self._clear(index, n)
        if weight is not None:
            step.pay = self._table(weight, n, np.float64)
        if loss is not None:
            step.loss = self._table(loss, 1, np.float64)
        self._alive[index] = (step.pay, step.loss, weight, loss)

    def product(self, index: int, weight: Array, width: int) -> None:
        n, columns = weight.shape
        step = self._steps[index]
        if weight.dtype != self._dtype or n != step.n or columns * weight.itemsize % 64:
            raise UsageError(
                f"step: found a weight {weight.dtype} {weight.shape} after {step.n} entries, "
                f"expected {self._dtype} with rows of whole 64 bytes"
            )
        step.weight = memory = pointer(weight, n * columns)
        step.width, step.columns = width, columns
        self._alive[index] += (memory, weight)
        self._widest = max(self._widest, columns)

    def sparse(self, index: int, weight: Any) -> None:
        step, width = self._steps[index], weight.width
        memory = nonzeros(weight, step.n, self._dtype)
        step.starts, step.places, step.weight = memory
        step.width, step.columns = width, padded(width, self._dtype)
        self._alive[index] += (memory, weight)
        self._widest = max(self._widest, step.columns)

    def _clear(self, index: int, n: int) -> Any:
        step = self._steps[index]
        step.starts = step.places = ffi.NULL
        step.n, step.width, step.columns = n, 0, 0
        step.lower_slope = step.upper_slope = step.weight = ffi.NULL
        step.lower_const = step.upper_const = step.pay = step.loss = step.strip = ffi.NULL
        return step

    def run(
        self,
        last: int,
        rows: Array,
        d: Float64,
        box: npt.NDArray[np.int64],
        block_bytes: int,
        opposite: Float64 | None = None,
    ) -> None:
        N, n = rows.shape
        if n != self._steps[last].n or rows.dtype != self._dtype:
            raise UsageError(
                f"rows: found {rows.dtype} {rows.shape}, expected {self._steps[last].n} columns "
                f"of {self._dtype}"
            )
        row_bytes = 2 * self._widest * self._dtype.itemsize
        block = max(8, min(64, block_bytes // row_bytes // 8 * 8))
        scratch = np.empty(2 * block * self._widest, self._dtype)
        status = self._run(
            self._steps,
            last,
            pointer(rows, N * n, True),
            pointer(d, N, True),
            ffi.NULL if opposite is None else pointer(opposite, N, True),
            pointer(box, N),
            pointer(scratch, scratch.size, True),
            block,
            self._widest,
            self._boxes,
            N,
        )
        if status == -2:
            raise InternalError("backward steps whose widths do not meet; please report this")
        _inside(status, box, self._boxes)


class DenseNetwork:
    """Dense layers in C memory; see `gamma.tensor.kernels.DenseNetwork`."""

    def __init__(self, layers: Sequence[Any], dtype: np.dtype[Any]) -> None:
        self._layers = ffi.new("struct gamma_layer[]", len(layers))
        self._alive: list[Any] = []
        self._dtype, self.layers = dtype, tuple(layers)
        self.neurons = sum(len(layer.stored) for layer in layers)
        self.weights = 0
        self.curved = any(layer.curve is not None for layer in layers)
        before, some = layers[0].stored.shape[1], isinstance(layers[0].rows, Sparse)
        for entry, layer in zip(self._layers, layers, strict=True):
            (m, n), rows = layer.stored.shape, layer.rows
            if n != before or isinstance(rows, Sparse) != some:
                raise UsageError(f"dense layer: found a weight ({m}, {n}) after {before} entries")
            entry.m, entry.n, entry.plain = m, n, layer.plain
            entry.wide = layer.stored.dtype == np.float64
            entry.interval, entry.product, entry.inflate = layer.factors[:3]
            entry.dot, entry.underflow = layer.factors[3:]
            entry.size = layer.size
            if some:
                entry.starts, entry.places, entry.rows = nonzeros(rows, m, dtype)
                self.weights += len(rows.values)
            else:
                if rows.dtype != dtype or rows.shape[1] * dtype.itemsize % 64:
                    raise UsageError(f"dense layer: found rows of {rows.shape[1]} {rows.dtype}")
                entry.columns, entry.stored = rows.shape[1], pointer(layer.stored, m * n)
                entry.rows = pointer(rows, m * rows.shape[1])
                self.weights += m * n
            entry.bias = ffi.NULL if layer.bias is None else pointer(layer.bias, m)
            entry.row_sum = pointer(layer.row_sum, m)
            if layer.curve is not None:
                entry.curve = curve = described(layer.curve)
                self._alive.append(curve)
            before = m
        single = dtype.itemsize == 4
        self._walk = lib.gamma_dense_walk_f32 if single else lib.gamma_dense_walk_f64
        self._room = lib.gamma_dense_room_f32 if single else lib.gamma_dense_room_f64

    def run(
        self,
        box: tuple[Float64, Float64, Float64],
        facts: Float64 | None,
        bounds: Float64,
        tables: tuple[Array, Float64, Float64] | None,
        lines: Float64 | None,
        counts: tuple[npt.NDArray[np.int64], Float64],
        factors: tuple[float, float, float],
        rise: Any,
        span: tuple[int, int],
        flags: tuple[bool, bool, bool, bool, bool],
        threads: int,
    ) -> int:
        B = len(box[0])
        n, neurons = self._layers[0].n, self.neurons
        hidden = neurons - len(self.layers[-1].stored)
        if not 0 <= span[0] <= span[1] <= B:
            raise UsageError(f"dense walk: found boxes {span} of {B}")
        places: tuple[Any, ...] = (ffi.NULL,) * 3
        if tables is not None:
            slopes, constants, losses = tables
            if slopes.dtype != self._dtype:
                raise UsageError(f"dense walk: found slopes {slopes.dtype}, expected {self._dtype}")
            places = (
                pointer(slopes, 2 * B * neurons, True),
                pointer(constants, 2 * B * neurons, True),
                pointer(losses, B * len(self.layers), True),
            )
        elif rise is None and (flags[0] or flags[1]):
            raise UsageError("dense walk: rows need tables, found None")
        if tables is not None and lines is None and self.curved:
            raise UsageError("dense walk: tables of curves need lines, found None")
        rises, given = ffi.NULL, None
        if rise is not None:
            if self.curved:
                raise UsageError("dense walk: found curves where rows rise, expected ReLUs")
            given = (
                pointer(rise.known, 8 * B * neurons),
                pointer(rise.factors, 5 * len(rise.factors)),
                pointer(rise.risen, B * neurons, True),
            )
            rises = ffi.new("struct gamma_rise *", (len(rise.factors), *given))
        count = span[1] - span[0]
        room: int = self._room(self._layers, len(self.layers), rise is not None, count, threads)
        memory = pool.empty(-(-room // 8), np.float64)
        crossed: int = self._walk(
            self._layers,
            len(self.layers),
            *(pointer(part, B * n) for part in box),
            ffi.NULL if facts is None else pointer(facts, 2 * B * hidden),
            pointer(bounds, 8 * B * neurons, True),
            *places,
            ffi.NULL if lines is None else pointer(lines, 4 * B * neurons, True),
            pointer(counts[0], len(self.layers), True),
            pointer(counts[1], len(self.layers), True),
            pointer(memory, memory.size, True),
            ffi.new("double[3]", factors),
            rises,
            B,
            *span,
            flags[0] * lib.GAMMA_REFINE
            + flags[1] * lib.GAMMA_OUTPUT
            + flags[2] * lib.GAMMA_KNOWN
            + flags[3] * lib.GAMMA_LINED
            + flags[4] * lib.GAMMA_PARALLEL
            + (tables is not None) * lib.GAMMA_TABLES,
            threads,
        )
        return crossed
