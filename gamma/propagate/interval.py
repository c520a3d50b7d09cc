"""Interval bound propagation (IBP: Gowal et al. 2018): each operator's rule, node by node."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gamma.errors import InternalError
from gamma.network.graph import Network, Node
from gamma.ops.bounds import NodeBounds
from gamma.ops.tables import Precision
from gamma.tensor import rounding
from gamma.tensor.box import Box


def input_bounds(box: Box) -> NodeBounds:
    """Bounds of the input node for a batched box (the hull of a ball)."""
    centre = rounding.midpoint(box.lower, box.upper)
    # The box may hold the arrays of a caller, who may write to them.
    return NodeBounds(box.lower.view(), box.upper.view(), centre).frozen()


_precision = lru_cache(Precision)


def interval_step(
    node: Node, inputs: Sequence[NodeBounds], guarantee: str, dtype: npt.DTypeLike = np.float64
) -> NodeBounds:
    """Interval bounds of one node, with products of radii in ``dtype``.

    Raises UnsupportedError for an operator without a rule.
    """
    return node_bounds(node, inputs, _precision(guarantee, np.dtype(dtype)))


def node_bounds(node: Node, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
    """`interval_step` as a walk takes it."""
    try:
        found: NodeBounds = node.op.interval_bounds(inputs, how)
    except InternalError as error:
        raise InternalError(f"node {node.name}: {error}") from None
    return found.frozen()


def interval_pass(
    network: Network, box: Box, guarantee: str = "real", upto: int | None = None
) -> list[NodeBounds]:
    """IBP bounds of every node for a batched box."""
    bounds = [input_bounds(box)]
    last = network.output if upto is None else upto
    with np.errstate(all="ignore"):
        for node in network.nodes[1 : last + 1]:
            bounds.append(interval_step(node, [bounds[i] for i in node.inputs], guarantee))
    return bounds
