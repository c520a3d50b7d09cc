"""The kernels in NumPy: what runs without the compiled library, and what the C code is tested with.

Contracts, shapes and rounding are those of gamma.tensor.kernels, which checks the arguments. Work
arrays are bounded: rows are taken in chunks of about CHUNK float64 entries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import missing

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
CHUNK = 1 << 20


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, CHUNK // max(columns, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _of_box(table: Array, box: npt.NDArray[np.int64], part: slice) -> Array:
    """Rows of ``table`` (B, n) for the boxes of ``part``; a view when there is one box."""
    return table if table.shape[0] == 1 else table[box[part]]


def relax_rows(
    A: Array,
    d: Float64,
    box: npt.NDArray[np.int64],
    lower_slope: Array,
    upper_slope: Array,
    lower_const: Float64,
    upper_const: Float64,
) -> None:
    with np.errstate(all="ignore"):
        for part in _chunks(*A.shape):
            rows = A[part]
            positive = rows >= 0
            const = np.where(
                positive, _of_box(lower_const, box, part), _of_box(upper_const, box, part)
            )
            d[part] += np.einsum("ij,ij->i", rows.astype(np.float64), const)
            rows *= np.where(
                positive, _of_box(lower_slope, box, part), _of_box(upper_slope, box, part)
            )


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
    with np.errstate(all="ignore"):
        for part in _chunks(*A.shape):
            rows = A[part]
            positive = rows >= 0
            below = _of_box(base, box, part) + slope[part] * _of_box(gain, box, part)
            const = np.where(positive, below, _of_box(upper_const, box, part))
            d[part] += np.einsum("ij,ij->i", rows.astype(np.float64), const)
            rows *= np.where(positive, slope[part], _of_box(upper_slope, box, part))


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
    with np.errstate(all="ignore"):
        for part in _chunks(*A.shape):
            at, s = x[part].astype(np.float64), slope[part].astype(np.float64)
            low = s * at + (_of_box(base, box, part) + s * _of_box(gain, box, part))
            high = _of_box(upper_slope, box, part) * at + _of_box(upper_const, box, part)
            out[part] = np.where(A[part] >= 0, low, high)


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
    keep, take, keep_square, take_square, rate = (A.dtype.type(f) for f in factors)
    with np.errstate(all="ignore"):
        for part in _chunks(*A.shape):
            up = np.where(A[part] > 0, A[part], 0).astype(A.dtype, copy=False)
            gradient = up * (x[part] + _of_box(centre, box, part))
            mean, square = first[part], second[part]
            mean[:] = keep * mean + take * gradient
            square[:] = keep_square * square + take_square * (gradient * gradient)
            scale = np.where(square > 0, np.sqrt(square), A.dtype.type(1))
            moved = slope[part] + rate * mean / scale
            inside = np.where(moved > 0, np.where(moved < 1, moved, 1), 0)
            np.copyto(slope[part], inside, where=_of_box(free, box, part) > 0, casting="same_kind")


def pass_planes(planes: Any, A: Array, d: Float64, box: npt.NDArray[np.int64]) -> None:
    lines = planes.below, planes.above, planes.lower_const, planes.upper_const
    relax_rows(A, d, box, *lines)
    groups = A.reshape(len(A), *planes.steep.shape[1:])
    with np.errstate(all="ignore"):
        for part in _chunks(*A.shape):
            root, steep, tilt, low, high = (
                _of_box(table, box, part)
                for table in (planes.root, planes.steep, planes.tilt, *planes.gap)
            )
            a, total = groups[part], d[part]
            slope = np.einsum("rgn,rgn->rg" if len(steep) > 1 else "rgn,zgn->rg", a, steep)
            some = a.any(axis=-1)
            if planes.shared:
                a -= a.sum(axis=-1, keepdims=True) * a.dtype.type(planes.shared)
            a *= root[..., None]
            a -= slope[..., None] * tilt
            ends = np.where(some, slope * np.where(slope >= 0, low, high), 0.0)
            total -= np.abs(total) * 2.0**-50 + 2.0**-1000
            total += ends.sum(axis=1) - planes.sums * np.abs(ends).sum(axis=1)


def plane_lines(planes: Any, A: Array, x: Array, box: npt.NDArray[np.int64], out: Array) -> None:
    shape = planes.steep.shape[1:]
    with np.errstate(all="ignore"):
        for part in _chunks(*A.shape):
            root, steep, tilt, low, high, below, above, lower, upper = (
                _of_box(table, box, part)
                for table in (planes.root, planes.steep, planes.tilt, *planes.gap)
                + (planes.below, planes.above, planes.lower_const, planes.upper_const)
            )
            rows, at = A[part], x[part].reshape(-1, *shape)
            taken = np.where(rows >= 0, below, above)
            slope = ((rows * taken).reshape(-1, *shape) * steep).sum(axis=-1)
            w = np.where(slope >= 0, low, high) - (tilt * at).sum(axis=-1)
            mean = planes.shared * at.sum(axis=-1, keepdims=True)
            y = root[..., None] * (at - mean) + steep * w[..., None]
            constant = np.where(rows >= 0, lower, upper)
            out[part] = y.reshape(rows.shape) * taken + constant


def abs_dot_rows(A: Array, d: Float64, box: npt.NDArray[np.int64], weight: Float64) -> None:
    with np.errstate(all="ignore"):
        for part in _chunks(*A.shape):
            rows = np.abs(A[part]).astype(np.float64)
            d[part] -= _row_dots(rows, _of_box(weight, box, part))


def dot_rows(A: Array, d: Float64, box: npt.NDArray[np.int64], vector: Float64) -> None:
    with np.errstate(all="ignore"):
        for part in _chunks(*A.shape):
            d[part] += _row_dots(A[part].astype(np.float64), _of_box(vector, box, part))


def _row_dots(rows: Float64, table: Float64) -> Float64:
    if table.shape[0] == 1:
        return np.asarray(rows @ table[0])
    result: Float64 = np.einsum("ij,ij->i", rows, table)
    return result


def interval_affine(
    W: Array, centre: Float64, radius: Float64, z: Float64, spread: Float64
) -> None:
    with np.errstate(all="ignore"):
        for part in _chunks(*W.shape):
            rows = W[part].astype(np.float64)
            z[:, part] = centre @ rows.T
            spread[:, part] = radius @ np.abs(rows).T


def turned(x: Array, out: Array) -> None:
    out[...] = x.swapaxes(1, 2)


def fold_last(
    cols: Array,
    out: Array,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int],
    dilations: tuple[int, int],
) -> None:
    H, W = out.shape[1:3]
    (kh, kw), (sh, sw), (top, left), (dh, dw) = kernel, strides, pads, dilations
    high, wide = cols.shape[1:3]
    # At one pixel a later window is an earlier place of the kernel, so going down the kernel adds
    # the terms in the order of the C loops (window row, kernel row, window column, kernel column).
    with np.errstate(all="ignore"):
        for i in reversed(range(kh)):
            y, rows = _clipped(i * dh - top, sh, high, H)
            for j in reversed(range(kw)):
                x, columns = _clipped(j * dw - left, sw, wide, W)
                out[:, y, x] += cols[:, rows, columns, i, j]


def _clipped(offset: int, stride: int, count: int, size: int) -> tuple[slice, slice]:
    """Places offset + stride·k in [0, size) as a slice of the frame, and those k."""
    first = max(0, -(offset // stride))
    last = min(count, (size - 1 - offset) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    start = offset + stride * first
    return slice(start, start + stride * (last - first - 1) + 1, stride), slice(first, last)


_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def erf(x: Float64) -> Float64:
    return np.asarray(_erf(x), dtype=np.float64)


def erfc(x: Float64) -> Float64:
    return np.asarray(_erfc(x), dtype=np.float64)


def _outward(lower: Array, upper: Array) -> None:
    """One step outward in place; NaN becomes the infinite end."""
    step(lower, lower, False)
    step(upper, upper, True)


def interval_mul(al: Array, au: Array, bl: Array, bu: Array, lower: Array, upper: Array) -> None:
    with np.errstate(all="ignore"):
        products = (al * bl, al * bu, au * bl, au * bu)
        # np.minimum carries a NaN (0·inf) through, and _outward turns it into "unknown".
        low = np.minimum(np.minimum(*products[:2]), np.minimum(*products[2:]))
        high = np.maximum(np.maximum(*products[:2]), np.maximum(*products[2:]))
        _outward(low, high)
    lower[...] = low
    upper[...] = high


def safe_mul_add(
    al: Array, au: Array, bl: Array, bu: Array, cl: Array, cu: Array, lower: Array, upper: Array
) -> None:
    interval_mul(al, au, bl, bu, lower, upper)
    with np.errstate(all="ignore"):
        lower += cl
        upper += cu
        _outward(lower, upper)


def pos_neg_split(x: Array, positive: Array, negative: Array) -> None:
    zero = x.dtype.type(0)
    positive[...] = np.where(x < zero, zero, x)
    negative[...] = np.where(x > zero, zero, x)


def step(x: Array, out: Array, up: bool) -> None:
    limit = x.dtype.type(np.inf if up else -np.inf)
    with np.errstate(all="ignore"):
        np.nextafter(x, limit, out=out)
    np.copyto(out, limit, where=np.isnan(out))


def narrow(x: Float64, out: npt.NDArray[np.float32], up: bool) -> None:
    with np.errstate(all="ignore"):
        out[...] = x
        # An overflow rounds to infinity, which is on the wrong side of one of the two ends.
        wrong = ~(out >= x) if up else ~(out <= x)
        moved = np.empty_like(out)
        step(out, moved, up)
    np.copyto(out, moved, where=wrong)


def _most(a: Float64, b: Float64) -> Float64:
    """The larger; a NaN carries on, and of two zeros it is b, as in C."""
    return np.where((a > b) | (a != a), a, b)


def midpoint(lower: Float64, upper: Float64, out: Float64) -> None:
    with np.errstate(all="ignore"):
        middle = 0.5 * lower + 0.5 * upper
        middle = _most(np.where(np.isfinite(middle), middle, 0.0), lower)
        out[...] = np.where((middle < upper) | (middle != middle), middle, upper)


def largest(x: Float64, out: Float64) -> None:
    np.multiply(np.abs(x).max(axis=1, initial=0.0), 1 + 2.0**-50, out=out)


def reach(columns: Float64, each: int, factor: float, extra: float, out: Float64) -> None:
    with np.errstate(all="ignore"):
        if each == 1:
            np.multiply(np.abs(columns).sum(axis=0), factor, out=out)
            return
        blocks = columns.reshape(len(columns) // each, each, columns.shape[1])
        found = np.sqrt(np.einsum("ben,ben->bn", blocks, blocks)).sum(axis=0)
        moved = (found != 0) | columns.any(axis=0)
        out[...] = found * factor + np.where(moved, extra, 0.0)


def swing(
    parts: Sequence[tuple[Float64, int, float, float]], rest: Float64, middle: Float64
) -> tuple[Float64, int]:
    out, one = np.empty((3, len(rest))), np.empty_like(rest)
    far, lower, upper = out
    far[...] = rest
    with np.errstate(all="ignore"):
        for columns, each, factor, extra in parts:
            reach(columns, each, factor, extra, one)
            far += one
        far *= 1 + (len(parts) + 2) * 2.0**-52
        step(middle - far, lower, False)
        step(middle + far, upper, True)
    return out, len(far) - int(np.count_nonzero(np.isfinite(far) & np.isfinite(middle)))


def strips_set(
    lines: Any,
    parts: Sequence[tuple[Float64, int, float, float]],
    rest: Float64,
    middle: Float64,
) -> tuple[Float64, int]:
    reach = np.empty_like(middle)
    radius_about(lines.lower, lines.upper, middle, reach)
    with np.errstate(all="ignore"):
        shift = middle - lines.before
        slope = 0.5 * lines.below + 0.5 * lines.above
        ends = lines.below * shift + lines.low, lines.above * shift + lines.high
        known, far = np.minimum(reach, lines.swing), lines.swing + abs(shift)
        left = 0.5 * (ends[1] - ends[0]) + 0.5 * abs(lines.above - lines.below) * known
        # Half a slope below the normal range is not half of it.
        left += abs(slope) * rest + 2.0**-1073 * (known + far)
        size = (abs(lines.below) + abs(lines.above)) * far
        size += abs(lines.low) + abs(lines.high) + abs(lines.after)
        left = (left + 2.0**-49 * size) * (1 + 2.0**-40) + 2.0**-1000
        middle = lines.after + (0.5 * ends[0] + 0.5 * ends[1])
        moved = [(columns * slope, *how) for columns, *how in parts]
        found, lost = swing(moved, left, middle)
    columns = [columns for columns, *_ in moved]
    return np.concatenate((middle[None], left[None], found, *columns)), lost


def relu(lower: Float64, upper: Float64, out: Float64) -> None:
    np.maximum(lower, 0.0, out=out[0])
    np.maximum(upper, 0.0, out=out[1])
    midpoint(out[0], out[1], out[2])
    radius_about(out[0], out[1], out[2], out[3])


def radius_about(lower: Float64, upper: Float64, centre: Float64, out: Float64) -> None:
    with np.errstate(all="ignore"):
        reach = _most(_most(upper - centre, centre - lower), np.zeros_like(centre))
    step(reach, out, True)
    np.copyto(out, 0.0, where=reach == 0)


def dot(x: Array, y: Array) -> float:
    total = 0.0
    with np.errstate(all="ignore"):
        for part in _chunks(x.size, 1):
            total += float(x[part].astype(np.float64) @ y[part].astype(np.float64))
    return total


def sum(x: Array) -> float:
    with np.errstate(all="ignore"):
        return float(np.sum(x, dtype=np.float64))


def f16_down(x: npt.NDArray[np.float32], out: npt.NDArray[np.uint16]) -> None:
    _to_half(x, out, -np.inf)


def f16_up(x: npt.NDArray[np.float32], out: npt.NDArray[np.uint16]) -> None:
    _to_half(x, out, np.inf)


def _to_half(x: npt.NDArray[np.float32], out: npt.NDArray[np.uint16], direction: float) -> None:
    with np.errstate(all="ignore"):
        half = x.astype(np.float16)
        back = half.astype(np.float32)
        wrong = back > x if direction < 0 else back < x
        half = np.where(wrong, np.nextafter(half, np.float16(direction)), half)
    half[np.isnan(half)] = direction
    out[...] = half.view(np.uint16)


def f16_to_f32(x: npt.NDArray[np.uint16], out: npt.NDArray[np.float32]) -> None:
    out[...] = x.view(np.float16)


def dequantise(kind: str, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Blocks (m, row bytes) of any ggml type to float32 (m, n), by gguf-py."""
    try:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError:
        raise missing("a quantised weight without compiled kernels", "gguf", "gguf") from None

    with np.errstate(all="ignore"):
        values: npt.NDArray[np.float32] = dequantize(raw, GGMLQuantizationType[kind.upper()])
    return values


def decode_rows(kind: str, raw: npt.NDArray[np.uint8], out: npt.NDArray[np.float32]) -> bool:
    for part in _chunks(*out.shape):
        out[part] = dequantise(kind, raw[part])
    return bool(np.isfinite(out).all())


def stored_affine(
    kind: str,
    raw: npt.NDArray[np.uint8],
    centre: Float64,
    radius: npt.NDArray[np.float32],
    square: npt.NDArray[np.float32],
    z: Float64,
    spread: Float64,
    power: Float64,
) -> bool:
    finite = True
    for part in _chunks(len(raw), centre.shape[1]):
        rows = np.empty((len(raw[part]), centre.shape[1]), np.float32)
        finite = decode_rows(kind, raw[part], rows) and finite
        with np.errstate(all="ignore"):
            W = rows.astype(np.float64)
            z[:, part] = centre @ W.T
            spread[:, part] = radius.astype(np.float64) @ abs(W).T
            power[:, part] = square.astype(np.float64) @ (W * W).T
    return finite
