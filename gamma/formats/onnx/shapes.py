"""Shape, ConstantOfShape and the other operators that compute with shapes."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from msgspec.structs import replace

from gamma.formats.onnx.arguments import Inputs, constant, ints, need, number, optional
from gamma.formats.onnx.fold import binary, inverse
from gamma.formats.onnx.pointwise import Joined, Test, chosen, compared
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.tensors import DTYPES
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Constant, Masked, Value, Variable
from gamma.ops import TABLE, Add, Composite, Floor, Scale
from gamma.ops.composite import Step
from gamma.ops.exact import narrow
from gamma.ops.execution import LOST, UNIT, Execution

# Casts of variables that lose nothing.
_WIDER = {
    "uint8": ("uint8", "int16", "int32", "int64", "float16", "float32", "float64"),
    "int8": ("int8", "int16", "int32", "int64", "float16", "float32", "float64"),
    "uint16": ("uint16", "int32", "int64", "float32", "float64"),
    "int16": ("int16", "int32", "int64", "float32", "float64"),
    "int32": ("int32", "int64", "float64"),
    "int64": ("int64",),
    "float16": ("float16", "float32", "float64"),
    "bfloat16": ("bfloat16", "float32", "float64"),
    "float32": ("float32", "float64"),
    "float64": ("float64",),
}


def constant_node(t: Translation, call: Call, inputs: Inputs) -> Value:
    given = [k for k in call.attributes if k.startswith("value") or k == "sparse_value"]
    if len(given) != 1:
        raise t.malformed(call, "states not exactly one value")
    value = call.attributes[given[0]]
    kinds: dict[str, Any] = {
        "value_float": np.float32, "value_floats": np.float32,
        "value_int": np.int64, "value_ints": np.int64,
    }  # fmt: skip
    if given[0] == "value" and isinstance(value, np.ndarray):
        return Constant(value)
    if given[0] not in kinds:
        raise t.fail(call, f"attribute {given[0]}, expected a dense tensor or numbers")
    return Constant(np.array(value, kinds[given[0]]))


def shape(t: Translation, call: Call, inputs: Inputs) -> Value:
    dims = need(t, call, inputs, 0).dims
    start, end = attribute(call, "start", 0), attribute(call, "end", len(dims))
    return Constant(np.array(dims[start:end], np.int64))


def size(t: Translation, call: Call, inputs: Inputs) -> Value:
    return Constant(np.array(math.prod(need(t, call, inputs, 0).dims), np.int64))


def constant_of_shape(t: Translation, call: Call, inputs: Inputs) -> Value:
    dims = ints(t, call, optional(inputs, 0), "the shape")
    if any(n < 0 for n in dims):
        raise t.malformed(call, f"shape {list(dims)[:16]}")
    value = call.attributes.get("value")
    value = np.zeros(1, np.float32) if value is None else value
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise t.malformed(call, "the value is not one number")
    t.charge(call, dims)
    return Constant(np.full(dims, value.reshape(-1)[0], value.dtype))


def mod(t: Translation, call: Call, inputs: Inputs) -> Value:
    """The remainder: of integers with the divisor's sign, or the dividend's (fmod)."""
    x = need(t, call, inputs, 0)
    if isinstance(x, Variable):
        return _remainder(t, call, x, need(t, call, inputs, 1))
    a = constant(t, call, need(t, call, inputs, 0), "the dividend")
    b = constant(t, call, need(t, call, inputs, 1), "the divisor")
    if a.array.dtype.kind not in "iu" or b.array.dtype.kind not in "iu":
        raise t.fail(call, f"of {a.dtype} and {b.dtype} constants, expected integers")
    return binary(t, call, "Fmod" if attribute(call, "fmod", 0) else "Mod", a, b)


def _remainder(t: Translation, call: Call, x: Variable, y: Value) -> Value:
    """x - y·floor(x/y) for constants y: with the sign of y."""
    divisor = constant(t, call, y, "the divisor")
    if attribute(call, "fmod", 0):
        raise t.fail(call, "a remainder with the sign of a dividend that depends on the input")
    t.real_only.add(call.op)  # runtimes find the exact remainder of float32 numbers, in one step
    count = t.scale(call, x, inverse(t, call, divisor))
    steps = t.emit(call, Floor(), count, dims=count.dims)
    rest = t.scale(call, steps, divisor)
    wide = t.expand(call, x, rest.dims)
    assert isinstance(wide, Variable)
    return t.emit(call, Add((1, -1)), wide, rest, dims=rest.dims)


def whole(t: Translation, call: Call, inputs: Inputs) -> Value:
    """Floor, Ceil, Round (half to even)."""
    x = need(t, call, inputs, 0)
    if isinstance(x, Variable):
        return t.emit(call, TABLE[call.op](), x, dims=x.dims)
    if not x.certain:
        raise t.fail(call, "of a constant that is computed inexactly: store its value")
    t.finite(call, x)
    functions = {"Floor": np.floor, "Ceil": np.ceil, "Round": np.rint}
    return Constant(functions[call.op](x.array), 0.0, x.dtype)


def range_(t: Translation, call: Call, inputs: Inputs) -> Value:
    limits = [constant(t, call, need(t, call, inputs, i), "a limit").array for i in range(3)]
    if any(v.size != 1 or v.dtype.kind not in "iuf" for v in limits) or not limits[2].any():
        raise t.malformed(call, "limits are not three numbers with a step")
    start, stop, step = (Fraction(v.reshape(-1)[0].item()) for v in limits)
    count = max(0, math.ceil((stop - start) / step))
    t.charge(call, (min(count, 1 << 40),))
    values = [start + k * step for k in range(count)]
    kind = limits[0].dtype
    if kind.kind == "f" and any(Fraction(float(v)) != v for v in values):
        raise t.fail(call, "steps of floats that are not exact: store the values in the file")
    return Constant(np.array([float(v) if kind.kind == "f" else int(v) for v in values], kind))


def cast(t: Translation, call: Call, inputs: Inputs) -> Value | tuple[Value, ...]:
    """Cast, or CastLike to the element type of a second value."""
    like = call.op == "CastLike"
    code = 0 if like else attribute(call, "to", 0)
    target = need(t, call, inputs, 1).dtype if like else DTYPES.get(code, "unknown")
    if call.inputs and call.inputs[0] in t.conditions:
        if target == "bool":
            return _condition(t, call, t.conditions[call.inputs[0]])
        if target not in ("float16", "float32", "float64"):
            raise t.fail(call, f"a comparison to {target}, expected floats")
        one, zero = (Constant(np.array(v, np.float32)) for v in (1, 0))
        return replace(chosen(t, call, t.conditions[call.inputs[0]], one, zero), dtype=target)
    x = need(t, call, inputs, 0)
    if isinstance(x, Variable):
        if (
            target == "float32"
            and not isinstance(x, Masked)
            and x.dtype in ("float64", "int32", "int64")
        ):
            return _rounded(t, call, replace(x, dtype=target))
        if target not in _WIDER.get(x.dtype, ()):
            raise t.fail(
                call, f"from {x.dtype} to {target} may lose digits; expected a cast that keeps them"
            )
        return replace(x, dtype=target)
    if target == x.dtype:
        return x
    if not x.certain or target not in ("float32", "float64", "bool", "int32", "int64"):
        raise t.fail(call, f"a constant from {x.dtype} to {target}")
    with np.errstate(all="ignore"):
        result = x.array.astype(target)
    if target.startswith("int") and not (result == np.trunc(x.array)).all():
        raise t.malformed(call, f"a constant does not fit {target}")
    if result.dtype.kind == "f" and not np.isfinite(result).all():
        raise t.malformed(call, f"a constant does not fit {target}")
    return Constant(result)


def _rounded(t: Translation, call: Call, x: Variable) -> Variable:
    """The identity of real arithmetic, which a float32 execution rounds: one step that says so."""
    unit, lost, one, zero = (np.full((), v) for v in (UNIT, LOST, 1.0, 0.0))
    same = Scale(np.ones((), np.float32), execution=Execution(unit, lost, one, zero).packed())
    return t.emit(call, Composite((Step(same, (0,)),)), x, dims=x.dims)


def _test(t: Translation, call: Call, inputs: Inputs, position: int) -> Test | Constant:
    """A condition: one that depends on the input, or a constant one."""
    name = call.inputs[position] if position < len(call.inputs) else ""
    if name in t.conditions:
        test: Test = t.conditions[name]
        return test
    return constant(t, call, need(t, call, inputs, position), "a condition")


def compare(t: Translation, call: Call, inputs: Inputs) -> Value | tuple[Value, ...]:
    """Comparisons, And, Or: of constants, or a condition for a later Where or Cast."""
    if call.op in ("And", "Or"):
        tests = [_test(t, call, inputs, i) for i in range(2)]
        if any(not isinstance(v, Constant) for v in tests):
            if any(isinstance(v, Constant) for v in tests):
                raise t.fail(call, "of a constant and a comparison that depends on the input")
            return _condition(t, call, Joined(call.op, tuple(tests)))
    elif any(isinstance(need(t, call, inputs, i), Variable) for i in range(2)):
        made = compared(call.op, need(t, call, inputs, 0), need(t, call, inputs, 1))
        if made is None:
            raise t.fail(call, "an equality that depends on the input, expected <, <=, > or >=")
        return _condition(t, call, made)
    a = constant(t, call, need(t, call, inputs, 0), "a comparison's operand").array
    b = constant(t, call, need(t, call, inputs, 1), "a comparison's operand").array
    functions = {
        "Equal": np.equal, "Less": np.less, "Greater": np.greater,
        "LessOrEqual": np.less_equal, "GreaterOrEqual": np.greater_equal,
        "And": np.logical_and, "Or": np.logical_or,
    }  # fmt: skip
    t.charge(call, np.broadcast_shapes(a.shape, b.shape))
    return Constant(np.asarray(functions[call.op](a, b)))


def _condition(t: Translation, call: Call, test: Test) -> tuple[Value, ...]:
    t.conditions[call.outputs[0]] = test
    return ()


def not_(t: Translation, call: Call, inputs: Inputs) -> Value | tuple[Value, ...]:
    x = _test(t, call, inputs, 0)
    if not isinstance(x, Constant):
        return _condition(t, call, Joined("Not", (x,)))
    return Constant(np.logical_not(x.array))


def where(t: Translation, call: Call, inputs: Inputs) -> Value:
    """Entry by entry one operand or the other, as a constant or a comparison says."""
    test = _test(t, call, inputs, 0)
    a, b = need(t, call, inputs, 1), need(t, call, inputs, 2)
    if not isinstance(test, Constant):
        return chosen(t, call, test, a, b)
    choice = test.array.astype(bool)
    dims = t.broadcast(call, Constant(choice), a, b)
    t.charge(call, dims)
    if isinstance(a, Constant) and isinstance(b, Constant):
        result = np.where(choice, a.array, b.array)
        error = np.where(choice, a.error, b.error)
        return Constant(result, error, a.dtype, np.where(choice, a.noise, b.noise))
    mask = np.broadcast_to(choice, dims).astype(np.float32)
    kept = _masked(t, call, a, mask)
    other = _masked(t, call, b, 1 - mask)
    if isinstance(kept, Constant):
        kept, other = other, kept
    assert isinstance(kept, Variable)
    if isinstance(other, Constant):
        return t.scale(call, kept, None, other)
    return t.emit(call, Add((1, 1)), kept, other, dims=dims)


def _masked(t: Translation, call: Call, x: Value, mask: Any) -> Value:
    if isinstance(x, Constant):
        return binary(t, call, "Mul", x, Constant(narrow(mask)))
    return t.scale(call, x, Constant(mask))


def identity(t: Translation, call: Call, inputs: Inputs) -> Value:
    return need(t, call, inputs, 0)


def dropout(t: Translation, call: Call, inputs: Inputs) -> Value | tuple[Value, ...]:
    training = optional(inputs, 2)
    if training is not None and number_or_bool(t, call, training):
        raise t.fail(call, "runs in training mode: export the network for inference")
    x = need(t, call, inputs, 0)
    if len(call.outputs) < 2 or not call.outputs[1]:
        return x
    t.charge(call, x.dims)
    return x, Constant(np.ones(x.dims, bool))  # the mask of inference: nothing is dropped


def number_or_bool(t: Translation, call: Call, value: Value) -> bool:
    """A constant flag."""
    array = constant(t, call, value, "a flag").array
    if array.dtype == bool and array.size == 1:
        return bool(array.reshape(-1)[0])
    return number(t, call, value, "a flag") != 0
