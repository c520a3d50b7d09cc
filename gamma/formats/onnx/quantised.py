"""DequantizeLinear and QuantizeLinear of constants: weights stored as small integers."""

from __future__ import annotations

import numpy as np

from gamma.formats.onnx.arguments import Inputs, axis_in, constant, need, optional
from gamma.formats.onnx.fold import binary
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Shape, Value


def dequantize(t: Translation, call: Call, inputs: Inputs) -> Value:
    """(x - zero point) · scale, exactly; a float32 execution rounds it."""
    x = constant(t, call, need(t, call, inputs, 0), "the quantised tensor")
    if x.array.dtype.kind not in "iu":
        raise t.fail(call, f"of {x.dtype} values, expected integers")
    scale, zero = _parameters(t, call, inputs, x.dims)
    t.charge(call, x.dims)
    # Differences of 32-bit integers are exact in float64.
    steps = Constant(x.array.astype(np.float64) - zero.array.astype(np.float64))
    return binary(t, call, "Mul", steps, scale)


def quantize(t: Translation, call: Call, inputs: Inputs) -> Value:
    """saturate(round(x / scale) + zero point), to the integer type of the zero point."""
    x = constant(t, call, need(t, call, inputs, 0), "the tensor")
    t.finite(call, x)
    scale, zero = _parameters(t, call, inputs, x.dims)
    if zero.array.dtype.kind not in "iu":
        raise t.fail(call, f"to {zero.dtype} values, expected integers")
    t.charge(call, x.dims)
    with np.errstate(all="ignore"):
        ratios = [
            np.rint(x.array.astype(kind) / scale.array.astype(kind))
            for kind in (np.float32, np.float64)
        ]
    if not np.isfinite(ratios[1]).all() or not (ratios[0] == ratios[1]).all():
        raise t.fail(call, "a quotient lies on a rounding edge, where float32 executions differ")
    limits = np.iinfo(zero.array.dtype)
    whole = np.clip(ratios[1] + zero.array.astype(np.float64), limits.min, limits.max)
    return Constant(whole.astype(zero.array.dtype))


def _parameters(
    t: Translation, call: Call, inputs: Inputs, dims: Shape
) -> tuple[Constant, Constant]:
    """Scale and zero point, spread over ``dims``: one for all, one per axis entry, or per block."""
    scale = constant(t, call, need(t, call, inputs, 1), "the scale")
    given = optional(inputs, 2)
    t.finite(call, scale)
    zero = Constant(np.zeros(scale.dims, np.uint8))
    if given is not None:
        zero = constant(t, call, given, "the zero point")
    if zero.dims != scale.dims or zero.array.dtype.kind not in "iu":
        raise t.malformed(call, f"a zero point of shape {list(zero.dims)}, {zero.dtype}")
    block = attribute(call, "block_size", 0)
    axis = attribute(call, "axis", 1)
    if scale.array.size == 1 and len(scale.dims) <= 1:
        place: Shape = (1,) * len(dims)
        return (scale.mapped(lambda a: a.reshape(place)), zero.mapped(lambda a: a.reshape(place)))
    axis = axis_in(t, call, axis, len(dims))

    def spread(array: Array) -> Array:
        if not block:
            return array.reshape(tuple(n if k == axis else 1 for k, n in enumerate(dims)))
        repeated = np.repeat(array, block, axis)
        return repeated[tuple(slice(n) for n in dims)]

    if block:
        blocks = tuple(-(-n // block) if k == axis else n for k, n in enumerate(dims))
        if block < 0 or scale.dims != blocks:
            raise t.malformed(call, f"scales of shape {list(scale.dims)}, blocks of {block}")
        t.charge(call, (*scale.dims, min(block, dims[axis])), kept=False)
    elif scale.dims != (dims[axis],):
        raise t.malformed(call, f"scales of shape {list(scale.dims)} for axis {axis}")
    return scale.mapped(spread), zero.mapped(spread)
