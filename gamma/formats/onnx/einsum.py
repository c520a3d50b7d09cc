"""Einsum, CumSum and other linear maps along axes: products with constant matrices."""

from __future__ import annotations

import math

import numpy as np

from gamma.formats.onnx.affine import matrices, mul, reduced
from gamma.formats.onnx.arguments import Inputs, need
from gamma.formats.onnx.movement import transposed
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.rearrange import axis_of
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Constant, Value
from gamma.frozen import Frozen

Labels = tuple[str, ...]


def along(t: Translation, call: Call, x: Value, axis: int, weight: Constant) -> Value:
    """The matrix ``weight`` (out, in) applied to every line along ``axis``."""
    rank = len(x.dims)
    if rank == 1:
        lifted = along(t, call, t.reshape(call, x, (1, *x.dims)), 1, weight)
        return t.reshape(call, lifted, lifted.dims[1:])
    order = (*(a for a in range(rank) if a != axis), axis)
    moved = transposed(t, call, x, order)
    made = matrices(t, call, moved, weight.mapped(np.transpose), None)
    back = tuple(order.index(a) for a in range(rank))
    return transposed(t, call, made, back)


def cum_sum(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    axis = axis_of(t, call, inputs, 1, len(x.dims))
    n = x.dims[axis]
    t.charge(call, (n, n))
    weight = np.tri(n, n, -1 if attribute(call, "exclusive", 0) else 0, dtype=np.float32)
    if attribute(call, "reverse", 0):
        weight = np.ascontiguousarray(weight[::-1, ::-1])
    if isinstance(x, Constant) and x.array.dtype.kind in "iu":
        weight = weight.astype(x.array.dtype)
    return along(t, call, x, axis, Constant(weight))


class _Operand(Frozen, eq=True):
    value: Value
    labels: Labels


def einsum(t: Translation, call: Call, inputs: Inputs) -> Value:
    """Any equation with at most one operand that depends on the input."""
    values = [need(t, call, inputs, i) for i in range(len(inputs))]
    terms, wanted = _parsed(t, call, attribute(call, "equation", ""), values)
    lengths: dict[str, int] = {}
    for value, labels in zip(values, terms, strict=True):
        for n, label in zip(value.dims, labels, strict=True):
            if lengths.get(label, 1) not in (1, n) and n != 1:
                raise t.malformed(call, f"axis {label!r} has lengths {lengths[label]} and {n}")
            lengths[label] = max(lengths.get(label, 1), n)
    operands = [
        _diagonal(t, call, t.expand(call, value, tuple(lengths[n] for n in labels)), labels)
        for value, labels in zip(values, terms, strict=True)
    ]
    # Constants first: the one variable is multiplied once.
    operands.sort(key=lambda operand: not isinstance(operand.value, Constant))
    left = operands[0]
    for position, right in enumerate(operands[1:], 1):
        later = {label for o in operands[position + 1 :] for label in o.labels}
        left = _pair(t, call, left, right, later | set(wanted))
    left = _without(t, call, left, set(wanted))
    if set(left.labels) != set(wanted):
        raise t.malformed(call, "an axis of the output is in no input")
    return transposed(t, call, left.value, tuple(left.labels.index(n) for n in wanted))


def _parsed(
    t: Translation, call: Call, equation: str, values: list[Value]
) -> tuple[list[Labels], Labels]:
    """Labels of each operand and of the result; axes of an ellipsis are counted from the end."""
    sides = equation.replace(" ", "").split("->")
    terms = sides[0].split(",")
    if len(sides) > 2 or len(terms) != len(values) or len(equation) > 1000:
        raise t.malformed(call, f"equation {equation[:80]!r} for {len(values)} inputs")
    labelled = [_labels(t, call, s, len(v.dims)) for s, v in zip(terms, values, strict=True)]
    every = [n for labels in labelled for n in labels]
    dots = tuple(sorted({n for n in every if n.startswith(".")}, key=lambda n: -int(n[1:])))
    if len(sides) == 1:
        once = sorted(n for n in set(every) if not n.startswith(".") and every.count(n) == 1)
        return labelled, (*dots, *once)
    letters = sides[1].replace("...", "")
    wanted = _labels(t, call, sides[1], len(letters) + len(dots) * ("..." in sides[1]))
    if len(set(wanted)) != len(wanted):
        raise t.malformed(call, f"equation {equation[:80]!r} names an axis of the result twice")
    return labelled, wanted


def _labels(t: Translation, call: Call, term: str, rank: int) -> Labels:
    head, dots, tail = term.partition("...")
    spare = rank - len(head) - len(tail)
    letters = head + tail
    if not ((letters.isalpha() and letters.isascii()) or not letters) or spare < 0:
        raise t.malformed(call, f"term {term[:40]!r} for {rank} axes")
    if spare and not dots:
        raise t.malformed(call, f"term {term[:40]!r} for {rank} axes")
    return (*head, *(f".{k}" for k in range(spare - 1, -1, -1)), *tail)


def _diagonal(t: Translation, call: Call, x: Value, labels: Labels) -> _Operand:
    """An operand without repeated labels: its diagonal."""
    kept = tuple(dict.fromkeys(labels))
    if len(kept) == len(labels):
        return _Operand(x, labels)
    dims = tuple(x.dims[labels.index(n)] for n in kept)
    grids = np.ix_(*(np.arange(n) for n in dims))
    place = tuple(grids[kept.index(n)] for n in labels)
    return _Operand(t.move(call, x, dims, lambda a, _: a[place]), kept)


def _without(t: Translation, call: Call, x: _Operand, wanted: set[str]) -> _Operand:
    """The operand summed over the axes that nobody wants."""
    axes = tuple(i for i, n in enumerate(x.labels) if n not in wanted)
    if not axes:
        return x
    value = reduced(t, call, "ReduceSum", x.value, axes, False)
    return _Operand(value, tuple(n for n in x.labels if n in wanted))


def _pair(t: Translation, call: Call, a: _Operand, b: _Operand, wanted: set[str]) -> _Operand:
    """The product of two operands, summed over the axes that nobody else wants."""
    a = _without(t, call, a, wanted | set(b.labels))
    b = _without(t, call, b, wanted | set(a.labels))
    both = [n for n in a.labels if n in b.labels]
    batch = tuple(n for n in both if n in wanted)
    inner = tuple(n for n in both if n not in wanted)
    left = tuple(n for n in a.labels if n not in both)
    right = tuple(n for n in b.labels if n not in both)
    first, second = (
        _arranged(t, call, a, batch, left, inner),
        _arranged(t, call, b, batch, inner, right),
    )
    lengths = [first.dims[: len(batch)], first.dims[len(batch) : len(batch) + len(left)],
               second.dims[len(batch) + len(inner) :]]  # fmt: skip
    dims = (*lengths[0], *lengths[1], *lengths[2])
    if not inner:
        ones = (1,) * len(right)
        wide = t.reshape(call, first, (*first.dims, *ones))
        other = t.reshape(call, second, (*lengths[0], *(1,) * len(left), *lengths[2]))
        return _Operand(mul(t, call, [wide, other]), (*batch, *left, *right))
    count, rows, columns = (math.prod(n) for n in lengths)
    depth = math.prod(second.dims[len(batch) : len(batch) + len(inner)])
    stack = (count,) if batch else ()
    product = matrices(
        t, call, t.reshape(call, first, (*stack, rows, depth)),
        t.reshape(call, second, (*stack, depth, columns)), None,
    )  # fmt: skip
    return _Operand(t.reshape(call, product, dims), (*batch, *left, *right))


def _arranged(t: Translation, call: Call, x: _Operand, *groups: Labels) -> Value:
    order = tuple(x.labels.index(n) for group in groups for n in group)
    return transposed(t, call, x.value, order)
