"""Activations and other elementwise functions, maxima and minima of several values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gamma import ops
from gamma.formats.onnx import fold
from gamma.formats.onnx.affine import applied
from gamma.formats.onnx.arguments import Inputs, constant, need, number, optional, variable
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Constant, Value, Variable, strip
from gamma.ops.elementwise import Elementwise
from gamma.ops.piecewise import Clip, HardSigmoid, LeakyRelu, PRelu, Relu
from gamma.ops.sums import Concat

MINUS = Constant(np.array(-1, np.float32))
# Different exponents of one Pow: each takes nodes of its own.
_EXPONENTS = 256


def _float32(value: float) -> float:
    """The standard states defaults as float32."""
    return float(np.float32(value))


_WITH_ATTRIBUTES: dict[str, Callable[[Call], Elementwise]] = {
    "LeakyRelu": lambda c: LeakyRelu(attribute(c, "alpha", _float32(0.01))),
    "Elu": lambda c: ops.Elu(attribute(c, "alpha", 1.0)),
    "HardSigmoid": lambda c: HardSigmoid(
        attribute(c, "alpha", _float32(0.2)), attribute(c, "beta", 0.5)
    ),
}


def plain(t: Translation, call: Call, inputs: Inputs) -> Value:
    """A function that its name and attributes describe."""
    x = need(t, call, inputs, 0)
    made = _WITH_ATTRIBUTES.get(call.op)
    op: Any = ops.TABLE[call.op]() if made is None else made(call)
    if isinstance(op, HardSigmoid) and op.alpha <= 0:
        raise t.fail(call, f"alpha {op.alpha}, expected a positive number")
    return applied(t, call, op, x)


def gelu(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = variable(t, call, inputs)
    kind = attribute(call, "approximate", "none")
    if kind not in ("none", "tanh"):
        raise t.malformed(call, f"approximate {kind!r}, expected none or tanh")
    return t.emit(call, ops.Gelu(kind), x, dims=x.dims)


def selu(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = variable(t, call, inputs)
    alpha = attribute(call, "alpha", _float32(1.67326319217681884765625))
    gain = attribute(call, "gamma", _float32(1.05070102214813232421875))
    made = t.emit(call, ops.Elu(alpha), x, dims=x.dims)
    return t.scale(call, made, Constant(np.array(gain)))


def celu(t: Translation, call: Call, inputs: Inputs) -> Value:
    """max(0, x) + min(0, α(exp(x/α) - 1)) = α·elu(x/α)."""
    x = variable(t, call, inputs)
    alpha = attribute(call, "alpha", 1.0)
    if alpha <= 0:
        raise t.fail(call, f"alpha {alpha}, expected a positive number")
    stored = Constant(np.array(alpha))
    inside = t.scale(call, x, fold.inverse(t, call, stored))
    return t.scale(call, t.emit(call, ops.Elu(1.0), inside, dims=x.dims), stored)


def prelu(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = variable(t, call, inputs)
    slope = t.weight(call, optional(inputs, 1), "slope")
    if t.broadcast(call, x, Constant(slope)) != x.dims:
        raise t.malformed(call, "the slope is larger than the input")
    return t.emit(call, PRelu(t.aligned(slope, x.dims)), x, dims=x.dims)


def clip(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    if t.opset < 11:
        low = attribute(call, "min", -math.inf)
        high = attribute(call, "max", math.inf)
    else:
        low, high = (
            default if value is None else number(t, call, value, "a limit")
            for value, default in (
                (optional(inputs, 1), -math.inf),
                (optional(inputs, 2), math.inf),
            )
        )
    if isinstance(x, Constant):
        if x.array.dtype.kind == "f":
            t.finite(call, x)
        cut = np.clip(x.array, low, high).astype(x.array.dtype)
        return Constant(cut, x.error, x.dtype, x.noise)
    return clipped(t, call, x, low, high)


def clipped(t: Translation, call: Call, x: Variable, low: float, high: float) -> Value:
    """min(max(x, low), high) for numbers that may be infinite."""
    if math.isnan(low) or math.isnan(high) or low == math.inf or high == -math.inf or low > high:
        raise t.fail(call, f"limits {low} and {high}, expected a range")
    if (low, high) == (-math.inf, math.inf):
        return x
    op = Relu() if (low, high) == (0.0, math.inf) else Clip(low, high)
    return t.emit(call, op, x, dims=x.dims)


def power(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    given = constant(t, call, optional(inputs, 1), "the exponent")
    array = given.array
    if array.dtype.kind not in "fiu" or not array.size:
        raise t.fail(call, f"exponents of {given.dtype}, expected numbers")
    exponent = float(array.reshape(-1)[0])
    dims = t.broadcast(call, x, given)
    one = bool((array == exponent).all())
    if not one and isinstance(x, Variable):
        return _powers(t, call, t.expand(call, x, dims), np.broadcast_to(array, dims))
    if isinstance(x, Constant):
        if not one:
            raise t.fail(call, f"exponents of shape {list(array.shape)}, expected one number")
        return _constant_power(t, call, x, exponent, dims)
    wide = t.expand(call, x, dims)
    assert isinstance(wide, Variable)
    if not math.isfinite(exponent) or exponent == 0.0:
        raise t.fail(call, f"exponent {exponent}, expected a finite number other than 0")
    if exponent == 1.0:
        return wide
    return t.emit(call, ops.Pow(exponent), wide, dims=dims)


def _powers(t: Translation, call: Call, x: Value, exponents: Any) -> Value:
    """Entries with the same exponent together; x ** 0 is 1 everywhere."""
    assert isinstance(x, Variable)
    t.charge(call, x.dims)
    kinds = np.unique(exponents)
    if len(kinds) > _EXPONENTS or not np.isfinite(kinds).all():
        raise t.fail(call, f"{len(kinds)} exponents, expected at most {_EXPONENTS} finite ones")
    parts = []
    for exponent in kinds[kinds != 0].tolist():
        places = np.flatnonzero(exponents.reshape(-1) == exponent)
        chosen = t.pick(call, x, places)
        if exponent != 1:
            chosen = t.emit(call, ops.Pow(float(exponent)), chosen, dims=chosen.dims)
        parts.append((chosen, places))
    return t.assembled(call, parts, x.dims, fill=1.0)


def _constant_power(
    t: Translation, call: Call, x: Constant, exponent: float, dims: tuple[int, ...]
) -> Value:
    if exponent == 2.0:
        return t.expand(call, fold.binary(t, call, "Mul", x, x), dims)
    if exponent == 1.0:
        return t.expand(call, x, dims)
    raise t.fail(call, "is applied to constants: store the result in the file instead")


def extreme(t: Translation, call: Call, inputs: Inputs) -> Value:
    """Max or Min of any number of variables and constants; Min is -Max of the negated."""
    parts = [need(t, call, inputs, i) for i in range(len(inputs))]
    if not parts:
        raise t.malformed(call, "compares nothing")
    largest = call.op == "Max"
    choose: Any = np.maximum if largest else np.minimum
    fixed = [p for p in parts if isinstance(p, Constant)]
    moving = [p for p in parts if isinstance(p, Variable)]
    limit: Constant | None = None
    if fixed:
        if not all(p.certain for p in fixed):
            raise t.fail(call, "a constant is computed inexactly in the graph: store its value")
        t.charge(call, t.broadcast(call, *fixed))
        array = fixed[0].array
        for part in fixed[1:]:
            array = choose(array, part.array)
        limit = Constant(array, 0.0, fixed[0].dtype)
    if not moving:
        assert limit is not None
        return limit
    result = _among(t, call, moving, largest)
    return result if limit is None else _limited(t, call, result, limit, largest)


def _among(t: Translation, call: Call, parts: list[Variable], largest: bool) -> Variable:
    if len(parts) == 1:
        return parts[0]
    dims = t.broadcast(call, *parts)
    rows = []
    for part in parts:
        wide = t.expand(call, part, dims)
        assert isinstance(wide, Variable)
        signed = wide if largest else t.scale(call, wide, MINUS)
        rows.append(t.as_shape(call, signed, (1, *strip(dims))))
    stack = t.builder.add(Concat(0), *(r.node for r in rows), name=call.name, inner=True)
    found = t.emit(call, ops.ReduceMax(0), Variable(stack, dims, parts[0].dtype), dims=dims)
    return found if largest else t.scale(call, found, MINUS)


def _limited(t: Translation, call: Call, x: Variable, limit: Constant, largest: bool) -> Value:
    """max(x, c), as Clip for one number and as c + relu(x - c) entry by entry otherwise."""
    array = limit.array
    if array.dtype.kind != "f" or array.size == 0:
        raise t.fail(call, f"a limit of {limit.dtype}")
    first = float(array.reshape(-1)[0])
    dims = t.broadcast(call, x, limit)
    if bool((array == first).all()):
        wide = t.expand(call, x, dims)
        assert isinstance(wide, Variable)
        ends = (first, math.inf) if largest else (-math.inf, first)
        return clipped(t, call, wide, *ends)
    back = Constant(-array)
    if largest:
        above = t.scale(call, x, None, back)
        return t.scale(call, t.emit(call, Relu(), above, dims=dims), None, limit)
    below = t.scale(call, x, MINUS, limit)
    return t.scale(call, t.emit(call, Relu(), below, dims=dims), MINUS, limit)
