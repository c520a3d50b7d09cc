"""Random ONNX files: operators that readers split, fuse or fold, under names of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper, shape_inference

from gamma.formats.onnx.table import PLAIN, TRANSLATORS
from tests.exact.search import rare, recurrent, spelled
from tests.exact.search.numbers import Numbers
from tests.exact.search.onnx_truth import FUNCTIONS, LINEAR

MOST = 64
Shape = tuple[int, ...]
OPSET = 21


class Sheet:
    """A file being written: nodes, constants and the shapes of the values."""

    def __init__(self, n: Numbers, shape: Shape) -> None:
        self.n = n
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.shapes: dict[str, Shape] = {"x": shape}
        self.last = "x"

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(self.n.array(*shape, dtype="float32"))

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def add(self, kind: str, *inputs: str, at: int = 0, **attributes: Any) -> str:
        """One more node, its output ``at`` named as it is, if its shape can be inferred and is
        small."""
        name = f"v{len(self.nodes) + 1}"
        outputs = [""] * at + [name]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        try:
            found = self._inferred(name)
        except (shape_inference.InferenceError, checker.ValidationError):
            found = {}
        sizes = found.get(name, (0,))
        if len(sizes) > 1 and min(sizes) > 0 and math.prod(sizes) <= MOST:
            self.shapes[name] = sizes
            self.last = name
            return name
        self.nodes.pop()
        return self.last

    def raw(self, kind: str, *inputs: str, shape: Shape, **attributes: Any) -> str:
        """One more node of a known shape: where inference would need other types than float, or
        has no rule."""
        name = f"v{len(self.nodes) + 1}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        self.shapes[name] = shape
        return name

    def split(self, x: str, axis: int, first: int) -> None:
        """Two parts of a value; one of them is used."""
        name, rest = f"v{len(self.nodes) + 1}", f"w{len(self.nodes) + 1}"
        shape = self.shapes[x]
        sizes = self.ints(first, shape[axis] - first)
        self.nodes.append(helper.make_node("Split", [x, sizes], [name, rest], name=name, axis=axis))
        for part, length in ((name, first), (rest, shape[axis] - first)):
            self.shapes[part] = (*shape[:axis], length, *shape[axis + 1 :])
        self.last = _choice(self, name, rest)

    def _inferred(self, name: str) -> dict[str, Shape]:
        model = shape_inference.infer_shapes(
            self.model(self.nodes[-1:]), strict_mode=True, data_prop=True
        )
        return {
            v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
            for v in (*model.graph.value_info, *model.graph.output)
            if v.type.tensor_type.HasField("shape")
        }

    def model(self, nodes: list[Any] | None = None) -> ModelProto:
        """The file; of some nodes alone, with their inputs as the graph's."""
        alone = nodes is not None
        nodes = self.nodes if nodes is None else nodes
        used = {name for node in nodes for name in node.input}
        wanted = [n for n in self.shapes if n in used] if alone else ["x"]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shapes[name])
            for name in wanted
        ]
        last = nodes[-1].output[-1]
        output = helper.make_tensor_value_info(last, TensorProto.FLOAT, self.shapes.get(last))
        stored = [numpy_helper.from_array(a, k) for k, a in self.constants.items() if k in used]
        graph = helper.make_graph(nodes, "search", inputs, [output], stored)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


_SHAPES = {
    *("And", "Cast", "Constant", "ConstantOfShape", "Dropout", "Equal", "Greater", "Less", "Not"),
    *("GreaterOrEqual", "LessOrEqual", "Or", "Range", "Shape", "Size"),
}
Make = Callable[[Sheet, str, Shape], Any]


def _choice(s: Sheet, *values: Any) -> Any:
    return s.n.draw(st.sampled_from(values))


def _whole(s: Sheet, low: int, high: int) -> int:
    return s.n.draw(st.integers(low, high))


def _gemm(s: Sheet, x: str, shape: Shape) -> Any:
    if len(shape) != 2:
        x = s.add("Flatten", x, axis=1)
        shape = s.shapes[x]
    out, turned = _whole(s, 1, 4), _whole(s, 0, 1)
    weight = s.weight(out, shape[1]) if turned else s.weight(shape[1], out)
    factors = {k: _choice(s, 1.0, 0.1, 2.0**-30, 3.0) for k in ("alpha", "beta")}
    inputs = (x, weight, s.weight(out)) if _whole(s, 0, 1) else (x, weight)
    s.add("Gemm", *inputs, transB=turned, **factors)


def _matmul(s: Sheet, x: str, shape: Shape) -> Any:
    if len(shape) > 2 and _whole(s, 0, 1):
        s.add("MatMul", s.weight(_whole(s, 1, 3), shape[-2]), x)
    else:
        s.add("MatMul", x, s.weight(shape[-1], _whole(s, 1, 4)))


def _affine(s: Sheet, x: str, shape: Shape) -> Any:
    kind = _choice(s, "Add", "Sub", "Mul", "Div")
    other = s.weight(*_choice(s, (), shape[-1:], (1, *shape[1:])))
    if kind == "Div":
        array = s.constants[other]
        s.constants[other] = np.where(array == 0, np.float32(3), array)
    flip = _whole(s, 0, 1) if kind != "Div" else 0
    s.add(kind, *((other, x) if flip else (x, other)))


def _both(s: Sheet, x: str, shape: Shape) -> Any:
    alike = [name for name, found in s.shapes.items() if found == shape]
    kind = _choice(s, "Add", "Sub", "Sum", "Max", "Min")
    s.add(kind, x, _choice(s, *alike[::-1], s.weight(*shape)))


def _difference(s: Sheet, x: str, shape: Shape) -> Any:
    """Two multiples of one value, subtracted: infinity less infinity where both overflow."""
    a, b = s.add("Mul", x, s.weight()), s.add("Mul", x, s.weight())
    s.add(_choice(s, "Sub", "Add"), a, b)


def _folded(s: Sheet, x: str, shape: Shape) -> Any:
    """A constant that the file computes."""
    power, outer = s.constant(np.float32(_choice(s, 1e30, 1e-30))), "Mul"
    a, b, kind = power, power, "Mul"
    if _whole(s, 0, 1):
        a, b = s.weight(), s.weight()
        kind, outer = _choice(s, "Mul", "Add", "Sub"), _choice(s, "Mul", "Add")
    name = f"v{len(s.nodes) + 1}"
    s.nodes.append(helper.make_node(kind, [a, b], [name], name=name))
    s.shapes[name] = ()
    s.add(outer, x, name)


def _batch_normalization(s: Sheet, x: str, shape: Shape) -> Any:
    if len(shape) < 2:
        return
    parts = [s.weight(shape[1]) for _ in range(4)]
    for name in parts:  # gains whose parts, or what is made of them, leave the range of float32
        with np.errstate(over="ignore"):
            grown = s.constants[name] * np.float32(_choice(s, 1.0, 1.0, 1e36, 1e-36, 2.0**60))
        s.constants[name] = np.nan_to_num(grown, posinf=3e38, neginf=-3e38)
    s.constants[parts[3]] = abs(s.constants[parts[3]])
    s.add("BatchNormalization", x, *parts, epsilon=_choice(s, 1e-5, 1e-3, 1.0, 1e-30))


def _reduced(s: Sheet, x: str, shape: Shape) -> Any:
    axes = [a for a in range(1, len(shape)) if _whole(s, 0, 1)] or [len(shape) - 1]
    kind = _choice(s, "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")
    s.add(kind, x, s.ints(*axes), keepdims=_whole(s, 0, 1))


def _pooled(s: Sheet, x: str, shape: Shape) -> Any:
    if len(shape) not in (3, 4):
        return
    rank = len(shape) - 2
    kernel = [_whole(s, 1, min(3, n)) for n in shape[2:]]
    pads = [_whole(s, 0, k - 1) for k in kernel]
    options: dict[str, Any] = {"kernel_shape": kernel, "pads": pads * 2}
    options["strides"] = [_whole(s, 1, 2) for _ in range(rank)]
    kind = _choice(s, "AveragePool", "MaxPool")
    if kind == "AveragePool":
        options["count_include_pad"] = _whole(s, 0, 1)
    s.add(kind, x, **options)


def _global(s: Sheet, x: str, shape: Shape) -> Any:
    if len(shape) in (3, 4):
        s.add(_choice(s, "GlobalAveragePool", "GlobalMaxPool"), x)


def _conv(s: Sheet, x: str, shape: Shape) -> Any:
    if len(shape) not in (3, 4):
        return
    rank = len(shape) - 2
    kernel = [_whole(s, 1, min(2, n)) for n in shape[2:]]
    options: dict[str, Any] = {"kernel_shape": kernel}
    options["pads"] = [_whole(s, 0, 1) for _ in range(2 * rank)]
    options["strides"] = [_whole(s, 1, 2) for _ in range(rank)]
    out = _whole(s, 1, 3)
    if _whole(s, 0, 3) == 3:
        s.add("ConvTranspose", x, s.weight(shape[1], out, *kernel), **options)
        return
    bias = (s.weight(out),) if _whole(s, 0, 1) else ()
    s.add("Conv", x, s.weight(out, shape[1], *kernel), *bias, **options)


def _reshaped(s: Sheet, x: str, shape: Shape) -> Any:
    kind = _choice(s, "Reshape", "Flatten", "Unsqueeze", "Squeeze")
    size = math.prod(shape)
    first = _choice(s, *[k for k in (1, 2, 3, 4) if size % k == 0])
    if kind == "Reshape":
        s.add(kind, x, s.ints(1, first, size // first))
    elif kind == "Flatten":
        s.add(kind, x, axis=1)
    elif kind == "Unsqueeze":
        s.add(kind, x, s.ints(_whole(s, 1, len(shape))))
    elif ones := [a for a in range(1, len(shape)) if shape[a] == 1]:
        s.add(kind, x, s.ints(_choice(s, *ones)))


def _moved(s: Sheet, x: str, shape: Shape) -> Any:
    kind = _choice(s, "Transpose", "Slice", "Gather", "Expand", "Tile", "Pad", "Concat")
    rank = len(shape)
    axis = _whole(s, 1, rank - 1) if rank > 1 else 0
    length = shape[axis]
    if kind == "Transpose":
        order = [0, *s.n.draw(st.permutations(range(1, rank)))]
        s.add(kind, x, perm=order)
    elif kind == "Slice":
        start, step = _whole(s, 0, length - 1), _choice(s, 1, 2)
        s.add(kind, x, s.ints(start), s.ints(length), s.ints(axis), s.ints(step))
    elif kind == "Gather":
        index = [_whole(s, 0, length - 1) for _ in range(_whole(s, 1, 4))]
        s.add(kind, x, s.ints(*index), axis=axis)
    elif kind == "Expand":
        s.add(kind, x, s.ints(1, *(2 if n == 1 else n for n in shape[1:])))
    elif kind == "Tile":
        s.add(kind, x, s.ints(*(2 if a == axis and a else 1 for a in range(rank))))
    elif kind == "Pad":
        sides = [0 if a == 0 else _whole(s, 0, 1) for a in range(rank)] * 2
        s.add(kind, x, s.ints(*sides), s.weight())
    else:
        other = _choice(s, x, s.weight(*shape))
        s.add("Concat", *((other, x) if _whole(s, 0, 1) else (x, other)), axis=axis)


def _rearranged(s: Sheet, x: str, shape: Shape) -> Any:
    """Movement that has no operator of gamma's own, and sums along an axis."""
    rank = len(shape)
    if rank < 2:
        return
    axis = _whole(s, 1, rank - 1)
    last = shape[axis] - 1
    picks = _choice(s, *_REARRANGED)
    if picks in ("DepthToSpace", "SpaceToDepth"):
        if rank == 4:
            s.add(picks, x, blocksize=_choice(s, 1, 2))
    elif picks == "Trilu":
        s.add(picks, x, upper=_whole(s, 0, 1))
    elif picks == "CumSum":
        options = {"exclusive": _whole(s, 0, 1), "reverse": _whole(s, 0, 1)}
        s.add(picks, x, s.constant(np.int64(axis)), **options)
    elif picks == "GatherElements":
        index = np.zeros(shape, np.int64) + _whole(s, 0, last)
        s.add(picks, x, s.constant(index), axis=axis)
    elif picks == "GatherND":
        s.add(picks, x, s.constant(np.array([[0, _whole(s, 0, shape[1] - 1)]] * 2, np.int64)))
    elif picks == "ScatterElements":
        one = tuple(1 if a == axis else n for a, n in enumerate(shape))
        index = np.zeros(one, np.int64) + _whole(s, 0, last)
        s.add(picks, x, s.constant(index), s.weight(*one), axis=axis)
    elif picks == "Einsum":
        letters = "abcdef"[:rank]
        equation = f"{letters},{letters[-1]}z->{letters[:-1]}z"
        s.add(picks, x, s.weight(shape[-1], _whole(s, 1, 3)), equation=equation)
    else:
        s.add(picks, x, s.constant(np.arange(last + 1) % 2 == 0), axis=axis)


_REARRANGED = (
    *("DepthToSpace", "SpaceToDepth", "Trilu", "CumSum", "GatherElements", "GatherND"),
    *("ScatterElements", "Einsum", "Compress"),
)


def _gated(s: Sheet, x: str, shape: Shape) -> Any:
    """SiLU and GELU as exporters spell them."""
    inner = s.add("Mul", x, s.constant(np.float32(_choice(s, 1.702, 0.5, 2.0)))) if (
        _whole(s, 0, 1)
    ) else x  # fmt: skip
    if _whole(s, 0, 1):
        tail = s.add("Add", s.add("Erf", inner), s.constant(np.float32(1)))
        s.add("Mul", x, tail)
    else:
        s.add("Mul", x, s.add("Sigmoid", inner))


def _product(s: Sheet, x: str, shape: Shape) -> Any:
    """Two values that depend on the input, multiplied or divided; matrices meet their transpose."""
    kind = _choice(s, "Mul", "Div", "MatMul")
    other = s.add("Gemm", x, s.weight(shape[1], shape[1])) if len(shape) == 2 else s.add("Neg", x)
    if kind == "Div":
        other = s.add("Add", s.add("Abs", other), s.constant(np.float32(1)))
    if kind == "MatMul":
        if len(shape) < 2:
            return
        order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        other = s.add("Transpose", other, perm=order)
    s.add(kind, x, other)


def _softmax(s: Sheet, x: str, shape: Shape) -> Any:
    s.add(_choice(s, "Softmax", "LogSoftmax"), x, axis=_whole(s, -len(shape), len(shape) - 1))


def _function(s: Sheet, x: str, shape: Shape) -> Any:
    kind = _choice(s, *PLAIN) if _whole(s, 0, 1) else "Relu"
    options: dict[str, Any] = {}
    if kind in ("LeakyRelu", "Elu", "HardSigmoid"):
        options["alpha"] = _choice(s, 0.1, 0.25, 1.5)
    if kind == "HardSigmoid":
        options["beta"] = _choice(s, 0.5, 0.2)
    if kind in ("Log", "Sqrt", "Reciprocal"):
        x = s.add("Add", s.add("Abs", x), s.constant(np.float32(1)))
    s.add(kind, x, **options)


def _piece(s: Sheet, x: str, shape: Shape) -> Any:
    kind = _choice(s, "Selu", "Gelu", "PRelu", "Clip", "Pow", "Neg", "Identity")
    if kind == "Selu":
        s.add(kind, x, alpha=_choice(s, 1.6732632, 0.5), gamma=_choice(s, 1.050701, 2.0))
    elif kind == "Gelu":
        s.add(kind, x, approximate=_choice(s, "none", "tanh"))
    elif kind == "PRelu":
        s.add(kind, x, s.weight(*_choice(s, (1,), shape[-1:])))
    elif kind == "Clip":
        low = _choice(s, -1.0, 0.0, 0.1)
        s.add(kind, x, *(s.constant(np.float32(e)) for e in (low, low + _choice(s, 1.0, 6.0))))
    elif kind == "Pow":
        s.add(kind, x, s.constant(np.float32(_choice(s, 2.0, 3.0))))
    else:
        s.add(kind, x)


MAKERS: dict[str, Make] = {
    f.__name__[1:]: f
    for f in (
        *(
            _piece,
            _function,
            _gemm,
            _matmul,
            _affine,
            _both,
            _difference,
            _folded,
            _reduced,
            _gated,
            _product,
            _softmax,
            _moved,
        ),
        *(_rearranged, _reshaped, _pooled, _global, _conv, _batch_normalization),
    )
} | (spelled.MAKERS | recurrent.MAKERS | rare.MAKERS)
THEMES = (
    ("conv", "batch_normalization", "function", "pooled", "global", "both"),
    ("gemm", "function", "both", "reshaped", "moved"),
    ("matmul", "softmax", "product", "affine", "moved"),
)
"""Kinds that files have together: readers fuse what stands side by side."""


def undrawn() -> list[str]:
    """Operators that gamma reads and no maker draws without a reason that `rare` has; shapes and
    conditions need no truth."""
    drawn = {*_REARRANGED, *FUNCTIONS, *PLAIN, *LINEAR}
    return sorted(set(TRANSLATORS) - drawn - _SHAPES - set(rare.UNDRAWN))


def file(n: Numbers, kinds: tuple[str, ...]) -> ModelProto:
    """A model of at most six operators out of a few kinds."""
    themes = [tuple(k for k in theme if k in kinds) for theme in THEMES]
    pool = n.draw(st.sampled_from([kinds, kinds, *filter(None, themes)]))
    chosen = n.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4))
    shape = (1, *(n.draw(st.integers(1, 4)) for _ in range(n.draw(st.integers(1, 3)))))
    sheet = Sheet(n, shape)
    for _ in range(n.draw(st.integers(1, 6))):
        kind = n.draw(st.sampled_from(chosen))
        MAKERS[kind](sheet, sheet.last, sheet.shapes[sheet.last])
    sheet.add("Identity", sheet.last)
    return sheet.model()
