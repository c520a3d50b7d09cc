"""Softmax and LogSoftmax: along one axis, or before operator set 13 over all axes from one on."""

from __future__ import annotations

import math

from gamma.formats.onnx.arguments import Inputs, axis_in, variable
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Value, Variable, leading
from gamma.ops import LogSoftmax, Softmax

RECORDS: dict[str, type[Softmax | LogSoftmax]] = {"Softmax": Softmax, "LogSoftmax": LogSoftmax}


def softmax(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = variable(t, call, inputs)
    early = t.opset < 13
    axis = axis_in(t, call, attribute(call, "axis", 1 if early else -1), len(x.dims))
    if not early:
        return along(t, call, x, axis, RECORDS[call.op])
    together = (math.prod(x.dims[:axis]), math.prod(x.dims[axis:]))
    flat = t.settle(call, Variable(x.node, together, x.dtype))
    return t.reshape(call, along(t, call, flat, 1, RECORDS[call.op]), x.dims)


def along(
    t: Translation,
    call: Call,
    x: Variable,
    axis: int,
    record: type[Softmax | LogSoftmax] = Softmax,
) -> Variable:
    """The operator along an axis counted from the front."""
    place = axis - leading(x.dims)
    if place < 0:  # the leading axis, of length 1, which nodes do not have
        x, place = t.as_shape(call, x, x.dims), axis
    return t.emit(call, record(place), x, dims=x.dims)
