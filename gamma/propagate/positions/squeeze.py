"""Networks without leading axes of length 1: the fast walks want flat dense layers."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.network.graph import Network, Node, Operator
from gamma.ops import (
    Add,
    Concat,
    Elementwise,
    Gather,
    Gemm,
    MatMul,
    Mul,
    Normalize,
    ReduceMax,
    ReduceSum,
    Reshape,
    Scale,
    Softmax,
    Transpose,
)
from gamma.ops.execution import PACKED

Shape = tuple[int, ...]
Array = npt.NDArray[Any]


def squeezed(network: Network) -> Network:
    """The same function on the same entries in the same order, every node without its leading ones
    (but one axis); the network itself where an operator would have to change its meaning.
    """
    nodes: list[Node] = []
    for node in network.nodes:
        before = [network.nodes[i].shape for i in node.inputs]
        op, shape = _squeezed(node.op, before, node.shape), node.shape[_ones(node.shape) :]
        try:
            if op is None or (before and op.shape(*(nodes[i].shape for i in node.inputs)) != shape):
                return network
        except UsageError:
            return network
        nodes.append(replace(node, op=op, shape=shape))
    return Network(tuple(nodes), network.output)


def _ones(shape: Shape) -> int:
    """Number of leading axes to drop."""
    return next((k for k, n in enumerate(shape[:-1]) if n != 1), max(len(shape) - 1, 0))


def _squeezed(op: Operator, before: list[Shape], shape: Shape) -> Operator | None:
    rank, same = len(shape), len({_ones(s) for s in (*before, shape)}) == 1
    dropped = _ones(shape)
    if not dropped and same:
        return op
    if isinstance(op, Reshape | Gather):
        return replace(op, target=shape[dropped:])
    if isinstance(op, Elementwise | Scale | Add):
        arrays = {f.name: getattr(op, f.name) for f in fields(cast(Any, op))}
        values = {
            name: _trailing(array, rank - dropped, name in PACKED)
            for name, array in arrays.items()
            if isinstance(array, np.ndarray) and array.ndim - (name in PACKED) > rank - dropped
        }
        return replace(cast(Any, op), **values) if values else op
    if isinstance(op, Gemm | Mul | MatMul) or not before:
        return op  # a matrix that loses an axis it needs is refused by its shape
    if not same:
        return None
    if isinstance(op, Transpose) and op.perm[:dropped] == tuple(range(dropped)):
        return Transpose(tuple(p - dropped for p in op.perm[dropped:]))
    if isinstance(op, Concat) and op.axis >= dropped:
        return Concat(op.axis - dropped)
    if isinstance(op, ReduceSum) and min(op.axes) >= dropped:
        return replace(op, axes=tuple(a - dropped for a in op.axes))
    if isinstance(op, ReduceMax) and op.axis % (rank + 1) >= dropped:
        return ReduceMax(op.axis % (rank + 1) - dropped)
    if isinstance(op, Softmax) and op.axis % rank >= dropped:
        return Softmax(op.axis % rank - dropped)
    if isinstance(op, Normalize) and op.axis % rank >= dropped:
        return replace(op, axis=op.axis % rank - dropped)
    return None


def _trailing(array: Array, rank: int, packed: bool) -> Array:
    """The array without leading axes; several in one array keep the axis that numbers them."""
    shape = array.shape[:packed] + array.shape[array.ndim - rank :]
    return array.reshape(shape)
