"""Networks and boxes on which careless floating point fails, one builder per operator.

A family says how weights, biases and boxes are drawn; a shape says which operators they meet in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.tensor.box import Box
from tests.exact.functions import OPERATORS, label

Array = Any
WEIGHTS = ("plain", "cancelling", "exponents", "subnormal", "biased", "float64")
BOXES = ("wide", "small", "tiny", "point", "mixed")


class Draw:
    """Weights of one family."""

    def __init__(self, family: str, rng: np.random.Generator) -> None:
        self.family, self.rng = family, rng

    def weight(self, *shape: int) -> Array:
        rng = self.rng
        w = rng.normal(size=shape)
        if self.family == "cancelling" and shape[-1] > 1:
            half = shape[-1] // 2
            noise = 1 + rng.normal(size=(*shape[:-1], half)) * 2.0**-20
            w[..., :half] *= 1000
            w[..., half : 2 * half] = -w[..., :half] * noise
        if self.family == "exponents":
            w = w * 2.0 ** rng.integers(-30, 31, size=shape)
        if self.family == "subnormal":
            w = w * 2.0 ** rng.choice([-148.0, -140.0, -75.0, -60.0], size=shape)
        if self.family == "float64":
            return w * 2.0 ** rng.choice([0.0, 0.0, 3.0, -160.0], size=shape)
        return w.astype(np.float32)

    def bias(self, *shape: int) -> Array:
        b = self.rng.normal(size=shape)
        if self.family == "biased":
            b = b * 2.0**24
        if self.family == "exponents":
            b = b * 2.0 ** self.rng.integers(-30, 31, size=shape)
        if self.family == "subnormal":
            b = b * 2.0**-120
        return b if self.family == "float64" else b.astype(np.float32)


Shape = Callable[[Draw], Network]


def _net(builder: Builder) -> Network:
    return builder.build(len(builder.nodes) - 1)


def mlp(d: Draw) -> Network:
    b = Builder(ops.Input(), (5,))
    i = 0
    for n, m in ((5, 7), (7, 6), (6, 3)):
        i = b.add(ops.Gemm(d.weight(m, n), d.bias(m)), i)
        if m != 3:
            i = b.add(ops.Relu(), i)
    return _net(b)


def around(op: Any) -> Shape:
    """Dense, one elementwise operator, dense; the input is brought into the operator's domain."""

    def build(d: Draw) -> Network:
        b = Builder(ops.Input(), (4,))
        i = b.add(ops.Gemm(d.weight(3, 4), d.bias(3)), 0)
        if type(op) in (ops.Log, ops.Sqrt, ops.Reciprocal, ops.Pow) and _needs_positive(op):
            i = b.add(ops.Abs(), i)
            i = b.add(ops.Scale(np.array(1.0, np.float32), np.array([0.5, 1, 2], np.float32)), i)
        elif d.family not in ("plain", "subnormal"):
            i = b.add(ops.Clip(-40.0, 30.0), i)  # or every exponential is infinite
        i = b.add(op, i)
        b.add(ops.Gemm(d.weight(2, 3), d.bias(2)), i)
        return _net(b)

    return build


def _needs_positive(op: Any) -> bool:
    p = getattr(op, "exponent", -1.0)
    return p < 0 or not float(p).is_integer()


def convolution(d: Draw) -> Network:
    b = Builder(ops.Input(), (2, 5, 4))
    i = b.add(ops.Conv(d.weight(4, 1, 3, 2), d.bias(4), (2, 1), (1, 0, 2, 1), (1, 2), 2), 0)
    i = b.add(ops.Relu(), i)
    i = b.add(ops.Conv(d.weight(3, 4, 2, 1), d.bias(3), (1, 1), (0, 0, 0, 0)), i)
    i = b.add(ops.Relu(), i)
    i = b.add(ops.Reshape((b.nodes[i].size,)), i)
    b.add(ops.Gemm(d.weight(2, b.nodes[i].size), None), i)
    return _net(b)


def pictures(d: Draw) -> Network:
    """Convolutions in a row and a residual sum: rows travel as windows."""
    b = Builder(ops.Input(), (2, 6, 5))
    i = b.add(ops.Conv(d.weight(3, 2, 3, 3), d.bias(3), (1, 1), (1, 1, 1, 1)), 0)
    i = b.add(ops.Relu(), i)
    j = b.add(ops.Conv(d.weight(3, 3, 3, 3), d.bias(3), (2, 1), (1, 1, 0, 1)), i)
    j = b.add(ops.Relu(), j)
    k = b.add(ops.Conv(d.weight(3, 3, 3, 3), None, (1, 1), (1, 1, 1, 1)), j)
    side = b.add(ops.Conv(d.weight(3, 3, 1, 1), None, (2, 1), (0, 0, 0, 0)), i)
    s = b.add(ops.Add((1, 1)), k, side)
    s = b.add(ops.Relu(), s)
    s = b.add(ops.Conv(d.weight(2, 3, 2, 2), d.bias(2), (1, 1), (0, 0, 0, 0)), s)
    return _net(b)


def turned(d: Draw) -> Network:
    """An image with channels last, as TensorFlow has them, before and behind convolutions."""
    b = Builder(ops.Input(), (4, 5, 2))
    i = b.add(ops.Transpose((2, 0, 1)), 0)
    i = b.add(ops.Conv(d.weight(3, 2, 3, 3), d.bias(3), (2, 2), (1, 1, 1, 1)), i)
    i = b.add(ops.Relu(), i)
    i = b.add(ops.Conv(d.weight(3, 3, 2, 2), d.bias(3), (1, 1), (0, 0, 0, 0)), i)
    i = b.add(ops.Relu(), i)
    i = b.add(ops.Transpose((1, 2, 0)), i)
    i = b.add(ops.Reshape((b.nodes[i].size,)), i)
    b.add(ops.Gemm(d.weight(2, b.nodes[i].size), None), i)
    return _net(b)


def line(d: Draw) -> Network:
    """One-dimensional convolution, its transpose with output padding, LeakyRelu."""
    b = Builder(ops.Input(), (2, 6))
    i = b.add(ops.Conv(d.weight(2, 2, 3), None, (2,), (1, 1), (1,)), 0)
    i = b.add(ops.LeakyRelu(0.1), i)
    i = b.add(ops.ConvTranspose(d.weight(2, 3, 3), d.bias(3), (2,), (1, 0), (2,), 1, (1,)), i)
    b.add(ops.Relu(), i)
    return _net(b)


def transposed(d: Draw) -> Network:
    b = Builder(ops.Input(), (4, 2, 3))
    args = ((2, 1), (0, 1, 1, 0), (1, 2), 2, (1, 0))
    i = b.add(ops.ConvTranspose(d.weight(4, 1, 2, 2), d.bias(2), *args), 0)
    i = b.add(ops.Relu(), i)
    b.add(ops.ReduceSum((1, 2), False), i)
    return _net(b)


def residual(d: Draw) -> Network:
    b = Builder(ops.Input(), (4,))
    i = b.add(ops.Gemm(d.weight(4, 4), d.bias(4)), 0)
    j = b.add(ops.Relu(), i)
    k = b.add(ops.Gemm(d.weight(4, 4), d.bias(4)), j)
    s = b.add(ops.Add((1, -1, 1)), k, i, 0)
    r = b.add(ops.Relu(), s)
    t = b.add(ops.Add((1, 1)), r, r)
    c = b.add(ops.Concat(0), t, j, i)
    b.add(ops.Gemm(d.weight(3, 12), d.bias(3)), c)
    return _net(b)


def movement(d: Draw) -> Network:
    """Gather with repeats and fill, transpose, a window maximum, a mean."""
    b = Builder(ops.Input(), (2, 3))
    i = b.add(ops.Gemm(d.weight(4, 3), d.bias(4)), 0)
    i = b.add(ops.Transpose((1, 0)), i)
    index = np.array([0, 1, 1, 2, 3, 3, 3, -1, 4, 5, 0, 7], np.int64)
    i = b.add(ops.Gather(index, (4, 3), 0.5), i)
    i = b.add(ops.ReduceMax(1), i)
    j = b.add(ops.Gemm(d.weight(4, 4), d.bias(4)), i)
    j = b.add(ops.Relu(), j)
    j = b.add(ops.Reshape((2, 2)), j)
    b.add(ops.ReduceSum((1,), True, 1 / 3, 2.0**-53), j)
    return _net(b)


def scaled(d: Draw) -> Network:
    """Uncertain factors and shifts, shared nodes."""
    b = Builder(ops.Input(), (4,))
    i = b.add(ops.Scale(d.weight(4), d.bias(4), 2.0**-40, 2.0**-45), 0)
    j = b.add(ops.Gemm(d.weight(5, 4), d.bias(5)), i)
    j = b.add(ops.Scale(d.weight(5).astype(np.float64) / 3, None, 2.0**-52), j)
    j = b.add(ops.Tanh(), j)
    k = b.add(ops.Gemm(d.weight(4, 5), None), j)
    s = b.add(ops.Add((1, 1)), k, i)
    b.add(ops.ReduceSum((0,), False, 0.25), s)
    return _net(b)


def repeated(d: Draw) -> Network:
    """A linear layer read through a gather with repeats, straight into ReLU."""
    b = Builder(ops.Input(), (3,))
    i = b.add(ops.Gemm(d.weight(3, 3), d.bias(3)), 0)
    i = b.add(ops.Gather(np.array([0, 1, 0, 2, 1, 0], np.int64), (6,)), i)
    i = b.add(ops.Relu(), i)
    i = b.add(ops.Gather(np.array([5, 4, 0, 0], np.int64), (4,)), i)
    i = b.add(ops.ReduceMax(0), i)
    i = b.add(ops.Reshape((1,)), i)
    b.add(ops.Gemm(d.weight(2, 1), d.bias(2)), i)
    return _net(b)


def products(d: Draw) -> Network:
    """Products of two variables: broadcast, of matrices, of a node with itself."""
    b = Builder(ops.Input(), (4,))
    i = b.add(ops.Gemm(d.weight(6, 4), d.bias(6)), 0)
    j = b.add(ops.Relu(), i)
    x = b.add(ops.Reshape((2, 3)), i)
    y = b.add(ops.Reshape((3, 2)), j)
    m = b.add(ops.MatMul(), x, y)
    column = b.add(ops.ReduceSum((1,), True), m)
    p = b.add(ops.Mul(), column, m)
    q = b.add(ops.Mul(), p, p)
    b.add(ops.MatMul(), q, x)
    return _net(b)


SHAPES: dict[str, Shape] = {
    f.__name__: f
    for f in (
        *(mlp, convolution, pictures, line, transposed, residual, movement, scaled, repeated),
        *(turned, products),
    )
} | {label(op): around(op) for op in OPERATORS if not isinstance(op, ops.Relu)}


def box(kind: str, shape: tuple[int, ...], rng: np.random.Generator, batch: int = 2) -> Box:
    """A batch of boxes of different size, so that unstable sets are ragged."""
    centre = rng.normal(size=(batch, *shape)).astype(np.float32).astype(np.float64)
    if kind == "mixed":
        centre *= 2.0 ** rng.integers(-30, 31, size=centre.shape)
    size = {"wide": 1.0, "small": 0.03, "tiny": 2.0**-24, "point": 0.0, "mixed": 0.1}[kind]
    factor = 4.0 ** -np.arange(batch).reshape(-1, *(1,) * len(shape))
    radius = size * factor * rng.uniform(size=centre.shape) * np.maximum(abs(centre), 0.5)
    radius = np.where(rng.random(centre.shape) < 0.15, 0.0, radius)
    return Box(centre - radius, centre + radius)
