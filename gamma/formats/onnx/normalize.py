"""Normalisations of what depends on the input: layer, root mean square, instance, group, Lp.

Each is `Normalize` over some axes, and a scale and a shift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gamma.formats.onnx.affine import applied, div, mul, reduced, total
from gamma.formats.onnx.arguments import (
    Inputs,
    axes_in,
    axis_in,
    constant,
    need,
    optional,
    variable,
)
from gamma.formats.onnx.movement import transposed
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Constant, Value, Variable, leading
from gamma.ops import Abs, Normalize, Pow, Sqrt

_EPSILON = float(np.float32(1e-5))
_SKIP_EPSILON = float(np.float32(1e-12))
_FLOAT, _DOUBLE = 1, 11


def layer_normalization(t: Translation, call: Call, inputs: Inputs) -> tuple[Value, ...]:
    """LayerNormalization, RMSNormalization and its older name SimplifiedLayerNormalization."""
    x = variable(t, call, inputs)
    axis = axis_in(t, call, attribute(call, "axis", -1), len(x.dims))
    if attribute(call, "stash_type", _FLOAT) not in (_FLOAT, _DOUBLE):
        raise t.fail(call, "computes in a type that is not float32 or float64: export without it")
    axes = tuple(range(axis, len(x.dims)))
    return _layer(t, call, x, axes, call.op == "LayerNormalization", _EPSILON, inputs[1:3])


def skip_layer_normalization(t: Translation, call: Call, inputs: Inputs) -> tuple[Value, ...]:
    """onnxruntime's sum of two values and a bias, normalised over the last axis."""
    centred = call.op == "com.microsoft.SkipLayerNormalization"
    summed = total(t, call, [need(t, call, inputs, 0), need(t, call, inputs, 1)], (1, 1))
    bias = optional(inputs, 4 if centred else 3)
    if bias is not None:
        summed = total(t, call, [summed, bias], (1, 1))
    if any(call.outputs[1:3]):
        raise t.fail(call, "gives mean and deviation, for training: export for inference")
    x = variable(t, call, [summed])
    weights = (need(t, call, inputs, 2), optional(inputs, 3) if centred else None)
    (y,) = _layer(t, call, x, (len(x.dims) - 1,), centred, _SKIP_EPSILON, weights)
    return y, y, y, x


def instance_normalization(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = variable(t, call, inputs)
    if len(x.dims) < 3:
        raise t.malformed(call, "takes (batch, channels, ...)")
    epsilon = attribute(call, "epsilon", _EPSILON)
    y = normalised(t, call, x, range(2, len(x.dims)), epsilon, True)
    weights = (_by_channel(t, call, x, optional(inputs, i), 1) for i in (1, 2))
    return scaled(t, call, y, *weights)


def group_normalization(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = variable(t, call, inputs)
    count = attribute(call, "num_groups", 0)
    if len(x.dims) < 2 or count < 1 or x.dims[1] % count:
        raise t.malformed(call, f"{count} groups of {list(x.dims)}")
    batch, channels = x.dims[:2]
    flat = t.reshape(call, x, (batch, count, math.prod(x.dims[1:]) // count))
    assert isinstance(flat, Variable)
    y = normalised(t, call, flat, (2,), attribute(call, "epsilon", _EPSILON), True)
    whole = t.reshape(call, y, x.dims)
    each = channels // count if t.opset < 21 else 1  # one weight for each group, before set 21
    weights = (_by_channel(t, call, x, optional(inputs, i), each) for i in (1, 2))
    assert isinstance(whole, Variable)
    return scaled(t, call, whole, *weights)


def mean_variance_normalization(t: Translation, call: Call, inputs: Inputs) -> Value:
    """(x - mean)/(√variance + 1e-9), as the standard spells it."""
    x = variable(t, call, inputs)
    axes = axes_in(t, call, attribute(call, "axes", (0, 2, 3)), len(x.dims))
    c, square = _moments(t, call, x, axes)
    assert isinstance(square, Variable)
    root = t.emit(call, Sqrt(), square, dims=square.dims)
    least = Constant(np.array(1e-9, np.float32))
    return div(t, call, [c, total(t, call, [root, least], (1, 1))])


def lp_normalization(t: Translation, call: Call, inputs: Inputs) -> Value:
    """x over its sum of sizes, or over its root of squares, along one axis."""
    x = variable(t, call, inputs)
    axis = axis_in(t, call, attribute(call, "axis", -1), len(x.dims))
    order = attribute(call, "p", 2)
    if order not in (1, 2):
        raise t.malformed(call, f"p is {order}, expected 1 or 2")
    if order == 1:
        sizes = applied(t, call, Abs(), x)
        return div(t, call, [x, reduced(t, call, "ReduceSum", sizes, (axis,), True)])
    y = normalised(t, call, x, (axis,), 0.0, False)
    share = np.sqrt(np.float64(1 / x.dims[axis]))
    return t.scale(call, y, Constant(np.array(share), np.array(share * 2.0**-51)))


def normalised(
    t: Translation,
    call: Call,
    x: Variable,
    axes: Sequence[int],
    epsilon: float,
    centred: bool,
) -> Variable:
    """`Normalize` over any axes of the file's shape."""
    rest = tuple(a for a in range(len(x.dims)) if a not in axes)
    order = (*rest, *axes)
    moved = transposed(t, call, x, order)
    assert isinstance(moved, Variable)
    place = max(0, len(rest) - leading(moved.dims))
    y = t.emit(call, Normalize(place, epsilon, centred), moved, dims=moved.dims)
    back = transposed(t, call, y, tuple(int(i) for i in np.argsort(order)))
    assert isinstance(back, Variable)
    return back


def scaled(
    t: Translation, call: Call, y: Variable, scale: Value | None, bias: Value | None
) -> Value:
    """y · scale + bias, where these are given; they broadcast to y."""
    parts = [part for part in (scale, bias) if part is not None]
    if t.broadcast(call, y, *parts) != y.dims:
        raise t.malformed(call, f"scale and bias do not broadcast to {list(y.dims)}")
    if not isinstance(scale, Variable) and not isinstance(bias, Variable):
        return t.scale(call, y, scale, bias)
    made: Value = y if scale is None else mul(t, call, [y, scale])
    return made if bias is None else total(t, call, [made, bias], (1, 1))


def _layer(
    t: Translation,
    call: Call,
    x: Variable,
    axes: tuple[int, ...],
    centred: bool,
    default: float,
    weights: Sequence[Value | None],
) -> tuple[Value, ...]:
    """The normalised value, and the mean (of those centred) and 1/deviation where asked for."""
    epsilon = attribute(call, "epsilon", default)
    scale, bias = (*weights, None, None)[:2]
    y = scaled(t, call, normalised(t, call, x, axes, epsilon, centred), scale, bias)
    if not any(call.outputs[1:3]):
        return (y,)
    mean = reduced(t, call, "ReduceMean", x, axes, True)
    _, square = _moments(t, call, x, axes, centred)
    shifted = total(t, call, [square, Constant(np.array(epsilon))], (1, 1))
    deviation = applied(t, call, Pow(-0.5), shifted)
    return (y, mean, deviation) if centred else (y, deviation)


def _moments(
    t: Translation, call: Call, x: Variable, axes: tuple[int, ...], centred: bool = True
) -> tuple[Value, Value]:
    """x less its mean (or x) and the mean square of that."""
    c: Value = x
    if centred:
        c = total(t, call, [x, reduced(t, call, "ReduceMean", x, axes, True)], (1, -1))
    return c, reduced(t, call, "ReduceMean", applied(t, call, Pow(2.0), c), axes, True)


def _by_channel(
    t: Translation, call: Call, x: Variable, weight: Value | None, each: int
) -> Constant:
    """A weight for each channel, from one for every ``each`` of them, to broadcast to ``x``."""
    known = constant(t, call, weight, "a weight")
    if known.dims != (x.dims[1] // each,):
        raise t.malformed(call, f"a weight of shape {list(known.dims)} for {list(x.dims)}")
    shape = (x.dims[1], *(1,) * (len(x.dims) - 2))
    return known.mapped(lambda a: np.repeat(a, each).reshape(shape))
