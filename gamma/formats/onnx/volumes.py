"""Convolutions and sums over windows of three axes: entries side by side, then a product or a sum.

As many entries as windows times what each holds: no kernel moves over volumes in `gamma.ops`. What
lies in the padding is 0, which no order of a sum notices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gamma.formats.onnx.affine import matmul, total
from gamma.formats.onnx.movement import joined, transposed
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation
from gamma.formats.onnx.values import Array, Constant, Shape, Value, Variable
from gamma.ops import ReduceSum

if TYPE_CHECKING:
    from gamma.formats.onnx.windows import Geometry


def _windows(t: Translation, call: Call, x: Variable, places: Sequence[Array]) -> Array:
    """Flat indices (windows, channels, places) into the input, -1 in the padding.

    ``places``: for each axis the coordinate of each (position, kernel entry), none where negative
    or behind the end.
    """
    image, rank = x.dims[2:], len(places)
    channels, count = x.dims[1], math.prod(len(at) for at in places)
    each = math.prod(at.shape[1] for at in places)
    t.charge(call, (count, channels, each))
    flat: Array = np.zeros((1,) * (2 * rank), np.int64)
    inside: Array = np.ones((), bool)
    for a, at in enumerate(places):
        shape = [1] * (2 * rank)
        shape[a], shape[a + rank] = at.shape
        flat = flat * image[a] + at.reshape(shape)
        inside = inside & ((at >= 0) & (at < image[a])).reshape(shape)
    flat, inside = (v.reshape(count, 1, each) for v in (flat, inside))
    offsets = np.arange(channels)[:, None] * math.prod(image)
    return np.where(inside, flat + offsets, -1)


def _positions(g: Geometry) -> list[Array]:
    return [g.positions(a) for a in range(g.rank)]


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
    out = weight.dims[0] // group
    matrices = [
        weight.mapped(lambda a, k=k: a[k * out : (k + 1) * out].reshape(out, -1).T)  # type: ignore[misc]
        for k in range(group)
    ]
    return _products(t, call, x, _positions(g), matrices, bias, g.counts)


def conv_transpose(
    t: Translation,
    call: Call,
    x: Variable,
    weight: Constant,
    g: Geometry,
    group: int,
    bias: Constant | None,
) -> Value:
    """The same, of the entries that reach each position of the output, of ``g.counts``."""
    each, out = weight.dims[0] // group, weight.dims[1]
    places = []
    for a in range(g.rank):
        at = np.arange(g.counts[a])[:, None] + g.pads[a] - np.arange(g.kernel[a]) * g.dilations[a]
        places.append(np.where(at % g.strides[a] == 0, at // g.strides[a], -1))

    def matrix(a: Array, k: int) -> Array:
        mine = a[k * each : (k + 1) * each].reshape(each, out, -1)
        return np.ascontiguousarray(mine.transpose(0, 2, 1)).reshape(-1, out)

    matrices = [weight.mapped(lambda a, k=k: matrix(a, k)) for k in range(group)]  # type: ignore[misc]
    return _products(t, call, x, places, matrices, bias, g.counts)


def _products(
    t: Translation, call: Call, x: Variable, places: Sequence[Array], matrices: list[Constant],
    bias: Constant | None, counts: Shape,
) -> Value:  # fmt: skip
    """Each group's channels of every window times its matrix, and the bias."""
    index = _windows(t, call, x, places)
    each = x.dims[1] // len(matrices)
    parts: list[Value] = []
    for k, matrix in enumerate(matrices):
        mine = index[:, k * each : (k + 1) * each].reshape(1, len(index), -1)
        parts.append(matmul(t, call, [t.pick(call, x, mine), matrix]))
    y = joined(t, call, parts, 2) if len(parts) > 1 else parts[0]
    y = y if bias is None else total(t, call, [y, bias], (1, 1))
    return t.reshape(call, transposed(t, call, y, (0, 2, 1)), (1, y.dims[2], *counts))


def sums(t: Translation, call: Call, x: Variable, g: Geometry) -> Variable:
    """The sum of every window, for each channel."""
    index = _windows(t, call, x, _positions(g)).swapaxes(0, 1)
    dims = (1, x.dims[1], *g.counts)
    gathered = t.pick(call, x, index.reshape(*dims, -1))
    return t.emit(call, ReduceSum((g.rank + 1,), False, 1.0, 0.0), gathered, dims=dims)
