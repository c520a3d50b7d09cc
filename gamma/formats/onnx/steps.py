"""One call of the file after another: what an operator may read, and errors that name it."""

from __future__ import annotations

from gamma.errors import FormatError, GammaError, UsageError
from gamma.formats.onnx.arguments import Inputs
from gamma.formats.onnx.batch import Rows
from gamma.formats.onnx.outputs import refuse_unknown
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.table import TRANSLATORS
from gamma.formats.onnx.translation import Translation
from gamma.formats.onnx.values import Masked, Value, Variable

# What may read a comparison that depends on the input.
_ON_CONDITIONS = frozenset({"Where", "Cast", "CastLike", "Not", "And", "Or"})
# What may read scores with minus infinity, see `masks`.
_ON_MASKED = frozenset({"Add", "Softmax", "Identity", "Cast", "If", "Loop"})
# What may be done to integers that depend on the input: moving and casting them, and what knows
# what they stand for.
_ON_INTEGERS = frozenset(
    {
        *(
            "Cast",
            "CastLike",
            "Identity",
            "Reshape",
            "Flatten",
            "Squeeze",
            "Unsqueeze",
            "Transpose",
            "Concat",
        ),
        *("Split", "Slice", "Gather", "Expand", "Tile", "Shape", "Size", "Dropout"),
        *("DequantizeLinear", "QLinearMatMul", "QLinearConv", "MaxPool", "If", "Loop"),
    }
)


def translate(t: Translation, call: Call, rows: Rows | None) -> None:
    """Run one translator; every failure leaves as one error that names file and node."""
    refuse_unknown(t, call, TRANSLATORS)
    inputs: Inputs = [_given(t, call, name) for name in call.inputs]
    if call.op not in _ON_MASKED and any(isinstance(v, Masked) for v in inputs):
        raise t.fail(call, "reads minus infinity, which a mask adds: only a Softmax may")
    if call.op not in _ON_INTEGERS and any(_whole(v) for v in inputs):
        raise t.fail(call, "computes with integers that depend on the input: cast them to floats")
    try:
        read = rows.one(call, inputs) if rows else inputs
        _keep(t, call, TRANSLATORS[call.op](t, call, read))
        if rows:
            rows.follow(call, inputs)
    except GammaError as error:
        if str(error).startswith(str(t.model.path)):
            raise
        kind = FormatError if isinstance(error, UsageError) else type(error)
        raise kind.at(t.model.path, f"node {call.name}", str(error)) from error
    except (ValueError, IndexError, TypeError, ArithmeticError, MemoryError) as error:
        raise t.malformed(call, f"does not fit its inputs ({str(error)[:120]})") from error


def _keep(t: Translation, call: Call, made: Value | tuple[Value | None, ...]) -> None:
    results: tuple[Value | None, ...] = made if isinstance(made, tuple) else (made,)
    for name, value in zip(call.outputs, results, strict=False):
        if name and value is not None:
            t.values[name] = value
            if isinstance(value, Variable) and not isinstance(value, Masked):
                t.builder.label(value.node, name)


def _whole(value: Value | None) -> bool:
    """A variable of an integer type: its arithmetic wraps and truncates, which no bound follows."""
    return isinstance(value, Variable) and "int" in value.dtype


def _given(t: Translation, call: Call, name: str) -> Value | None:
    """The value of this name; a translator may not make every output of its operator."""
    if not name or (name in t.conditions and call.op in _ON_CONDITIONS):
        return None
    if name in t.conditions:
        raise t.fail(call, "reads a comparison that depends on the input, which only Where, Cast, "
                           "Not, And and Or may")  # fmt: skip
    if name not in t.values:
        raise t.fail(call, f"reads {name!r}, an output of its operator that gamma does not compute")
    return t.values[name]
