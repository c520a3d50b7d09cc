"""How translators read what an ONNX node says: attributes, or inputs in later operator sets."""

from __future__ import annotations

from collections.abc import Sequence

from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Constant, Shape, Value, Variable

Inputs = Sequence[Value | None]
_MANY = 1 << 16


def need(t: Translation, call: Call, inputs: Inputs, position: int) -> Value:
    """A required input."""
    value = inputs[position] if position < len(inputs) else None
    if value is None:
        raise t.malformed(call, f"input {position} is missing")
    return value


def optional(inputs: Inputs, position: int) -> Value | None:
    """An input that may be absent."""
    return inputs[position] if position < len(inputs) else None


def variable(t: Translation, call: Call, inputs: Inputs, position: int = 0) -> Variable:
    """An input that depends on the network's input."""
    value = need(t, call, inputs, position)
    if isinstance(value, Constant):
        raise t.fail(call, "is applied to a constant: store its result in the file instead")
    return value


def constant(t: Translation, call: Call, value: Value | None, what: str) -> Constant:
    """An input that must be known before the network runs, and exactly."""
    if not isinstance(value, Constant):
        raise t.fail(call, f"{what} depends on the input, expected a constant")
    if not value.certain:
        raise t.fail(call, f"{what} is computed inexactly in the graph: store its value")
    return value


def ints(t: Translation, call: Call, value: Value | None, what: str) -> tuple[int, ...]:
    """A constant list of integers."""
    array = constant(t, call, value, what).array
    if array.dtype.kind not in "iu" or array.ndim > 1 or array.size > _MANY:
        raise t.malformed(call, f"{what} is {array.dtype} of shape {list(array.shape)}")
    return tuple(int(v) for v in array.reshape(-1))


def number(t: Translation, call: Call, value: Value | None, what: str) -> float:
    """A constant holding one number (possibly infinite)."""
    array = constant(t, call, value, what).array
    if array.size != 1 or array.dtype.kind not in "fiu":
        raise t.fail(call, f"{what} has shape {list(array.shape)}, expected one number")
    return float(array.reshape(-1)[0])


def int_list(
    t: Translation, call: Call, inputs: Inputs, name: str, position: int, since: int
) -> tuple[int, ...] | None:
    """Integers given as attribute ``name`` before operator set ``since``, then as an input."""
    if t.opset >= since:
        value = optional(inputs, position)
        return None if value is None else ints(t, call, value, name)
    found = call.attributes.get(name)
    if found is None:
        return None
    return tuple(attribute(call, name, ()))


def axis_in(t: Translation, call: Call, axis: int, rank: int) -> int:
    """``axis`` counted from the front."""
    if not -rank <= axis < rank:
        raise t.malformed(call, f"axis {axis} of {rank} axes")
    return axis % rank


def axes_in(t: Translation, call: Call, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front. Raises FormatError for doubles."""
    found = tuple(axis_in(t, call, a, rank) for a in axes)
    if len(set(found)) != len(found):
        raise t.malformed(call, f"axes {list(axes)[:16]} name one twice")
    return found


def replaced(dims: Shape, axis: int, length: int) -> Shape:
    """``dims`` with another length on one axis."""
    return (*dims[:axis], length, *dims[axis + 1 :])
