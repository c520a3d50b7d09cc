"""ONNX operators in exact rationals (or balls), from the standard's definitions and nothing else.

A reader may split, fuse and fold; this runs the file as it stands, so every value has its name.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import flint
import numpy as np
from flint import arb
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from gamma import ops
from tests.exact.oracle import BITS, Numbers, Truth, elementwise, exact, q
from tests.exact.search import rare, recurrent, spelled

Attributes = dict[str, Any]
Function = Callable[..., Numbers]


_entries = spelled.each


def _larger(a: Any, b: Any) -> Any:
    if isinstance(a, arb) or isinstance(b, arb):
        return arb(a).max(arb(b))
    return max(a, b)


def _smaller(a: Any, b: Any) -> Any:
    return -_larger(-a, -b)


def _ints(array: Numbers) -> list[int]:
    return [int(v) for v in np.ravel(array)]


def _gemm(a: Attributes, x: Numbers, w: Numbers, c: Numbers | None = None) -> Numbers:
    left = x.T if a.get("transA") else x
    right = w.T if a.get("transB") else w
    result = left @ right * q(a.get("alpha", 1.0))
    return result if c is None else result + c * q(a.get("beta", 1.0))


def _axes(a: Attributes, rank: int, given: Numbers | None) -> tuple[int, ...]:
    axes = a.get("axes") if given is None else _ints(given)
    return tuple(int(i) % rank for i in (axes or range(rank)))


def _reduced(kind: str) -> Function:
    def run(a: Attributes, x: Numbers, given: Numbers | None = None) -> Numbers:
        axes = _axes(a, x.ndim, given)
        keep = bool(a.get("keepdims", 1))
        kept = [i for i in range(x.ndim) if i not in axes]
        count = math.prod(x.shape[i] for i in axes)
        flat = x.transpose(*kept, *axes).reshape(*(x.shape[i] for i in kept), count)
        join = {"Max": _larger, "Min": _smaller}.get(kind, lambda p, r: p + r)
        out = np.empty(flat.shape[:-1], object)
        for at in np.ndindex(*out.shape):
            total = flat[at][0]
            for value in flat[at][1:]:
                total = join(total, value)
            out[at] = total / count if kind == "Mean" else total
        return out.reshape([1 if i in axes else x.shape[i] for i in range(x.ndim)]) if keep else out

    return run


def _pooled(kind: str) -> Function:
    def run(a: Attributes, x: Numbers) -> Numbers:
        kernel = a["kernel_shape"]
        rank = len(kernel)
        strides, pads = a.get("strides", (1,) * rank), a.get("pads", (0,) * 2 * rank)
        counts = [
            (x.shape[i + 2] + pads[i] + pads[i + rank] - kernel[i]) // strides[i] + 1
            for i in range(rank)
        ]
        out = np.empty((*x.shape[:2], *counts), object)
        for at in np.ndindex(*out.shape):
            found = []
            for offset in itertools.product(*map(range, kernel)):
                spot = [at[i + 2] * strides[i] - pads[i] + offset[i] for i in range(rank)]
                if all(0 <= s < n for s, n in zip(spot, x.shape[2:], strict=True)):
                    found.append(x[(*at[:2], *spot)])
            out[at] = _joined(kind, found, math.prod(kernel) if a.get("count_include_pad") else 0)
        return out

    return run


def _joined(kind: str, found: list[Any], count: int) -> Any:
    total = found[0]
    for value in found[1:]:
        total = _larger(total, value) if kind == "Max" else total + value
    return total if kind == "Max" else total / (count or len(found))


def _global(kind: str) -> Function:
    return lambda a, x: _reduced(kind)({"axes": list(range(2, x.ndim))}, x)


def _conv(record: Any) -> Function:
    def run(a: Attributes, x: Numbers, w: Numbers, c: Numbers | None = None) -> Numbers:
        rank = w.ndim - 2
        more = {"output_padding": tuple(a.get("output_padding", (0,) * rank))}
        op = record(
            _floats(w),
            None if c is None else _floats(c),
            tuple(a.get("strides", (1,) * rank)),
            tuple(a.get("pads", (0,) * 2 * rank)),
            tuple(a.get("dilations", (1,) * rank)),
            a.get("group", 1),
            **(more if record is ops.ConvTranspose else {}),
        )
        truth = object.__new__(Truth)
        return getattr(truth, f"_{record.__name__.lower()}")(op, x[0])[None]

    return run


def _floats(values: Numbers) -> Any:
    """Rationals that came from floats, as those floats again."""
    return np.array([int(v.p) / int(v.q) for v in values.reshape(-1)]).reshape(values.shape)


def _normalised(
    a: Attributes, x: Numbers, s: Numbers, b: Numbers, m: Numbers, v: Numbers
) -> Numbers:
    wide = [p.reshape(-1, *(1,) * (x.ndim - 2)) for p in (s, b, m, v)]
    root = _entries(lambda e: (arb(e) + arb(q(a.get("epsilon", 1e-5)))).sqrt(), wide[3])
    return _entries(
        lambda xi, si, bi, mi, ri: (arb(xi) - arb(mi)) / ri * arb(si) + arb(bi),
        x, *wide[:3], root,
    )  # fmt: skip


def _reshaped(a: Attributes, x: Numbers, shape: Numbers) -> Numbers:
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(_ints(shape))])


def _flattened(a: Attributes, x: Numbers) -> Numbers:
    axis = a.get("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _unsqueezed(a: Attributes, x: Numbers, axes: Numbers) -> Numbers:
    return np.expand_dims(x, tuple(_ints(axes)))


def _squeezed(a: Attributes, x: Numbers, axes: Numbers) -> Numbers:
    return x.squeeze(tuple(_ints(axes)))


def _sliced(a: Attributes, x: Numbers, *parts: Numbers) -> Numbers:
    starts, ends, axes, steps = map(_ints, parts)
    cut = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        cut[axis] = slice(start, end, step)
    return x[tuple(cut)]


def _padded(a: Attributes, x: Numbers, pads: Numbers, value: Numbers) -> Numbers:
    wide = np.array(_ints(pads)).reshape(2, -1).T
    out = np.empty([n + int(p.sum()) for n, p in zip(x.shape, wide, strict=True)], object)
    out[...] = value.reshape(-1)[0]
    out[tuple(slice(int(b), int(b) + n) for (b, _), n in zip(wide, x.shape, strict=True))] = x
    return out


def _gathered(a: Attributes, x: Numbers, index: Numbers) -> Numbers:
    return np.take(x, np.array(_ints(index)).reshape(index.shape), a.get("axis", 0))


def _expanded(a: Attributes, x: Numbers, shape: Numbers) -> Numbers:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(_ints(shape))))


def _softmax(a: Attributes, x: Numbers) -> Numbers:
    return object.__new__(Truth)._softmax(ops.Softmax(a.get("axis", -1)), x)


def _function(make: Callable[[Attributes], Any]) -> Function:
    return lambda a, x: elementwise(make(a), x)


def _selu(a: Attributes, x: Numbers) -> Numbers:
    return elementwise(ops.Elu(a["alpha"]), x) * q(a["gamma"])


def _p_relu(a: Attributes, x: Numbers, slope: Numbers) -> Numbers:
    return _entries(lambda v, s: v if v >= 0 else s * v, x, slope)


def _clipped(a: Attributes, x: Numbers, low: Numbers, high: Numbers) -> Numbers:
    return _entries(lambda v, l, h: _smaller(_larger(v, l), h), x, low, high)


def _extreme(join: Callable[[Any, Any], Any]) -> Function:
    def run(a: Attributes, *parts: Numbers) -> Numbers:
        total = parts[0]
        for part in parts[1:]:
            total = _entries(join, total, part)
        return total

    return run


FUNCTIONS: dict[str, Function] = {
    "Gemm": _gemm,
    "MatMul": lambda a, x, w: x @ w,
    "Add": lambda a, x, y: x + y,
    "Sub": lambda a, x, y: x - y,
    "Mul": lambda a, x, y: x * y,
    "Div": lambda a, x, y: x / y,
    "Neg": lambda a, x: -x,
    "Identity": lambda a, x: x,
    "Sum": lambda a, *parts: sum(parts[1:], parts[0]),
    "BatchNormalization": _normalised,
    "ReduceSum": _reduced("Sum"),
    "ReduceMean": _reduced("Mean"),
    "ReduceMax": _reduced("Max"),
    "ReduceMin": _reduced("Min"),
    "Conv": _conv(ops.Conv),
    "ConvTranspose": _conv(ops.ConvTranspose),
    "AveragePool": _pooled("Mean"),
    "MaxPool": _pooled("Max"),
    "GlobalAveragePool": _global("Mean"),
    "GlobalMaxPool": _global("Max"),
    "Reshape": _reshaped,
    "Flatten": _flattened,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Transpose": lambda a, x: x.transpose(a["perm"]),
    "Concat": lambda a, *parts: np.concatenate(parts, axis=a["axis"]),
    "Slice": _sliced,
    "Gather": _gathered,
    "Expand": _expanded,
    "Tile": lambda a, x, repeats: np.tile(x, _ints(repeats)),
    "Pad": _padded,
    "Softmax": _softmax,
    "LogSoftmax": lambda a, x: elementwise(ops.Log(), _softmax(a, x)),
    "Gelu": _function(lambda a: ops.Gelu(a.get("approximate", b"none").decode())),
    "Selu": _selu,
    "PRelu": _p_relu,
    "Clip": _clipped,
    "Pow": lambda a, x, p: elementwise(ops.Pow(float(_floats(p).reshape(-1)[0])), x),
    "Max": _extreme(_larger),
    "Min": _extreme(_smaller),
    "LeakyRelu": _function(lambda a: ops.LeakyRelu(a["alpha"])),
    "Elu": _function(lambda a: ops.Elu(a["alpha"])),
    "HardSigmoid": _function(lambda a: ops.HardSigmoid(a["alpha"], a["beta"])),
} | (spelled.FUNCTIONS | recurrent.FUNCTIONS | rare.FUNCTIONS)


def function_of(kind: str) -> Function:
    """The definition of an operator; those without attributes are gamma's of the same name."""
    if kind in FUNCTIONS:
        return FUNCTIONS[kind]
    return _function(lambda a: ops.TABLE[kind]())


LINEAR = (
    *("DepthToSpace", "SpaceToDepth", "Trilu", "GatherElements", "GatherND", "ScatterElements"),
    *("ScatterND", "CumSum", "Einsum", "Compress", "ReverseSequence", "CenterCropPad", "Resize"),
    *("Split", "Upsample", "Col2Im", "EyeLike"),
)
"""Linear in their one variable input, with coefficients that are 0, 1 or stored: `_Matrix`."""


class _Matrix:
    """A linear operator by what onnx's reference makes of zero and of every unit vector.

    Those runs are exact: each sum has one entry that is not zero.
    """

    def __init__(self, node: NodeProto, stored: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.run = ReferenceEvaluator(node)
        self.variable = next(name for name in node.input if name and name not in stored)
        self.fixed = {name: stored[name] for name in node.input if name in stored}
        size = math.prod(shape)
        self.offsets = self._at(np.zeros(shape, np.float32))
        columns = [self._at(unit.reshape(shape)) for unit in np.eye(size, dtype=np.float32)]
        self.columns = [
            [c - o for c, o in zip(column, self.offsets, strict=True)] for column in columns
        ]

    def _at(self, x: Any) -> list[Numbers]:
        return [exact(v) for v in self.run.run(None, {self.variable: x, **self.fixed})]

    def __call__(self, x: Numbers) -> list[Numbers]:
        flat, found = x.reshape(-1), []
        for k, offset in enumerate(self.offsets):
            total = offset
            for value, column in zip(flat, self.columns, strict=True):
                used = column[k] != 0
                total = np.where(used, total + value * column[k], total)
            found.append(total)
        return found


class FileTruth:
    """Exact values of every named value of a model, at one point."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        stored = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        self.stored = stored
        self.constants = {name: exact(array) for name, array in stored.items()}
        self.matrices: dict[str, _Matrix] = {}
        self.input = self.graph.input[0].name
        self.shape = [d.dim_value for d in self.graph.input[0].type.tensor_type.shape.dim]

    def __call__(self, point: Any) -> dict[str, Numbers]:
        """Values by name; the input among them. Raises ZeroDivisionError at a pole."""
        previous = flint.ctx.prec
        flint.ctx.prec = BITS
        try:
            values = dict(self.constants) | {self.input: exact(point).reshape(self.shape)}
            for node in self.graph.node:
                if node.op_type in LINEAR:
                    values |= self._linear(node, values)
                    continue
                attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
                inputs = [values[name] if name else None for name in node.input]
                found = function_of(node.op_type)(attributes, *inputs)
                parts = found if isinstance(found, tuple) else (found,)
                for name, part in zip(node.output, parts, strict=False):
                    values[name] = np.asarray(part, dtype=object)
            return {n: v for n, v in values.items() if n and n not in self.constants}
        finally:
            flint.ctx.prec = previous

    def _linear(self, node: NodeProto, values: dict[str, Numbers]) -> dict[str, Numbers]:
        name = node.output[0]
        source = next(i for i in node.input if i and i not in self.stored)
        if name not in self.matrices:
            self.matrices[name] = _Matrix(node, self.stored, values[source].shape)
        found = self.matrices[name](values[source])
        return dict(zip(node.output, found, strict=True))
