"""Losses against targets that the file states: entries that are picked, weighted and summed.

Runtimes sum and divide in orders of their own: the guarantee about float32 executions does not
cover them.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from gamma.formats.onnx.affine import reduced
from gamma.formats.onnx.arguments import Inputs, constant, need, optional, variable
from gamma.formats.onnx.products import Factor
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.softmax import along
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Value, Variable
from gamma.ops import LogSoftmax


def negative_log_likelihood(t: Translation, call: Call, inputs: Inputs) -> Value:
    """-weight·x at the targets along axis 1, or their sum or mean."""
    return _loss(t, call, inputs, variable(t, call, inputs))


def softmax_cross_entropy(t: Translation, call: Call, inputs: Inputs) -> tuple[Value, Value]:
    """The loss of log(softmax) along axis 1, and log(softmax) itself."""
    x = variable(t, call, inputs)
    if len(x.dims) < 2:
        raise t.malformed(call, "takes (batch, classes, ...)")
    chances = along(t, call, x, 1, LogSoftmax)
    return _loss(t, call, inputs, chances), chances


def _loss(t: Translation, call: Call, inputs: Inputs, x: Variable) -> Value:
    t.real_only.add(call.op)
    target = constant(t, call, need(t, call, inputs, 1), "the target").array
    if target.dtype.kind not in "iu" or target.shape != (x.dims[0], *x.dims[2:]):
        raise t.malformed(call, f"targets of shape {list(target.shape)} for {list(x.dims)}")
    classes, ignored = x.dims[1], np.zeros(target.shape, bool)
    if "ignore_index" in call.attributes:
        ignored = target == attribute(call, "ignore_index", 0)
    if not (ignored | ((0 <= target) & (target < classes))).all():
        raise t.malformed(call, f"a target is none of {classes} classes")
    chosen = np.where(ignored, 0, target)
    t.charge(call, x.dims)
    places = np.arange(np.prod(x.dims)).reshape(x.dims)
    index = np.take_along_axis(places, np.expand_dims(chosen, 1), axis=1).squeeze(1)
    picked = t.pick(call, x, np.where(ignored, -1, index))
    weights = _weights(t, call, inputs, classes, chosen, ignored)
    entries = t.scale(call, picked, Constant(-weights))
    reduction = attribute(call, "reduction", "mean")
    if reduction == "none":
        return entries
    summed = reduced(t, call, "ReduceSum", entries, tuple(range(target.ndim)), False)
    if reduction == "sum":
        return summed
    whole = sum(map(Fraction, weights.reshape(-1).tolist()), Fraction(0))
    if reduction != "mean" or not whole:
        raise t.malformed(call, f"reduction {reduction!r} over weights that sum to {float(whole)}")
    assert isinstance(summed, Variable)
    return t.scale(call, summed, Factor(1 / whole).constant())


def _weights(
    t: Translation, call: Call, inputs: Inputs, classes: int, chosen: Array, ignored: Array
) -> Array:
    """The weight of every target, 0 where it is ignored."""
    given = optional(inputs, 2)
    weights = np.ones(classes, np.float32) if given is None else t.weight(call, given, "weights")
    if weights.shape != (classes,):
        raise t.malformed(call, f"weights of shape {list(weights.shape)} for {classes} classes")
    found: Array = np.where(ignored, weights.dtype.type(0), weights[chosen])
    return found
