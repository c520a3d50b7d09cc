"""Gathering and scattering by constant indices, and what is built on them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gamma.formats.onnx.affine import mul, reduced, total
from gamma.formats.onnx.arguments import (
    Inputs,
    axis_in,
    constant,
    ints,
    need,
    number,
    optional,
    replaced,
)
from gamma.formats.onnx.movement import joined
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.tensors import DTYPES
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Shape, Value, Variable
from gamma.ops.execution import ANYTHING, LOST, Execution
from gamma.tensor.rounding import gamma_factor


def _indices(t: Translation, call: Call, inputs: Inputs, position: int = 1) -> Array:
    array = constant(t, call, optional(inputs, position), "the index").array
    if array.dtype.kind not in "iu" or array.ndim < 1:
        raise t.malformed(call, f"the index is {array.dtype} of shape {list(array.shape)}")
    return array.astype(np.int64)


def _within(t: Translation, call: Call, index: Array, length: int) -> Array:
    """Indices counted from the front."""
    if index.size and (int(index.min()) < -length or int(index.max()) >= length):
        raise t.malformed(call, f"an index is outside the {length} entries of its axis")
    return np.where(index < 0, index + length, index)


def gather_elements(t: Translation, call: Call, inputs: Inputs) -> Value:
    x, index = need(t, call, inputs, 0), _indices(t, call, inputs)
    axis = axis_in(t, call, attribute(call, "axis", 0), len(x.dims))
    index = _within(t, call, index, x.dims[axis])
    short = replaced(index.shape, axis, x.dims[axis]) if index.ndim == len(x.dims) else ()
    if index.ndim != len(x.dims) or any(a > b for a, b in zip(short, x.dims, strict=True)):
        raise t.malformed(call, f"indices of shape {list(index.shape)}")
    place = tuple(slice(n) for n in short)
    return t.move(call, x, index.shape, lambda a, _: np.take_along_axis(a[place], index, axis))


def gather_nd(t: Translation, call: Call, inputs: Inputs) -> Value:
    x, index = need(t, call, inputs, 0), _indices(t, call, inputs)
    batch, depth = attribute(call, "batch_dims", 0), index.shape[-1]
    if not 0 <= batch < index.ndim or batch + depth > len(x.dims) or depth < 1:
        raise t.malformed(call, f"indices of shape {list(index.shape)}, batch_dims {batch}")
    if index.shape[:batch] != x.dims[:batch]:
        raise t.malformed(call, f"the first {batch} axes of data and indices differ")
    rest, outer = x.dims[batch:], math.prod(x.dims[:batch])
    flat = index.reshape(outer, -1, depth)
    parts = [_within(t, call, flat[..., k], rest[k]) for k in range(depth)]
    place = (np.arange(outer)[:, None], *parts)
    dims = (*index.shape[:-1], *rest[depth:])
    return t.move(call, x, dims, lambda a, _: a.reshape(outer, *rest)[place].reshape(dims))


def scatter_elements(t: Translation, call: Call, inputs: Inputs) -> Value:
    data, index = need(t, call, inputs, 0), _indices(t, call, inputs)
    axis = axis_in(t, call, attribute(call, "axis", 0), len(data.dims))
    if index.ndim != len(data.dims):
        raise t.malformed(call, f"indices of shape {list(index.shape)}")
    t.charge(call, (index.ndim, *index.shape), kept=False)
    places: list[Array] = list(np.indices(index.shape))
    places[axis] = index
    return _scatter(t, call, inputs, index.shape, places)


def scatter_nd(t: Translation, call: Call, inputs: Inputs) -> Value:
    data, index = need(t, call, inputs, 0), _indices(t, call, inputs)
    depth = index.shape[-1]
    if not 1 <= depth <= len(data.dims):
        raise t.malformed(call, f"indices of shape {list(index.shape)}")
    inner = data.dims[depth:]
    dims = (*index.shape[:-1], *inner)
    t.charge(call, (len(data.dims), *dims), kept=False)
    ones = (1,) * len(inner)
    places = [index[..., k].reshape(*index.shape[:-1], *ones) for k in range(depth)]
    places += [np.arange(n).reshape(n, *ones[k + 1 :]) for k, n in enumerate(inner)]
    return _scatter(t, call, inputs, dims, places)


def _scatter(t: Translation, call: Call, inputs: Inputs, dims: Shape, places: list[Array]) -> Value:
    """``updates`` of shape ``dims`` written into (or reduced with) data at ``places`` per axis."""
    data, updates = need(t, call, inputs, 0), need(t, call, inputs, 2)
    if updates.dims != dims:
        raise t.malformed(call, f"updates of shape {list(updates.dims)}, expected {list(dims)}")
    if updates.dims == data.dims and not math.prod(dims):
        return data
    targets = np.zeros(dims, np.int64)
    for place, length in zip(places, data.dims, strict=True):
        targets = targets * length + _within(t, call, place, length)
    how = attribute(call, "reduction", "none")
    if how not in ("none", "add", "mul", "max", "min"):
        raise t.malformed(call, f"reduction {how!r}")
    size, flat = math.prod(data.dims), targets.reshape(-1)
    if how == "none":
        index = np.arange(size)
        index[flat] = size + np.arange(flat.size)
        both = [t.reshape(call, data, (size,)), t.reshape(call, updates, (flat.size,))]
        return _taken(t, call, joined(t, call, both, 0), index.reshape(data.dims))
    table = _uses(t, call, flat, size)
    if how == "add" and table.shape[1] == 1:
        return t.reshape(call, total(t, call, [t.reshape(call, data, (size,)),
            _summed(t, call, updates, table)], (1, 1)), data.dims)  # fmt: skip
    if how == "mul":
        return _multiplied(t, call, data, updates, table)
    if how == "add":
        # Data and updates in one sum: nobody says which of them meet first.
        index = np.concatenate((np.arange(size)[:, None], np.where(table < 0, -1, size + table)), 1)
        both = [t.reshape(call, data, (size,)), t.reshape(call, updates, (flat.size,))]
        return t.reshape(call, _summed(t, call, joined(t, call, both, 0), index), data.dims)
    own = np.arange(size)[:, None]
    index = np.concatenate((own, np.where(table < 0, own, size + table)), axis=1)
    both = [t.reshape(call, data, (size,)), t.reshape(call, updates, (flat.size,))]
    rows = _taken(t, call, joined(t, call, both, 0), index)
    op = "ReduceMax" if how == "max" else "ReduceMin"
    return t.reshape(call, reduced(t, call, op, rows, (1,), False), data.dims)


def _multiplied(t: Translation, call: Call, data: Value, updates: Value, table: Array) -> Value:
    """``data`` times the constant updates that ``table`` names for each of its entries."""
    if not isinstance(updates, Constant):
        raise t.fail(call, "multiplies by values that depend on the input")
    count = math.prod(updates.dims)
    ones = Constant(np.ones(1, updates.array.dtype))
    factors = joined(t, call, [t.reshape(call, updates, (count,)), ones], 0)
    columns = np.where(table < 0, count, table).T.reshape(-1, *data.dims)
    product = _taken(t, call, factors, columns[0])
    for column in columns[1:]:
        product = mul(t, call, [product, _taken(t, call, factors, column)])
    if len(columns) == 1 or not isinstance(data, Variable):
        return mul(t, call, [data, product])
    assert isinstance(product, Constant)
    return t.scale(call, data, product, None, _in_any_order(updates, product, columns))


def _in_any_order(factors: Constant, product: Constant, columns: Array) -> Execution:
    """Float32 executions that multiply a value and its factors in whatever order.

    Each product is rounded once, or loses what the factors behind it may still enlarge; factors may
    meet before the value, which then enlarges what they lose. None is beyond the product of the
    value and of all factors above 1.
    """
    size = abs(factors.array.astype(np.float64)).reshape(-1)
    size = np.append(np.maximum(size * (1 + 2.0**-20), 1.0), 1.0)  # stored in float32 or rounded
    with np.errstate(over="ignore"):
        most = np.minimum(size[columns].prod(axis=0), ANYTHING)
    steps = 2 * len(columns)  # a constant's rounding and a product's
    lost = steps * LOST * most
    unit = gamma_factor(steps) * (1 + 2.0**-20)
    error = unit * abs(product.array.astype(np.float64)) + lost
    return Execution(error, lost, most, np.maximum(most, 1.0))


def _taken(t: Translation, call: Call, x: Value, index: Array, fill: float = 0.0) -> Value:
    """x.flat[index], with 0 where the index is -1."""
    t.charge(call, index.shape)
    if isinstance(x, Variable):
        return t.pick(call, x, index, fill)
    return x.mapped(lambda a: np.where(index < 0, a.dtype.type(0), a.reshape(-1)[index]))


def _uses(t: Translation, call: Call, targets: Array, size: int) -> Array:
    """(size, k): for each entry the positions in ``targets`` that name it, then -1."""
    order = np.argsort(targets, kind="stable")
    ordered = targets[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    counts = np.diff(first, append=ordered.size)
    rank = np.arange(ordered.size) - np.repeat(first, counts)
    most = int(counts.max(initial=1))
    t.charge(call, (size, most))
    table = np.full((size, most), -1, np.int64)
    table[ordered, rank] = order
    return table


def _summed(t: Translation, call: Call, updates: Value, table: Array) -> Value:
    """For each row of ``table`` the sum of the entries of ``updates`` it names."""
    rows = _taken(t, call, updates, table)
    return reduced(t, call, "ReduceSum", rows, (1,), False)


def col2im(t: Translation, call: Call, inputs: Inputs) -> Value:
    """Columns (1, channels·block, positions) summed back onto the image they were cut from."""
    x = need(t, call, inputs, 0)
    image = ints(t, call, optional(inputs, 1), "the image's shape")
    block = ints(t, call, optional(inputs, 2), "the block's shape")
    rank = len(image)
    dilations = attribute(call, "dilations", (1,) * rank)
    strides = attribute(call, "strides", (1,) * rank)
    pads = attribute(call, "pads", (0,) * (2 * rank))
    lengths = {len(block): rank, len(dilations): rank, len(strides): rank, len(pads): 2 * rank}
    if not rank or any(a != b for a, b in lengths.items()) or len(x.dims) != 3:
        raise t.malformed(call, f"image {list(image)[:8]}, block {list(block)[:8]}")
    if min(*image, *block, *dilations, *strides) < 1 or min(pads) < 0:
        raise t.malformed(call, "lengths must be positive")
    cells = math.prod(block)
    spans = [(block[a] - 1) * dilations[a] + 1 for a in range(rank)]
    counts = [
        (image[a] + pads[a] + pads[a + rank] - spans[a]) // strides[a] + 1 for a in range(rank)
    ]
    if x.dims[1] % cells or min(counts) < 1 or math.prod(counts) != x.dims[2]:
        raise t.malformed(call, f"columns of shape {list(x.dims)} for {counts} positions")
    channels = x.dims[0] * (x.dims[1] // cells)
    t.charge(call, (channels, cells, x.dims[2]))
    # Target pixel of every (block entry, position); -1 in the padding.
    target, valid = np.zeros((1,) * (2 * rank), np.int64), np.ones((1,) * (2 * rank), bool)
    for a in range(rank):
        starts = np.arange(counts[a]) * strides[a] - pads[a]
        place = np.arange(block[a])[:, None] * dilations[a] + starts
        shape = [1] * (2 * rank)
        shape[a], shape[a + rank] = place.shape
        place = place.reshape(shape)
        target = target * image[a] + place
        valid = valid & (place >= 0) & (place < image[a])
    flat, inside = np.where(valid, target, 0).reshape(-1), valid.reshape(-1)
    pixels = math.prod(image)
    source = np.flatnonzero(inside)
    table = _uses(t, call, flat[source], pixels)
    table = np.where(table < 0, -1, source[table])
    t.charge(call, (channels, *table.shape))
    offset = (np.arange(channels) * flat.size)[:, None, None]
    rows = np.where(table < 0, -1, table + offset).reshape(channels * pixels, -1)
    dims = (x.dims[0], x.dims[1] // cells, *image)
    return t.reshape(call, _summed(t, call, x, rows), dims)


def compress(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    kept = constant(t, call, optional(inputs, 1), "the condition").array.astype(bool)
    if "axis" not in call.attributes:
        x = t.reshape(call, x, (math.prod(x.dims),))
    axis = axis_in(t, call, attribute(call, "axis", 0), len(x.dims))
    if kept.ndim != 1 or kept.size > x.dims[axis]:
        raise t.malformed(call, f"a condition of shape {list(kept.shape)}")
    where = np.flatnonzero(kept)
    dims = replaced(x.dims, axis, where.size)
    return t.move(call, x, dims, lambda a, _: np.take(a, where, axis))


def one_hot(t: Translation, call: Call, inputs: Inputs) -> Value:
    index = constant(t, call, optional(inputs, 0), "the index").array
    depth = number(t, call, optional(inputs, 1), "the depth")
    values = constant(t, call, optional(inputs, 2), "the values").array
    if values.shape != (2,) or not depth >= 1 or depth != int(depth) or index.dtype.kind == "b":
        raise t.malformed(call, f"depth {depth}, values of shape {list(values.shape)}")
    axis = axis_in(t, call, attribute(call, "axis", -1), index.ndim + 1)
    wanted = np.expand_dims(index, axis)
    wanted = np.where(wanted < 0, wanted + depth, wanted)
    t.charge(call, (*index.shape, int(depth)))
    shape = [1] * (index.ndim + 1)
    shape[axis] = int(depth)
    hot = wanted == np.arange(int(depth)).reshape(shape)
    return Constant(np.where(hot, values[1], values[0]).astype(values.dtype))


def non_zero(t: Translation, call: Call, inputs: Inputs) -> Value:
    array = constant(t, call, optional(inputs, 0), "the input").array
    t.charge(call, (max(array.ndim, 1), array.size))
    return Constant(np.array(np.nonzero(np.atleast_1d(array)), np.int64))


def eye_like(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    if len(x.dims) != 2:
        raise t.malformed(call, "takes a matrix")
    kind = (
        DTYPES.get(attribute(call, "dtype", 0), x.dtype) if "dtype" in call.attributes else x.dtype
    )
    known: dict[str, Any] = {"float16": "float32", "bfloat16": "float32"}
    t.charge(call, x.dims)
    return Constant(np.eye(*x.dims, attribute(call, "k", 0), dtype=known.get(kind, kind)))
