"""Minus infinity in attention: what masks add to scores, and the Softmax that reads them.

No bound follows an infinity. A score with minus infinity added is a `Masked` value, which only a
Softmax and what passes a value on unchanged may read; the Softmax is computed of the other entries
alone, and those masked out are 0 in its result. That is exact.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from gamma.formats.onnx import affine, shapes
from gamma.formats.onnx import softmax as plain
from gamma.formats.onnx.arguments import Inputs, axis_in, need
from gamma.formats.onnx.movement import transposed
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Masked, Value, Variable

# Different rows of a mask: each takes a Softmax of its own.
_PATTERNS = 1 << 10


def infinite(value: Value | None) -> bool:
    """A constant of finite numbers and minus infinity."""
    if not isinstance(value, Constant) or value.array.dtype.kind != "f":
        return False
    array = value.array
    return bool(np.isneginf(array).any()) and not bool((np.isnan(array) | (array == np.inf)).any())


def add(t: Translation, call: Call, inputs: Inputs) -> Value:
    """Add, also of masks."""
    a, b = need(t, call, inputs, 0), need(t, call, inputs, 1)
    if not any(isinstance(v, Masked) or infinite(v) for v in (a, b)):
        return affine.add(t, call, inputs)
    if not isinstance(b, Constant):
        a, b = b, a
    if not isinstance(b, Constant):
        raise t.fail(call, "adds two values that depend on the input, one with minus infinity")
    return added(t, call, a, b)


def softmax(t: Translation, call: Call, inputs: Inputs) -> Value:
    """Softmax, also of masked scores."""
    x = need(t, call, inputs, 0)
    if not isinstance(x, Masked):
        return plain.softmax(t, call, inputs)
    if t.opset < 13:
        raise t.fail(call, "of minus infinity over several axes: export with operator set 13")
    axis = axis_in(t, call, attribute(call, "axis", -1), len(x.dims))
    return kept_softmax(t, call, x, x.keep, axis)


def where(t: Translation, call: Call, inputs: Inputs) -> Value:
    """Where, also with minus infinity in place of some scores."""
    test, a, b = (need(t, call, inputs, i) if inputs[i] else None for i in range(3))
    if not isinstance(test, Constant) or infinite(a) == infinite(b):
        return shapes.where(t, call, inputs)
    choice = test.array.astype(bool)
    if infinite(a):
        a, b, choice = b, a, ~choice
    if not isinstance(a, Variable) or isinstance(a, Masked):
        return shapes.where(t, call, inputs)
    assert isinstance(b, Constant)
    keep = choice | ~np.isneginf(b.array)
    finite = replace(b, array=np.where(np.isneginf(b.array), b.array.dtype.type(0), b.array))
    made = shapes.where(t, call, [Constant(choice), a, finite])
    assert isinstance(made, Variable)
    return Masked(made.node, made.dims, made.dtype, keep)


def added(t: Translation, call: Call, x: Value, bias: Constant) -> Value:
    """x + bias, where the bias may hold minus infinity."""
    if isinstance(x, Constant):
        return _constant(t, call, x, bias)
    keep = ~np.isneginf(bias.array)
    finite = replace(bias, array=np.where(keep, bias.array, bias.array.dtype.type(0)))
    scores = Variable(x.node, x.dims, x.dtype)
    made = affine.total(t, call, [scores, finite], (1, 1))
    assert isinstance(made, Variable)
    if isinstance(x, Masked):
        keep = keep & x.keep
    return made if keep.all() else Masked(made.node, made.dims, made.dtype, keep)


def _constant(t: Translation, call: Call, x: Constant, bias: Constant) -> Constant:
    """The sum of two constants that may hold minus infinity."""
    if not (x.certain and bias.certain):
        raise t.fail(call, "a mask is computed inexactly in the graph: store its value")
    t.charge(call, t.broadcast(call, x, bias))
    keep = ~(np.isneginf(x.array) | np.isneginf(bias.array))
    parts = [replace(v, array=np.where(np.isneginf(v.array), 0, v.array)) for v in (x, bias)]
    made = affine.total(t, call, list(parts), (1, 1))
    assert isinstance(made, Constant)
    if not made.certain:
        raise t.fail(call, "a mask is computed inexactly in the graph: store its value")
    return replace(made, array=np.where(keep, made.array, made.array.dtype.type(-np.inf)))


def kept_softmax(
    t: Translation, call: Call, x: Variable, keep: Array, axis: int, *, empty: bool = False
) -> Value:
    """Softmax along ``axis`` (counted from the front) of the entries in ``keep``; 0 elsewhere.

    Rows without any entry are 0 where ``empty`` allows them, and an error elsewhere: they are NaN.
    """
    if keep.all():
        return plain.along(t, call, x, axis)
    t.charge(call, x.dims)
    last = (*(a for a in range(len(x.dims)) if a != axis), axis)
    moved = transposed(t, call, Variable(x.node, x.dims, x.dtype), last)
    assert isinstance(moved, Variable)
    n = moved.dims[-1]
    rows = np.broadcast_to(keep, x.dims).transpose(last).reshape(-1, n)
    if not empty and not rows.any(axis=1).all():
        raise t.fail(call, "a row is masked out as a whole, its Softmax is NaN")
    # A runtime computes the entries that are masked out as well: those may overflow, and be NaN.
    t.real_only.add(f"{call.op} with minus infinity in a mask")
    patterns, which = np.unique(rows, axis=0, return_inverse=True)
    if len(patterns) > _PATTERNS:
        raise t.fail(call, f"{len(patterns)} different rows in a mask, at most {_PATTERNS}")
    parts = []
    for k, kept in enumerate(patterns):
        mine, columns = np.flatnonzero(which.reshape(-1) == k), np.flatnonzero(kept)
        if len(columns):
            chosen = mine[:, None] * n + columns
            parts.append((plain.along(t, call, t.pick(call, moved, chosen), 1), chosen))
    if not parts:
        raise t.fail(call, "masks out every score")
    result = t.assembled(call, parts, moved.dims)
    return transposed(t, call, result, tuple(int(i) for i in np.argsort(last)))
