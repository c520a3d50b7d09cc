"""The compiled kernels through cffi: the same functions as gamma.tensor.fallback.

``_pointer`` is the only place that hands memory to C. The calls release the GIL. Importing this
module fails with ImportError where gamma was installed without a compiler.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import InternalError, UsageError
from gamma.tensor._simd import ffi, lib

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Pair = tuple[int, int]
Pairs = tuple[Array, Array]
Int64 = npt.NDArray[np.int64]

_SPREAD_BYTES = 96 << 10

_C_TYPES = {
    np.dtype(np.float32): ffi.typeof("float[]"),
    np.dtype(np.float64): ffi.typeof("double[]"),
    np.dtype(np.int64): ffi.typeof("int64_t[]"),
    np.dtype(np.uint16): ffi.typeof("uint16_t[]"),
}
_from_buffer = ffi.from_buffer


def _pointer(array: Array, size: int, writable: bool = False) -> Any:
    """A checked C array over ``array``: known dtype, native order, contiguous, ``size`` entries.

    Another byte order is refused as another dtype is. Of the checks, which cost as much as a kernel
    on a small array, contiguity and writability are those of the buffer protocol itself.
    """
    kind = _C_TYPES.get(array.dtype)
    if kind is not None and array.size == size:
        try:
            return _from_buffer(kind, array, writable)
        except (ValueError, BufferError):
            pass
    raise _refused(array, size)


def _refused(array: Array, size: int) -> UsageError:
    """What is wrong with an array that `_pointer` does not take."""
    if array.dtype not in _C_TYPES:
        return UsageError(f"kernel array: found dtype {array.dtype}, expected a native number type")
    if array.size != size or not array.flags.c_contiguous:
        return UsageError(
            f"kernel array: found {array.shape} with strides {array.strides}, "
            f"expected {size} contiguous entries"
        )
    return UsageError("kernel array: found a read-only array, expected one to write to")


def available() -> tuple[str, ...]:
    """Instruction sets of this processor, best first."""
    names: list[str] = []
    while (name := lib.gamma_available(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def select(name: str) -> None:
    """Use the table called ``name``; UsageError when this processor cannot run it."""
    if lib.gamma_select(name.encode()) != 0:
        raise UsageError(f"instruction set {name}: not available on this processor")


# Kernel name -> its entries for float32 and float64.
_PAIRS = {
    name.removeprefix("gamma_")[:-4]: (getattr(lib, name), getattr(lib, name[:-4] + "_f64"))
    for name in dir(lib)
    if name.endswith("_f32") and hasattr(lib, name[:-4] + "_f64")
}


def _pick(name: str, array: Array) -> Any:
    """The entry ``gamma_NAME`` for the dtype of ``array``: float32, or else float64."""
    return _PAIRS[name][array.itemsize != 4]


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
    status = _pick("relax_rows", A)(
        _pointer(A, N * n, True),
        _pointer(d, N, True),
        _pointer(box, N),
        _pointer(lower_slope, B * n),
        _pointer(upper_slope, B * n),
        _pointer(lower_const, B * n),
        _pointer(upper_const, B * n),
        B,
        N,
        n,
    )
    _inside(status, box, B)


def _dots(name: str, A: Array, d: Float64, box: npt.NDArray[np.int64], vector: Float64) -> None:
    N, n = A.shape
    B = vector.shape[0]
    status = _pick(name, A)(
        _pointer(A, N * n),
        _pointer(d, N, True),
        _pointer(box, N),
        _pointer(vector, B * n),
        B,
        N,
        n,
    )
    _inside(status, box, B)


def abs_dot_rows(A: Array, d: Float64, box: npt.NDArray[np.int64], weight: Float64) -> None:
    _dots("abs_dot_rows", A, d, box, weight)


def dot_rows(A: Array, d: Float64, box: npt.NDArray[np.int64], vector: Float64) -> None:
    _dots("dot_rows", A, d, box, vector)


def interval_affine(
    W: Array, centre: Float64, radius: Float64, z: Float64, spread: Float64
) -> None:
    m, n = W.shape
    B = centre.shape[0]
    _pick("interval_affine", W)(
        _pointer(W, m * n),
        _pointer(centre, B * n),
        _pointer(radius, B * n),
        _pointer(z, B * m, True),
        _pointer(spread, B * m, True),
        B,
        m,
        n,
    )


def fold_last(
    cols: Array, out: Array, kernel: Pair, strides: Pair, pads: Pair, dilations: Pair
) -> None:
    N, H, W, C = out.shape
    geometry = (*kernel, *strides, *pads, *dilations, cols.shape[1], cols.shape[2], H, W, C)
    _pick("fold_last", out)(
        _pointer(cols, cols.size),
        _pointer(out, out.size, True),
        N,
        ffi.new("int64_t[13]", geometry),
    )


def product(A: Array, W: Array, C: Array) -> None:
    (N, n), columns = A.shape, W.shape[1]
    _pick("product", A)(
        _pointer(A, N * n),
        _pointer(W, n * columns),
        _pointer(C, N * columns, True),
        N,
        n,
        columns,
    )


def spread(rows: Array, weight: Array, images: Array, window: Any, offsets: Pair) -> None:
    frames, h, w, lda = rows.shape
    _, H, W, pixel = images.shape
    out, columns = weight.shape
    # Columns of a few pixels: a share of the first cache levels.
    room = max(w, 8, _SPREAD_BYTES // (columns * weight.itemsize))
    scratch = np.empty(min(room, frames * h * w) * columns, rows.dtype)
    geometry = {
        **dict(zip(("kh", "kw", "sh", "sw", "dh", "dw"), window.spans, strict=True)),
        **{"top": window.top, "left": window.left, "h": h, "w": w, "H": H, "W": W},
        **{"C": window.channels, "pixel": pixel, "out": out, "lda": lda, "columns": columns},
        **{"part": window.part, "room": room},
    }
    row_pointer = _pointer(rows, frames * h * w * lda) + offsets[0]
    image_pointer = _pointer(images, frames * H * W * pixel, True) + offsets[1]
    _pick("spread", rows)(
        row_pointer,
        _pointer(weight, out * columns),
        image_pointer,
        _pointer(scratch, scratch.size, True),
        frames,
        ffi.new("struct gamma_window *", geometry),
    )


def correlate(images: Array, weight: Array, result: Array, window: Any) -> None:
    frames, groups, C, H, W = images.shape
    _, out, depth = weight.shape
    kh, kw, sh, sw, dh, dw = window.spans
    h, w = result.shape[3:]
    rows = (h - 1) * sh + (kh - 1) * dh + 1
    span = w + (kw - 1) * dw // sw + 64 // weight.itemsize
    copy, offset = np.empty(C * rows * sw * span, weight.dtype), np.empty(depth, np.int64)
    sizes = (h, w, H, W, C, out, groups, rows, span)
    _pick("correlate", weight)(
        _pointer(images, frames * groups * C * H * W),
        _pointer(weight, groups * out * depth),
        _pointer(result, frames * groups * out * h * w, True),
        _pointer(copy, copy.size, True),
        _pointer(offset, depth, True),
        frames,
        ffi.new("struct gamma_frame *", (*window.spans, window.top, window.left, *sizes)),
    )


def _shape5(A: Array, image: Pair) -> Any:
    return ffi.new("int64_t[5]", (A.shape[1], A.shape[2], *image, A.shape[3]))


def relax_windows(
    A: Array,
    d: Float64,
    place: Int64,
    where: Int64,
    image: Pair,
    lower_slope: Array,
    upper_slope: Array,
    lower_const: Float64,
    upper_const: Float64,
) -> None:
    N, P, B = len(A), len(where), len(lower_slope)
    size = B * image[0] * image[1] * A.shape[3]
    status = _pick("relax_windows", A)(
        _pointer(A, A.size, True),
        _pointer(d, N, True),
        _pointer(place, N),
        _pointer(where, 3 * P),
        _pointer(lower_slope, size),
        _pointer(upper_slope, size),
        _pointer(lower_const, size),
        _pointer(upper_const, size),
        _shape5(A, image),
        B,
        P,
        N,
    )
    _placed(status)


def abs_dot_windows(
    A: Array, d: Float64, place: Int64, where: Int64, image: Pair, weight: Float64
) -> None:
    N, P, B = len(A), len(where), len(weight)
    status = _pick("abs_dot_windows", A)(
        _pointer(A, A.size, True),
        _pointer(d, N, True),
        _pointer(place, N),
        _pointer(where, 3 * P),
        _pointer(weight, B * image[0] * image[1] * A.shape[3]),
        _shape5(A, image),
        B,
        P,
        N,
    )
    _placed(status)


def _placed(status: int) -> None:
    if status != 0:
        raise UsageError("kernel argument place: found a place or a box that does not exist")


def dense_interval(
    W: Array,
    bias: Float64 | None,
    row_sum: Float64,
    lower: Float64,
    upper: Float64,
    centre: Float64,
    out: Float64,
    factors: tuple[float, float],
) -> int:
    m, n = W.shape
    B = len(lower)
    radius = np.empty((B, n))
    crossed: int = _pick("dense_interval", W)(
        _pointer(W, m * n),
        ffi.NULL if bias is None else _pointer(bias, m),
        _pointer(row_sum, m),
        _pointer(lower, B * n),
        _pointer(upper, B * n),
        _pointer(centre, B * n),
        _pointer(radius, B * n, True),
        _pointer(out, 5 * B * m, True),
        ffi.new("double[2]", factors),
        B,
        m,
        n,
    )
    return crossed


def dense_boxes(
    forward: Float64,
    sizes: Array,
    bias: Float64 | None,
    row_sum: Float64,
    lower: Float64,
    upper: Float64,
    centre: Float64,
    out: Float64,
    factors: tuple[float, float, float, float, float],
) -> int:
    (B, n), m = lower.shape, len(row_sum)
    memory = np.empty(lib.gamma_boxes_room(m, n))
    crossed: int = _pick("dense_boxes", sizes)(
        _pointer(forward, forward.size),
        _pointer(sizes, sizes.size),
        ffi.NULL if bias is None else _pointer(bias, m),
        _pointer(row_sum, m),
        _pointer(lower, B * n),
        _pointer(upper, B * n),
        _pointer(centre, B * n),
        _pointer(memory, memory.size, True),
        _pointer(out, 5 * B * m, True),
        ffi.new("double[5]", factors),
        B,
        m,
        n,
    )
    return crossed


def finish(
    bias: Float64 | None,
    row_sum: Float64,
    largest: Float64,
    ends: tuple[Float64, Float64, Float64, Float64, Float64],
    factors: tuple[float, float],
) -> int:
    B, m = len(largest), row_sum.size
    crossed: int = lib.gamma_finish(
        ffi.NULL if bias is None else _pointer(bias, m),
        _pointer(row_sum, m),
        _pointer(largest, B),
        *(_pointer(part, B * m, True) for part in ends),
        ffi.new("double[2]", factors),
        B,
        m,
    )
    return crossed


def largest(x: Float64, out: Float64) -> None:
    B, n = x.shape
    lib.gamma_largest(_pointer(x, B * n), _pointer(out, B, True), B, n)


def relu(lower: Float64, upper: Float64, out: Float64) -> None:
    n = lower.size
    lib.gamma_relu(_pointer(lower, n), _pointer(upper, n), _pointer(out, 4 * n, True), n)


def relu_tables(
    lower: Float64,
    upper: Float64,
    centre: Float64,
    after: Float64,
    charge: Float64 | None,
    slopes: Array,
    constants: Float64,
    loss: Float64,
    factors: tuple[float, float],
) -> None:
    B, n = after.shape
    _pick("relu_tables", slopes)(
        _pointer(lower, B * n),
        _pointer(upper, B * n),
        _pointer(centre, B * n),
        _pointer(after, B * n),
        ffi.NULL if charge is None else _pointer(charge, B * n),
        _pointer(slopes, 2 * B * n, True),
        _pointer(constants, 2 * B * n, True),
        _pointer(loss, B, True),
        ffi.new("double[2]", factors),
        B,
        n,
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
        return _pointer(array, self._boxes * n)

    def relax(self, index: int, n: int, slopes: Pairs, constants: Pairs, loss: Float64) -> None:
        step = self._clear(index, n)
        low, high = (self._table(a, n, self._dtype) for a in slopes)
        below, above = (self._table(a, n, np.float64) for a in constants)
        pointers = (low, high, below, above, self._table(loss, 1, np.float64))
        step.lower_slope, step.upper_slope = low, high
        step.lower_const, step.upper_const, step.loss = pointers[2:]
        self._alive[index] = (pointers, slopes, constants, loss)

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
        step.weight = pointer = _pointer(weight, n * columns)
        step.width, step.columns = width, columns
        self._alive[index] += (pointer, weight)
        self._widest = max(self._widest, columns)

    def _clear(self, index: int, n: int) -> Any:
        step = self._steps[index]
        step.n, step.width, step.columns = n, 0, 0
        step.lower_slope = step.upper_slope = step.weight = ffi.NULL
        step.lower_const = step.upper_const = step.pay = step.loss = ffi.NULL
        return step

    def run(
        self, last: int, rows: Array, d: Float64, box: npt.NDArray[np.int64], block_bytes: int
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
            _pointer(rows, N * n, True),
            _pointer(d, N, True),
            _pointer(box, N),
            _pointer(scratch, scratch.size, True),
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
        before = layers[0].stored.shape[1]
        for entry, layer in zip(self._layers, layers, strict=True):
            (m, n), columns = layer.stored.shape, layer.rows.shape[1]
            if n != before or layer.rows.dtype != dtype or columns * dtype.itemsize % 64:
                raise UsageError(
                    f"dense layer: found a weight ({m}, {n}) after {before} entries, and rows of "
                    f"{columns} {layer.rows.dtype}"
                )
            entry.m, entry.n, entry.columns = m, n, columns
            entry.wide = layer.stored.dtype == np.float64
            entry.interval, entry.product, entry.inflate = layer.factors[:3]
            entry.dot, entry.underflow = layer.factors[3:]
            pointers = (
                _pointer(layer.stored, m * n),
                _pointer(layer.rows, m * columns),
                ffi.NULL if layer.bias is None else _pointer(layer.bias, m),
                _pointer(layer.row_sum, m),
            )
            entry.stored, entry.rows, entry.bias, entry.row_sum = pointers
            self._alive.append(pointers)
            before = m
        single = dtype.itemsize == 4
        self._walk = lib.gamma_dense_walk_f32 if single else lib.gamma_dense_walk_f64
        room = lib.gamma_dense_room_f32 if single else lib.gamma_dense_room_f64
        self.room: int = room(self._layers, len(layers))

    def run(
        self,
        box: tuple[Float64, Float64, Float64],
        bounds: Float64,
        tables: tuple[Array, Float64, Float64] | None,
        counts: tuple[npt.NDArray[np.int64], Float64],
        memory: Array,
        factors: tuple[float, float, float],
        span: tuple[int, int],
        flags: tuple[bool, bool, bool],
    ) -> int:
        B = len(box[0])
        n, neurons = self._layers[0].n, builtins.sum(len(layer.stored) for layer in self.layers)
        if not 0 <= span[0] <= span[1] <= B:
            raise UsageError(f"dense walk: found boxes {span} of {B}")
        places: tuple[Any, ...] = (ffi.NULL,) * 3
        if tables is not None:
            slopes, constants, losses = tables
            if slopes.dtype != self._dtype:
                raise UsageError(f"dense walk: found slopes {slopes.dtype}, expected {self._dtype}")
            places = (
                _pointer(slopes, 2 * B * neurons, True),
                _pointer(constants, 2 * B * neurons, True),
                _pointer(losses, B * len(self.layers), True),
            )
        elif flags[0] or flags[1]:
            raise UsageError("dense walk: rows need tables, found None")
        crossed: int = self._walk(
            self._layers,
            len(self.layers),
            *(_pointer(part, B * n) for part in box),
            _pointer(bounds, 8 * B * neurons, True),
            *places,
            _pointer(counts[0], len(self.layers), True),
            _pointer(counts[1], len(self.layers), True),
            _pointer(memory, -(-self.room // 8), True),
            ffi.new("double[3]", factors),
            B,
            *span,
            flags[0] * lib.GAMMA_REFINE
            + flags[1] * lib.GAMMA_OUTPUT
            + flags[2] * lib.GAMMA_KNOWN
            + (tables is not None) * lib.GAMMA_TABLES,
        )
        return crossed


def erf(x: Float64) -> Float64:
    out = np.empty_like(x)
    lib.gamma_erf(_pointer(x, x.size), _pointer(out, x.size, True), x.size)
    return out


def erfc(x: Float64) -> Float64:
    out = np.empty_like(x)
    lib.gamma_erfc(_pointer(x, x.size), _pointer(out, x.size, True), x.size)
    return out


def interval_mul(al: Array, au: Array, bl: Array, bu: Array, lower: Array, upper: Array) -> None:
    n = al.size
    _pick("interval_mul", al)(
        _pointer(al, n),
        _pointer(au, n),
        _pointer(bl, n),
        _pointer(bu, n),
        _pointer(lower, n, True),
        _pointer(upper, n, True),
        n,
    )


def safe_mul_add(
    al: Array, au: Array, bl: Array, bu: Array, cl: Array, cu: Array, lower: Array, upper: Array
) -> None:
    n = al.size
    _pick("safe_mul_add", al)(
        _pointer(al, n),
        _pointer(au, n),
        _pointer(bl, n),
        _pointer(bu, n),
        _pointer(cl, n),
        _pointer(cu, n),
        _pointer(lower, n, True),
        _pointer(upper, n, True),
        n,
    )


def pos_neg_split(x: Array, positive: Array, negative: Array) -> None:
    n = x.size
    _pick("pos_neg_split", x)(
        _pointer(x, n), _pointer(positive, n, True), _pointer(negative, n, True), n
    )


def step(x: Array, out: Array, up: bool) -> None:
    _pick("step", x)(_pointer(x, x.size), _pointer(out, x.size, True), x.size, up)


def narrow(x: Float64, out: npt.NDArray[np.float32], up: bool) -> None:
    lib.gamma_narrow(_pointer(x, x.size), _pointer(out, x.size, True), x.size, up)


def midpoint(lower: Float64, upper: Float64, out: Float64) -> None:
    n = lower.size
    lib.gamma_midpoint(_pointer(lower, n), _pointer(upper, n), _pointer(out, n, True), n)


def radius_about(lower: Float64, upper: Float64, centre: Float64, out: Float64) -> None:
    n = lower.size
    lib.gamma_radius_about(
        _pointer(lower, n), _pointer(upper, n), _pointer(centre, n), _pointer(out, n, True), n
    )


def dot(x: Array, y: Array) -> float:
    return float(_pick("dot", x)(_pointer(x, x.size), _pointer(y, x.size), x.size))


def sum(x: Array) -> float:
    return float(_pick("sum", x)(_pointer(x, x.size), x.size))


def f16_down(x: npt.NDArray[np.float32], out: npt.NDArray[np.uint16]) -> None:
    lib.gamma_f16_down(_pointer(x, x.size), _pointer(out, x.size, True), x.size)


def f16_up(x: npt.NDArray[np.float32], out: npt.NDArray[np.uint16]) -> None:
    lib.gamma_f16_up(_pointer(x, x.size), _pointer(out, x.size, True), x.size)


def f16_to_f32(x: npt.NDArray[np.uint16], out: npt.NDArray[np.float32]) -> None:
    lib.gamma_f16_to_f32(_pointer(x, x.size), _pointer(out, x.size, True), x.size)
