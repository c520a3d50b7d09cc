"""Convolution and mean over windows of three axes: entries side by side, then a product or a sum.

As many entries as windows times what each holds: no kernel moves over volumes in `gamma.ops`. What
lies in the padding is 0, which no order of a sum notices.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gamma.formats.onnx.affine import matmul, total
from gamma.formats.onnx.movement import joined, transposed
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation
from gamma.formats.onnx.values import Array, Constant, Value, Variable
from gamma.ops import ReduceSum

if TYPE_CHECKING:
    from gamma.formats.onnx.windows import Geometry


def _windows(t: Translation, call: Call, x: Variable, g: Geometry) -> Array:
    """Flat indices (windows, channels, places) into the input, -1 in the padding."""
    channels, count, places = x.dims[1], math.prod(g.counts), math.prod(g.kernel)
    t.charge(call, (count, channels, places))
    flat: Array = np.zeros((1,) * (2 * g.rank), np.int64)
    inside: Array = np.ones((), bool)
    for a in range(g.rank):
        at = g.positions(a)
        shape = [1] * (2 * g.rank)
        shape[a], shape[a + g.rank] = at.shape
        flat = flat * g.image[a] + at.reshape(shape)
        inside = inside & ((at >= 0) & (at < g.image[a])).reshape(shape)
    flat, inside = (v.reshape(count, 1, places) for v in (flat, inside))
    offsets = np.arange(channels)[:, None] * math.prod(g.image)
    return np.where(inside, flat + offsets, -1)


def conv(
    t: Translation,
    call: Call,
    x: Variable,
    weight: Constant,
    g: Geometry,
    group: int,
    bias: Constant | None,
) -> Value:
    """A matrix for each group, times the entries of every window."""
    index = _windows(t, call, x, g)
    each, out = x.dims[1] // group, weight.dims[0] // group
    parts: list[Value] = []
    for k in range(group):
        mine = index[:, k * each : (k + 1) * each].reshape(1, len(index), -1)
        rows = weight.mapped(lambda a, k=k: a[k * out : (k + 1) * out].reshape(out, -1).T)  # type: ignore[misc]
        parts.append(matmul(t, call, [t.pick(call, x, mine), rows]))
    y = joined(t, call, parts, 2) if group > 1 else parts[0]
    y = y if bias is None else total(t, call, [y, bias], (1, 1))
    return t.reshape(call, transposed(t, call, y, (0, 2, 1)), (1, weight.dims[0], *g.counts))


def sums(t: Translation, call: Call, x: Variable, g: Geometry) -> Variable:
    """The sum of every window, for each channel."""
    index = _windows(t, call, x, g).swapaxes(0, 1)
    dims = (1, x.dims[1], *g.counts)
    gathered = t.pick(call, x, index.reshape(*dims, -1))
    return t.emit(call, ReduceSum((g.rank + 1,), False, 1.0, 0.0), gathered, dims=dims)
