"""Activations that are formulas of others, in several nodes."""

from __future__ import annotations

import numpy as np

from gamma import ops
from gamma.formats.onnx.arguments import Inputs, variable
from gamma.formats.onnx.pointwise import Condition, chosen
from gamma.formats.onnx.products import divide, product
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Constant, Value

ZERO = Constant(np.array(0, np.float32))


def mish(t: Translation, call: Call, inputs: Inputs) -> Value:
    """x·tanh(softplus(x))."""
    x = variable(t, call, inputs)
    gate = t.emit(call, ops.Tanh(), t.emit(call, ops.Softplus(), x, dims=x.dims), dims=x.dims)
    return product(t, call, x, gate)


def softsign(t: Translation, call: Call, inputs: Inputs) -> Value:
    """x/(1 + |x|)."""
    x = variable(t, call, inputs)
    one = Constant(np.array(1, np.float32))
    size = t.scale(call, t.emit(call, ops.Abs(), x, dims=x.dims), None, one)
    return divide(t, call, x, size)


def swish(t: Translation, call: Call, inputs: Inputs) -> Value:
    """x·sigmoid(α·x)."""
    x = variable(t, call, inputs)
    inside = t.scale(call, x, Constant(np.array(attribute(call, "alpha", 1.0))))
    return product(t, call, x, t.emit(call, ops.Sigmoid(), inside, dims=x.dims))


def thresholded(t: Translation, call: Call, inputs: Inputs) -> Value:
    """x where x > α, 0 elsewhere."""
    x = variable(t, call, inputs)
    limit = Constant(np.array(attribute(call, "alpha", 1.0)))
    return chosen(t, call, Condition(x, limit, True), x, ZERO)


def shrink(t: Translation, call: Call, inputs: Inputs) -> Value:
    """x + bias where x < -λ, x - bias where x > λ, 0 elsewhere."""
    x = variable(t, call, inputs)
    bias, edge = attribute(call, "bias", 0.0), attribute(call, "lambd", 0.5)
    above = t.scale(call, x, None, Constant(np.array(-bias)))
    below = t.scale(call, x, None, Constant(np.array(bias)))
    middle = chosen(t, call, Condition(x, Constant(np.array(edge)), True), above, ZERO)
    return chosen(t, call, Condition(Constant(np.array(-edge)), x, True), below, middle)
