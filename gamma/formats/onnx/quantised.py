"""Quantised values: weights stored as small integers, and steps that the network itself rounds to.

The real function of a file that quantises is a staircase, and that is what is bounded: a value that
depends on the input goes through Round and Clip, and everything else is linear.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec.structs import replace

from gamma.formats.onnx.affine import matmul
from gamma.formats.onnx.arguments import Inputs, axis_in, constant, need, optional
from gamma.formats.onnx.fold import binary, inverse
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.tensors import DTYPES, PACKED
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Shape, Value, Variable
from gamma.formats.onnx.windows import conv
from gamma.ops import Clip, Round


def dequantize(t: Translation, call: Call, inputs: Inputs) -> Value:
    """(x - zero point) · scale, exactly; a float32 execution rounds it."""
    x = need(t, call, inputs, 0)
    if "int" not in x.dtype:
        raise t.fail(call, f"of {x.dtype} values, expected integers")
    return _real(t, call, x, *_parameters(t, call, inputs, x.dims))


def quantize(t: Translation, call: Call, inputs: Inputs) -> Value:
    """saturate(round(x / scale) + zero point), to the integer type of the zero point."""
    x = need(t, call, inputs, 0)
    scale, zero = _parameters(t, call, inputs, x.dims)
    return _quantised(t, call, x, scale, zero)


def linear_matmul(t: Translation, call: Call, inputs: Inputs) -> Value:
    """QLinearMatMul: the product of what two matrices stand for, quantised."""
    a, b = (_operand(t, call, inputs, k) for k in (0, 3))
    _check_sums(t, call, a.dims[-1])
    return _rounded(t, call, matmul(t, call, [a, b]), inputs)


def linear_conv(t: Translation, call: Call, inputs: Inputs) -> Value:
    """QLinearConv: its padding and its bias stand for real numbers too."""
    x, kernel = _operand(t, call, inputs, 0), _operand(t, call, inputs, 3, axis=0)
    _check_sums(t, call, math.prod(kernel.dims[1:]))
    bias = optional(inputs, 8)
    if bias is not None:
        steps = constant(t, call, bias, "the bias")
        if steps.array.dtype.kind not in "iu":
            raise t.malformed(call, f"a bias of {steps.dtype} values, expected integers")
        each = binary(t, call, "Mul", _scale(t, call, inputs, 1), _scale(t, call, inputs, 4))
        whole = Constant(steps.array.astype(np.float64))
        bias = binary(t, call, "Mul", whole, each.mapped(lambda a: a.reshape(-1)))
    return _rounded(t, call, conv(t, call, [x, kernel, bias]), inputs)


def _check_sums(t: Translation, call: Call, terms: int) -> None:
    """Raise UnsupportedError where 32-bit sums of products of bytes may wrap."""
    if terms > 1 << 15:
        raise t.fail(call, f"sums {terms} products, expected at most {1 << 15}: more may wrap")


def _scale(t: Translation, call: Call, inputs: Inputs, position: int) -> Constant:
    return constant(t, call, need(t, call, inputs, position), "a scale")


def _operand(t: Translation, call: Call, inputs: Inputs, first: int, axis: int = -1) -> Value:
    """What a quantised tensor of a QLinear operator stands for; its inputs begin at ``first``."""
    x = need(t, call, inputs, first)
    if "int" not in x.dtype:
        raise t.malformed(call, f"of {x.dtype} values, expected integers")
    parts = [x, need(t, call, inputs, first + 1), need(t, call, inputs, first + 2)]
    return _real(t, call, x, *_parameters(t, call, parts, x.dims, axis))


def _rounded(t: Translation, call: Call, y: Value, inputs: Inputs) -> Value:
    """The result of a QLinear operator, whose sums and scales each runtime joins in its own way."""
    t.real_only.add(call.op)
    parts = [y, need(t, call, inputs, 6), need(t, call, inputs, 7)]
    return _quantised(t, call, y, *_parameters(t, call, parts, y.dims, -1))


def _real(t: Translation, call: Call, x: Value, scale: Constant, zero: Constant) -> Value:
    t.charge(call, x.dims)
    if isinstance(x, Constant):
        # Differences of 32-bit integers are exact in float64.
        steps = Constant(x.array.astype(np.float64) - zero.array.astype(np.float64))
        return binary(t, call, "Mul", steps, scale)
    shift = Constant(-zero.array.astype(np.float64))
    return replace(t.scale(call, t.scale(call, x, None, shift), scale), dtype=scale.dtype)


def _quantised(t: Translation, call: Call, x: Value, scale: Constant, zero: Constant) -> Value:
    if "int" not in zero.dtype:
        raise t.fail(call, f"to {zero.dtype} values, expected integers")
    if not (scale.array > 0).all():
        raise t.malformed(call, "a scale that is not positive")
    t.charge(call, x.dims)
    least, most = _limits(zero.dtype)
    if isinstance(x, Variable):
        # Whole numbers from here on; a clip of them is exact.
        steps = t.scale(call, x, inverse(t, call, scale))
        whole = t.emit(call, Round(), steps, dims=steps.dims)
        shifted = t.scale(call, whole, None, Constant(zero.array.astype(np.float64)))
        kept = t.emit(call, Clip(float(least), float(most)), shifted, dims=shifted.dims)
        return replace(kept, dtype=zero.dtype)
    if not x.certain:
        raise t.fail(call, "the tensor is computed inexactly in the graph: store its value")
    t.finite(call, x)
    with np.errstate(all="ignore"):
        ratios = [
            np.rint(x.array.astype(kind) / scale.array.astype(kind))
            for kind in (np.float32, np.float64)
        ]
    if not np.isfinite(ratios[1]).all() or not (ratios[0] == ratios[1]).all():
        raise t.fail(call, "a quotient lies on a rounding edge, where float32 executions differ")
    found = np.clip(ratios[1] + zero.array.astype(np.float64), least, most)
    return Constant(found.astype(zero.array.dtype), dtype=zero.dtype)


def _held(dtype: str) -> str:
    """The type of the array that holds these."""
    return dtype if dtype not in PACKED else "uint8" if dtype.startswith("u") else "int8"


def _limits(dtype: str) -> tuple[int, int]:
    if dtype not in PACKED:
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    span = 1 << PACKED[dtype]
    return (0, span - 1) if dtype.startswith("u") else (-span // 2, span // 2 - 1)


def _parameters(
    t: Translation, call: Call, inputs: Inputs, dims: Shape, axis: int | None = None
) -> tuple[Constant, Constant]:
    """Scale and zero point, spread over ``dims``: one for all, one per axis entry, or per block.

    ``axis``: of an operator that has no such attribute.
    """
    scale = constant(t, call, need(t, call, inputs, 1), "the scale")
    given = optional(inputs, 2)
    t.finite(call, scale)
    if given is not None:
        zero = constant(t, call, given, "the zero point")
    else:
        code = attribute(call, "output_dtype", 0) if call.op == "QuantizeLinear" else 0
        dtype = DTYPES.get(code, "unknown") if code else "uint8"
        if "int" not in dtype:
            raise t.fail(call, f"to {dtype} values, expected integers")
        zero = Constant(np.zeros(scale.dims, _held(dtype)), dtype=dtype)
    if zero.dims != scale.dims or zero.array.dtype.kind not in "iu":
        raise t.malformed(call, f"a zero point of shape {list(zero.dims)}, {zero.dtype}")
    block = attribute(call, "block_size", 0)
    axis = attribute(call, "axis", 1) if axis is None else axis
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
