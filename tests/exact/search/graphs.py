"""Random networks of gamma's own operators: every record of `gamma.ops.TABLE` can be drawn."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gamma import ops
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.network.simplify import simplify
from tests.exact.functions import OPERATORS
from tests.exact.search.numbers import Numbers

MOST = 64
"""Neurons of a node at most: exact arithmetic has to keep up."""
Shape = tuple[int, ...]
Pick = Callable[[Shape], int]  # a node of this shape, the newest first
Make = Callable[[Numbers, Shape], Any]


def _gemm(n: Numbers, shape: Shape) -> Any:
    if not shape:
        return None
    out = n.draw(st.integers(1, 4))
    weight = n.array(out, shape[-1])
    bias = n.array(out, bias=True) if n.draw(st.booleans()) else None
    return ops.Gemm(weight, bias)


def _sides(n: Numbers, rank: int) -> tuple[Shape, Shape, Shape, Shape]:
    """Kernel, strides, pads (begins, ends) and dilations."""

    def each(low: int, high: int, count: int = rank) -> Shape:
        return tuple(n.draw(st.integers(low, high)) for _ in range(count))

    return each(1, 3), each(1, 2), each(0, 1, 2 * rank), each(1, 2)


def _conv(n: Numbers, shape: Shape) -> Any:
    if len(shape) not in (2, 3):
        return None
    kernel, strides, pads, dilations = _sides(n, len(shape) - 1)
    group = n.draw(st.sampled_from([g for g in (1, 2, 3) if shape[0] % g == 0]))
    out = group * n.draw(st.integers(1, 2))
    weight = n.array(out, shape[0] // group, *kernel)
    bias = n.array(out, bias=True) if n.draw(st.booleans()) else None
    return ops.Conv(weight, bias, strides, pads, dilations, group)


def _conv_transpose(n: Numbers, shape: Shape) -> Any:
    if len(shape) not in (2, 3):
        return None
    rank = len(shape) - 1
    kernel, strides, pads, dilations = _sides(n, rank)
    more = tuple(s - 1 if n.draw(st.booleans()) else 0 for s in strides)
    weight = n.array(shape[0], n.draw(st.integers(1, 2)), *kernel)
    return ops.ConvTranspose(weight, None, strides, pads, dilations, 1, more)


def _scale(n: Numbers, shape: Shape) -> Any:
    axes = n.draw(st.sampled_from((shape, shape[-1:], ())))
    shift = n.array(*axes, bias=True) if n.draw(st.booleans()) else None
    error = n.number(0.0, 0.0, 2.0**-52, 2.0**-40)
    off = n.number(0.0, 0.0, 2.0**-45) if shift is not None else 0.0
    return ops.Scale(n.array(*axes), shift, error, off)


def _reduce_sum(n: Numbers, shape: Shape) -> Any:
    axes = tuple(a for a in range(len(shape)) if n.draw(st.booleans()))
    count = math.prod(shape[a] for a in axes)
    scale, error = n.draw(st.sampled_from(((1.0, 0.0), (1.0 / count, 2.0**-53))))
    keep = n.draw(st.booleans()) or len(axes) == len(shape)
    return ops.ReduceSum(axes, keep, scale, error) if axes else None


def _reshape(n: Numbers, shape: Shape) -> Any:
    size = math.prod(shape)
    first = n.draw(st.sampled_from([k for k in (1, 2, 3, 4) if size % k == 0]))
    second = n.draw(st.sampled_from([k for k in (1, 2, 3) if size // first % k == 0]))
    flat = (size,), (first, size // first), (first, second, size // first // second)
    return ops.Reshape(n.draw(st.sampled_from(flat)))


def _transpose(n: Numbers, shape: Shape) -> Any:
    return ops.Transpose(tuple(n.draw(st.permutations(range(len(shape))))))


def _gather(n: Numbers, shape: Shape) -> Any:
    size = math.prod(shape)
    target = tuple(n.draw(st.integers(1, 4)) for _ in range(n.draw(st.integers(1, 3))))
    rng = np.random.default_rng(n.draw(st.integers(0, 9999)))
    index = rng.integers(-1 if n.draw(st.booleans()) else 0, size, math.prod(target))
    return ops.Gather(index.astype(np.int64), target, n.number(0.0, 1.0, 0.1, -7.0))


def _reduce_max(n: Numbers, shape: Shape) -> Any:
    return ops.ReduceMax(n.draw(st.integers(0, len(shape) - 1))) if len(shape) > 1 else None


def _softmax(n: Numbers, shape: Shape) -> Any:
    if not shape:
        return None
    axis = n.draw(st.integers(-len(shape), len(shape) - 1))
    outer = shape[: axis % len(shape)] + shape[axis % len(shape) + 1 :]
    if n.draw(st.integers(0, 2)):
        return ops.Softmax(axis)
    rng = np.random.default_rng(n.draw(st.integers(0, 9999)))
    return ops.Softmax(axis, rng.integers(1, shape[axis] + 1, outer[-1:]))


def _log_softmax(n: Numbers, shape: Shape) -> Any:
    return ops.LogSoftmax(n.draw(st.integers(-len(shape), len(shape) - 1))) if shape else None


def _normalize(n: Numbers, shape: Shape) -> Any:
    if not shape:
        return None
    axis = n.draw(st.sampled_from((-1, -1, 0, -len(shape))))
    return ops.Normalize(axis, n.number(1e-5, 1.0, 1e-12, 0.0, 2.0**-140), n.draw(st.booleans()))


def _p_relu(n: Numbers, shape: Shape) -> Any:
    return ops.PRelu(n.array(*n.draw(st.sampled_from((shape[-1:], shape, (1,)))), dtype="float32"))


MAKERS: dict[str, Make] = {
    "Gemm": _gemm,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Gather": _gather,
    "ReduceMax": _reduce_max,
    "Scale": _scale,
    "ReduceSum": _reduce_sum,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "PRelu": _p_relu,
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "Normalize": _normalize,
}
SEVERAL = ("Add", "Concat", "Mul", "MatMul")


def functions() -> dict[str, list[Any]]:
    """Elementwise operators of the table with attributes worth testing; new ones by default."""
    found: dict[str, list[Any]] = {}
    for name, record in ops.TABLE.items():
        if not issubclass(record, ops.Elementwise) or name in MAKERS:
            continue
        known = [op for op in OPERATORS if type(op) is record]
        needed = [
            p
            for p in inspect.signature(record).parameters.values()
            if p.default is inspect.Parameter.empty
        ]
        found[name] = known or ([] if needed else [record()])
    return {name: records for name, records in found.items() if records}


FUNCTIONS = functions()
KINDS = (*FUNCTIONS, *MAKERS, *SEVERAL)
CHAIN = ("Relu", "Gemm", "Reshape", "Transpose", "Gather", "Concat")
"""Movement between layers, where bounds are kept in one form and used in another."""
_POSITIVE = (ops.Log, ops.Sqrt, ops.Reciprocal, ops.Pow)


def themed(kinds: tuple[str, ...]) -> Any:
    """Kinds of operators: ReLU, other functions, and what has a structure, equally often."""
    functions = [k for k in kinds if k in FUNCTIONS and k != "Relu"]
    parts = [["Relu"] * ("Relu" in kinds), [k for k in kinds if k not in FUNCTIONS], functions]
    usable = [st.sampled_from(part) for part in parts if part]
    return st.one_of(usable[:1] + usable[1:] + usable[1:2])


def _product(n: Numbers, name: str, b: Builder, source: int) -> None:
    """A product with any node whose shape fits, itself among them."""
    op = ops.TABLE[name]()
    fitting = []
    for i in range(len(b.nodes)):
        for inputs in ((source, i), (i, source)):
            try:
                shape = op.shape(*(b.nodes[k].shape for k in inputs))
            except UsageError:
                continue
            if math.prod(shape) <= MOST:
                fitting.append(inputs)
    if fitting:
        b.add(op, *n.draw(st.sampled_from(fitting[::-1])), name=f"v{len(b.nodes)}")


def _several(n: Numbers, name: str, b: Builder, source: int) -> None:
    if name in ("Mul", "MatMul"):
        return _product(n, name, b, source)
    shape = b.nodes[source].shape
    alike = [i for i, node in enumerate(b.nodes) if node.shape == shape]
    others = [n.draw(st.sampled_from(alike[::-1])) for _ in range(n.draw(st.integers(1, 2)))]
    inputs = (source, *others)
    if name == "Add":
        signs = tuple(n.draw(st.sampled_from((1, -1))) for _ in inputs)
        b.add(ops.Add(signs), *inputs, name=f"v{len(b.nodes)}")
    elif shape:
        axis = n.draw(st.integers(0, len(shape) - 1))
        b.add(ops.Concat(axis), *inputs, name=f"v{len(b.nodes)}")
    return None


def _step(n: Numbers, name: str, b: Builder) -> None:
    back = n.draw(st.sampled_from((0, 0, 0, 1, 2)))
    source = max(0, len(b.nodes) - 1 - back)
    if name in SEVERAL:
        return _several(n, name, b, source)
    if name in FUNCTIONS:
        op = n.draw(st.sampled_from(FUNCTIONS[name]))
        if isinstance(op, _POSITIVE) and n.draw(st.booleans()):
            source = b.add(ops.Abs(), source, name=f"v{len(b.nodes)}")
            one = np.array(1.0, np.float32)
            source = b.add(ops.Scale(one, one), source, name=f"v{len(b.nodes)}")
    else:
        op = MAKERS[name](n, b.nodes[source].shape)
    if op is None:
        return None
    try:
        shape = op.shape(b.nodes[source].shape)
    except UsageError:
        return None
    if 0 < math.prod(shape) <= MOST:
        b.add(op, source, name=f"v{len(b.nodes)}")
    return None


def graph(n: Numbers, kinds: tuple[str, ...]) -> Network:
    """A network of at most eight operators out of a few kinds; names are unique."""
    chain = tuple(k for k in CHAIN if k in kinds)
    pool = chain if chain and n.draw(st.booleans()) else kinds
    chosen = n.draw(st.lists(themed(pool), min_size=1, max_size=5))
    shape = tuple(n.draw(st.integers(1, 4)) for _ in range(n.draw(st.integers(1, 3))))
    b = Builder(ops.Input(), shape, name="x")
    for _ in range(n.draw(st.integers(1, 8))):
        _step(n, n.draw(st.sampled_from(chosen)), b)
    if len(b.nodes) == 1:
        b.add(ops.Relu(), 0, name="v1")
    return b.build(len(b.nodes) - 1)


def simplified(network: Network, draw: Any) -> Network:
    """What readers make of it, or the network as it is."""
    return simplify(network) if draw(st.booleans()) else network
