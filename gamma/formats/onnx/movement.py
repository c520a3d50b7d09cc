"""Operators that move entries: one NumPy movement each, run on constants or on positions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from gamma.formats.onnx.arguments import (
    Inputs,
    axes_in,
    axis_in,
    constant,
    int_list,
    ints,
    need,
    number,
    optional,
    replaced,
)
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import MAX_AXES, Translation, attribute
from gamma.formats.onnx.values import (
    Array,
    Constant,
    Float64,
    Movement,
    Shape,
    Value,
    Variable,
    leading,
)
from gamma.ops import Concat, Transpose


def reshape(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    return t.reshape(call, x, target_shape(t, call, x.dims, optional(inputs, 1)))


def target_shape(t: Translation, call: Call, dims: Shape, given: Value | None) -> Shape:
    """The shape that Reshape gives a value of shape ``dims``."""
    target = list(ints(t, call, given, "the shape"))
    keep_zero = attribute(call, "allowzero", 0) if t.opset >= 14 else 0
    if len(target) > MAX_AXES or any(n < -1 for n in target) or target.count(-1) > 1:
        raise t.malformed(call, f"target shape {target[:MAX_AXES]}")
    for i, n in enumerate(target):
        if n == 0 and not keep_zero:
            if i >= len(dims):
                raise t.malformed(call, f"target shape {target} copies an axis that is not there")
            target[i] = dims[i]
    if -1 in target:
        known = math.prod(n for n in target if n != -1)
        if known == 0 or math.prod(dims) % known:
            raise t.malformed(call, f"target shape {target} does not divide {list(dims)}")
        target[target.index(-1)] = math.prod(dims) // known
    return tuple(target)


def flatten(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    axis, rank = attribute(call, "axis", 1), len(x.dims)
    if not -rank <= axis <= rank:
        raise t.malformed(call, f"axis {axis} of {rank} axes")
    axis += rank if axis < 0 else 0
    return t.reshape(call, x, (math.prod(x.dims[:axis]), math.prod(x.dims[axis:])))


def squeeze(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    given = int_list(t, call, inputs, "axes", 1, 13)
    ones = tuple(i for i, n in enumerate(x.dims) if n == 1)
    axes = ones if given is None else axes_in(t, call, given, len(x.dims))
    if any(x.dims[a] != 1 for a in axes):
        raise t.malformed(call, f"axes {list(axes)} are not of length 1")
    return t.reshape(call, x, tuple(n for i, n in enumerate(x.dims) if i not in axes))


def unsqueeze(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    given = int_list(t, call, inputs, "axes", 1, 13)
    if given is None:
        raise t.malformed(call, "axes are missing")
    rank = len(x.dims) + len(given)
    if rank > MAX_AXES:
        raise t.malformed(call, f"makes {rank} axes")
    axes, rest = axes_in(t, call, given, rank), iter(x.dims)
    return t.reshape(call, x, tuple(1 if i in axes else next(rest) for i in range(rank)))


def transpose(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    default = tuple(reversed(range(len(x.dims))))
    perm = attribute(call, "perm", default)
    if sorted(perm) != list(range(len(x.dims))):
        raise t.malformed(call, f"perm {list(perm)[:MAX_AXES]} of {len(x.dims)} axes")
    return transposed(t, call, x, perm)


def transposed(t: Translation, call: Call, x: Value, perm: tuple[int, ...]) -> Value:
    """Axes in another order; a plain reshape where only axes of length 1 move."""
    dims = tuple(x.dims[p] for p in perm)
    if isinstance(x, Constant):
        return x.mapped(lambda a: a.transpose(perm))
    long = [p for p in perm if x.dims[p] != 1]
    if long == sorted(long):
        return t.reshape(call, x, dims)
    if leading(x.dims) and perm[0] == 0:
        return t.emit(call, Transpose(tuple(p - 1 for p in perm[1:])), x, dims=dims)
    # The node is transposed without its axes of length 1; `emit` gives the result its shape.
    order = sorted(long)
    bare = t.as_shape(call, x, tuple(x.dims[p] for p in order))
    return t.emit(call, Transpose(tuple(order.index(p) for p in long)), bare, dims=dims)


def concat(t: Translation, call: Call, inputs: Inputs) -> Value:
    parts = [need(t, call, inputs, i) for i in range(len(inputs))]
    if not parts:
        raise t.malformed(call, "joins nothing")
    return joined(t, call, parts, axis_in(t, call, attribute(call, "axis", 1), len(parts[0].dims)))


def joined(t: Translation, call: Call, parts: list[Value], axis: int) -> Value:
    """Values one after another along ``axis``."""
    rests = {replaced(p.dims, axis, 0) if len(p.dims) > axis else () for p in parts}
    if len(rests) != 1:
        raise t.malformed(call, f"the inputs do not join along axis {axis}")
    dims = replaced(parts[0].dims, axis, sum(p.dims[axis] for p in parts))
    fixed = [p for p in parts if isinstance(p, Constant)]
    moving = [p for p in parts if isinstance(p, Variable)]
    if not moving:
        t.charge(call, dims)
        array = np.concatenate([p.array for p in fixed], axis)
        return Constant(
            array, _spread(fixed, "error", axis), fixed[0].dtype, _spread(fixed, "noise", axis)
        )
    variables = _join(t, call, moving, axis)
    return variables if not fixed else _around(t, call, parts, variables, axis, dims)


def _spread(parts: list[Constant], which: str, axis: int) -> Float64 | float:
    """The errors (or noise) of constants one after another; 0 where none has any."""
    found = [np.asarray(getattr(p, which), np.float64) for p in parts]
    if not any(map(np.any, found)):
        return 0.0
    wide = [np.broadcast_to(e, p.dims) for e, p in zip(found, parts, strict=True)]
    result: Float64 = np.concatenate(wide, axis)
    return result


def _join(t: Translation, call: Call, parts: list[Variable], axis: int) -> Variable:
    dims = replaced(parts[0].dims, axis, sum(p.dims[axis] for p in parts))
    if len(parts) == 1:
        return parts[0]
    if axis == 0:
        whole = [t.as_shape(call, p, p.dims) for p in parts]
        return t.emit(call, Concat(0), *whole, dims=dims)
    return t.emit(call, Concat(axis - leading(dims)), *parts, dims=dims)


def _around(
    t: Translation, call: Call, parts: list[Value], variables: Variable, axis: int, dims: Shape
) -> Variable:
    """Constants joined with variables: the variables laid into zeros, the constants added."""
    t.charge(call, (2 * math.prod(dims),))
    positions = np.arange(math.prod(variables.dims), dtype=np.int64).reshape(variables.dims)
    index = np.full(dims, -1, np.int64)
    shift, error, noise = np.zeros(dims), np.zeros(dims), np.zeros(dims)
    start = taken = 0
    for part in parts:
        stop = start + part.dims[axis]
        place = (slice(None),) * axis + (slice(start, stop),)
        if isinstance(part, Constant):
            t.finite(call, part)
            shift[place], error[place], noise[place] = part.array, part.error, part.noise
        else:
            source = (slice(None),) * axis + (slice(taken, taken + stop - start),)
            index[place] = positions[source]
            taken += stop - start
        start = stop
    laid = t.pick(call, variables, index)
    return t.scale(call, laid, None, Constant(shift, error, "", noise))


def split(t: Translation, call: Call, inputs: Inputs) -> tuple[Value, ...]:
    x = need(t, call, inputs, 0)
    axis = axis_in(t, call, attribute(call, "axis", 0), len(x.dims))
    sizes = int_list(t, call, inputs, "split", 1, 13)
    length, count = x.dims[axis], len(call.outputs)
    if sizes is None:
        if t.opset >= 18:
            count = attribute(call, "num_outputs", count)
        if count < 1 or count > max(length, 1):
            raise t.malformed(call, f"{count} parts of {length} entries")
        each = -(-length // count)
        sizes = (*(each,) * (count - 1), length - each * (count - 1))
    if sum(sizes) != length or min(sizes) < 0 or len(sizes) < len(call.outputs):
        raise t.malformed(call, f"sizes {list(sizes)[:MAX_AXES]} of {length} entries")
    t.charge(call, x.dims)
    positions = np.arange(math.prod(x.dims)).reshape(x.dims)
    results: list[Value] = []
    names = (*call.outputs, *[""] * (len(sizes) - len(call.outputs)))
    for name, stop, size in zip(names, itertools.accumulate(sizes), sizes, strict=True):
        if not name:
            results.append(x)  # nobody reads this part
            continue
        cut = _cut((slice(None),) * axis + (slice(stop - size, stop),))
        if isinstance(x, Constant):
            results.append(x.mapped(lambda a, cut=cut: cut(a, 0)))  # type: ignore[misc]
        else:
            results.append(t.pick(call, x, cut(positions, -1)))
    return tuple(results)


def _cut(place: tuple[slice, ...]) -> Movement:
    return lambda array, fill: array[place]


def slice_(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    starts = int_list(t, call, inputs, "starts", 1, 10)
    ends = int_list(t, call, inputs, "ends", 2, 10)
    if starts is None or ends is None or len(starts) != len(ends):
        raise t.malformed(call, "starts and ends do not match")
    given = int_list(t, call, inputs, "axes", 3, 10)
    axes = axes_in(t, call, range(len(starts)) if given is None else given, len(x.dims))
    steps = int_list(t, call, inputs, "steps", 4, 10) if t.opset >= 10 else None
    steps = steps or (1,) * len(starts)
    if len(axes) != len(starts) or len(steps) != len(starts) or 0 in steps:
        raise t.malformed(call, "starts, axes and steps do not match")
    place = [slice(None)] * len(x.dims)
    dims = x.dims
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        place[axis] = _stepped(x.dims[axis], start, end, step)
        dims = replaced(dims, axis, len(range(x.dims[axis])[place[axis]]))
    return t.move(call, x, dims, _cut(tuple(place)))


def _stepped(n: int, start: int, end: int, step: int) -> slice:
    """A slice of ``n`` entries with ONNX's clamping: backwards, the start is moved inside."""
    back = int(step < 0)
    first = min(max(start + n if start < 0 else start, 0), n - back)
    last = min(max(end + n if end < 0 else end, -back), n - back)
    return slice(max(first, 0), last if last >= 0 else None, step)


def gather(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    where = constant(t, call, optional(inputs, 1), "the index").array
    axis = axis_in(t, call, attribute(call, "axis", 0), len(x.dims))
    length = x.dims[axis]
    if where.dtype.kind not in "iu" or (
        where.size and (int(where.min()) < -length or int(where.max()) >= length)
    ):
        raise t.malformed(call, f"an index is outside the {length} entries of axis {axis}")
    dims = (*x.dims[:axis], *where.shape, *x.dims[axis + 1 :])
    return t.move(call, x, dims, lambda a, _: np.take(a, where, axis))


def expand(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    target = ints(t, call, optional(inputs, 1), "the shape")
    if len(target) > MAX_AXES or any(n < 0 for n in target):
        raise t.malformed(call, f"target shape {list(target)[:MAX_AXES]}")
    wide = np.broadcast_shapes(x.dims, target)
    return t.expand(call, x, tuple(int(n) for n in wide))


def tile(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    repeats = ints(t, call, optional(inputs, 1), "repeats")
    if len(repeats) != len(x.dims) or any(n < 0 for n in repeats):
        raise t.malformed(call, f"repeats {list(repeats)[:MAX_AXES]}")
    dims = tuple(n * r for n, r in zip(x.dims, repeats, strict=True))
    return t.move(call, x, dims, lambda a, _: np.tile(a, repeats))


def pad(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    rank = len(x.dims)
    pads = int_list(t, call, inputs, "pads", 1, 11)
    given = optional(inputs, 3) if t.opset >= 18 else None
    axes = tuple(range(rank)) if given is None else ints(t, call, given, "axes")
    axes = axes_in(t, call, axes, rank)
    if pads is None or len(pads) != 2 * len(axes):
        raise t.malformed(call, f"pads for {len(axes)} axes expected")
    fill = _fill(t, call, inputs)
    mode = attribute(call, "mode", "constant")
    widths = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    dims = tuple(n + a + b for n, (a, b) in zip(x.dims, widths, strict=True))
    if any(n < 1 for n in dims):
        raise t.malformed(call, f"pads leave shape {list(dims)}")
    modes = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in modes:
        raise t.fail(call, f"mode {mode!r}, expected one of {', '.join(modes)}")
    grow = [(max(a, 0), max(b, 0)) for a, b in widths]
    cut = tuple(slice(max(-a, 0), None if b >= 0 else b) for a, b in widths)

    def movement(a: Array, value: Any) -> Array:
        extra = {"constant_values": value} if mode == "constant" else {}
        if mode == "constant":
            return np.pad(a, grow, **extra)[cut]
        return np.pad(a[cut], grow, mode=modes[mode])  # type: ignore[call-overload,no-any-return]

    moved = t.move(call, x, dims, movement, fill)
    zeros = mode == "constant" and fill == 0.0 and min(pads) >= 0 and not any(map(sum, widths[:2]))
    if zeros and isinstance(x, Variable) and isinstance(moved, Variable) and moved.node != x.node:
        pairs = widths[2:]
        t.padded[moved.node] = (x, (*(a for a, _ in pairs), *(b for _, b in pairs)))
    return moved


def _fill(t: Translation, call: Call, inputs: Inputs) -> float:
    if t.opset < 11:
        return float(attribute(call, "value", 0.0))
    value = optional(inputs, 2)
    fill = 0.0 if value is None else number(t, call, value, "the padding value")
    masks = fill == -math.inf and isinstance(inputs[0], Constant)
    if not (math.isfinite(fill) or masks):
        raise t.fail(call, f"pads with {fill}, expected a finite number")
    return fill
