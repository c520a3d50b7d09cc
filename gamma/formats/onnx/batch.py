"""A file whose batch is fixed at N, read for one row: the proof that rows are computed alone.

By induction along the calls: with the file's batch every value that depends on the input has a
shape (N, *rest), with a batch of one (1, *rest), and row k of the first is the second computed on
row k of the input. ``RULES`` says for each operator when a call keeps that; a call without a rule
is refused. What is translated is the file with a batch of one: shapes to which a value is brought
are worked out for N and rewritten, and a constant of N equal rows becomes one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from msgspec import Struct, field

from gamma.errors import UnsupportedError
from gamma.formats.onnx import movement
from gamma.formats.onnx.arguments import Inputs, int_list, ints, need, number, optional
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.table import PLAIN, TRANSLATORS
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Shape, Value, Variable
from gamma.network.graph import Builder
from gamma.ops import Input

# Rewritten inputs of a call that keeps rows apart, None of one that may not.
Rule = Callable[["Rows", Call, Inputs], Inputs | None]


class Rows(Struct, eq=False):
    """Follows one translation for a batch of one (``t``) with the file's batch of ``count``.

    ``whole`` holds the constants computed from shapes as they are with the file's batch, None where
    that is not known; every other constant is the same for both. ``ranks`` are those of conditions.
    """

    t: Translation
    count: int
    whole: dict[str, Constant | None] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)

    def one(self, call: Call, inputs: Inputs) -> Inputs:
        """What the call reads for a batch of one. Raises UnsupportedError without a proof."""
        if not self._reads_rows(call, inputs) or call.op in ("Shape", "Size"):
            return inputs
        shaped = [name for name in call.inputs if name in self.whole]
        if not shaped or call.op in ("Reshape", "Expand"):
            rule = RULES.get(call.op)
            found = None if rule is None else rule(self, call, inputs)
            if found is not None:
                return found
        raise self._unproved(call)

    def follow(self, call: Call, inputs: Inputs) -> None:
        """Check and record what a translated call made of ``inputs``."""
        rows = self._reads_rows(call, inputs)
        made = [(name, self.t.values[name]) for name in call.outputs if name in self.t.values]
        if any(isinstance(value, Variable) and value.dims[:1] != (1,) for _, value in made):
            raise self._unproved(call)
        for name in call.outputs:
            if name in self.t.conditions:
                self.ranks[name] = self.rank(call, inputs)
        if rows and call.op not in ("Shape", "Size"):
            self.whole.update((n, None) for n, value in made if isinstance(value, Constant))
        elif rows or any(name in self.whole for name in call.inputs):
            found = TRANSLATORS[call.op](self._apart(), call, self._with_batch(call, inputs))
            values = found if isinstance(found, tuple) else (found,)
            for (name, own), value in zip(made, values, strict=True):
                if not isinstance(value, Constant):
                    self.whole[name] = None
                elif not isinstance(own, Constant) or not _equal(own, value):
                    self.whole[name] = value

    def dims(self, x: Value) -> Shape:
        """The shape with the file's batch."""
        return (self.count, *x.dims[1:]) if isinstance(x, Variable) else x.dims

    def constant(self, x: Value | None, rank: int, exactly: bool = False) -> Value | None:
        """A constant as one row reads it beside values of ``rank`` axes; None when rows differ.

        ``exactly``: it has the batch axis, as joining needs, and is not repeated along it.
        """
        if not isinstance(x, Constant):
            return x
        if len(x.dims) < rank or (len(x.dims) == rank and x.dims[:1] == (1,)):
            return None if exactly else x
        if len(x.dims) != rank or x.dims[0] != self.count:
            return None
        arrays: list[Array] = [np.broadcast_to(a, x.dims) for a in (x.array, x.error, x.noise)]
        if not all((a == a[:1]).all() for a in arrays):
            return None
        return x.mapped(lambda a: a[:1])

    def _reads_rows(self, call: Call, inputs: Inputs) -> bool:
        read = any(name in self.t.conditions for name in call.inputs)
        return read or any(isinstance(value, Variable) for value in inputs)

    def rank(self, call: Call, inputs: Inputs) -> int:
        """Axes of the values that an entrywise call reads; 0 where they differ."""
        found = {len(value.dims) for value in inputs if isinstance(value, Variable)}
        found |= {self.ranks[name] for name in call.inputs if name in self.ranks}
        return found.pop() if len(found) == 1 else 0

    def _apart(self) -> Translation:
        """Where constants are folded with the file's batch: no node of it is used."""
        return Translation(self.t.model, Builder(Input(), (1,)))

    def _with_batch(self, call: Call, inputs: Inputs) -> list[Value | None]:
        found: list[Value | None] = []
        for name, value in zip(call.inputs, inputs, strict=True):
            if isinstance(value, Variable):
                value = Variable(0, self.dims(value), value.dtype)
            elif name in self.whole:
                value = self.whole[name]
                if value is None:
                    raise self._unproved(call)
            found.append(value)
        return found

    def target(self, call: Call, inputs: Inputs) -> Inputs | None:
        """Reshape, Expand: the shape for N, its first axis rewritten."""
        x, wanted = self._with_batch(call, inputs)[:2]
        if not isinstance(x, Variable) or wanted is None:
            return None
        if call.op == "Reshape":
            dims = movement.target_shape(self.t, call, x.dims, wanted)
        else:
            dims = np.broadcast_shapes(x.dims, ints(self.t, call, wanted, "the shape"))
        aligned = call.op == "Reshape" or len(dims) == len(x.dims)
        sizes = call.op == "Expand" or math.prod(dims) == math.prod(x.dims)
        if not aligned or not sizes or dims[:1] != (self.count,):
            return None
        return [inputs[0], Constant(np.array((1, *dims[1:]), np.int64))]

    def _unproved(self, call: Call) -> UnsupportedError:
        return self.t.fail(
            call,
            f"not known to compute every row of the batch of {self.count} alone: leave out "
            "input_shape= to read the batch as one input, or export with a batch of 1",
        )


def _equal(one: Constant, other: Constant) -> bool:
    pairs = ((one.array, other.array), (one.error, other.error), (one.noise, other.noise))
    return one.dtype == other.dtype and all(np.array_equal(a, b) for a, b in pairs)


def _entrywise(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    rank = rows.rank(call, inputs)
    found = [rows.constant(value, rank) for value in inputs]
    lost = any(new is None and old is not None for new, old in zip(found, inputs, strict=True))
    return None if not rank or lost else found


def _weighted(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    """Images or vectors of a batch, each by the same weights."""
    x = inputs[0]
    fixed = not any(isinstance(value, Variable) for value in inputs[1:])
    return inputs if isinstance(x, Variable) and len(x.dims) > 1 and fixed else None


def _gemm(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    a, b, c = need(rows.t, call, inputs, 0), need(rows.t, call, inputs, 1), optional(inputs, 2)
    if not isinstance(a, Variable) or isinstance(b, Variable) or attribute(call, "transA", 0):
        return None
    if c is None:
        return inputs
    bias = rows.constant(c, 2)
    return None if bias is None or len(bias.dims) > 2 else [a, b, bias]


def _matmul(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    """Rows of the left matrix, or the first of several axes that count matrices."""
    a, b = need(rows.t, call, inputs, 0), need(rows.t, call, inputs, 1)
    if isinstance(a, Variable) and isinstance(b, Constant) and len(b.dims) <= 2:
        return inputs if len(a.dims) >= 2 else None
    rank = rows.rank(call, inputs)
    stacked = [rows.constant(value, rank) for value in (a, b)]
    return stacked if rank >= 3 and None not in stacked else None


def _concat(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    rank = rows.rank(call, inputs)
    parts = [rows.constant(value, rank, exactly=True) for value in inputs]
    axis = attribute(call, "axis", 1)
    return parts if rank and axis not in (0, -rank) and None not in parts else None


def _apart_from(axis: int) -> Rule:
    """Works along one axis, this one by default."""

    def rule(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
        x, own = need(rows.t, call, inputs, 0), attribute(call, "axis", axis)
        return _weighted(rows, call, inputs) if own not in (0, -len(x.dims)) else None

    return rule


def _axes(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    """Reductions, Squeeze and Unsqueeze over stated axes."""
    x = need(rows.t, call, inputs, 0)
    early = call.op in ("ReduceSum", "Squeeze", "Unsqueeze")
    axes = int_list(rows.t, call, inputs, "axes", 1, 13 if early else 18)
    rank = len(x.dims) + (len(axes) if axes and call.op == "Unsqueeze" else 0)
    return inputs if axes and not {0, -rank} & set(axes) else None


def _slice(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    """A batch axis is only cut where all of it stays."""
    t, rank = rows.t, len(need(rows.t, call, inputs, 0).dims)
    starts, ends = (int_list(t, call, inputs, n, i, 10) for i, n in ((1, "starts"), (2, "ends")))
    given = int_list(t, call, inputs, "axes", 3, 10)
    steps = int_list(t, call, inputs, "steps", 4, 10) if t.opset >= 10 else None
    if starts is None or ends is None:
        return None
    axes = range(len(starts)) if given is None else given
    for axis, start, end, step in zip(axes, starts, ends, steps or (1,) * len(starts), strict=True):
        if axis in (0, -rank) and not (start == 0 and end >= rows.count and step == 1):
            return None
    return inputs


def _pad(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    t, rank = rows.t, len(need(rows.t, call, inputs, 0).dims)
    pads = int_list(t, call, inputs, "pads", 1, 11) or ()
    given = optional(inputs, 3) if t.opset >= 18 else None
    axes = range(rank) if given is None else ints(t, call, given, "axes")
    pairs = zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True)
    return inputs if all((a, b) == (0, 0) for axis, a, b in pairs if axis in (0, -rank)) else None


def _flatten(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    rank = len(need(rows.t, call, inputs, 0).dims)
    return inputs if attribute(call, "axis", 1) in (1, 1 - rank) and rank > 1 else None


def _transpose(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    rank = len(need(rows.t, call, inputs, 0).dims)
    perm = attribute(call, "perm", tuple(range(rank))[::-1])
    return inputs if tuple(perm[:1]) == (0,) else None


def _along(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    """Entries named along one axis, by the same places in every row."""
    rank = len(need(rows.t, call, inputs, 0).dims)
    parts = [rows.constant(value, rank, exactly=True) for value in inputs]
    same = all(v is None or len(v.dims) == rank for v in parts)
    fixed = isinstance(inputs[0], Variable) and None not in parts and same
    return parts if fixed and attribute(call, "axis", 0) not in (0, -rank) else None


def _cum_sum(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    axis = int(number(rows.t, call, need(rows.t, call, inputs, 1), "the axis"))
    return inputs if axis not in (0, -len(need(rows.t, call, inputs, 0).dims)) else None


def _tile(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    if not isinstance(inputs[0], Variable):
        return None
    return inputs if ints(rows.t, call, inputs[1], "the repeats")[:1] == (1,) else None


def _trilu(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    return inputs if len(need(rows.t, call, inputs, 0).dims) > 2 else None


def _resize(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    """Images of the same size one after another: scale 1 for the batch, or its length as it is."""
    given = [optional(inputs, i) for i in range(1, 4)]
    stated: Shape = attribute(call, "axes", ())
    if stated or any(v is not None and not isinstance(v, Constant) for v in given):
        return None  # some axes only: which of them is the batch depends on their order
    found = list(inputs)
    for place, value in enumerate(given, start=1):
        if not isinstance(value, Constant) or not value.array.size:
            continue
        first = value.array.reshape(-1)[0]
        if place == 3 and first == rows.count:
            found[3] = value.mapped(lambda a: np.concatenate(([1], a[1:])).astype(a.dtype))
        elif first != (rows.count if place == 3 else 1) or call.attributes.get("roi"):
            return None
    scales: tuple[float, ...] = call.attributes.get("scales", (1.0,))  # of an early Upsample
    return found if scales[0] == 1 else None


def _einsum(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    """The batch's letter comes first in every variable and in the result, and nowhere else."""
    equation = attribute(call, "equation", "").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    batch = result[:1]
    if not arrow or not batch.isalpha() or batch in result[1:]:
        return None
    for term, value in zip(terms.split(","), inputs, strict=False):
        if batch in (term[1:] if isinstance(value, Variable) else term):
            return None
        if isinstance(value, Variable) and term[:1] != batch:
            return None
    return inputs


def _attention(rows: Rows, call: Call, inputs: Inputs) -> Inputs | None:
    """Keys, values and masks of four axes are those of every row."""
    rank = len(need(rows.t, call, inputs, 0).dims)
    parts: list[Value | None] = [rows.constant(value, rank) for value in inputs[:3]]
    for value in inputs[3:]:
        parts.append(rows.constant(value, 4))
    lost = any(new is None and old is not None for new, old in zip(parts, inputs, strict=True))
    variable = isinstance(inputs[0], Variable)
    return parts if variable and not lost and optional(inputs, 6) is None else None


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            *(*PLAIN, "Floor", "Ceil", "Round", "Mod", "Gelu"),
            *("Selu", "PRelu", "Celu", "Mish", "Softsign", "Swish", "ThresholdedRelu", "Shrink"),
            *("Clip", "Pow", "Max", "Min", "Add", "Sub", "Mul", "Div", "Neg", "Sum", "Mean"),
            *("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Not", "Where"),
            *("Cast", "CastLike", "Identity", "Dropout", "QuantizeLinear", "DequantizeLinear"),
        ),
        _entrywise,
    ),
    **dict.fromkeys(
        (
            *("Conv", "ConvTranspose", "BatchNormalization", "AveragePool", "MaxPool", "LpPool"),
            *("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"),
            *("DepthToSpace", "SpaceToDepth", "InstanceNormalization", "GroupNormalization"),
        ),
        _weighted,
    ),
    **dict.fromkeys(
        (
            *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"),
            *("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "Squeeze", "Unsqueeze"),
        ),
        _axes,
    ),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Concat": _concat,
    "Split": _apart_from(0),
    "Gather": _apart_from(0),
    "Softmax": _apart_from(-1),
    "LogSoftmax": _apart_from(-1),
    "LpNormalization": _apart_from(-1),
    "LayerNormalization": _apart_from(-1),
    "RMSNormalization": _apart_from(-1),
    "SimplifiedLayerNormalization": _apart_from(-1),
    "GatherElements": _along,
    "Scatter": _along,
    "ScatterElements": _along,
    "CumSum": _cum_sum,
    "Tile": _tile,
    "Trilu": _trilu,
    "Resize": _resize,
    "Upsample": _resize,
    "Einsum": _einsum,
    "Attention": _attention,
    "Slice": _slice,
    "Pad": _pad,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Reshape": Rows.target,
    "Expand": Rows.target,
}
"""When a call keeps the rows of a batch apart, and what it reads for one row."""
