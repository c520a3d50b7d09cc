"""Movements that ONNX gives operators of their own: blocks, triangles, reversals, cropping."""

from __future__ import annotations

from typing import Any

import numpy as np

from gamma.formats.onnx.arguments import Inputs, axes_in, axis_in, ints, need, number, optional
from gamma.formats.onnx.movement import transposed
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Value


def _image(t: Translation, call: Call, inputs: Inputs) -> tuple[Value, int]:
    x, size = need(t, call, inputs, 0), attribute(call, "blocksize", 0)
    if len(x.dims) != 4 or size < 1:
        raise t.malformed(call, f"takes (batch, channels, height, width), blocksize {size}")
    return x, size


def depth_to_space(t: Translation, call: Call, inputs: Inputs) -> Value:
    x, size = _image(t, call, inputs)
    batch, channels, height, width = x.dims
    mode = attribute(call, "mode", "DCR")
    if channels % size**2 or mode not in ("DCR", "CRD"):
        raise t.malformed(call, f"{channels} channels in blocks of {size}, mode {mode!r}")
    depth = channels // size**2
    if mode == "DCR":
        split, perm = (batch, size, size, depth, height, width), (0, 3, 4, 1, 5, 2)
    else:
        split, perm = (batch, depth, size, size, height, width), (0, 1, 4, 2, 5, 3)
    moved = transposed(t, call, t.reshape(call, x, split), perm)
    return t.reshape(call, moved, (batch, depth, height * size, width * size))


def space_to_depth(t: Translation, call: Call, inputs: Inputs) -> Value:
    x, size = _image(t, call, inputs)
    batch, channels, height, width = x.dims
    if height % size or width % size:
        raise t.malformed(call, f"an image of {height} by {width} in blocks of {size}")
    mode = attribute(call, "mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise t.malformed(call, f"mode {mode!r}")
    split = (batch, channels, height // size, size, width // size, size)
    perm = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    moved = transposed(t, call, t.reshape(call, x, split), perm)
    return t.reshape(call, moved, (batch, channels * size**2, height // size, width // size))


def trilu(t: Translation, call: Call, inputs: Inputs) -> Value:
    x, given = need(t, call, inputs, 0), optional(inputs, 1)
    if len(x.dims) < 2:
        raise t.malformed(call, "takes matrices")
    diagonal = 0 if given is None else int(number(t, call, given, "k"))
    rows, columns = x.dims[-2:]
    t.charge(call, (rows, columns))
    offset = np.arange(columns) - np.arange(rows)[:, None]
    kept = offset >= diagonal if attribute(call, "upper", 1) else offset <= diagonal
    return t.move(call, x, x.dims, lambda a, fill: np.where(kept, a, a.dtype.type(fill)))


def reverse_sequence(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    lengths = ints(t, call, optional(inputs, 1), "sequence_lens")
    batch, time = attribute(call, "batch_axis", 1), attribute(call, "time_axis", 0)
    axes_in(t, call, (batch, time), 2)
    if len(x.dims) < 2 or len(lengths) != x.dims[batch]:
        raise t.malformed(call, f"{len(lengths)} lengths")
    if any(not 0 <= n <= x.dims[time] for n in lengths):
        raise t.malformed(call, "a length is outside the time axis")
    t.charge(call, x.dims[:2], kept=False)
    step = np.arange(x.dims[time])
    ends = np.array(lengths)[:, None]
    index = np.where(step < ends, ends - 1 - step, step)  # (batch, time)
    index = index if batch == 0 else index.T
    shaped = index.reshape(*index.shape, *(1,) * (len(x.dims) - 2))
    return t.move(call, x, x.dims, lambda a, _: np.take_along_axis(a, shaped, time))


def center_crop_pad(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    wanted = ints(t, call, optional(inputs, 1), "the shape")
    axes = axes_in(t, call, attribute(call, "axes", tuple(range(len(x.dims)))), len(x.dims))
    if len(axes) != len(wanted) or min(wanted, default=1) < 1:
        raise t.malformed(call, f"shape {list(wanted)[:16]} for {len(axes)} axes")
    grow, cut, dims = [(0, 0)] * len(x.dims), [slice(None)] * len(x.dims), list(x.dims)
    for axis, n in zip(axes, wanted, strict=True):
        spare = n - x.dims[axis]
        if spare > 0:
            grow[axis] = (spare // 2, spare - spare // 2)
        elif spare < 0:
            start = -spare // 2
            cut[axis] = slice(start, start + n)
        dims[axis] = n

    def movement(a: Array, fill: Any) -> Array:
        return np.pad(a[tuple(cut)], grow, constant_values=fill)

    return t.move(call, x, tuple(dims), movement)


def axis_of(t: Translation, call: Call, inputs: Inputs, position: int, rank: int) -> int:
    """An axis given as a constant input."""
    given = number(t, call, optional(inputs, position), "the axis")
    return axis_in(t, call, int(given), rank)
