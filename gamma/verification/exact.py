"""Exact evaluation of small piecewise-linear networks at a point, in fractions.

It settles witnesses that touch the unsafe set: no enclosure with a width can confirm an equality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.network.graph import Network, Node
from gamma.ops.affine import Linear
from gamma.ops.linear import Gemm, Scale
from gamma.ops.movement import Gather, Reshape, Transpose
from gamma.ops.piecewise import Abs, LeakyRelu, Relu
from gamma.ops.products import MatMul, Mul
from gamma.ops.sums import Add, Concat

Exact = npt.NDArray[np.object_]

WORK_LIMIT = 50_000
"""Multiplications: about a tenth of a second."""


def exact_output(net: Network, x: npt.NDArray[Any]) -> list[Fraction] | None:
    """The outputs at ``x`` (*input shape), flat; None when the network is too large or curved."""
    work = sum(n.size * _terms(net, n) for n in net.nodes[1:])
    if work > WORK_LIMIT or not all(type(n.op) in RULES for n in net.nodes[1:]):
        return None
    if any(_uncertain(n.op.affine) for n in net.nodes if n.op.affine is not None):
        return None
    values: list[Exact] = [fractions(x)]
    for node in net.nodes[1 : net.output + 1]:
        rule = RULES[type(node.op)]
        values.append(rule(node.op, [values[i] for i in node.inputs]).reshape(node.shape))
    return list(values[net.output].ravel())


def fractions(values: npt.ArrayLike) -> Exact:
    """An object array of the fractions that a float array holds."""
    array = np.asarray(values, dtype=np.float64)
    result = np.empty(array.shape, dtype=object)
    result.ravel()[:] = [Fraction(v) for v in array.ravel().tolist()]
    return result


def _terms(net: Network, node: Node) -> int:
    """Terms behind one entry."""
    return node.op.summed(*(net.nodes[i].shape for i in node.inputs))


def _uncertain(op: Linear) -> bool:
    return bool(op.uncertainty) or bool(np.any(op.offset_uncertainty)) or op.inexact


def _gemm(op: Any, inputs: Sequence[Exact]) -> Exact:
    result = np.asarray(inputs[0].dot(fractions(op.weight).T))
    return result if op.bias is None else result + fractions(op.bias)


def _scale(op: Any, inputs: Sequence[Exact]) -> Exact:
    result = np.asarray(inputs[0] * fractions(op.scale), dtype=object)
    return result if op.shift is None else result + fractions(op.shift)


def _add(op: Any, inputs: Sequence[Exact]) -> Exact:
    return np.asarray(sum(sign * x for sign, x in zip(op.signs, inputs, strict=True)), dtype=object)


def _relu(op: Any, inputs: Sequence[Exact]) -> Exact:
    return _piecewise(inputs[0], Fraction(0))


def _leaky(op: Any, inputs: Sequence[Exact]) -> Exact:
    return _piecewise(inputs[0], Fraction(float(op.alpha)))


def _abs(op: Any, inputs: Sequence[Exact]) -> Exact:
    return _piecewise(inputs[0], Fraction(-1))


def _piecewise(x: Exact, slope: Fraction) -> Exact:
    """x where it is positive, slope·x elsewhere."""
    factor = np.where(np.asarray(x > 0, dtype=bool), 1, 0)
    return np.asarray(x * factor + x * (1 - factor) * slope, dtype=object)


def _gather(op: Any, inputs: Sequence[Exact]) -> Exact:
    flat = np.append(inputs[0].ravel(), [Fraction(float(op.fill))])
    return np.asarray(flat[op.index.ravel()])  # index -1 is the fill, which stands last


RULES: dict[type, Callable[[Any, Sequence[Exact]], Exact]] = {
    Gemm: _gemm,
    Scale: _scale,
    Add: _add,
    Relu: _relu,
    LeakyRelu: _leaky,
    Abs: _abs,
    Gather: _gather,
    Mul: lambda op, inputs: inputs[0] * inputs[1],
    MatMul: lambda op, inputs: np.matmul(inputs[0], inputs[1]),
    Reshape: lambda op, inputs: inputs[0],
    Transpose: lambda op, inputs: inputs[0].transpose(op.perm),
    Concat: lambda op, inputs: np.concatenate(list(inputs), axis=op.axis),
}
