"""Scaled dot product attention, as the standard spells it: products, a mask, a Softmax.

Runtimes take its steps in orders of their own (where the scale goes, how the Softmax is summed), so
that the guarantee about float32 executions does not cover it.
"""

from __future__ import annotations

import math

import numpy as np

from gamma.formats.onnx import fold, masks
from gamma.formats.onnx.affine import add, matmul, mul
from gamma.formats.onnx.arguments import Inputs, constant, ints, need, optional
from gamma.formats.onnx.movement import joined, transposed
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Value, Variable
from gamma.ops import Tanh

_LAST = (0, 1, 3, 2)


def attention(t: Translation, call: Call, inputs: Inputs) -> tuple[Value | None, ...]:
    """Y, present key, present value and scores; those that nothing reads are cheap or left out."""
    t.real_only.add(call.op)
    flat = len(need(t, call, inputs, 0).dims) == 3
    heads = (attribute(call, "q_num_heads", 0), *(attribute(call, "kv_num_heads", 0),) * 2)
    query, key, value = (
        _heads(t, call, need(t, call, inputs, i), count) for i, count in enumerate(heads)
    )
    past = optional(inputs, 4), optional(inputs, 5)
    before = 0
    if past[0] is not None and past[1] is not None:
        before = past[0].dims[2]
        key, value = joined(t, call, [past[0], key], 2), joined(t, call, [past[1], value], 2)
    present = key, value
    repeats = query.dims[1] // max(key.dims[1], 1)
    key, value = (_repeated(t, call, v, repeats) for v in (key, value))
    turned = transposed(t, call, key, _LAST)
    scores = matmul(t, call, [mul(t, call, [query, _scale(t, call, query.dims[3])]), turned])
    capped = _capped(t, call, scores)
    if not isinstance(capped, Variable):
        raise t.fail(
            call, "its query and key are constants, expected one that depends on the input"
        )
    bias, keep = _bias(t, call, inputs, capped.dims, before)
    biased = capped if bias is None else add(t, call, [capped, bias])
    assert isinstance(biased, Variable)
    weights = masks.kept_softmax(t, call, biased, keep, len(biased.dims) - 1, empty=True)
    result = matmul(t, call, [weights, value])
    if flat:
        dims = result.dims
        moved = transposed(t, call, result, (0, 2, 1, 3))
        result = t.reshape(call, moved, (dims[0], dims[2], dims[1] * dims[3]))
    mode = attribute(call, "qk_matmul_output_mode", 0)
    shown: tuple[Value | None, ...] = (scores, capped, biased if keep.all() else None, weights)
    return result, *present, shown[mode] if 0 <= mode < 4 else None


def _heads(t: Translation, call: Call, x: Value, count: int) -> Value:
    """(batch, heads, length, size); three axes hold the heads' entries one after another."""
    if len(x.dims) == 4:
        return x
    if len(x.dims) != 3 or count < 1 or x.dims[2] % count:
        raise t.malformed(call, f"{count} heads of a value of shape {list(x.dims)}")
    batch, length, size = x.dims
    split = t.reshape(call, x, (batch, length, count, size // count))
    return transposed(t, call, split, (0, 2, 1, 3))


def _repeated(t: Translation, call: Call, x: Value, times: int) -> Value:
    """Each head for as many heads of the query as share it."""
    if times <= 1:
        return x
    dims = (x.dims[0], x.dims[1] * times, *x.dims[2:])
    return t.move(call, x, dims, lambda a, _: np.repeat(a, times, axis=1))


def _scale(t: Translation, call: Call, size: int) -> Constant:
    """The factor of the scores: as stated, or 1/sqrt(size) with its rounding error."""
    if "scale" in call.attributes:
        return Constant(np.array(attribute(call, "scale", 1.0)))
    value = 1.0 / math.sqrt(size)
    exact = value * value * size == 1.0 and math.frexp(value)[0] == 0.5
    return Constant(np.array(value), 0.0 if exact else np.array(value * 2.0**-51))


def _capped(t: Translation, call: Call, x: Value) -> Value:
    """c·tanh(x/c)."""
    cap = attribute(call, "softcap", 0.0)
    if cap <= 0.0 or not isinstance(x, Variable):
        return x
    stored = Constant(np.array(cap))
    share = t.scale(call, x, fold.inverse(t, call, stored))
    return t.scale(call, t.emit(call, Tanh(), share, dims=x.dims), stored)


def _bias(
    t: Translation, call: Call, inputs: Inputs, dims: tuple[int, ...], before: int
) -> tuple[Value | None, Array]:
    """What is added to the scores, and which of them count: a mask, causal order, a window."""
    queries, keys = dims[-2:]
    keep: Array = np.ones((1, 1, queries, keys), bool)
    bias: Value | None = None
    given = optional(inputs, 3)
    if isinstance(given, Variable):
        if given.dims[-1] != keys:
            raise t.fail(call, "a mask that depends on the input and is shorter than the keys")
        bias = given
    elif given is not None:
        bias, allowed = _mask(t, call, given, keys)
        keep = keep & allowed
    offset: Array = np.full((1, 1, 1, 1), before)
    lengths = optional(inputs, 6)
    if lengths is not None:
        counted = np.array(ints(t, call, lengths, "nonpad_kv_seqlen")).reshape(-1, 1, 1, 1)
        keep = keep & (np.arange(keys) < counted)
        offset = counted - queries
    place = np.arange(queries)[:, None] + offset
    left, right = (attribute(call, f"{side}_window_size", -1) for side in ("left", "right"))
    if attribute(call, "is_causal", 0):
        keep = keep & (np.arange(keys) <= place)
    if left >= 0:
        keep = keep & (np.arange(keys) >= place - left)
    if right >= 0:
        keep = keep & (np.arange(keys) <= place + right)
    return bias, keep


def _mask(t: Translation, call: Call, given: Value, keys: int) -> tuple[Constant | None, Array]:
    """The finite part of a constant mask (None for truth values), and which scores it keeps."""
    known = constant(t, call, given, "the mask")
    short = [(0, 0)] * (len(known.dims) - 1) + [(0, keys - known.dims[-1])]
    array = known.array
    if array.dtype == bool:
        return None, np.pad(array, short)
    if not (masks.infinite(known) or np.isfinite(array).all()):
        raise t.malformed(call, "a mask holds NaN or infinity, expected finite numbers or -inf")
    wide = np.pad(array, short, constant_values=-np.inf)
    keep = ~np.isneginf(wide)
    return Constant(np.where(keep, wide, wide.dtype.type(0))), keep
