"""Dense layers, sums, products with constants, reductions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from gamma import ops
from gamma.formats.onnx import contract, fold
from gamma.formats.onnx.arguments import Inputs, axes_in, int_list, need, optional
from gamma.formats.onnx.movement import joined, transposed
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Shape, Value, Variable, estimates, leading
from gamma.ops.elementwise import Elementwise
from gamma.ops.linear import Gemm
from gamma.ops.sums import Add, ReduceSum
from gamma.runtime import resident


def add(t: Translation, call: Call, inputs: Inputs) -> Value:
    return total(t, call, [need(t, call, inputs, 0), need(t, call, inputs, 1)], (1, 1))


def sub(t: Translation, call: Call, inputs: Inputs) -> Value:
    return total(t, call, [need(t, call, inputs, 0), need(t, call, inputs, 1)], (1, -1))


def sum_(t: Translation, call: Call, inputs: Inputs) -> Value:
    """Sum and Mean of any number of values: one node adds all, in whatever order one adds them."""
    parts = [need(t, call, inputs, i) for i in range(len(inputs))]
    if not parts:
        raise t.malformed(call, "sums nothing")
    moving = [p for p in parts if isinstance(p, Variable)]
    result: Value
    if len(parts) > 2 and moving:
        dims = t.broadcast(call, *parts)
        zero = Constant(np.zeros((), np.float32))
        wide = [t.scale(call, moving[0], zero, p) if isinstance(p, Constant) else p for p in parts]
        spread = [t.expand(call, p, dims) for p in wide]
        result = t.emit(call, Add((1,) * len(parts)), *spread, dims=dims)  # type: ignore[arg-type]
    else:
        result, *rest = parts
        for part in rest:
            result = total(t, call, [result, part], (1, 1))
    if call.op == "Mean" and len(parts) > 1:
        count = Constant(np.array(len(parts), np.float32))
        return div(t, call, [result, count])
    return result


def total(t: Translation, call: Call, parts: list[Value], signs: tuple[int, int]) -> Value:
    """±a ± b with broadcasting (signs are (1, 1) or (1, -1))."""
    a, b = parts
    if isinstance(a, Constant) and isinstance(b, Constant):
        return fold.binary(t, call, "Add" if signs[1] > 0 else "Sub", a, b)
    minus = Constant(np.array(-1, np.float32))
    if isinstance(b, Constant) and isinstance(a, Variable):
        shift = b if signs[1] > 0 else Constant(-b.array, b.error, b.dtype, b.noise)
        return t.scale(call, a, None, shift)
    if isinstance(a, Constant) and isinstance(b, Variable):
        return t.scale(call, b, None if signs[1] > 0 else minus, a)
    dims = t.broadcast(call, a, b)
    wide = [t.expand(call, p, dims) for p in parts]
    return t.emit(call, Add(signs), *wide, dims=dims)  # type: ignore[arg-type]


def mul(t: Translation, call: Call, inputs: Inputs) -> Value:
    a, b = need(t, call, inputs, 0), need(t, call, inputs, 1)
    if isinstance(a, Constant):
        a, b = b, a
    if isinstance(a, Constant) and isinstance(b, Constant):
        return fold.binary(t, call, "Mul", a, b)
    assert isinstance(a, Variable)
    if isinstance(b, Constant):
        return t.scale(call, a, b)
    from gamma.formats.onnx.products import product

    return product(t, call, a, b)


def div(t: Translation, call: Call, inputs: Inputs) -> Value:
    a, b = need(t, call, inputs, 0), need(t, call, inputs, 1)
    if isinstance(a, Constant) and isinstance(b, Constant):
        return fold.binary(t, call, "Div", a, b)
    if isinstance(b, Constant) and isinstance(a, Variable):
        return t.scale(call, a, fold.inverse(t, call, b))
    assert isinstance(b, Variable)
    from gamma.formats.onnx.products import divide

    return divide(t, call, a, b)


def gemm(t: Translation, call: Call, inputs: Inputs) -> Value:
    a, b = need(t, call, inputs, 0), need(t, call, inputs, 1)
    if len(a.dims) != 2 or len(b.dims) != 2:
        raise t.malformed(call, "takes matrices")
    if attribute(call, "transA", 0):
        a = transposed(t, call, a, (1, 0))
    if attribute(call, "transB", 0):
        b = transposed(t, call, b, (1, 0))
    alpha = Constant(np.array(attribute(call, "alpha", 1.0)))
    beta = Constant(np.array(attribute(call, "beta", 1.0)))
    c = optional(inputs, 2)
    if isinstance(c, Constant) and c.array.size:
        c = fold.binary(t, call, "Mul", c, beta)
    elif isinstance(c, Variable):
        c = t.scale(call, c, beta)
    else:
        c = None
    plain = alpha.array == 1  # folded into the weight, it would hide what the product reaches
    bias = None
    if plain and isinstance(c, Constant) and c.certain and c.array.size in (1, b.dims[1]):
        if c.dims[:-1] in ((), (1,)):
            bias = np.broadcast_to(t.weight(call, c).reshape(-1), (b.dims[1],))
    result = matrices(t, call, a, b, bias)
    result = result if plain else mul(t, call, [result, alpha])
    return result if c is None or bias is not None else total(t, call, [result, c], (1, 1))


def matmul(t: Translation, call: Call, inputs: Inputs) -> Value:
    a, b = need(t, call, inputs, 0), need(t, call, inputs, 1)
    if not a.dims or not b.dims:
        raise t.malformed(call, "takes matrices or vectors")
    # Vectors become matrices with an axis of length 1 that the result loses again (NumPy's rule).
    left = t.reshape(call, a, (1, *a.dims)) if len(a.dims) == 1 else a
    right = t.reshape(call, b, (*b.dims, 1)) if len(b.dims) == 1 else b
    result = matrices(t, call, left, right, None)
    dims = result.dims
    if len(b.dims) == 1:
        dims = dims[:-1]
    if len(a.dims) == 1:
        dims = (*dims[:-1], *dims[-1:]) if len(b.dims) == 1 else (*dims[:-2], dims[-1])
    if len(a.dims) == 1 and len(b.dims) == 1:
        dims = ()
    return t.reshape(call, result, dims)


def matrices(t: Translation, call: Call, a: Value, b: Value, bias: Array | None) -> Value:
    """a @ b (+ bias) of constants and variables."""
    if a.dims[-1] != b.dims[-2]:
        raise t.malformed(call, "the matrices do not fit together")
    if isinstance(a, Constant) and isinstance(b, Constant):
        made = contract.product(t, call, a, b)
        return made if bias is None else fold.binary(t, call, "Add", made, Constant(bias))
    if isinstance(a, Variable) and isinstance(b, Variable):
        from gamma.formats.onnx.products import matrix_product

        both = matrix_product(t, call, a, b)
        return both if bias is None else t.scale(call, both, None, Constant(bias))
    if isinstance(a, Constant):
        # (a b) = (bᵀ aᵀ)ᵀ
        swapped = matrices(t, call, _swap(t, call, b), _swap(t, call, a), None)
        result = _swap(t, call, swapped)
        assert isinstance(result, Variable)
        return result if bias is None else t.scale(call, result, None, Constant(bias))
    assert isinstance(b, Constant) and isinstance(a, Variable)
    if math.prod(b.dims[:-2]) != 1:
        return _blocks(t, call, a, b)
    factor = t.coefficients(call, b).mapped(lambda v: v.reshape(b.dims[-2:]).T)
    weight = factor.array
    if resident.mapping_of(weight) is None:  # else copied when it is used, and only then
        weight = np.ascontiguousarray(weight)
    rank = max(len(a.dims), len(b.dims))
    lifted = t.reshape(call, a, (1,) * (rank - len(a.dims)) + a.dims)
    assert isinstance(lifted, Variable)
    stored = None if bias is None else np.ascontiguousarray(bias)
    op = Gemm(weight, stored, **estimates(factor))
    return t.emit(call, op, lifted, dims=(*lifted.dims[:-1], weight.shape[0]))


def _swap(t: Translation, call: Call, x: Value) -> Value:
    rank = len(x.dims)
    return transposed(t, call, x, (*range(rank - 2), rank - 1, rank - 2))


def _blocks(t: Translation, call: Call, a: Variable, b: Constant) -> Variable:
    """A stack of constant matrices: a grouped convolution with kernel 1, one group per matrix."""
    outer = tuple(int(n) for n in np.broadcast_shapes(a.dims[:-2], b.dims[:-2]))
    count, (rows, inner), columns = math.prod(outer), a.dims[-2:], b.dims[-1]
    wide = t.expand(call, a, (*outer, rows, inner))
    t.charge(call, (*outer, inner, columns))

    def arranged(array: Array) -> Array:
        full = np.broadcast_to(array, (*outer, inner, columns)).reshape(count, inner, columns)
        return np.ascontiguousarray(full.transpose(0, 2, 1)).reshape(count * columns, inner, 1)

    weight = t.coefficients(call, b).mapped(arranged)
    channels = transposed(t, call, t.reshape(call, wide, (count, rows, inner)), (0, 2, 1))
    flat = t.reshape(call, channels, (1, count * inner, rows))
    op = ops.Conv(weight.array, None, (1,), (0, 0), (1,), count, **estimates(weight))  # type: ignore[arg-type]
    assert isinstance(flat, Variable)
    made = t.emit(call, op, flat, dims=(1, count * columns, rows))
    back = transposed(t, call, t.reshape(call, made, (count, columns, rows)), (0, 2, 1))
    result = t.reshape(call, back, (*outer, rows, columns))
    assert isinstance(result, Variable)
    return result


def neg(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    if isinstance(x, Constant):
        return fold.unary(t, call, "Neg", x)
    return t.scale(call, x, Constant(np.array(-1, np.float32)))


# Reductions that are a function of each entry, a sum, and a function of the sum.
_Function = Callable[[], Elementwise]
_COMPOSED: dict[str, tuple[_Function | None, _Function | None]] = {
    "ReduceL1": (lambda: ops.Abs(), None),
    "ReduceL2": (lambda: ops.Pow(2.0), lambda: ops.Sqrt()),
    "ReduceSumSquare": (lambda: ops.Pow(2.0), None),
    "ReduceLogSum": (None, lambda: ops.Log()),
    "ReduceLogSumExp": (lambda: ops.Exp(), lambda: ops.Log()),
}


def reduce(t: Translation, call: Call, inputs: Inputs) -> Value:
    """ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd and norms."""
    x = need(t, call, inputs, 0)
    given = int_list(t, call, inputs, "axes", 1, 13 if call.op == "ReduceSum" else 18)
    if not given and attribute(call, "noop_with_empty_axes", 0):
        axes: tuple[int, ...] = ()
        if call.op not in _COMPOSED:
            return x
    else:
        axes = axes_in(t, call, given or range(len(x.dims)), len(x.dims))
    keep = bool(attribute(call, "keepdims", 1))
    if call.op not in _COMPOSED:
        return reduced(t, call, call.op, x, axes, keep)
    if call.op == "ReduceLogSumExp":
        t.real_only.add(call.op)  # runtimes take the greatest entry out first, or do not
    before, after = _COMPOSED[call.op]
    entries = x if before is None else applied(t, call, before(), x)
    summed = reduced(t, call, "ReduceSum", entries, axes, keep)
    return summed if after is None else applied(t, call, after(), summed)


def applied(t: Translation, call: Call, op: Elementwise, x: Value) -> Value:
    """An elementwise function of any value."""
    if isinstance(x, Constant):
        return fold.function(t, call, op, x)
    return t.emit(call, op, x, dims=x.dims)


def reduced(
    t: Translation, call: Call, op: str, x: Value, axes: tuple[int, ...], keep: bool
) -> Value:
    """Sum, mean, maximum, minimum or product over axes counted from the front."""
    dims = tuple(1 if i in axes else n for i, n in enumerate(x.dims) if keep or i not in axes)
    if isinstance(x, Constant):
        if op in ("ReduceSum", "ReduceMean"):
            return fold.total(t, call, x, axes, keep, op == "ReduceMean")
        if not x.certain:
            raise t.fail(call, "is applied to an inexact constant")
        if op == "ReduceProd":
            return fold.integer_product(t, call, x, axes, keep)
        least = op == "ReduceMin"
        return Constant((np.min if least else np.max)(x.array, axis=axes, keepdims=keep))
    real = tuple(a for a in axes if x.dims[a] != 1)
    count = math.prod(x.dims[a] for a in real)
    if count == 1:
        return t.reshape(call, x, dims)
    if op == "ReduceProd":
        return t.reshape(call, _product(t, call, t.reshape(call, *_last(t, call, x, real))), dims)
    if op in ("ReduceMax", "ReduceMin"):
        return maximum(t, call, x, real, dims, op == "ReduceMin")
    scale, error = (1.0, 0.0) if op == "ReduceSum" else reciprocal(count)
    inner = tuple(a - leading(x.dims) for a in real)
    return t.emit(call, ReduceSum(inner, True, scale, error), x, dims=dims)


def reciprocal(count: int) -> tuple[float, float]:
    """1/count in float64 and its relative error."""
    return 1.0 / count, 0.0 if count & (count - 1) == 0 else 2.0**-53


def maximum(
    t: Translation, call: Call, x: Variable, axes: tuple[int, ...], dims: Shape, least: bool
) -> Value:
    """Largest (or least) entry over ``axes``."""
    minus = Constant(np.array(-1, np.float32))
    if least:
        x = t.scale(call, x, minus)
    moved, flat = _last(t, call, x, axes)
    found = t.emit(call, ops.ReduceMax(len(flat) - 1), t.as_shape(call, moved, flat), dims=dims)
    return t.scale(call, found, minus) if least else found


def _last(t: Translation, call: Call, x: Variable, axes: tuple[int, ...]) -> tuple[Variable, Shape]:
    """``x`` with ``axes`` behind all others, and its shape with these as one."""
    rest = tuple(i for i in range(len(x.dims)) if i not in axes)
    moved = transposed(t, call, x, (*rest, *axes))
    assert isinstance(moved, Variable)
    return moved, (*(x.dims[i] for i in rest), math.prod(x.dims[a] for a in axes))


def _product(t: Translation, call: Call, x: Value) -> Value:
    """Of the entries along the last axis: halves multiplied, and so on. Runtimes have an order of
    their own."""
    t.real_only.add(call.op)
    while (count := x.dims[-1]) > 1:
        ends = (0, count // 2, count - count % 2, count)
        parts = [
            _entries(t, call, x, start, end)
            for start, end in itertools.pairwise(ends)
            if start < end
        ]
        x = mul(t, call, parts[:2])
        x = joined(t, call, [x, parts[2]], len(x.dims) - 1) if count % 2 else x
    return x


def _entries(t: Translation, call: Call, x: Value, start: int, end: int) -> Value:
    """Some entries along the last axis."""
    return t.move(call, x, (*x.dims[:-1], end - start), lambda a, _: a[..., start:end])
